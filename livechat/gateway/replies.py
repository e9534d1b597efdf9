"""Owns the order of one connection's replies: each request's one answer, in order of arrival. Pure.

It must not know what the replies are. A request takes a place when it arrives; an answer leaves as soon as all
earlier places have theirs. Most requests are answered before the next one is read and wait for nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from livechat.protocol.outgoing import Outgoing


class Place:
    """One request's place in the order."""

    __slots__ = ("answered", "packet")

    def __init__(self) -> None:
        self.answered = False
        self.packet: Outgoing | None = None


class ReplyOrder:
    """The places of one connection.

    Args:
        send: takes each reply, in order.
        on_room: called whenever a place was given free.
    """

    __slots__ = ("_on_room", "_places", "_send")

    def __init__(self, send: Callable[[Outgoing], None], on_room: Callable[[], object]) -> None:
        self._send = send
        self._on_room = on_room
        self._places: deque[Place] = deque()

    def __len__(self) -> int:
        """Count the requests that wait for their answer."""
        return len(self._places)

    def take(self) -> Place:
        """Take the next place."""
        place = Place()
        self._places.append(place)
        return place

    def answer(self, place: Place, packet: Outgoing | None) -> None:
        """Give a place its answer (None: there is nothing to say). Only the first one counts."""
        if place.answered:
            return
        place.answered = True
        place.packet = packet
        places = self._places
        while places and places[0].answered:
            ready = places.popleft().packet
            if ready is not None:
                self._send(ready)
        self._on_room()

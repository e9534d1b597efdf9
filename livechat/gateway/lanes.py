"""Owns the order of one connection's requests and replies, channel by channel. Pure.

It must not know what the requests do. What concerns one channel goes through one lane, where every request is
answered in the order of arrival; lanes do not wait for each other.

    pace     begins                                     meanwhile, later requests of the lane
    STORED   at once: the store keeps the order           begin as their own pace lets them
    AFTER    when all before it have been answered       begin as their own pace lets them
    ALONE    when all before it have been answered       wait until it has been answered

AFTER is for what asks only the hubs, which must know of the changes before it; ALONE for what is read beside the
store's order, and so must neither overtake changes nor be overtaken. As a reply leaves before the events that its
request causes, and the hubs follow with those, nothing begins between the two: see `pause`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum, auto
from typing import Protocol

from livechat.protocol.outgoing import Outgoing


class Pace(Enum):
    """When a request begins; see the module."""

    STORED = auto()
    AFTER = auto()
    ALONE = auto()


class Place(Protocol):
    """One request's place in the order of a lane's replies. Its fields but the first two are the lanes' own."""

    key: Hashable
    """Names the lane."""
    pace: Pace
    lane: Lane | None
    """None before it has begun, and while it is the only one and has not returned from its beginning."""
    is_answered: bool
    held: Outgoing | None
    """What waits for the replies before it."""

    def begin(self) -> None:
        """Begin the request, which is answered by `Lanes.answer`, at once or later; it must not raise."""
        ...


class Told:
    """The place of what is answered as soon as it is its turn.

    Args:
        reply: the answer.
    """

    __slots__ = ("_lanes", "_told", "held", "is_answered", "key", "lane", "pace")

    def __init__(self, lanes: Lanes, reply: Outgoing) -> None:
        self._lanes = lanes
        self._told = reply
        self.key: Hashable = None
        self.pace = Pace.STORED
        self.lane: Lane | None = None
        self.is_answered = False
        self.held: Outgoing | None = None

    def begin(self) -> None:
        """See `Place`."""
        self._lanes.answer(self, self._told)


class Lane:
    """The requests of one key, where one of them was not answered from within its beginning."""

    __slots__ = ("is_closed", "is_pumping", "places", "waiting")

    def __init__(self) -> None:
        self.places: deque[Place] = deque()
        """Of those that have begun and are not answered, or whose answer waits for one before it."""
        self.waiting: deque[Place] = deque()
        """Those that have not begun."""
        self.is_closed = False
        """One that runs ALONE has begun."""
        self.is_pumping = False
        """Waiting ones are being begun; those that are answered at once must not begin the next from within."""


class Lanes:
    """The lanes of one connection.

    Args:
        send: takes each reply.
        on_room: called whenever a request was answered.
    """

    __slots__ = ("_lanes", "_on_room", "_paused", "_send", "_to_pump", "count")

    def __init__(self, send: Callable[[Outgoing], None], on_room: Callable[[], object]) -> None:
        self._send = send
        self._on_room = on_room
        self._lanes: dict[Hashable, Lane] = {}
        self.count = 0
        """Requests that wait for their answer."""
        self._paused = 0
        self._to_pump: list[tuple[Hashable, Lane]] = []
        """Lanes in which something was answered during a pause."""

    def enter(self, place: Place) -> None:
        """Let a request in: it begins now, or when those before it in its lane let it.

        It must not let in another of its lane from within.
        """
        self.count += 1
        lane = self._lanes.get(place.key)
        if lane is None:
            # Most have no others before them and are answered at once: those need no lane.
            place.begin()
            if not place.is_answered:
                place.lane = lane = self._lanes[place.key] = Lane()
                lane.places.append(place)
                lane.is_closed = place.pace is Pace.ALONE
        elif lane.waiting or not self._may_begin(lane, place.pace):
            lane.waiting.append(place)
        else:
            self._begin(lane, place)

    def answer(self, place: Place, reply: Outgoing | None) -> None:
        """Take a request's one reply, or None when there is nothing to say. Later calls are ignored."""
        if place.is_answered:
            return
        place.is_answered = True
        lane = place.lane
        if lane is not None:
            place.held = reply
            self._answer_in(lane, place.key)
            return
        self.count -= 1
        if reply is not None:
            self._send(reply)
        self._on_room()

    def pause(self) -> None:
        """Let no waiting request begin until `go_on`, whatever is answered in between."""
        self._paused += 1

    def go_on(self) -> None:
        """End a pause; if no other one is left, begin what may begin by now."""
        self._paused -= 1
        while self._to_pump and not self._paused:
            self._pump(*self._to_pump.pop(0))

    @staticmethod
    def _may_begin(lane: Lane, pace: Pace) -> bool:
        return not lane.is_closed and (pace is Pace.STORED or not lane.places)

    @staticmethod
    def _begin(lane: Lane, place: Place) -> None:
        place.lane = lane
        lane.places.append(place)
        lane.is_closed = place.pace is Pace.ALONE
        place.begin()

    def _answer_in(self, lane: Lane, key: Hashable) -> None:
        """Send the replies that need wait for no other any more."""
        places = lane.places
        while places and places[0].is_answered:
            ready = places.popleft().held
            self.count -= 1
            if ready is not None:
                self._send(ready)
        if not places:
            lane.is_closed = False
        if self._paused:
            self._to_pump.append((key, lane))
        elif not lane.is_pumping:
            self._pump(key, lane)
        self._on_room()

    def _pump(self, key: Hashable, lane: Lane) -> None:
        """Begin what waits in a lane and may begin; forget a lane in which nothing is left."""
        lane.is_pumping = True
        while lane.waiting and self._may_begin(lane, lane.waiting[0].pace):
            self._begin(lane, lane.waiting.popleft())
        lane.is_pumping = False
        if not lane.places and not lane.waiting and self._lanes.get(key) is lane:
            del self._lanes[key]

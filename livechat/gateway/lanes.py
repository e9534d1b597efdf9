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

from livechat.protocol.outgoing import Outgoing

Answer = Callable[[Outgoing | None], None]
"""Takes a request's one reply, or None when there is nothing to say. Only the first call counts."""
Begin = Callable[[Answer], None]
"""Begins a request; it must not raise."""


class Pace(Enum):
    """When a request begins; see the module."""

    STORED = auto()
    AFTER = auto()
    ALONE = auto()


class _Place:
    """One begun request's place in the order of a lane's replies; it is the `Answer` that the request gets."""

    __slots__ = ("_key", "_lanes", "answered", "lane", "packet")

    def __init__(self, lanes: Lanes, key: Hashable, lane: _Lane | None) -> None:
        self._lanes = lanes
        self._key = key
        self.lane = lane
        """None while it is the only one, and has not returned from its beginning."""
        self.answered = False
        self.packet: Outgoing | None = None

    def __call__(self, packet: Outgoing | None) -> None:
        if self.answered:
            return
        self.answered = True
        self.packet = packet
        if self.lane is None:
            self._lanes.answer_alone(packet)
        else:
            self._lanes.answer(self._key, self.lane)


class _Lane:
    __slots__ = ("is_closed", "is_pumping", "places", "waiting")

    def __init__(self) -> None:
        self.places: deque[_Place] = deque()
        """Of those that have begun and are not answered, or whose answer waits for one before it."""
        self.waiting: deque[tuple[Pace, Begin]] = deque()
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

    __slots__ = ("_count", "_lanes", "_on_room", "_paused", "_send", "_to_pump")

    def __init__(self, send: Callable[[Outgoing], None], on_room: Callable[[], object]) -> None:
        self._send = send
        self._on_room = on_room
        self._lanes: dict[Hashable, _Lane] = {}
        self._count = 0
        self._paused = 0
        self._to_pump: list[tuple[Hashable, _Lane]] = []
        """Lanes in which something was answered during a pause."""

    def __len__(self) -> int:
        """Count the requests that wait for their answer."""
        return self._count

    def enter(self, key: Hashable, pace: Pace, begin: Begin) -> None:
        """Let a request in: it begins now, or when those before it in its lane let it.

        It must not let in another of its lane from within.
        """
        self._count += 1
        lane = self._lanes.get(key)
        if lane is None:
            self._begin_alone(key, pace, begin)
        elif lane.waiting or not self._may_begin(lane, pace):
            lane.waiting.append((pace, begin))
        else:
            self._begin(key, lane, pace, begin)

    def pause(self) -> None:
        """Let no waiting request begin until `go_on`, whatever is answered in between."""
        self._paused += 1

    def go_on(self) -> None:
        """End a pause; if no other one is left, begin what may begin by now."""
        self._paused -= 1
        while self._to_pump and not self._paused:
            self._pump(*self._to_pump.pop(0))

    @staticmethod
    def _may_begin(lane: _Lane, pace: Pace) -> bool:
        return not lane.is_closed and (pace is Pace.STORED or not lane.places)

    def _begin_alone(self, key: Hashable, pace: Pace, begin: Begin) -> None:
        """Begin a request that has no others before it; most are answered at once, and those need no lane."""
        place = _Place(self, key, None)
        begin(place)
        if not place.answered:
            place.lane = lane = self._lanes[key] = _Lane()
            lane.places.append(place)
            lane.is_closed = pace is Pace.ALONE

    def _begin(self, key: Hashable, lane: _Lane, pace: Pace, begin: Begin) -> None:
        place = _Place(self, key, lane)
        lane.places.append(place)
        lane.is_closed = pace is Pace.ALONE
        begin(place)

    def answer_alone(self, packet: Outgoing | None) -> None:
        """Send the reply to a request that has no lane; only for its place."""
        self._count -= 1
        if packet is not None:
            self._send(packet)
        self._on_room()

    def answer(self, key: Hashable, lane: _Lane) -> None:
        """Send the replies that need wait for no other any more; only for the place that was answered."""
        places = lane.places
        while places and places[0].answered:
            ready = places.popleft().packet
            self._count -= 1
            if ready is not None:
                self._send(ready)
        if not places:
            lane.is_closed = False
        if self._paused:
            self._to_pump.append((key, lane))
        elif not lane.is_pumping:
            self._pump(key, lane)
        self._on_room()

    def _pump(self, key: Hashable, lane: _Lane) -> None:
        """Begin what waits in a lane and may begin; forget a lane in which nothing is left."""
        lane.is_pumping = True
        while lane.waiting and self._may_begin(lane, lane.waiting[0][0]):
            self._begin(key, lane, *lane.waiting.popleft())
        lane.is_pumping = False
        if not lane.places and not lane.waiting and self._lanes.get(key) is lane:
            del self._lanes[key]

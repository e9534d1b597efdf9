from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.gateway.lanes import Lane, Lanes, Pace, Told
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing

STORED, AFTER, ALONE = Pace.STORED, Pace.AFTER, Pace.ALONE


class Request:
    """A request that is answered when the test says so, or from within its own beginning."""

    def __init__(
        self, lanes: Lanes, number: int, key: Hashable, pace: Pace, *, at_once: bool = False, silent: bool = False
    ) -> None:
        self.number = number
        self.key = key
        self.pace = pace
        self.lane: Lane | None = None
        self.is_answered = False
        self.held: Outgoing | None = None
        self.begun = 0
        self.answered = False
        self._lanes = lanes
        self._at_once = at_once
        self._packet = None if silent else Outgoing(Op.ACK, None, number)

    def begin(self) -> None:
        self.begun += 1
        if self._at_once:
            self.answer()

    def answer(self) -> None:
        assert self.begun
        self.answered = True
        self._lanes.answer(self, self._packet)

    @property
    def is_running(self) -> bool:
        return self.begun > 0 and not self.answered


class Desk:
    """Lanes, what entered them and what they sent."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.sent: list[int] = []
        self.rooms = 0
        self.lanes = Lanes(self._send, self._on_room)

    def enter(self, key: str, pace: Pace, *, at_once: bool = False, silent: bool = False) -> Request:
        request = Request(self.lanes, len(self.requests), key, pace, at_once=at_once, silent=silent)
        self.requests.append(request)
        self.lanes.enter(request)
        return request

    def _send(self, packet: Outgoing) -> None:
        assert isinstance(packet.request_id, int)
        self.sent.append(packet.request_id)

    def _on_room(self) -> None:
        self.rooms += 1


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("pace", Pace)
def test_in_an_empty_lane_a_request_begins_at_once(desk: Desk, pace: Pace) -> None:
    request = desk.enter("a", pace)
    assert (request.begun, desk.lanes.count, desk.sent) == (1, 1, [])
    request.answer()
    assert (request.begun, desk.lanes.count, desk.sent) == (1, 0, [0])


@pytest.mark.parametrize(
    ("first", "second", "begins"),
    [
        (STORED, STORED, True),
        (STORED, AFTER, False),
        (STORED, ALONE, False),
        (AFTER, STORED, True),
        (AFTER, AFTER, False),
        (AFTER, ALONE, False),
        (ALONE, STORED, False),
        (ALONE, AFTER, False),
        (ALONE, ALONE, False),
    ],
)
def test_whether_a_request_waits_for_the_one_before_it(
    desk: Desk, first: Pace, second: Pace, begins: bool
) -> None:
    one = desk.enter("a", first)
    two = desk.enter("a", second)
    assert two.begun == begins
    one.answer()
    assert two.begun == 1


def test_replies_leave_in_the_order_of_arrival_however_they_come(desk: Desk) -> None:
    requests = [desk.enter("a", STORED) for _ in range(4)]
    for number in (3, 1):
        requests[number].answer()
    assert desk.sent == []
    requests[0].answer()
    assert desk.sent == [0, 1]
    assert desk.lanes.count == 2
    requests[2].answer()
    assert (desk.sent, desk.lanes.count) == ([0, 1, 2, 3], 0)


def test_lanes_do_not_wait_for_each_other(desk: Desk) -> None:
    desk.enter("a", ALONE)
    desk.enter("a", STORED)
    other = desk.enter("b", ALONE)
    other.answer()
    assert (desk.sent, desk.lanes.count) == ([2], 2)


def test_who_waits_is_not_overtaken_by_who_need_not(desk: Desk) -> None:
    stored = desk.enter("a", STORED)
    history = desk.enter("a", ALONE)
    later = desk.enter("a", STORED)
    assert later.begun == 0
    stored.answer()
    assert (history.begun, later.begun) == (1, 0)
    history.answer()
    assert later.begun == 1


def test_a_request_that_succeeds_in_silence_keeps_its_place_and_sends_nothing(desk: Desk) -> None:
    first, silent, last = desk.enter("a", STORED), desk.enter("a", STORED, silent=True), desk.enter("a", STORED)
    last.answer()
    silent.answer()
    assert desk.sent == []
    first.answer()
    assert (desk.sent, desk.lanes.count) == ([0, 2], 0)


def test_what_is_told_waits_for_the_answers_before_it(desk: Desk) -> None:
    told = Outgoing(Op.ERROR, None, 9)
    desk.lanes.enter(Told(desk.lanes, told))
    assert (desk.sent, desk.lanes.count) == ([9], 0)
    first = Request(desk.lanes, 1, None, STORED)
    desk.lanes.enter(first)
    desk.lanes.enter(Told(desk.lanes, told))
    assert (desk.sent, desk.lanes.count) == ([9], 2)
    first.answer()
    assert (desk.sent, desk.lanes.count) == ([9, 1, 9], 0)


def test_only_the_first_answer_counts(desk: Desk) -> None:
    first, second = desk.enter("a", STORED), desk.enter("a", STORED)
    second.answer()
    second.answer()
    first.answer()
    first.answer()
    second.answer()
    assert (desk.sent, desk.lanes.count) == ([0, 1], 0)


def test_every_answer_makes_room_known(desk: Desk) -> None:
    first, second = desk.enter("a", STORED), desk.enter("b", STORED)
    second.answer()
    first.answer()
    assert desk.rooms == 2
    desk.enter("a", AFTER, at_once=True)
    assert desk.rooms == 3


def test_a_thousand_that_waited_begin_one_after_another_and_not_within_each_other(desk: Desk) -> None:
    first = desk.enter("a", ALONE)
    for number in range(5_000):
        desk.enter("a", (AFTER, ALONE, STORED)[number % 3], at_once=True)
    assert (desk.lanes.count, desk.sent) == (5_001, [])
    first.answer()
    assert (desk.sent, desk.lanes.count) == (list(range(5_001)), 0)


def test_a_lane_can_be_entered_from_the_answer_of_another(desk: Desk) -> None:
    """As the room that an answer makes lets more be read."""
    nested: list[Request] = []

    class Nesting(Request):
        def begin(self) -> None:
            nested.append(desk.enter("b", STORED))
            nested.append(desk.enter("a", AFTER))
            super().begin()

    desk.lanes.enter(Nesting(desk.lanes, 0, "a", STORED, at_once=True, silent=True))
    assert [request.begun for request in nested] == [1, 1]
    for request in nested:
        request.answer()
    assert desk.lanes.count == 0


def test_nothing_begins_between_a_reply_and_what_its_request_causes(desk: Desk) -> None:
    first, other = desk.enter("a", STORED), desk.enter("b", STORED)
    waiting = [desk.enter("a", AFTER), desk.enter("b", ALONE), desk.enter("a", STORED)]
    desk.lanes.pause()
    first.answer()
    assert (desk.sent, desk.lanes.count) == ([0], 4)
    desk.lanes.pause()
    other.answer()
    desk.lanes.go_on()
    assert [request.begun for request in waiting] == [0, 0, 0]
    desk.lanes.go_on()
    assert [request.begun for request in waiting] == [1, 1, 1]
    for request in waiting:
        request.answer()
    assert (desk.lanes.count, desk.lanes._lanes) == (0, {})


def test_what_is_answered_once_begun_after_a_pause_begins_the_next(desk: Desk) -> None:
    first = desk.enter("a", STORED)
    for _ in range(1_000):
        desk.enter("a", ALONE, at_once=True)
    desk.lanes.pause()
    first.answer()
    assert desk.sent == [0]
    desk.lanes.go_on()
    assert (desk.sent, desk.lanes._lanes) == (list(range(1_001)), {})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["a", "b"]), st.sampled_from(Pace), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.integers(0, 20)),
        st.tuples(st.just("answer in a pause"), st.integers(0, 20)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(steps=STEPS)
def test_replies_keep_the_order_and_paces_hold_whatever_is_answered_when(
    steps: list[tuple[str, str, Pace, int] | tuple[str, int]],
) -> None:
    desk = Desk()

    def answer(which: int) -> None:
        running = [request for request in desk.requests if request.is_running]
        if running:
            running[which % len(running)].answer()

    for step in steps:
        if len(step) == 4:
            desk.enter(step[1], step[2], at_once=step[3] == 0, silent=step[3] == 1)
        elif step[0] == "answer":
            answer(step[1])
        else:
            desk.lanes.pause()
            begun = sum(request.begun for request in desk.requests)
            answer(step[1])
            assert sum(request.begun for request in desk.requests) == begun
            desk.lanes.go_on()
        assert_paces_hold(desk)
    while any(request.is_running for request in desk.requests):
        answer(7)
        assert_paces_hold(desk)
    assert all(request.begun == 1 for request in desk.requests)
    assert (desk.lanes.count, desk.lanes._lanes) == (0, {})
    loud = [request.number for request in desk.requests if request._packet is not None]
    assert sorted(desk.sent) == loud


def assert_paces_hold(desk: Desk) -> None:
    lanes: dict[Hashable, list[Request]] = defaultdict(list)
    for request in desk.requests:
        lanes[request.key].append(request)
    for key, requests in lanes.items():
        begun = [request.begun for request in requests]
        assert begun == sorted(begun, reverse=True), "begun in the order of arrival"
        sent = [number for number in desk.sent if desk.requests[number].key == key]
        assert sent == sorted(sent)
        running = [request for request in requests if request.is_running]
        # Who does not run ALONE may have one before it that does not either, but AFTER all before are answered.
        assert all(request.pace is STORED for request in running[1:])
        assert running[0].pace is not ALONE or len(running) == 1 if running else True
        waiting = [request for request in requests if not request.begun]
        if waiting:
            assert running, "somebody must be waited for"
            assert waiting[0].pace is not STORED or running[0].pace is ALONE

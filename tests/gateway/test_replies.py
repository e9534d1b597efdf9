from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.gateway.replies import ReplyOrder
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing


def packet(number: int) -> Outgoing:
    return Outgoing(Op.ACK, None, number)


class Replies:
    """An order of replies, what has left and how often room was told of."""

    def __init__(self) -> None:
        self.left: list[str | int | None] = []
        self.rooms = 0
        self.order = ReplyOrder(lambda reply: self.left.append(reply.request_id), self._on_room)

    def _on_room(self) -> None:
        self.rooms += 1


def test_an_answer_leaves_at_once_when_nobody_waits_before_it() -> None:
    replies = Replies()
    for number in range(3):
        replies.order.answer(replies.order.take(), packet(number))
    assert (replies.left, len(replies.order), replies.rooms) == ([0, 1, 2], 0, 3)


def test_an_answer_waits_for_all_earlier_ones() -> None:
    replies = Replies()
    first, second, third = (replies.order.take() for _ in range(3))
    replies.order.answer(third, packet(3))
    replies.order.answer(second, packet(2))
    assert (replies.left, len(replies.order)) == ([], 3)
    replies.order.answer(first, packet(1))
    assert (replies.left, len(replies.order)) == ([1, 2, 3], 0)


def test_a_silent_answer_holds_nobody_up() -> None:
    replies = Replies()
    first, second = replies.order.take(), replies.order.take()
    replies.order.answer(second, packet(2))
    replies.order.answer(first, None)
    assert (replies.left, len(replies.order)) == ([2], 0)


def test_only_the_first_answer_counts() -> None:
    replies = Replies()
    first, second = replies.order.take(), replies.order.take()
    replies.order.answer(second, packet(2))
    replies.order.answer(second, packet(22))
    replies.order.answer(first, None)
    replies.order.answer(first, packet(11))
    assert replies.left == [2]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.just(0), st.just(False)),
            st.tuples(st.just("answer"), st.integers(0, 30), st.booleans()),
        ),
        max_size=60,
    )
)
def test_replies_leave_in_order_of_arrival_in_whatever_order_they_are_given(
    steps: list[tuple[str, int, bool]],
) -> None:
    replies = Replies()
    places = []
    answers: dict[int, int | None] = {}
    for count, (step, number, silent) in enumerate(steps):
        if step == "take":
            places.append(replies.order.take())
        elif number < len(places):
            given_now = None if silent else count
            answers.setdefault(number, given_now)
            replies.order.answer(places[number], None if given_now is None else packet(given_now))
        ready = 0
        while ready in answers:
            ready += 1
        assert replies.left == [answer for n in range(ready) if (answer := answers[n]) is not None]
        assert len(replies.order) == len(places) - ready

from __future__ import annotations

from typing import Any

import pytest

from livechat.client.pending import REPEATABLE, Pending, Request
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS


def no_answer(_data: Any, _error: Exception | None) -> None:
    raise AssertionError("nobody answers here")


def request(request_id: int, op: Op = Op.CHANNEL_LIST, *, outlives: bool = True) -> Request:
    return Request(request_id, op, None, no_answer, outlives)


def pending(*requests: Request) -> Pending:
    held = Pending()
    for each in requests:
        held.add(each)
    return held


def ids(requests: list[Request]) -> list[int]:
    return [each.request_id for each in requests]


def test_requests_go_out_once_and_in_order() -> None:
    held = pending(request(1), request(2))
    assert ids(held.due()) == [1, 2]
    held.add(request(3))
    assert ids(held.due()) == [3]


def test_what_nobody_waits_for_does_not_go_out() -> None:
    held = pending(request(1), request(2))
    held.withdraw(1)
    assert ids(held.due()) == [2]
    assert held.get(1) is None
    assert held.get("2") is None


def test_what_has_left_is_kept_for_its_effect_and_answers_nobody() -> None:
    held = pending(request(1, Op.READ))
    held.due()
    held.withdraw(1)
    withdrawn = held.get(1)
    assert withdrawn is not None
    withdrawn.answer(None, None)
    assert ids(held.lost(set())) == [1], "nor is it repeated"


def test_after_a_lost_connection_what_may_be_repeated_goes_out_again() -> None:
    held = pending(request(1, Op.READ), request(2, Op.CHANNEL_JOIN), request(3, Op.HISTORY, outlives=False))
    held.due()
    assert ids(held.lost(set())) == [2, 3]
    assert ids(held.due()) == [1]


def test_what_had_not_left_yet_may_always_go_out_again() -> None:
    held = pending(request(1, Op.CHANNEL_JOIN), request(2, Op.CHANNEL_JOIN))
    held.due()
    held.add(request(3, Op.CHANNEL_JOIN))
    assert ids(held.lost({2})) == [1]
    assert ids(held.due()) == [2, 3]


def test_closing_returns_everything() -> None:
    held = pending(request(1), request(2))
    assert ids(held.close()) == [1, 2]
    assert (len(held), held.due()) == (0, [])


@pytest.mark.parametrize(
    "op", [Op.CHANNEL_CREATE, Op.CHANNEL_JOIN, Op.CHANNEL_LEAVE, Op.MEMBER_ADD, Op.MEMBER_REMOVE]
)
def test_what_a_second_time_would_be_refused_is_not_repeated(op: Op) -> None:
    assert op not in REPEATABLE


def test_only_requests_are_repeatable() -> None:
    assert set(REQUESTS) >= REPEATABLE

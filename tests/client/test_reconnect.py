from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.client.error import CannotConnect, SessionEnded
from livechat.client.reconnect import Again, Ended, Reconnection
from livechat.client.settings import Backoff
from livechat.error import Forbidden, InvalidToken, LiveError, Overloaded, ShuttingDown
from livechat.protocol.opcodes import CloseCode

LOST = Ended("the connection was lost", CloseCode.ABNORMAL)


def new(
    uniform: Callable[[], float] = lambda: 1.0, *, can_renew: bool = False, tries_max: int | None = 10
) -> Reconnection:
    return Reconnection(Backoff(tries_max=tries_max), uniform, can_renew=can_renew)


def test_the_wait_grows_by_half_from_one_second_to_thirty() -> None:
    reconnection = new()
    waits = [reconnection.after(LOST, 0.0).delay_s for _ in range(10)]
    assert waits == pytest.approx([*(1.5**tries for tries in range(9)), 30.0])


def test_the_eleventh_try_in_a_row_is_not_made() -> None:
    reconnection = new()
    for _ in range(10):
        reconnection.after(LOST, 0.0)
    with pytest.raises(CannotConnect, match="after 10 tries: the connection was lost"):
        reconnection.after(LOST, 0.0)


def test_a_session_starts_the_count_again() -> None:
    reconnection = new()
    for _ in range(30):
        assert reconnection.after(LOST, 0.0).delay_s == 1.0
        reconnection.succeeded()


def test_without_a_limit_it_never_gives_up() -> None:
    reconnection = new(tries_max=None)
    assert [reconnection.after(LOST, 0.0).delay_s for _ in range(3000)][-1] == 30.0


@given(st.floats(0, 1), st.integers(0, 9))
def test_the_wait_is_the_random_part_of_its_ceiling(part: float, tries: int) -> None:
    reconnection = new(lambda: part)
    for _ in range(tries):
        reconnection.after(LOST, 0.0)
    assert reconnection.after(LOST, 0.0).delay_s == pytest.approx(part * min(30.0, 1.5**tries))


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 4000, 4001, 4002, 4003, 4499])
def test_it_comes_back_after(code: int | None) -> None:
    assert new().after(Ended("x", code), 0.0) == Again(1.0)


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 4505, 4506, 4507, 4999])
def test_it_does_not_come_back_after(code: int) -> None:
    with pytest.raises(SessionEnded, match=f"{code} so it is") as raised:
        new().after(Ended("so it is", code), 0.0)
    assert (raised.value.code, raised.value.reason) == (code, "so it is")


@pytest.mark.parametrize("ended", [Ended("", 4502), Ended("", refusal=InvalidToken("expired"))])
def test_a_token_that_has_ended_is_renewed_once(ended: Ended) -> None:
    reconnection = new(can_renew=True)
    assert reconnection.after(ended, 0.0) == Again(0.0, fresh_token=True)
    with pytest.raises((SessionEnded, InvalidToken)):
        reconnection.after(ended, 0.0)


def test_a_token_can_be_renewed_again_after_it_was_taken() -> None:
    reconnection = new(can_renew=True)
    for _ in range(3):
        assert reconnection.after(Ended("", 4502), 0.0).fresh_token
        reconnection.succeeded()


@pytest.mark.parametrize("refusal", [Overloaded("later"), ShuttingDown("later")])
def test_a_refusal_that_may_pass_is_waited_out(refusal: LiveError) -> None:
    assert new().after(Ended("", refusal=refusal), 0.0) == Again(1.0)


@pytest.mark.parametrize("refusal", [InvalidToken("no"), Forbidden("no")])
def test_any_other_refusal_is_the_end(refusal: LiveError) -> None:
    with pytest.raises(type(refusal)):
        new().after(Ended("", refusal=refusal), 0.0)


def test_reconnect_says_when() -> None:
    reconnection = new()
    reconnection.asked_for(105.0)
    assert reconnection.after(LOST, 102.0) == Again(3.0)
    assert reconnection.after(LOST, 105.0) == Again(1.0), "only once"


def test_reconnect_that_is_due_does_not_wait() -> None:
    reconnection = new()
    reconnection.asked_for(105.0)
    assert reconnection.after(LOST, 200.0) == Again(0.0)

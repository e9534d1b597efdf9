from __future__ import annotations

import pytest

import livechat.error
from livechat.client.error import REFUSALS, UnknownRefusal, refusal
from livechat.error import LiveError, NotPersisted, RateLimited
from livechat.protocol.events import Error


def every_error(cls: type[LiveError] = LiveError) -> set[type[LiveError]]:
    found = {each for each in cls.__subclasses__() if each.__module__ == livechat.error.__name__}
    return found.union(*(every_error(each) for each in found))


def test_every_code_of_the_protocol_has_its_class() -> None:
    assert set(REFUSALS.values()) == every_error()
    assert all(cls.code == code for code, cls in REFUSALS.items())


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_an_error_becomes_the_exception_of_its_code(code: int) -> None:
    raised = refusal(Error(code, "because", REFUSALS[code].retryable))
    assert type(raised) is REFUSALS[code]
    assert (raised.code, raised.reason, str(raised)) == (code, "because", "because")


def test_what_to_do_and_when_is_kept() -> None:
    raised = refusal(Error(1006, "slow down", True, retry_after_ms=250))
    assert isinstance(raised, RateLimited)
    assert raised.retry_after_ms == 250
    unknown = refusal(Error(3005, "who knows", True, action="RETRY"))
    assert isinstance(unknown, NotPersisted)
    assert unknown.action == "RETRY"


@pytest.mark.parametrize("retryable", [False, True])
def test_a_code_of_a_later_version_is_kept(retryable: bool) -> None:
    raised = refusal(Error(7777, "new", retryable))
    assert isinstance(raised, UnknownRefusal)
    assert (raised.code, raised.retryable) == (7777, retryable)
    assert type(raised) is not UnknownRefusal, "the class of one code is not changed by another"

from __future__ import annotations

import inspect

import pytest

from livechat import error
from livechat.error import LiveError

PROTOCOL_CODES = {
    "NotAuthenticated": 1000,
    "InvalidToken": 1001,
    "AlreadyIdentified": 1002,
    "UnknownOpcode": 1003,
    "ProtocolError": 1004,
    "PayloadTooLarge": 1005,
    "RateLimited": 1006,
    "Forbidden": 1007,
    "ChannelNotFound": 2000,
    "ChannelFull": 2001,
    "AccessDenied": 2002,
    "AlreadyInChannel": 2003,
    "NotInChannel": 2004,
    "ChannelExists": 2005,
    "SsrcInUse": 2006,
    "MediaNotPossible": 2007,
    "EmptyMessage": 3000,
    "MessageTooLong": 3001,
    "JoinBeforeMessaging": 3002,
    "NonceConflict": 3003,
    "ContentRejected": 3004,
    "NotPersisted": 3005,
    "NotPttChannel": 4000,
    "FloorNotHeld": 4001,
    "JobNotFound": 5000,
    "UnknownJobKind": 5001,
    "IdempotencyKeyReused": 5002,
    "FileNotFound": 6000,
    "InternalError": 9000,
    "Overloaded": 9001,
    "ShuttingDown": 9002,
    "BackendUnavailable": 9003,
}
"""Section 5 of the protocol, and what is served beside it."""

RETRYABLE = {1006, 2001, 3005, 9000, 9001, 9002, 9003}


CLASSES = [
    cls
    for _, cls in inspect.getmembers(error, inspect.isclass)
    if issubclass(cls, LiveError) and cls is not LiveError
]


def test_each_error_of_the_protocol_has_one_class_with_its_code() -> None:
    assert sorted((cls.__name__, cls.code) for cls in CLASSES) == sorted(PROTOCOL_CODES.items())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_may_be_retried_only_where_time_can_mend_it(cls: type[LiveError]) -> None:
    assert cls.retryable is (cls.code in RETRYABLE)
    assert cls("reason").retryable is cls.retryable


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_error_says_its_reason_and_what_to_do(cls: type[LiveError]) -> None:
    refusal = cls("expected this, got that")
    assert str(refusal) == refusal.reason == "expected this, got that"
    assert refusal.action == {3005: "ROLLBACK", 9002: "RECONNECT"}.get(cls.code)
    assert refusal.retry_after_ms is None
    told = cls("slow down", action="RETRY", retry_after_ms=5)
    assert (told.action, told.retry_after_ms) == ("RETRY", 5)

from __future__ import annotations

import pytest

from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode, Op, ends_session
from livechat.protocol.requests import REQUESTS
from tests.support.sent import SENT

PROTOCOL_OPS = {
    "HELLO": 0,
    "HEARTBEAT": 1,
    "HEARTBEAT_ACK": 2,
    "IDENTIFY": 3,
    "READY": 4,
    "RESUME": 5,
    "RESUMED": 6,
    "RECONNECT": 7,
    "INVALID_SESSION": 9,
    "CHANNEL_CREATE": 10,
    "CHANNEL_JOIN": 11,
    "CHANNEL_LEAVE": 12,
    "CHANNEL_UPDATE": 13,
    "CHANNEL_DELETE": 14,
    "CHANNEL_LIST": 15,
    "CHANNEL_INFO": 16,
    "RENEGOTIATE": 17,
    "MESSAGE_CREATE": 20,
    "HISTORY": 21,
    "SYNC": 22,
    "READ": 23,
    "TYPING": 24,
    "FOCUS": 25,
    "SUBSCRIBE": 26,
    "UNSUBSCRIBE": 27,
    "PRESENCE_UPDATE": 28,
    "FLOOR_REQUEST": 30,
    "FLOOR_RELEASE": 31,
    "FLOOR_PING": 32,
    "MEMBER_ADD": 33,
    "MEMBER_REMOVE": 34,
    "MEMBER_LIST": 35,
    "SETTINGS_SET": 36,
    "CHANNEL_EVENT": 100,
    "MESSAGE_EVENT": 101,
    "READ_EVENT": 102,
    "PRESENCE_EVENT": 103,
    "TYPING_EVENT": 104,
    "UNREAD_EVENT": 105,
    "NOTIFICATION": 106,
    "ANNOUNCEMENT": 107,
    "SETTINGS_EVENT": 108,
    "FLOOR_GRANTED": 110,
    "FLOOR_DENY": 111,
    "FLOOR_TAKEN": 112,
    "FLOOR_IDLE": 113,
    "FLOOR_REVOKE": 114,
    "FLOOR_QUEUE_POS_INFO": 115,
    "FLOOR_PONG": 116,
    "RENEGOTIATE_ACK": 117,
    "MEDIA_UPDATE": 118,
    "JOB_EVENT": 120,
    "SPEAKING": 121,
    "ACK": 200,
    "ERROR": 201,
    "MEDIA_CHUNK": 29,
    "MEDIA_CHUNK_EVENT": 109,
}
"""Section 2 of the protocol; but the name MEDIA_CHUNK has a number there for each direction."""

PROTOCOL_CLOSE_CODES = {
    "NORMAL": 1000,
    "GOING_AWAY": 1001,
    "PROTOCOL_VIOLATION": 1002,
    "NO_STATUS": 1005,
    "ABNORMAL": 1006,
    "INVALID_TEXT": 1007,
    "MESSAGE_TOO_BIG": 1009,
    "INTERNAL": 4000,
    "SLOW_CONSUMER": 4001,
    "HEARTBEAT_TIMEOUT": 4002,
    "DRAIN": 4003,
    "AUTHENTICATION_FAILED": 4501,
    "TOKEN_EXPIRED": 4502,
    "PROTOCOL_ABUSE": 4503,
    "RATE_ABUSE": 4504,
    "TAKEN_OVER": 4505,
    "IDENTIFY_TIMEOUT": 4506,
    "BANNED": 4507,
}
"""Section 5 of the protocol and RFC 6455, section 7.4.1."""


@pytest.mark.parametrize("op", Op)
def test_opcodes_have_the_numbers_of_the_protocol(op: Op) -> None:
    assert PROTOCOL_OPS[op.name] == op


def test_no_opcode_has_two_names() -> None:
    assert len(Op) == len(Op.__members__)


@pytest.mark.parametrize("code", CloseCode)
def test_close_codes_have_the_numbers_of_the_protocol(code: CloseCode) -> None:
    assert PROTOCOL_CLOSE_CODES[code.name] == code


def test_clients_may_send_mini_livechats_requests_and_nothing_that_servers_send() -> None:
    assert set(REQUESTS) >= {1, 3, 10, 11, 12, 20}
    assert not set(REQUESTS) & set(SENT)
    assert max(REQUESTS) < 100


def test_every_op_of_chat_is_there() -> None:
    assert set(REQUESTS) == {1, 3, 5, *range(10, 17), *range(20, 37)}
    assert set(SENT) == {0, 2, 4, 6, 7, 9, *range(100, 117), 118, 120, 121, 200, 201}
    assert set(Op) == set(REQUESTS) | set(SENT)


def test_each_opcode_has_a_request_class_of_its_own() -> None:
    assert len(set(REQUESTS.values())) == len(REQUESTS)


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000])
def test_every_close_code_of_ours_has_a_short_lowercase_reason(code: CloseCode) -> None:
    reason = CLOSE_REASONS[code]
    assert 0 < len(reason.encode()) <= 123
    assert reason == reason.lower()


@pytest.mark.parametrize(
    ("code", "ends"),
    [
        (1000, False),
        (1001, False),
        (1002, False),
        (1005, False),
        (1006, False),
        (1007, False),
        (1009, False),
        (1011, False),
        (3000, False),
        (4000, False),
        (4001, False),
        (4002, False),
        (4003, False),
        (4499, False),
        (4500, True),
        (4501, True),
        (4503, True),
        (4504, True),
        (4505, False),
        (4506, True),
        (4507, True),
        (4999, True),
        (5000, False),
    ],
)
def test_a_session_ends_with_its_connection_only_where_the_code_says_so(code: int, ends: bool) -> None:
    assert ends_session(code, by_peer=False) is ends
    assert ends_session(code, by_peer=True) is (code in (1000, 1001))

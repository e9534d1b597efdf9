"""Owns the numbers of the protocol: opcodes and WebSocket close codes.

It must not hold payloads (see `requests` and `events`); numbers, once given, are never reused.
"""

from __future__ import annotations

from enum import IntEnum


class Op(IntEnum):
    """What a packet means. 1-99 go to the server (but HELLO, ACKs and READY), 100 and up to clients."""

    HELLO = 0
    HEARTBEAT = 1
    HEARTBEAT_ACK = 2
    IDENTIFY = 3
    READY = 4
    RESUME = 5
    RESUMED = 6
    RECONNECT = 7
    INVALID_SESSION = 9

    CHANNEL_CREATE = 10
    CHANNEL_JOIN = 11
    CHANNEL_LEAVE = 12
    CHANNEL_UPDATE = 13
    CHANNEL_DELETE = 14
    CHANNEL_LIST = 15
    CHANNEL_INFO = 16

    MESSAGE_CREATE = 20
    HISTORY = 21
    SYNC = 22
    READ = 23
    TYPING = 24
    FOCUS = 25
    SUBSCRIBE = 26
    UNSUBSCRIBE = 27
    PRESENCE_UPDATE = 28
    MEDIA_CHUNK = 29

    FLOOR_REQUEST = 30
    FLOOR_RELEASE = 31
    FLOOR_PING = 32

    MEMBER_ADD = 33
    MEMBER_REMOVE = 34
    MEMBER_LIST = 35
    SETTINGS_SET = 36

    CHANNEL_EVENT = 100
    MESSAGE_EVENT = 101
    READ_EVENT = 102
    PRESENCE_EVENT = 103
    TYPING_EVENT = 104
    UNREAD_EVENT = 105
    NOTIFICATION = 106
    ANNOUNCEMENT = 107
    SETTINGS_EVENT = 108
    MEDIA_CHUNK_EVENT = 109

    FLOOR_GRANTED = 110
    FLOOR_DENY = 111
    FLOOR_TAKEN = 112
    FLOOR_IDLE = 113
    FLOOR_REVOKE = 114
    FLOOR_QUEUE_POS_INFO = 115
    FLOOR_PONG = 116

    MEDIA_UPDATE = 118
    JOB_EVENT = 120
    SPEAKING = 121

    ACK = 200
    ERROR = 201


class CloseCode(IntEnum):
    """Why a WebSocket ended.

    4000-4499: reconnect, with jittered backoff, and RESUME first.
    4500-4999: do not reconnect as you are; the session is over, or (4505) another connection's.
    Below 4000 the codes are those of RFC 6455, section 7.4.1.
    """

    NORMAL = 1000
    """The client is done. Its session ends with the connection."""
    GOING_AWAY = 1001
    """The page or the program went away on purpose. The session ends as well."""
    PROTOCOL_VIOLATION = 1002
    """The bytes were no WebSocket frames (RFC 6455)."""
    NO_STATUS = 1005
    """Never on the wire: the peer's close frame carried no code."""
    ABNORMAL = 1006
    """Never on the wire: the TCP connection ended without a close frame."""
    INVALID_TEXT = 1007
    """A text frame was not UTF-8."""
    MESSAGE_TOO_BIG = 1009
    """A frame or message passed the limit `frame_bytes` of HELLO."""

    INTERNAL = 4000
    """The server failed; it is not the client's fault."""
    SLOW_CONSUMER = 4001
    """The client read too slowly and its egress queue passed its limit."""
    HEARTBEAT_TIMEOUT = 4002
    """No complete frame came for 1.5 heartbeat intervals."""
    DRAIN = 4003
    """The server is shutting down."""

    AUTHENTICATION_FAILED = 4501
    """The third refused IDENTIFY on one connection."""
    TOKEN_EXPIRED = 4502
    """The token ended and was not renewed by another IDENTIFY, or was revoked."""
    PROTOCOL_ABUSE = 4503
    """Twenty packets within ten seconds did not parse, or a message came in too many fragments."""
    RATE_ABUSE = 4504
    """A thousand requests within ten seconds were refused as too many (1006)."""
    TAKEN_OVER = 4505
    """Another connection resumed the session."""
    IDENTIFY_TIMEOUT = 4506
    """Neither IDENTIFY nor RESUME came in time."""
    BANNED = 4507
    """An operator has ended all sessions of the user."""


CLOSE_REASONS: dict[int, str] = {
    CloseCode.PROTOCOL_VIOLATION: "not a valid websocket frame",
    CloseCode.INVALID_TEXT: "text is not utf-8",
    CloseCode.MESSAGE_TOO_BIG: "frame too large",
    CloseCode.INTERNAL: "internal error",
    CloseCode.SLOW_CONSUMER: "slow consumer",
    CloseCode.HEARTBEAT_TIMEOUT: "heartbeat timeout",
    CloseCode.DRAIN: "server is shutting down",
    CloseCode.AUTHENTICATION_FAILED: "authentication failed",
    CloseCode.TOKEN_EXPIRED: "token expired",
    CloseCode.PROTOCOL_ABUSE: "too many invalid packets",
    CloseCode.RATE_ABUSE: "too many requests",
    CloseCode.TAKEN_OVER: "session taken over",
    CloseCode.IDENTIFY_TIMEOUT: "no identify in time",
    CloseCode.BANNED: "banned",
}


def ends_session(code: int, *, by_peer: bool) -> bool:
    """Tell whether a connection that closed with `code` takes its session along (else it is parked).

    A client ends its session by 1000 or 1001 and by nothing else; the server by 4500-4999 but 4505, whose session
    lives on elsewhere.
    """
    if by_peer:
        return code in (CloseCode.NORMAL, CloseCode.GOING_AWAY)
    return 4500 <= code <= 4999 and code != CloseCode.TAKEN_OVER

"""Requests to read, and refusals that must be readable."""

from __future__ import annotations

from typing import Any

from livechat.error import LiveError
from livechat.protocol.codec import CODECS, Packet, request_untrusted
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import error
from livechat.protocol.requests import Request

FULL: dict[int, dict[str, Any]] = {
    Op.HEARTBEAT: {},
    Op.IDENTIFY: {
        "token": "t",
        "user_id": "ann",
        "priority": 5,
        "device": "phone",
        "status": "AWAY",
        "presence_batches": True,
        "jobs": {"job_1": 2},
    },
    Op.RESUME: {
        "session_id": "sess_1",
        "token": "t",
        "channels": {"lobby": 3},
        "presence_batches": True,
        "jobs": {"job_1": 2},
    },
    Op.CHANNEL_CREATE: {
        "channel_id": "lobby",
        "channel_name": "Lobby",
        "mode": "ptt",
        "durable": False,
        "capacity": 5,
        "private": True,
        "max_speakers": 2,
        "freq": "145.5",
    },
    Op.CHANNEL_JOIN: {
        "channel_id": "lobby",
        "ssrc": 7,
        "media": {"profiles": ["AEAD_AES_128_GCM"], "address": {"host": "::1", "port": 5004}},
        "ufrag": "u",
        "sdp_offer": "v=0",
        "tracks": [{"kind": "audio", "ssrc": 7}],
    },
    Op.CHANNEL_LEAVE: {"channel_id": "lobby"},
    Op.CHANNEL_UPDATE: {
        "channel_id": "lobby",
        "channel_name": "Hall",
        "capacity": 9,
        "private": False,
        "max_speakers": 1,
    },
    Op.CHANNEL_DELETE: {"channel_id": "lobby"},
    Op.CHANNEL_LIST: {"limit": 10, "after": "lobby"},
    Op.CHANNEL_INFO: {"channel_id": "lobby"},
    Op.MESSAGE_CREATE: {
        "channel_id": "lobby",
        "content": "hello",
        "message_type": "FILE",
        "attachment": {"url": "u", "name": "n", "bytes": 5, "mime": "m"},
        "nonce": "n-1",
        "mentions": ["ann"],
    },
    Op.HISTORY: {"channel_id": "lobby", "before_seq": 9, "after_seq": None, "limit": 50},
    Op.SYNC: {"channels": {"lobby": {"after": 3, "before": 9}}},
    Op.READ: {"channel_id": "lobby", "seq": 3},
    Op.TYPING: {"channel_id": "lobby", "typing": True},
    Op.FOCUS: {"channel_id": "lobby"},
    Op.SUBSCRIBE: {"channel_id": "lobby"},
    Op.UNSUBSCRIBE: {"channel_id": "lobby"},
    Op.PRESENCE_UPDATE: {"status": "AWAY", "text": "at lunch"},
    Op.MEDIA_CHUNK: {
        "channel_id": "lobby",
        "stream_id": "cam",
        "chunk_seq": 7,
        "mime": "video/mp4",
        "data": b"\x00\xff",
        "keyframe": True,
        "init": True,
    },
    Op.FLOOR_REQUEST: {"channel_id": "lobby", "priority": 200, "indicator": "imminent_peril"},
    Op.FLOOR_RELEASE: {"channel_id": "lobby"},
    Op.FLOOR_PING: {"channel_id": "lobby"},
    Op.MEMBER_ADD: {"channel_id": "lobby", "user_id": "bob", "role": "moderator"},
    Op.MEMBER_REMOVE: {"channel_id": "lobby", "user_id": "bob", "ban": True},
    Op.MEMBER_LIST: {"channel_id": "lobby", "limit": 10, "after": "ann"},
    Op.SETTINGS_SET: {"settings": {"theme": {"dark": True, "sizes": [1, 2.5]}, "muted": None}},
}
"""A payload of each request with every field given (but one of HISTORY's two, which exclude each other)."""


def read(op: int, payload: dict[str, Any] | None) -> Request:
    return request_untrusted(Packet(op, payload))


def assert_can_be_sent(refusal: LiveError, op: int | None = None, request_id: str | int | None = None) -> None:
    """Every refusal must reach the client, whatever the client wrote and whichever codec it reads."""
    for codec in CODECS.values():
        assert error(refusal, op, request_id).frame(codec)

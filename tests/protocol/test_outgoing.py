from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgpack
import pytest

from livechat.error import LiveError, NotPersisted, ProtocolError, RateLimited, ShuttingDown
from livechat.protocol.codec import JSON, MSGPACK, Codec
from livechat.protocol.events import ChannelRef, InvalidSession
from livechat.protocol.jobs import JobEvent
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Batch, Outgoing, ack, error
from livechat.protocol.types import ChannelId, JobId


class CountingCodec:
    """A codec that counts how often it is asked."""

    def __init__(self, inner: Codec) -> None:
        self._inner = inner
        self.name = inner.name
        self.subprotocol = inner.subprotocol
        self.binary = inner.binary
        self.encoded = 0

    def encode(self, packet: Mapping[str, Any]) -> bytes:
        self.encoded += 1
        return self._inner.encode(packet)


def body(packet: Outgoing) -> Any:
    """Return what a JSON client reads; only for frames shorter than 126 or 65,536 bytes."""
    frame = packet.frame(JSON)
    return json.loads(frame[2 if frame[1] < 126 else 4 :])


def test_a_packet_is_encoded_once_per_codec_however_many_receive_it() -> None:
    codecs = [CountingCodec(JSON), CountingCodec(MSGPACK)]
    packet = Outgoing(Op.INVALID_SESSION, InvalidSession("gone"))
    frames = {id(packet.frame(codec)) for _ in range(100) for codec in codecs}
    assert [codec.encoded for codec in codecs] == [1, 1]
    assert len(frames) == 2


def test_packets_that_leave_together_are_encoded_and_joined_once_per_codec_however_many_receive_them() -> None:
    codecs = [CountingCodec(JSON), CountingCodec(MSGPACK)]
    packets = [Outgoing(Op.INVALID_SESSION, InvalidSession(f"gone {number}")) for number in range(3)]
    batch = Batch(packets)
    pieces = {id(batch.joined(codec)[0]) for _ in range(100) for codec in codecs}
    assert [codec.encoded for codec in codecs] == [3, 3]
    assert len(pieces) == 2
    joined, frames = batch.joined(JSON)
    assert joined == b"".join(frames)
    assert frames == [packet.frame(JSON) for packet in packets]


def test_what_carries_bytes_is_a_binary_frame_of_msgpack_for_every_client() -> None:
    event = JobEvent(JobId("job_1"), "speak", "running", 0.5, 3, partial=b"\x00\xff")
    packet = Outgoing(Op.JOB_EVENT, event, has_bytes=True)
    frame = packet.frame(JSON)
    assert frame is packet.frame(MSGPACK) is packet.frame(JSON)
    assert frame[0] == 0x82
    assert msgpack.unpackb(frame[2:])["d"]["partial"] == b"\x00\xff"


def test_nothing_is_encoded_before_somebody_receives_it() -> None:
    codec = CountingCodec(JSON)
    Outgoing(Op.INVALID_SESSION, InvalidSession("gone"))
    assert codec.encoded == 0


def test_json_travels_in_text_frames_and_msgpack_in_binary_ones() -> None:
    packet = Outgoing(Op.HEARTBEAT_ACK, None)
    text = packet.frame(JSON)
    binary = packet.frame(MSGPACK)
    assert (text[0], binary[0]) == (0x81, 0x82)
    assert json.loads(text[2:]) == msgpack.unpackb(binary[2:]) == {"op": 2, "d": None}


@pytest.mark.parametrize("request_id", ["r-1", "", 0, -5, 2**63 - 1])
def test_the_id_of_a_request_is_echoed_whatever_it_is(request_id: str | int) -> None:
    assert body(ack(12, ChannelRef(ChannelId("lobby")), request_id)) == {
        "op": 200,
        "d": {"op": 12, "data": {"channel_id": "lobby"}},
        "id": request_id,
    }


def test_without_an_id_none_is_sent() -> None:
    assert "id" not in body(ack(12, ChannelRef(ChannelId("lobby")), None))


@pytest.mark.parametrize(
    ("refusal", "fields"),
    [
        (ProtocolError("op: no"), {"code": 1004, "reason": "op: no", "retryable": False}),
        (
            RateLimited("slow down", retry_after_ms=250),
            {"code": 1006, "reason": "slow down", "retryable": True, "retry_after_ms": 250},
        ),
        (NotPersisted("away"), {"code": 3005, "reason": "away", "retryable": True, "action": "ROLLBACK"}),
        (
            NotPersisted("unknown", action="RETRY"),
            {"code": 3005, "reason": "unknown", "retryable": True, "action": "RETRY"},
        ),
        (ShuttingDown("bye"), {"code": 9002, "reason": "bye", "retryable": True, "action": "RECONNECT"}),
    ],
)
def test_an_error_says_what_its_class_says(refusal: LiveError, fields: dict[str, Any]) -> None:
    assert body(error(refusal, None, None)) == {"op": 201, "d": fields}


def test_an_error_names_the_op_and_the_nonce_it_refuses() -> None:
    packet = body(error(ProtocolError("no"), 20, 7, "n-1"))
    assert packet["id"] == 7
    assert packet["d"]["op"] == 20
    assert packet["d"]["nonce"] == "n-1"

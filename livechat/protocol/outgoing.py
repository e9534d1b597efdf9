"""Owns a packet on its way out: encoded once per codec, whatever the number of receivers.

It must not know connections; the egress queues take the finished frames from it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import attrs

from livechat.error import LiveError
from livechat.protocol.codec import MSGPACK, Codec, RequestId, envelope
from livechat.protocol.events import Ack, Error
from livechat.protocol.frames import serialize_frame
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId, JobId


@attrs.frozen
class JobMark:
    """Names an event of a job, by which an egress queue tells what it has not sent."""

    job_id: JobId
    event_seq: int


class Outgoing:
    """One packet from the server, and the WebSocket frames made of it so far.

    Args:
        op: its opcode.
        payload: an instance of one of `livechat.protocol.events`, or None.
        request_id: echoed, on replies.
        mark: (channel, seq) of a sequenced event, or an event of a job, by which an egress queue tells what it has
            not sent.
        key: given with an event without a seq that is told later if it can't be told now; a newer one of the same
            key makes it needless.
        trace: the traceparent of the request that it answers or that caused it.
        has_bytes: the payload carries bytes, which JSON can't: everybody gets a binary frame.
    """

    __slots__ = ("_frames", "has_bytes", "key", "mark", "op", "payload", "request_id", "trace")

    def __init__(
        self,
        op: Op,
        payload: Any,
        request_id: RequestId | None = None,
        *,
        mark: tuple[ChannelId, int] | JobMark | None = None,
        key: Hashable = None,
        trace: str | None = None,
        has_bytes: bool = False,
    ) -> None:
        self.op = op
        self.payload = payload
        self.request_id = request_id
        self.mark = mark
        self.key = key
        self.trace = trace
        self.has_bytes = has_bytes
        self._frames: dict[str, bytes] = {}

    def frame(self, codec: Codec) -> bytes:
        """Return the WebSocket frame of this packet in `codec`; with bytes in it, in msgpack."""
        if self.has_bytes:
            codec = MSGPACK
        frame = self._frames.get(codec.name)
        if frame is None:
            body = codec.encode(envelope(self.op, self.payload, self.request_id, self.trace))
            frame = self._frames[codec.name] = serialize_frame(body, binary=codec.binary)
        return frame


def ack(op: int, data: Any, request_id: RequestId | None) -> Outgoing:
    """Build the ACK of a request."""
    return Outgoing(Op.ACK, Ack(op, data), request_id)


def error(refusal: LiveError, op: int | None, request_id: RequestId | None, nonce: str | None = None) -> Outgoing:
    """Build the ERROR that answers a refused request."""
    payload = Error(
        code=refusal.code,
        reason=refusal.reason,
        retryable=refusal.retryable,
        op=op,
        action=refusal.action,
        retry_after_ms=refusal.retry_after_ms,
        nonce=nonce,
    )
    return Outgoing(Op.ERROR, payload, request_id)

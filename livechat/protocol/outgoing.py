"""Owns a packet on its way out: encoded once per codec, whatever the number of receivers.

It must not know connections; the egress queues take the finished frames from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import attrs

from livechat.error import LiveError
from livechat.protocol.codec import MSGPACK, Codec, RequestId, envelope
from livechat.protocol.deflate import Deflated, deflate_frame
from livechat.protocol.delivery import RULES, StateMark
from livechat.protocol.events import Ack, Error
from livechat.protocol.frames import serialize_frame
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId, JobId, StreamKey


@attrs.frozen
class JobMark:
    """Names an event of a job, by which an egress queue tells what it has not sent."""

    job_id: JobId
    event_seq: int


@attrs.frozen
class ChunkMark:
    """Names the stream of a media chunk, by which an egress queue tells what to leave out once it dropped one."""

    stream: StreamKey
    is_keyframe: bool
    """A receiver that lost a chunk may go on with this one."""
    is_init: bool = False
    """A receiver needs it, or the one that comes in its place, before it can go on."""


EventMark = tuple[ChannelId, int] | JobMark
"""Names a sequenced event, or an event of a job, by which an egress queue tells that it has not sent it."""


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
        chunk: given with a media chunk, and with nothing else: only that may be dropped.
    """

    __slots__ = (
        "_codec",
        "_frame",
        "_others",
        "_tag",
        "chunk",
        "has_bytes",
        "key",
        "mark",
        "op",
        "payload",
        "request_id",
        "trace",
    )

    _frame: bytes

    def __init__(
        self,
        op: Op,
        payload: Any,
        request_id: RequestId | None = None,
        *,
        mark: EventMark | None = None,
        key: Hashable = None,
        trace: str | None = None,
        has_bytes: bool = False,
        chunk: ChunkMark | None = None,
    ) -> None:
        self.op = op
        self.payload = payload
        self.request_id = request_id
        self.mark = mark
        self.key = key
        self.trace = trace
        self.has_bytes = has_bytes
        self.chunk = chunk
        # Looked up here, once for all receivers.
        rule = RULES.get(op)
        self._tag: EventMark | StateMark | ChunkMark | None = mark
        if rule is not None:
            self._tag = chunk if rule.state_of is None else rule.state_of(payload)
        self._codec: Codec | None = None
        """What it was written in first; most packets are never written in another."""
        self._others: dict[str, bytes] | None = None
        """What it became in others, by codec."""

    @property
    def tag(self) -> Tag | None:
        """What an egress queue knows of the packet: its delivery class. None: durable, but not told again."""
        return self._tag if self.key is None else self

    def frame(self, codec: Codec) -> bytes:
        """Return the WebSocket frame of this packet in `codec`; with bytes in it, in msgpack."""
        return self._frame if codec is self._codec else self._written(codec)

    def _written(self, codec: Codec) -> bytes:
        """Write the packet, unless it was written in this codec, though not first."""
        if self.has_bytes:
            codec = MSGPACK
            if codec is self._codec:
                return self._frame
        if self._others is not None and codec.name in self._others:
            return self._others[codec.name]
        if isinstance(codec, Deflated):
            frame = deflate_frame(self.frame(codec.inner))
        else:
            body = codec.encode(envelope(self.op, self.payload, self.request_id, self.trace))
            frame = serialize_frame(body, binary=codec.binary)
        if self._codec is None:
            self._codec, self._frame = codec, frame
        elif self._others is None:
            self._others = {codec.name: frame}
        else:
            self._others[codec.name] = frame
        return frame


Tag = EventMark | Outgoing | StateMark | ChunkMark
"""What an egress queue keeps beside a frame: its delivery class is the tag's type."""


def is_mark(tag: Tag | None) -> bool:
    """Tell whether a frame of this tag must be told again if it is not sent."""
    return tag is not None and not isinstance(tag, StateMark | ChunkMark)


class Batch:
    """Packets that leave together, joined once per codec, whatever the number of receivers.

    Args:
        packets: at least one, in order.
    """

    __slots__ = ("_joined", "packets", "tags")

    def __init__(self, packets: Sequence[Outgoing]) -> None:
        self.packets = packets
        self.tags: Sequence[Tag | None] = [packet.tag for packet in packets]
        self._joined: dict[str, tuple[bytes, list[bytes]]] = {}

    def joined(self, codec: Codec) -> tuple[bytes, list[bytes]]:
        """Return their frames in `codec`: in one piece, and one by one."""
        joined = self._joined.get(codec.name)
        if joined is None:
            frames = [packet.frame(codec) for packet in self.packets]
            joined = self._joined[codec.name] = (frames[0] if len(frames) == 1 else b"".join(frames), frames)
        return joined


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

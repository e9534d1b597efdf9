"""Owns what the server sends of live media over WebSocket: chunks, and the answer to whoever published one.

It must not hold what clients send (`requests.MediaChunk`), nor know who hears a chunk.
"""

from __future__ import annotations

import attrs

from livechat.protocol.types import ChannelId, StreamId, UserId


@attrs.frozen
class ChunkEvent:
    """Op 109: a piece of somebody's live media. It is msgpack in a binary frame, whatever the subprotocol."""

    channel_id: ChannelId
    user_id: UserId
    """Who published it."""
    stream_id: StreamId
    """The publisher's own name of the stream."""
    chunk_seq: int
    """Rises within a stream; what is missing between two was dropped."""
    mime: str
    data: bytes = attrs.field(repr=False)
    keyframe: bool = False
    """Who has seen nothing of the stream before, or has lost a chunk, can go on from here."""
    init: bool = False
    """What a decoder needs first. Who joins later is sent the last one again, as it was."""


@attrs.frozen
class ChunkTaken:
    """ACK data of MEDIA_CHUNK: it went to whoever hears the channel."""

    channel_id: ChannelId
    stream_id: StreamId
    chunk_seq: int

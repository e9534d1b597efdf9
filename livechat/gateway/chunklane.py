"""Owns the media chunks that wait for one client: the oldest go first, to the client or, past the bounds, nowhere.

It must not send, and it knows nothing of what else waits. *pure*.

Once a chunk of a stream was left out, the receiver gets nothing more of that stream until its next keyframe; and
if the `init` chunk was among what was left out, that one again just before the keyframe.

    stream     in step ──a chunk is dropped──► gap ──keyframe, or the stream is over──► in step
                                                │ any other chunk: left out; an init chunk: owed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from livechat.protocol.outgoing import ChunkMark
from livechat.protocol.types import ChannelId, StreamKey

GAPS_MAX: Final = 64
"""Streams of which one client has lost something; past it the one that waits longest counts as over."""

_Chunk = tuple[bytes, ChunkMark]


class ChunkLane:
    """What waits of all streams, in the order in which it came."""

    __slots__ = ("_chunks", "_gaps", "waiting_bytes")

    def __init__(self) -> None:
        self.waiting_bytes = 0
        """Of the chunks that wait."""
        self._chunks: deque[_Chunk] = deque()
        self._gaps: dict[StreamKey, _Chunk | None] = {}
        """Streams that wait for a keyframe, each with the init chunk that it is owed then."""

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def has_gaps(self) -> bool:
        """Whether a chunk that comes next may have to be left out."""
        return bool(self._gaps)

    def push(self, frame: bytes, mark: ChunkMark, *, bytes_max: int, frames_max: int) -> int:
        """Take in a chunk; return how many were dropped for it, or instead of it."""
        stream = mark.stream
        if stream in self._gaps:
            if not mark.is_keyframe:
                if not mark.is_init:
                    return 1
                owed = self._gaps[stream]
                self._gaps[stream] = frame, mark
                return int(owed is not None)
            owed = self._gaps.pop(stream)
            if owed is not None and not mark.is_init:
                self._append(owed)
        self._append((frame, mark))
        dropped = 0
        while self.waiting_bytes > bytes_max or len(self._chunks) > frames_max:
            dropped += self._drop_oldest()
        return dropped

    def __iter__(self) -> Iterator[_Chunk]:
        return iter(self._chunks)

    def pop(self) -> _Chunk:
        """Take out the oldest."""
        chunk = self._chunks.popleft()
        self.waiting_bytes -= len(chunk[0])
        return chunk

    def drop(self, channel_id: ChannelId | None = None) -> int:
        """Drop all that wait, or all of one channel, which is not heard any more; return how many those were."""
        before = len(self._chunks)
        streams = {mark.stream for _, mark in self._chunks if channel_id in (None, mark.stream[0])}
        for stream in streams:
            self._drop_stream(stream)
        if channel_id is not None:
            for stream in [stream for stream in self._gaps if stream[0] == channel_id]:
                del self._gaps[stream]
        return before - len(self._chunks)

    def forget(self, stream: StreamKey) -> None:
        """Forget what was lost of a stream that is over: what comes next of that name begins anew."""
        self._gaps.pop(stream, None)

    def _append(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self.waiting_bytes += len(chunk[0])

    def _drop_oldest(self) -> int:
        """Drop the oldest chunk and what of its stream is worth nothing without it; return how many."""
        before = len(self._chunks)
        chunk = self._chunks[0]
        self.pop()
        following = next((mark for _, mark in self._chunks if mark.stream == chunk[1].stream), None)
        if following is None or not following.is_keyframe or (chunk[1].is_init and not following.is_init):
            self._drop_stream(chunk[1].stream, chunk)
        return before - len(self._chunks)

    def _drop_stream(self, stream: StreamKey, first: _Chunk | None = None) -> None:
        """Drop what waits of a stream, up to a keyframe that can be understood without what was dropped.

        Args:
            first: what was dropped of it already; with None all of it is dropped.
        """
        owed = None if first is None or not first[1].is_init else first
        kept: deque[_Chunk] = deque()
        is_whole = has_gained = False
        size = 0
        for chunk in self._chunks:
            frame, mark = chunk
            if mark.stream == stream and not is_whole:
                # Where the oldest was the init chunk that is owed now, something else must have gone as well.
                is_whole = mark.is_keyframe and (mark.is_init or owed is not first or has_gained)
                is_whole &= first is not None
                if not is_whole:
                    owed = chunk if mark.is_init else owed
                    has_gained |= not mark.is_init
                    continue
                if owed is not None and not mark.is_init:
                    kept.append(owed)
                    size += len(owed[0])
            kept.append(chunk)
            size += len(frame)
        self._chunks = kept
        self.waiting_bytes = size
        if not is_whole:
            self._note_gap(stream, owed)

    def _note_gap(self, stream: StreamKey, owed: _Chunk | None) -> None:
        self._gaps[stream] = owed
        if len(self._gaps) > GAPS_MAX:
            del self._gaps[next(iter(self._gaps))]

"""Owns what waits for one client, by delivery class: what is next, and what is left out.

It must not send, count or close. *pure*. It exists only while something waits, so that an idle queue is small.

    begun     the rest of a frame that left in part: nothing goes before it, nothing takes it away
    line      durable and coalesced frames and trio-websocket's own, in the order in which they came; a coalesced
              one takes its place at the end, and the older one of its state leaves the line: what a client gets is
              in the order in which it was pushed, with some left out, so that nothing tells of what is yet to come
    chunks    droppable ones, when nothing else is left to send (`chunklane`)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from livechat.gateway.chunklane import ChunkLane
from livechat.protocol.delivery import StateMark
from livechat.protocol.outgoing import ChunkMark, Tag
from livechat.protocol.types import ChannelId, StreamKey

JOIN_FRAMES_MAX: Final = 64
JOIN_BYTES_MAX: Final = 262_144
"""How much is joined into one send."""
HOLES_MIN: Final = 64
"""So many places of superseded frames are not worth tidying up."""
_HOLE: Final = b""


class Backlog:
    """What waits, the next first."""

    __slots__ = (
        "_begun",
        "_begun_tag",
        "_frames",
        "_holes",
        "_line_bytes",
        "_places",
        "_popped",
        "_tags",
        "chunks",
    )

    def __init__(self) -> None:
        self.chunks: ChunkLane | None = None
        self._begun = b""
        self._begun_tag: Tag | None = None
        self._frames: deque[bytes] = deque()
        self._tags: deque[Tag | None] = deque()
        self._line_bytes = 0
        self._popped = 0
        """Frames that have left the line: a frame's place is its index plus this."""
        self._holes = 0
        """Places in the line whose frame was superseded."""
        self._places: dict[StateMark, int] | None = None
        """Where the newest packet of each state stands."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits; see `is_over`."""
        return not (self._begun or self._frames or self.chunks)

    @property
    def is_over(self) -> bool:
        """Whether nothing waits and nothing has to be remembered."""
        return self.is_empty and (self.chunks is None or not self.chunks.has_gaps)

    @property
    def waiting_frames(self) -> int:
        """Frames that wait."""
        return self.durable_frames + self.chunk_frames

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait."""
        return len(self._begun) + self._line_bytes + self.droppable_bytes

    @property
    def durable_frames(self) -> int:
        """Frames that wait and are no chunks."""
        return len(self._frames) - self._holes + (bool(self._begun) and not self._has_begun_chunk)

    @property
    def durable_bytes(self) -> int:
        """Bytes that wait and are no chunks'."""
        return self._line_bytes + (0 if self._has_begun_chunk else len(self._begun))

    @property
    def chunk_frames(self) -> int:
        """Chunks that wait."""
        return (0 if self.chunks is None else len(self.chunks)) + self._has_begun_chunk

    @property
    def droppable_bytes(self) -> int:
        """Bytes of chunks that have not begun to leave."""
        return 0 if self.chunks is None else self.chunks.waiting_bytes

    @property
    def _has_begun_chunk(self) -> bool:
        return type(self._begun_tag) is ChunkMark

    def tags(self) -> Iterator[Tag | None]:
        """Yield the tag of each frame of `begun` and of the line; those of superseded ones are no more."""
        if self._begun:
            yield self._begun_tag
        for frame, tag in zip(self._frames, self._tags, strict=True):
            if frame:
                yield tag

    # --- in ---------------------------------------------------------------------------------------

    def begin(self, rest: bytes, tag: Tag | None) -> None:
        """Put the rest of a frame that left in part before all others."""
        assert not self._begun
        self._begun, self._begun_tag = rest, tag

    def append(self, frame: bytes, tag: Tag | None) -> bool:
        """Put a frame at the end of the line; return whether it superseded another."""
        superseded = type(tag) is StateMark and self._supersede(tag)
        self._frames.append(frame)
        self._tags.append(tag)
        self._line_bytes += len(frame)
        return superseded

    def append_chunk(self, frame: bytes, mark: ChunkMark, *, bytes_max: int, frames_max: int) -> int:
        """Take in a chunk; return how many were dropped for it, or instead of it."""
        if self.chunks is None:
            self.chunks = ChunkLane()
        return self.chunks.push(frame, mark, bytes_max=bytes_max, frames_max=frames_max)

    def _supersede(self, state: StateMark) -> bool:
        if self._places is None:
            self._places = {}
        place = self._places.get(state)
        is_newer = place is not None
        if place is not None:
            index = place - self._popped
            self._line_bytes -= len(self._frames[index])
            self._frames[index], self._tags[index] = _HOLE, None
            self._holes += 1
            if self._holes > max(HOLES_MIN, len(self._frames) // 2):
                self._tidy()
        self._places[state] = self._popped + len(self._frames)
        return is_newer

    def _tidy(self) -> None:
        """Close the ranks: a client that reads nothing must not fill the line with holes."""
        line = [pair for pair in zip(self._frames, self._tags, strict=True) if pair[0]]
        self._frames = deque(frame for frame, _ in line)
        self._tags = deque(tag for _, tag in line)
        self._holes = self._popped = 0
        self._places = {tag: place for place, (_, tag) in enumerate(line) if type(tag) is StateMark}

    # --- out --------------------------------------------------------------------------------------

    def join(self) -> bytes:
        """Return what to send next, joined, within bounds; it stays until `consume`."""
        parts = [self._begun] if self._begun else []
        size = len(self._begun)
        for frame in self._frames:
            if len(parts) >= JOIN_FRAMES_MAX or (size and size + len(frame) > JOIN_BYTES_MAX):
                return b"".join(parts)
            if frame:
                parts.append(frame)
                size += len(frame)
        if self.chunks is not None:
            for frame, _ in self.chunks:
                if len(parts) >= JOIN_FRAMES_MAX or (size and size + len(frame) > JOIN_BYTES_MAX):
                    break
                parts.append(frame)
                size += len(frame)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def first(self, size: int) -> Iterator[tuple[int, Tag | None]]:
        """Yield size and tag of the frames that the first `size` bytes of what `join` returns are of."""
        for frame, tag in self._waiting():
            if size <= 0:
                return
            if frame:
                yield len(frame), tag
                size -= len(frame)

    def _waiting(self) -> Iterator[tuple[bytes, Tag | None]]:
        yield self._begun, self._begun_tag
        yield from zip(self._frames, self._tags, strict=True)
        if self.chunks is not None:
            yield from self.chunks

    def consume(self, sent: int) -> None:
        """Forget the first `sent` bytes of what `join` has returned."""
        if self._begun:
            rest = self._begun[sent:]
            sent -= len(self._begun) - len(rest)
            self._begun = rest
            if rest:
                return
            self._begun_tag = None
        while sent:
            frame, tag = self._pop()
            if sent < len(frame):
                self.begin(frame[sent:], tag)
                return
            sent -= len(frame)
        while self._frames and not self._frames[0]:
            self._pop()

    def _pop(self) -> tuple[bytes, Tag | None]:
        """Take out what is next: of the line, or of the chunks once that is empty."""
        if not self._frames:
            assert self.chunks is not None
            return self.chunks.pop()
        frame, tag = self._frames.popleft(), self._tags.popleft()
        if type(tag) is StateMark:
            assert self._places is not None
            del self._places[tag]
        self._popped += 1
        self._line_bytes -= len(frame)
        self._holes -= not frame
        return frame, tag

    def drop_line(self) -> list[Tag | None]:
        """Drop the line; return the tags of what was in it."""
        tags = [tag for frame, tag in zip(self._frames, self._tags, strict=True) if frame]
        self._frames.clear()
        self._tags.clear()
        self._line_bytes = self._holes = self._popped = 0
        self._places = None
        return tags

    def drop_chunks(self, channel_id: ChannelId | None = None) -> int:
        """Drop the chunks that have not begun to leave, or those of one channel; return how many those were."""
        return 0 if self.chunks is None else self.chunks.drop(channel_id)

    def forget_stream(self, stream: StreamKey) -> None:
        """Forget what was dropped of a stream that is over."""
        if self.chunks is not None:
            self.chunks.forget(stream)

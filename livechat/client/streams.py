"""Owns what a client knows of the live streams that it hears: how far each has come, and how one gets into it.

It must not know what is in a chunk, nor hold any but the newest `init` of each stream. Chunks are handed over as
they come; what is missing is told as a `ChunkGap`, and never asked for.

    `chunk_seq` above the last one     the stream goes on; a jump is a gap
    not above it, `init`               told again, or the stream begins anew: the next chunk says which
    not above it, no `init`            the stream begins anew
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from livechat.client.events import ChunkGap
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.types import ChannelId, StreamId, UserId

STREAMS_MAX: Final = 1000
"""Streams that are remembered; past it the one that was silent for longest is forgotten."""
INIT_BYTES_MAX: Final = 8 * 2**20
"""Of all `init` chunks that are kept; past it those of the streams that were silent for longest go."""

StreamName = tuple[ChannelId, UserId, StreamId]
Heard = ChunkEvent | ChunkGap


def name_of(event: Heard) -> StreamName:
    """Return what names the stream of a chunk."""
    return event.channel_id, event.user_id, event.stream_id


@attrs.define(slots=True, eq=False)
class Known:
    """What is known of one stream."""

    last: int
    """`chunk_seq` of its newest chunk."""
    is_placed: bool
    """Not only `init` chunks have come: those may be from long before, so nothing is missing after them."""
    marks_keyframes: bool = False
    """It has had one; if not, each of its chunks stands by itself."""
    init: ChunkEvent | None = None
    """Its newest `init` chunk."""
    told_again: int | None = None
    """An `init` chunk of this number came, which was behind `last`."""

    def advance(self, event: ChunkEvent) -> tuple[int, int] | None:
        """Take the next chunk; return what is missing before it, as the numbers around it."""
        seq, last, start = event.chunk_seq, self.last, self.told_again
        if not self.is_placed:
            self.last, self.is_placed = seq, not event.init
            return None
        if seq <= last and event.init:
            self.told_again = seq
            return None
        self.told_again = None
        self.last = seq
        if seq <= last:
            self.marks_keyframes = False
            if start is None or start >= seq:
                self.init = None
                return None
            last = start
        return (last, seq) if seq > last + 1 else None


class StreamBook:
    """The live streams of the channels that a client hears."""

    def __init__(self) -> None:
        self._streams: OrderedDict[StreamName, Known] = OrderedDict()
        """The one that was silent for longest first."""

    def __len__(self) -> int:
        return len(self._streams)

    def take(self, event: ChunkEvent) -> list[Heard]:
        """Take a chunk; return it, and before it what is missing."""
        name, gap = name_of(event), None
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = Known(event.chunk_seq, is_placed=not event.init)
            if len(self._streams) > STREAMS_MAX:
                self._streams.popitem(last=False)
        else:
            gap = stream.advance(event)
            self._streams.move_to_end(name)
        stream.marks_keyframes |= event.keyframe
        if event.init:
            stream.init = event
            self._bound()
        return [event] if gap is None else [ChunkGap(*name, *gap), event]

    def _bound(self) -> None:
        kept = sum(len(stream.init.data) for stream in self._streams.values() if stream.init is not None)
        for stream in self._streams.values():
            if kept <= INIT_BYTES_MAX:
                return
            if stream.init is not None:
                kept -= len(stream.init.data)
                stream.init = None

    def restart(self) -> None:
        """Note that a session begins or goes on: the server tells the `init` chunks of what is live again."""
        for stream in self._streams.values():
            stream.init = None

    def forget(self, channel_id: ChannelId) -> None:
        """Note that a channel is heard no more."""
        for name in [each for each in self._streams if each[0] == channel_id]:
            del self._streams[name]

    def find(self, is_wanted: Callable[[StreamName], bool]) -> dict[StreamName, Known]:
        """Return some of the streams."""
        return {name: stream for name, stream in self._streams.items() if is_wanted(name)}

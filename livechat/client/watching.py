"""Owns the way of one reader into live streams, at any time: what is known of them, then what comes.

It must not ask for anything, nor know what is in a chunk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from livechat.client.events import ChunkGap
from livechat.client.streams import Heard, Known, StreamBook, StreamName, name_of
from livechat.client.subscribers import Subscription
from livechat.protocol.chunks import ChunkEvent


class Chunks:
    """An endless iterator over live streams, from where one can get into each.

    Of a stream that was there before it begins with the newest `init` chunk, and goes on with the next keyframe,
    where the stream marks any. What is missing from then on is a `ChunkGap` just before the chunk that follows it.
    It ends with its client. Drop it, or `close` it, to end it before.

    Args:
        streams: what is known of them so far.
        coming: what comes.
    """

    def __init__(self, streams: dict[StreamName, Known], coming: Subscription[Heard]) -> None:
        self._known = deque(stream.init for stream in streams.values() if stream.init is not None)
        self._waiting = {name: stream.last for name, stream in streams.items() if stream.marks_keyframes}
        """The newest number of each stream that can't be got into before its next keyframe."""
        self._coming = coming

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> Heard:
        """Return the next chunk, or what is missing before it.

        Raises:
            SubscriberTooSlow: too many chunks had to wait; begin anew with `Client.chunks`.
            ClientError, LiveError: the client has ended by that.

        Cancellation:
            Nothing was taken that could have been used.
        """
        if self._known:
            await trio.lowlevel.checkpoint()
            return self._known.popleft()
        while True:
            event = await anext(self._coming)
            if not self._waiting or self._is_usable(event):
                return event

    def _is_usable(self, event: Heard) -> bool:
        name = name_of(event)
        newest = self._waiting.get(name)
        if newest is None:
            return True
        if isinstance(event, ChunkGap):
            return False
        # One that is behind the newest begins the stream anew.
        if event.keyframe or (event.chunk_seq <= newest and not event.init):
            del self._waiting[name]
            return True
        self._waiting[name] = max(newest, event.chunk_seq)
        return event.init

    def close(self) -> None:
        """End it; what has come up to now can still be read."""
        self._coming.close()


def watch(
    streams: StreamBook,
    subscribe: Callable[[Callable[[object], Heard | None]], Subscription[Heard]],
    channel_id: str,
    user_id: str | None,
    stream_id: str | None,
) -> Chunks:
    """Make an iterator; see `livechat.client.client.Client.chunks`."""

    def is_wanted(name: StreamName) -> bool:
        return name[0] == channel_id and user_id in (None, name[1]) and stream_id in (None, name[2])

    def convert(event: object) -> Heard | None:
        return event if isinstance(event, ChunkEvent | ChunkGap) and is_wanted(name_of(event)) else None

    return Chunks(streams.find(is_wanted), subscribe(convert))

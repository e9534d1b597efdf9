"""Owns the live media streams of channels: whose each is, how far it has come, and who waits to get into it.

It must not send or look at a clock, and keeps no chunks but the last `init` of each stream. Whoever begins to hear
a channel needs that one first, and can go on only with a keyframe:

    listener   is sent                                  becomes
    WAITING    `init` chunks                            HEARING, with the next keyframe
    HEARING    every chunk

Who hears the channel before a stream begins, or begins anew, is HEARING. A stream that has never marked a
keyframe is taken for one whose every chunk stands by itself: nobody waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

import attrs

from livechat.error import Forbidden, Overloaded, PayloadTooLarge, ProtocolError
from livechat.hub.settings import ChunkSettings
from livechat.hub.users import Session
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, StreamKey, UserId

Name = TypeVar("Name")


def key_of(event: ChunkEvent) -> StreamKey:
    """Return what names the stream of a chunk."""
    return event.channel_id, event.user_id, event.stream_id


@attrs.define(slots=True, eq=False)
class Stream:
    """A live stream."""

    key: StreamKey
    session_id: SessionId = attrs.field(repr=False)
    """The session that publishes it."""
    last_seq: int
    """`chunk_seq` of its newest chunk."""
    mime: str
    """Of its newest chunk."""
    last_at: float
    """When that came, in monotonic seconds."""
    init: ChunkEvent | None = None
    """Its newest `init` chunk."""
    told: Outgoing | None = attrs.field(default=None, repr=False)
    """That one as it was sent to who joined later; encoded once for all of them."""
    marks_keyframes: bool = False
    """It has had one."""
    is_away: bool = False
    """The session that publishes it has no connection."""
    waiting: set[Session] = attrs.field(factory=set, repr=False)
    """Who hears the channel and can't get into the stream before its next keyframe."""


class StreamHub:
    """The live streams of the channels of this node."""

    __slots__ = ("_by_channel", "_by_session", "_ended", "_streams", "is_watched", "kept_bytes", "settings")

    def __init__(self, settings: ChunkSettings | None = None) -> None:
        self.settings = settings or ChunkSettings()
        self.kept_bytes = 0
        """Of all `init` chunks that are kept."""
        self.is_watched = False
        """Whether somebody has `expire` called at `next_due`."""
        self._streams: OrderedDict[StreamKey, Stream] = OrderedDict()
        """The one that has been silent for longest first."""
        self._by_channel: dict[ChannelId, dict[StreamKey, Stream]] = {}
        self._by_session: dict[SessionId, dict[StreamKey, Stream]] = {}
        self._ended: list[StreamKey] = []
        """Streams that have ended since `take_ended`."""

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def get(self, key: StreamKey) -> Stream | None:
        """Return a live stream."""
        return self._streams.get(key)

    def of_channel(self, channel_id: ChannelId) -> Collection[Stream]:
        """Return the live streams of a channel."""
        return self._by_channel.get(channel_id, {}).values()

    # --- chunks -----------------------------------------------------------------------------------

    def check(self, event: ChunkEvent, session_id: SessionId) -> None:
        """Refuse a chunk that a session must not publish; nothing changes.

        Raises:
            PayloadTooLarge: it has too much data.
            ProtocolError: its `chunk_seq` does not rise.
            Forbidden: another connected session of the user publishes the stream.
            Overloaded: too many streams are live, or too many bytes of `init` chunks are kept.
        """
        size, settings = len(event.data), self.settings
        if size > settings.data_bytes:
            raise PayloadTooLarge(f"data: expected at most {settings.data_bytes} bytes, got {size}")
        stream = self._streams.get(key_of(event))
        if stream is None:
            self._check_room(event.channel_id, event.user_id)
        elif stream.session_id != session_id:
            if not stream.is_away:
                raise Forbidden("stream_id: another session of the same user publishes this stream")
        elif event.chunk_seq <= stream.last_seq and not event.init:
            raise ProtocolError(
                f"chunk_seq: expected more than {stream.last_seq}, or an init chunk, got {event.chunk_seq}"
            )
        if event.init:
            if size > settings.init_bytes:
                raise PayloadTooLarge(f"data: expected at most {settings.init_bytes} bytes with init, got {size}")
            if self._kept_with(stream, size) > settings.kept_bytes:
                raise Overloaded("init: too much of this kind is kept for other streams")

    def _check_room(self, channel_id: ChannelId, user_id: UserId) -> None:
        if len(self._streams) >= self.settings.streams_max:
            raise Overloaded(f"stream_id: {len(self._streams)} streams are live, the most allowed")
        theirs = sum(key[1] == user_id for key in self._by_channel.get(channel_id, ()))
        if theirs >= self.settings.streams_per_user:
            raise Overloaded(f"stream_id: has {theirs} live streams in this channel, the most allowed")

    def _kept_with(self, stream: Stream | None, size: int) -> int:
        """Return how many bytes would be kept with an `init` chunk of that size in place of a stream's own."""
        return self.kept_bytes + size - _init_bytes(stream)

    def follow(self, event: ChunkEvent, session_id: SessionId, now: float) -> Stream | None:
        """Note a chunk that is about to be sent; return its stream, None if there is no room for one more.

        Args:
            session_id: which session published it.
            now: monotonic seconds.
        """
        key = key_of(event)
        stream = self._streams.get(key)
        if stream is not None and (stream.session_id != session_id or event.chunk_seq <= stream.last_seq):
            self._end(stream)
            stream = None
        if stream is None:
            if len(self._streams) >= self.settings.streams_max:
                return None
            stream = self._begin(Stream(key, session_id, event.chunk_seq, event.mime, now))
        stream.last_seq, stream.mime, stream.last_at, stream.is_away = event.chunk_seq, event.mime, now, False
        self._streams.move_to_end(key)
        if event.init:
            self._keep(stream, event)
        if event.keyframe:
            if not stream.marks_keyframes:
                stream.marks_keyframes, stream.told = True, None
            stream.waiting.clear()
        return stream

    def _begin(self, stream: Stream) -> Stream:
        self._streams[stream.key] = stream
        self._by_channel.setdefault(stream.key[0], {})[stream.key] = stream
        self._by_session.setdefault(stream.session_id, {})[stream.key] = stream
        return stream

    def _keep(self, stream: Stream, event: ChunkEvent) -> None:
        kept_bytes = self._kept_with(stream, len(event.data))
        if kept_bytes <= self.settings.kept_bytes:
            self.kept_bytes = kept_bytes
            stream.init, stream.told = event, None

    # --- listeners --------------------------------------------------------------------------------

    def listen(self, session: Session, channel_id: ChannelId) -> list[Stream]:
        """Note that a session begins to hear a channel; return the streams whose `init` it needs first."""
        needed = []
        for stream in self.of_channel(channel_id):
            if stream.session_id == session.session_id:
                continue
            if stream.marks_keyframes:
                stream.waiting.add(session)
            if stream.init is not None:
                needed.append(stream)
        return needed

    def ignore(self, session: Session, channel_ids: Iterable[ChannelId]) -> None:
        """Note that a session hears some channels no more."""
        for channel_id in channel_ids:
            for stream in self.of_channel(channel_id):
                stream.waiting.discard(session)

    # --- ends -------------------------------------------------------------------------------------

    def lost(self, session_id: SessionId) -> None:
        """Note that a session has no connection: its streams may go on once it has one, or be another's."""
        for stream in self._by_session.get(session_id, {}).values():
            stream.is_away = True

    def end_session(self, session_id: SessionId, channel_ids: Collection[ChannelId] | None = None) -> None:
        """End the streams that a session publishes, in some channels or in all."""
        for stream in [*self._by_session.get(session_id, {}).values()]:
            if channel_ids is None or stream.key[0] in channel_ids:
                self._end(stream)

    def end_user(self, channel_id: ChannelId, user_id: UserId) -> None:
        """End the streams of a user who is no member of a channel any more, and hears it no more."""
        for stream in [*self.of_channel(channel_id)]:
            if stream.key[1] == user_id:
                self._end(stream)
            else:
                stream.waiting -= {session for session in stream.waiting if session.user_id == user_id}

    def end_channel(self, channel_id: ChannelId) -> None:
        """End all streams of a channel."""
        for stream in [*self.of_channel(channel_id)]:
            self._end(stream)

    @property
    def silence_s(self) -> float:
        """How long a stream may be silent."""
        return self.settings.silence_ms / 1000

    @property
    def next_due(self) -> float | None:
        """When the next stream has been silent for too long, unless a chunk comes; None: there is none."""
        first = next(iter(self._streams.values()), None)
        return None if first is None else first.last_at + self.silence_s

    def expire(self, now: float) -> None:
        """End the streams that have been silent for too long."""
        while (due := self.next_due) is not None and due <= now:
            self._end(next(iter(self._streams.values())))

    def take_ended(self) -> list[StreamKey]:
        """Return the streams that have ended since this was called last."""
        ended, self._ended = self._ended, []
        return ended

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.key]
        self._ended.append(stream.key)
        self.kept_bytes -= _init_bytes(stream)
        _unlink(self._by_channel, stream.key[0], stream.key)
        _unlink(self._by_session, stream.session_id, stream.key)


def _init_bytes(stream: Stream | None) -> int:
    return 0 if stream is None or stream.init is None else len(stream.init.data)


def _unlink(index: dict[Name, dict[StreamKey, Stream]], name: Name, key: StreamKey) -> None:
    """Take a stream out of one entry of an index, and the entry when nothing is left in it."""
    del index[name][key]
    if not index[name]:
        del index[name]

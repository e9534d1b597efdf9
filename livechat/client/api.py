"""Owns the requests of a client as methods, one for every opcode that applications use.

It must not know how a request travels; `Client` does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal

import trio

from livechat.error import PayloadTooLarge
from livechat.protocol.chunks import ChunkTaken
from livechat.protocol.events import (
    ChannelCreated,
    ChannelDetails,
    ChannelJoined,
    ChannelPage,
    HelloLimits,
    HistoryPage,
    MemberAdded,
    MemberPage,
    Message,
    ReadDone,
)
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import (
    HISTORY_LIMIT_MAX,
    ChannelCreate,
    ChannelDelete,
    ChannelInfo,
    ChannelJoin,
    ChannelLeave,
    ChannelList,
    ChannelUpdate,
    FloorPing,
    FloorRelease,
    FloorRequest,
    Focus,
    History,
    MediaChunk,
    MediaOffer,
    MemberAdd,
    MemberList,
    MemberRemove,
    PresenceUpdate,
    Read,
    SettingsSet,
    Subscribe,
    Track,
    Typing,
    Unsubscribe,
)
from livechat.protocol.types import ChannelId, ChannelMode, FloorIndicator, PresenceStatus, Ssrc, StreamId, UserId


class HistoryIterator:
    """Messages of a channel, page by page. Not an async generator: whoever stops early just drops it.

    Args:
        page: fetches a page by (before_seq, after_seq, size).
        before, after, limit: see `Requests.history`.
    """

    def __init__(
        self,
        page: Callable[[int | None, int | None, int], Awaitable[HistoryPage]],
        before: int | None,
        after: int | None,
        limit: int | None,
    ) -> None:
        self._page = page
        self._before = before
        self._after = after
        self._left = limit
        self._messages: deque[Message] = deque()
        self._has_more = True

    def __aiter__(self) -> HistoryIterator:
        return self

    async def __anext__(self) -> Message:
        """Return the next message. Raises as every request."""
        if not self._messages and self._has_more and self._left != 0:
            await self._fetch()
        else:
            await trio.lowlevel.checkpoint()
        if not self._messages:
            raise StopAsyncIteration
        return self._messages.popleft()

    async def _fetch(self) -> None:
        size = HISTORY_LIMIT_MAX if self._left is None else min(self._left, HISTORY_LIMIT_MAX)
        page = await self._page(self._before, self._after, size)
        if self._left is not None:
            self._left = max(0, self._left - len(page.messages))
        if self._after is not None:
            self._messages.extend(page.messages)
            self._has_more = page.has_after and bool(page.messages)
            self._after = page.messages[-1].seq if page.messages else self._after
        else:
            self._messages.extend(reversed(page.messages))
            self._has_more = page.has_before and bool(page.messages)
            self._before = page.messages[0].seq if page.messages else self._before


class Requests(ABC):
    """What a client can ask for. Ids are plain text; a value that does not fit raises ValueError at once.

    Every method waits for its answer, over reconnects if need be, and raises:

        LiveError        the server refused; its class says the code (`livechat.error`)
        ConnectionLost   the connection ended before the answer, and the request may not be repeated blindly
        TooSlowError     no answer within `ClientSettings.request_timeout_s`
        ClientClosed     the client has ended

    Cancelled, a request may have been done or not.
    """

    @abstractmethod
    async def _call(self, op: Op, payload: Any) -> Any:
        """Send a request; return its ACK's data as the class of its op."""

    @property
    @abstractmethod
    def is_online(self) -> bool:
        """Whether there is a session on a connection right now."""

    @property
    @abstractmethod
    def limits(self) -> HelloLimits:
        """The sizes that the server accepts, as it said last."""

    # --- channels ---------------------------------------------------------------------------------

    async def create_channel(
        self,
        channel_id: str,
        *,
        channel_name: str | None = None,
        mode: ChannelMode | None = None,
        durable: bool | None = None,
        capacity: int = 100,
        private: bool = False,
        max_speakers: int | None = None,
    ) -> ChannelCreated:
        """Create a channel. Its creator owns it, and is not yet in it: `join` comes next."""
        request = ChannelCreate(
            ChannelId(channel_id), channel_name, mode, durable, capacity, private, max_speakers
        )
        created: ChannelCreated = await self._call(Op.CHANNEL_CREATE, request)
        return created

    async def join(
        self,
        channel_id: str,
        *,
        ssrc: int | None = None,
        media: MediaOffer | None = None,
        tracks: Iterable[Track] | None = None,
    ) -> ChannelJoined:
        """Become a member, and take up voice if any of `ssrc`, `media` and `tracks` is given.

        The channel is in `Client.channels` on return; its name and role follow in a moment. Voice ends with the
        session: after a StateChanged with `new_session` it has to be taken up again.

        Returns:
            The members who are there; with voice, `media` holds the address and the SRTP keys, which change now
            and then: see MediaUpdate and VoiceKeys.
        """
        request = ChannelJoin(
            ChannelId(channel_id),
            None if ssrc is None else Ssrc(ssrc),
            media,
            tracks=None if tracks is None else tuple(tracks),
        )
        joined: ChannelJoined = await self._call(Op.CHANNEL_JOIN, request)
        return joined

    async def leave(self, channel_id: str) -> None:
        """End the membership, with its voice, on all of the user's devices."""
        await self._call(Op.CHANNEL_LEAVE, ChannelLeave(ChannelId(channel_id)))

    async def update_channel(
        self,
        channel_id: str,
        *,
        channel_name: str | None = None,
        capacity: int | None = None,
        private: bool | None = None,
        max_speakers: int | None = None,
    ) -> None:
        """Change what is given of a channel."""
        request = ChannelUpdate(ChannelId(channel_id), channel_name, capacity, private, max_speakers)
        await self._call(Op.CHANNEL_UPDATE, request)

    async def delete_channel(self, channel_id: str) -> None:
        """Delete a channel; its owner may."""
        await self._call(Op.CHANNEL_DELETE, ChannelDelete(ChannelId(channel_id)))

    async def list_channels(self, *, limit: int = 100, after: str | None = None) -> ChannelPage:
        """List the channels one may see; `next` of a page is the `after` of the next one."""
        request = ChannelList(limit, None if after is None else ChannelId(after))
        page: ChannelPage = await self._call(Op.CHANNEL_LIST, request)
        return page

    async def info(self, channel_id: str) -> ChannelDetails:
        """Describe a channel."""
        details: ChannelDetails = await self._call(Op.CHANNEL_INFO, ChannelInfo(ChannelId(channel_id)))
        return details

    async def subscribe(self, channel_id: str) -> None:
        """Receive a channel's events again. What was missed is told as a Gap, and is in its history."""
        await self._call(Op.SUBSCRIBE, Subscribe(ChannelId(channel_id)))

    async def unsubscribe(self, channel_id: str) -> None:
        """Receive only unread counts of a channel on this client; it stays so over reconnects."""
        await self._call(Op.UNSUBSCRIBE, Unsubscribe(ChannelId(channel_id)))

    # --- members ----------------------------------------------------------------------------------

    async def add_member(
        self, channel_id: str, user_id: str, *, role: Literal["member", "moderator"] | None = None
    ) -> MemberAdded:
        """Make somebody a member, or give a member another role."""
        added: MemberAdded = await self._call(
            Op.MEMBER_ADD, MemberAdd(ChannelId(channel_id), UserId(user_id), role)
        )
        return added

    async def remove_member(self, channel_id: str, user_id: str, *, ban: bool = False) -> None:
        """End somebody's membership; with `ban` for as long as nobody adds them again."""
        await self._call(Op.MEMBER_REMOVE, MemberRemove(ChannelId(channel_id), UserId(user_id), ban))

    async def members(self, channel_id: str, *, limit: int = 100, after: str | None = None) -> MemberPage:
        """List a channel's members; `next` of a page is the `after` of the next one."""
        request = MemberList(ChannelId(channel_id), limit, None if after is None else UserId(after))
        page: MemberPage = await self._call(Op.MEMBER_LIST, request)
        return page

    # --- reading ----------------------------------------------------------------------------------

    def history(
        self,
        channel_id: str,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> HistoryIterator:
        """Iterate over a channel's messages, SYSTEM messages included, asking for page after page.

        Args:
            before: newest first, from what is older than this seq; with neither from the newest.
            after: oldest first instead, from what is newer than this seq.
            limit: messages at most; None: all there are.
        """
        if before is not None and after is not None:
            raise ValueError("after: expected before or after, got both")

        async def page(before_seq: int | None, after_seq: int | None, size: int) -> HistoryPage:
            request = History(ChannelId(channel_id), before_seq, after_seq, size)
            answer: HistoryPage = await self._call(Op.HISTORY, request)
            return answer

        return HistoryIterator(page, before, after, limit)

    async def read(self, channel_id: str, seq: int) -> ReadDone:
        """Say that everything up to `seq` was read."""
        done: ReadDone = await self._call(Op.READ, Read(ChannelId(channel_id), seq))
        return done

    async def focus(self, channel_id: str | None) -> None:
        """Say which channel is on the screen: only of that one come TYPING and READ events."""
        await self._call(Op.FOCUS, Focus(None if channel_id is None else ChannelId(channel_id)))

    # --- push to talk -----------------------------------------------------------------------------

    async def request_floor(
        self, channel_id: str, *, priority: int | None = None, indicator: FloorIndicator = "normal"
    ) -> None:
        """Ask for the floor of a push-to-talk channel; what comes of it is an event. `Client.floor` does all."""
        await self._call(Op.FLOOR_REQUEST, FloorRequest(ChannelId(channel_id), priority, indicator))

    async def release_floor(self, channel_id: str) -> None:
        """Give the floor back, or wait for it no more."""
        await self._call(Op.FLOOR_RELEASE, FloorRelease(ChannelId(channel_id)))

    async def ping_floor(self, channel_id: str) -> None:
        """Say that we have the floor yet; to be said every 2 s."""
        await self._call(Op.FLOOR_PING, FloorPing(ChannelId(channel_id)))

    # --- live media -------------------------------------------------------------------------------

    async def send_chunk(
        self,
        channel_id: str,
        stream_id: str,
        chunk_seq: int,
        data: bytes,
        *,
        mime: str,
        keyframe: bool = False,
        init: bool = False,
    ) -> ChunkTaken:
        """Send a piece of live media to whoever hears the channel now, and wait until the server has it.

        Nothing is stored, and who reads too slowly loses it; see "Live streams" of the protocol. It is never sent
        twice: after ConnectionLost go on with the next one. In a new session (StateChanged with `new_session`) the
        stream has to begin anew, with its `init` chunk. To wait for no answer there is `Client.post_chunk`.

        Args:
            channel_id: one that the user is in.
            stream_id: our own name of the stream; up to 8 in a channel, by default.
            chunk_seq: rises from chunk to chunk. Count by ones: who hears it sees by that what it has lost.
            data: at most `limits.chunk_bytes`.
            mime: what it is.
            keyframe: one can go on from here without what came before.
            init: a decoder needs it first; the last one is kept for those who join later. It may also begin a
                stream anew, with a lower `chunk_seq`.
        """
        request = self._chunk(channel_id, stream_id, chunk_seq, data, mime, keyframe=keyframe, init=init)
        taken: ChunkTaken = await self._call(Op.MEDIA_CHUNK, request)
        return taken

    def _chunk(
        self,
        channel_id: str,
        stream_id: str,
        chunk_seq: int,
        data: bytes,
        mime: str,
        *,
        keyframe: bool,
        init: bool,
    ) -> MediaChunk:
        """Check a chunk, before it becomes a packet of which the server would close the connection."""
        if not isinstance(data, bytes):
            raise TypeError(f"data: expected bytes, got {type(data).__name__}")
        if len(data) > (bytes_max := self.limits.chunk_bytes):
            raise PayloadTooLarge(f"data: expected at most {bytes_max} bytes, got {len(data)}")
        return MediaChunk(ChannelId(channel_id), StreamId(stream_id), chunk_seq, mime, data, keyframe, init)

    # --- oneself ----------------------------------------------------------------------------------

    async def typing(self, channel_id: str, *, typing: bool = True) -> None:
        """Say that the user types, or has stopped. It is of the moment: while not online it is not said."""
        request = Typing(ChannelId(channel_id), typing)
        if self.is_online:
            await self._call(Op.TYPING, request)

    async def set_presence(self, status: PresenceStatus, text: str | None = None) -> None:
        """Say what others shall see; it stays so over reconnects."""
        await self._call(Op.PRESENCE_UPDATE, PresenceUpdate(status, text))

    async def set_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Store small preferences of the user; null takes a key away. Returns all of them."""
        stored = await self._call(Op.SETTINGS_SET, SettingsSet(dict(settings)))
        everything: dict[str, Any] = stored.settings
        return everything

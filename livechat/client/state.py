"""Owns what a client knows: channels, presence, settings, announcements, from READY on.

It must not fetch anything; it takes what the server told, in the order in which the application is told.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import attrs

from livechat.client.events import ServerEvent
from livechat.client.unread import UnreadCount
from livechat.protocol.events import (
    Announcement,
    ChannelDetails,
    ChannelEvent,
    ChannelJoined,
    ChannelState,
    Message,
    Ready,
    Resumed,
    SettingsEvent,
    UnreadEvent,
    UserPresence,
)
from livechat.protocol.types import AnnouncementId, ChannelId, ChannelMode, Role, UserId
from livechat.protocol.voice_events import (
    FloorGranted,
    FloorIdle,
    FloorRevoke,
    FloorTaken,
)

ANNOUNCEMENTS_KEPT: Final = 100


@attrs.define(eq=False)
class Channel:
    """A channel as the user sees it. It changes while events come; read it, don't write to it."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode = "conference"
    durable: bool = True
    role: Role | None = "member"
    member_count: int = 0
    last_seq: int = 0
    """The newest seq that the server told of; what was handed over may still be behind."""
    last_message: Message | None = None
    """The newest message known."""
    is_subscribed: bool = True
    """False: only unread counts come of it (`Client.unsubscribe`)."""
    talker: UserId | None = None
    """Who has the floor of a push-to-talk channel."""
    messages: deque[Message] = attrs.field(factory=deque, repr=False)
    """The newest messages that were handed over, oldest first; as many as `ClientSettings.messages_kept`."""
    _count: UnreadCount = attrs.field(factory=UnreadCount, repr=False)
    _described_at: int = 0
    """The seq up to which `member_count` is the server's."""

    @property
    def unread(self) -> int:
        """Messages by others that the user has not read."""
        return self._count.unread

    @property
    def mention_count(self) -> int:
        """Those of them that mention the user."""
        return self._count.mention_count

    @property
    def read_seq(self) -> int:
        """The user's read position."""
        return self._count.read_seq


class ClientState:
    """Everything a client knows of its user.

    Args:
        messages_kept: the newest messages of every channel that are kept.
    """

    def __init__(self, messages_kept: int) -> None:
        self._messages_kept = messages_kept
        self.user_id: UserId | None = None
        self.channels: dict[ChannelId, Channel] = {}
        self.presence: dict[UserId, UserPresence] = {}
        self.settings: dict[str, Any] = {}
        self.announcements: dict[AnnouncementId, Announcement] = {}

    # --- what the server states -------------------------------------------------------------------

    def ready(self, ready: Ready) -> list[Announcement]:
        """Take READY; return the announcements that were not known. Channels it lacks stay: see `session`."""
        self.user_id = ready.user_id
        self.settings = dict(ready.settings)
        self._online(ready)
        for channel in self.channels.values():
            channel.talker = None  # who has the floor follows
        for described in ready.channels:
            self.describe(described)
        return self._announce(ready.announcements)

    def resumed(self, resumed: Resumed) -> list[Announcement]:
        """Take RESUMED; return the announcements that were not known."""
        self._online(resumed)
        for channel_id, done in resumed.channels.items():
            channel = self.channels.get(channel_id)
            if channel is not None:
                channel.last_seq = done.last_seq
                channel._count.state(done.unread, done.read_seq, done.last_seq)
        return self._announce(resumed.announcements)

    def _online(self, stated: Ready | Resumed) -> None:
        known = self.presence
        self.presence = {
            user_id: attrs.evolve(known.get(user_id) or UserPresence(user_id, status, None), status=status)
            for user_id, status in stated.presence.items()
        }

    def _announce(self, announcements: list[Announcement]) -> list[Announcement]:
        fresh = [each for each in announcements if each.announcement_id not in self.announcements]
        for each in fresh:
            self._keep(each)
        return fresh

    def _keep(self, announcement: Announcement) -> None:
        self.announcements[announcement.announcement_id] = announcement
        if len(self.announcements) > ANNOUNCEMENTS_KEPT:
            del self.announcements[next(iter(self.announcements))]

    def describe(self, stated: ChannelState) -> None:
        """Take a channel as READY or CHANNEL_INFO describes it."""
        channel = self._channel(stated.channel_id)
        channel.channel_name = stated.channel_name
        channel.mode = stated.mode
        channel.durable = stated.durable
        channel.role = stated.role
        if stated.last_seq < channel.last_seq and isinstance(stated, ChannelDetails):
            return  # the answer was overtaken by events
        channel.member_count = stated.member_count
        channel.last_seq = channel._described_at = stated.last_seq
        if stated.last_message is not None:
            channel.last_message = stated.last_message
        channel._count.state(stated.unread, stated.read_seq, stated.last_seq, stated.mention_count)

    def enter(self, channel_id: ChannelId, last_seq: int) -> Channel:
        """Note that the user is in a channel. Of a new one nothing more is known yet but that all is read."""
        is_new = channel_id not in self.channels
        channel = self._channel(channel_id)
        channel.last_seq = max(channel.last_seq, last_seq)
        if is_new:
            channel._count.state(0, last_seq, last_seq, 0)
        return channel

    def joined(self, joined: ChannelJoined) -> None:
        """Take the ACK of a JOIN. A new member has read all up to the join itself."""
        self.enter(joined.channel_id, joined.last_seq).mode = joined.mode

    def leave(self, channel_id: ChannelId) -> None:
        """Note that the user is in a channel no more."""
        self.channels.pop(channel_id, None)

    def read(self, channel_id: ChannelId, read_seq: int, unread: int) -> None:
        """Take the ACK of READ."""
        channel = self.channels.get(channel_id)
        if channel is not None:
            channel._count.read(read_seq, unread)

    def _channel(self, channel_id: ChannelId) -> Channel:
        channel = self.channels.get(channel_id)
        if channel is None:
            channel = Channel(channel_id, channel_id, messages=deque(maxlen=self._messages_kept))
            self.channels[channel_id] = channel
        return channel

    # --- events -----------------------------------------------------------------------------------

    def apply(self, event: ServerEvent) -> None:
        """Take an event, at the moment at which it is handed over."""
        match event:
            case Message():
                self._message(event)
            case ChannelEvent():
                self._channel_event(event)
            case UserPresence(status="OFFLINE"):
                self.presence.pop(event.user_id, None)
            case UserPresence():
                self.presence[event.user_id] = event
            case UnreadEvent():
                self._unread(event)
            case SettingsEvent():
                self.settings = dict(event.settings)
            case Announcement():
                self._keep(event)
            case FloorGranted() | FloorTaken():
                self._talks(event.channel_id, event.user_id)
            case FloorIdle() | FloorRevoke():
                self._talks(event.channel_id, None)

    def _message(self, message: Message) -> None:
        channel = self.channels.get(message.channel_id)
        if channel is None:
            return
        channel.last_seq = max(channel.last_seq, message.seq)
        channel.messages.append(message)
        if channel.last_message is None or channel.last_message.seq < message.seq:
            channel.last_message = message
        if message.author_id == self.user_id:
            channel._count.read(message.seq)
        elif message.message_type != "SYSTEM":
            channel._count.heard(message.seq, mentions_me=self.user_id in (message.mentions or ()))

    def _channel_event(self, event: ChannelEvent) -> None:
        channel = self.channels.get(event.channel_id)
        if channel is None:
            return
        if event.seq is not None:
            channel.last_seq = max(channel.last_seq, event.seq)
            if event.seq > channel._described_at:
                channel.member_count += {"join": 1, "leave": -1}.get(event.event, 0)
        if event.event == "update":
            if event.channel is not None:
                channel.channel_name = event.channel.channel_name
            if event.role is not None and event.member.user_id == self.user_id:
                channel.role = event.role

    def _talks(self, channel_id: ChannelId, user_id: UserId | None) -> None:
        channel = self.channels.get(channel_id)
        if channel is not None:
            channel.talker = user_id

    def _unread(self, event: UnreadEvent) -> None:
        channel = self.channels.get(event.channel_id)
        if channel is None:
            return
        channel.last_seq = max(channel.last_seq, event.last_seq)
        if channel.is_subscribed:
            channel._count.read(event.read_seq, event.unread)
        else:
            channel._count.state(event.unread, event.read_seq, event.last_seq)

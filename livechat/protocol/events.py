"""Owns the payloads the server sends: one frozen class per opcode.

It must not encode bytes (see `codec`). A field with a default is left out of the packet while it has
that default; a field without one is always there, as null if need be.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from livechat.error import Action
from livechat.protocol.types import (
    AnnouncementId,
    ChannelId,
    ChannelMode,
    JobId,
    MessageId,
    MessageType,
    PresenceStatus,
    Role,
    SessionId,
    Severity,
    Ssrc,
    UserId,
)
from livechat.protocol.value import value
from livechat.protocol.voice_events import ActiveSpeaker, FloorHeld, MediaGrant


@attrs.frozen
class HelloLimits:
    """Sizes the server accepts."""

    message_bytes: int
    """A larger packet gets ERROR 1005."""
    frame_bytes: int
    """A larger WebSocket message closes the connection with 1009."""
    chunk_bytes: int = attrs.field(default=65_536, metadata={"always": True})
    """A MEDIA_CHUNK with more data gets ERROR 1005; for these alone `message_bytes` does not count."""


@attrs.frozen
class Hello:
    """Op 0, the first packet of every connection."""

    heartbeat_interval: int
    """Milliseconds between the client's heartbeats."""
    node_id: str
    server: str
    resume_window_ms: int
    reconnect_window_ms: int
    limits: HelloLimits


@value
class Message:
    """Op 101, and a row of history."""

    message_id: MessageId
    channel_id: ChannelId
    seq: int
    author_id: UserId
    message_type: MessageType
    content: str
    timestamp: int
    attachment: dict[str, Any] | None = None
    mentions: tuple[UserId, ...] | None = None
    nonce: str | None = None
    system: dict[str, Any] | None = None


@attrs.frozen
class ChannelState:
    """A channel as one of its users sees it."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    role: Role | None
    last_seq: int
    read_seq: int
    unread: int
    mention_count: int
    member_count: int
    last_message: Message | None = None


@attrs.frozen
class Announcement:
    """Op 107: news for everybody."""

    announcement_id: AnnouncementId
    title: str
    body: str
    severity: Severity
    created_at: int
    """Milliseconds since 1970."""
    url: str | None = None
    image_url: str | None = None
    expires_at: int | None = None
    """Milliseconds since 1970; from then on nobody is told of it any more."""


@attrs.frozen
class Ready:
    """Op 4, the answer to IDENTIFY."""

    session_id: SessionId
    user_id: UserId
    node_id: str
    channels: list[ChannelState]
    announcements: list[Announcement] = attrs.field(factory=list, metadata={"always": True})
    presence: dict[UserId, PresenceStatus] = attrs.field(factory=dict, metadata={"always": True})
    settings: dict[str, Any] = attrs.field(factory=dict, metadata={"always": True})
    expires_at: int | None = None


@attrs.frozen
class ResumedChannel:
    """What RESUME did for one channel."""

    replayed: int
    """Sequenced events sent before RESUMED."""
    last_seq: int
    """The next sequenced event is this one plus 1."""
    read_seq: int
    unread: int
    recovered: bool
    """False: something is missing that can't be replayed."""
    active_members: list[Member]


@attrs.frozen
class ResumedJob:
    """What RESUME did for one job."""

    replayed: int
    """Events sent before RESUMED."""
    event_seq: int
    """The job's last event; the next one is this one plus 1."""
    recovered: bool
    """False: something is missing that can't be replayed, or the user has no such job."""


@attrs.frozen
class Resumed:
    """Op 6, the answer to RESUME; the replayed events come before it."""

    session_id: SessionId
    channels: dict[ChannelId, ResumedChannel]
    presence: dict[UserId, PresenceStatus]
    announcements: list[Announcement]
    jobs: dict[JobId, ResumedJob] = attrs.field(factory=dict)
    """The jobs that the client named, and those of which it missed something."""


@attrs.frozen
class Reconnect:
    """Op 7. Come back after `delay_ms`, to this node or another."""

    delay_ms: int
    reason: str


@attrs.frozen
class InvalidSession:
    """Op 9. IDENTIFY may follow on the same connection."""

    reason: str


@attrs.frozen
class Member:
    """Who an event is about; `ssrc` is what receivers see on the wire, null without voice."""

    user_id: UserId
    ssrc: Ssrc | None


ChannelEventKind = Literal["join", "leave", "update", "delete", "voice_join", "voice_leave"]


@attrs.frozen
class ChannelChange:
    """What an `update` event changed the channel to."""

    channel_name: str
    capacity: int
    private: bool
    max_speakers: int | None = None


@attrs.frozen
class ChannelEvent:
    """Op 100. `join` and `leave` carry the seq of their SYSTEM message."""

    event: ChannelEventKind
    channel_id: ChannelId
    member: Member
    seq: int | None = None
    actor_id: UserId | None = None
    cause: str | None = None
    channel: ChannelChange | None = None
    role: Role | None = None
    """With an `update` that gave a member another role."""


@value
class ReadEvent:
    """Op 102: how far somebody has read."""

    channel_id: ChannelId
    user_id: UserId
    seq: int
    timestamp: int


@attrs.frozen
class UserPresence:
    """What others see of a user."""

    user_id: UserId
    status: PresenceStatus
    last_seen: int | None
    """Milliseconds since 1970 when the user was last connected; null if that was never."""
    text: str | None = None


@attrs.frozen
class PresenceBatch:
    """Op 103 for clients that asked for `presence_batches`: many users in one packet."""

    users: list[UserPresence]


@value
class TypingEvent:
    """Op 104."""

    channel_id: ChannelId
    user_id: UserId
    typing: bool


@value
class UnreadEvent:
    """Op 105: how much the user has not read of a channel."""

    channel_id: ChannelId
    unread: int
    read_seq: int
    last_seq: int


@attrs.frozen
class Notification:
    """Op 106: something that concerns the user, wherever the user looks."""

    kind: str
    """`mention`, `invite`, `token_expiring`, …"""
    channel_id: ChannelId | None = None
    message_id: MessageId | None = None
    seq: int | None = None
    user_id: UserId | None = None
    """Who caused it."""
    preview: str | None = None
    """The beginning of the message."""
    expires_at: int | None = None
    """When the token ends; with `token_expiring`."""
    expires_in_ms: int | None = None
    """How long that is from now; with `token_expiring`."""


@attrs.frozen
class SettingsEvent:
    """Op 108: the user's settings as they are now."""

    settings: dict[str, Any]


@value
class Ack:
    """Op 200: the request was done."""

    op: int
    data: Any


@attrs.frozen
class Error:
    """Op 201: the request was refused and changed nothing."""

    code: int
    reason: str
    retryable: bool
    op: int | None = None
    action: Action | None = None
    retry_after_ms: int | None = None
    nonce: str | None = None


# --- what ACK.data holds, one class per request ----------------------------------------------------


@attrs.frozen
class ChannelCreated:
    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int


@attrs.frozen
class ChannelJoined:
    channel_id: ChannelId
    mode: ChannelMode
    active_members: list[Member]
    last_seq: int
    media: MediaGrant | None = None


@value
class ChannelRef:
    """ACK data of CHANNEL_LEAVE, CHANNEL_UPDATE, CHANNEL_DELETE, TYPING, UNSUBSCRIBE and FLOOR_*."""

    channel_id: ChannelId


@attrs.frozen
class ChannelSummary:
    """A row of CHANNEL_LIST."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int
    private: bool
    member_count: int
    created_at: int


@attrs.frozen
class ChannelPage:
    channels: list[ChannelSummary]
    next: ChannelId | None = None


@attrs.frozen
class ChannelDetails(ChannelState):
    """ACK data of CHANNEL_INFO: a ChannelState and what only this request tells."""

    capacity: int = attrs.field(kw_only=True)
    created_at: int = attrs.field(kw_only=True)
    peers: list[Member] = attrs.field(kw_only=True)
    active_speakers: list[ActiveSpeaker] = attrs.field(factory=list, kw_only=True, metadata={"always": True})
    """The last to begin first."""
    floor: FloorHeld | None = attrs.field(default=None, kw_only=True)
    """Left out while nobody has it."""


@value
class MessageCreated:
    message_id: MessageId
    channel_id: ChannelId
    seq: int
    timestamp: int
    duplicate: bool
    nonce: str | None = None


@attrs.frozen
class TokenRenewed:
    expires_at: int | None


@attrs.frozen
class HistoryPage:
    """ACK data of HISTORY; ascending by seq, SYSTEM messages included."""

    channel_id: ChannelId
    messages: list[Message]
    has_before: bool
    has_after: bool
    last_seq: int


@attrs.frozen
class SyncedChannel:
    """What SYNC did for one channel."""

    replayed: int
    last_seq: int
    recovered: bool
    """False: something is missing that can't be replayed."""


@attrs.frozen
class Synced:
    """ACK data of SYNC; the replayed events come before it."""

    channels: dict[ChannelId, SyncedChannel]


@value
class ReadDone:
    """ACK data of READ."""

    channel_id: ChannelId
    read_seq: int
    unread: int


@attrs.frozen
class Subscribed:
    """ACK data of SUBSCRIBE; the next sequenced event is `last_seq` plus 1."""

    channel_id: ChannelId
    last_seq: int


@attrs.frozen
class Focused:
    """ACK data of FOCUS."""

    channel_id: ChannelId | None


@attrs.frozen
class PresenceUpdated:
    """ACK data of PRESENCE_UPDATE: what others see of the user over all sessions."""

    status: PresenceStatus


@attrs.frozen
class MemberAdded:
    channel_id: ChannelId
    user_id: UserId
    role: Role


@attrs.frozen
class MemberRemoved:
    channel_id: ChannelId
    user_id: UserId


@attrs.frozen
class MemberEntry:
    """A row of MEMBER_LIST."""

    user_id: UserId
    role: Role
    joined_at: int


@attrs.frozen
class MemberPage:
    channel_id: ChannelId
    members: list[MemberEntry]
    next: UserId | None = None


@attrs.frozen
class SettingsStored:
    """ACK data of SETTINGS_SET: all settings as they are now."""

    settings: dict[str, Any]

"""Owns what the rules need of a database: mutable records, and the port that fetches and keeps them.

It must not hold rules, nor know any database. All of it lives in the writer thread.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, ChannelMode, MessageId, UserId
from livechat.protocol.value import value
from livechat.store.rows import ChannelPage, ChannelRow, MemberPage, MemberRow, MemberState, MessageRow, UserRow
from livechat.store.side import Transact

T = TypeVar("T")

StoredRole = Literal["moderator", "member"]


@attrs.define(slots=True, eq=False)
class ChannelRecord:
    """One life of a channel, from its creation to its deletion; the fields are those of `ChannelRow`."""

    channel_key: int
    """Names this life: a channel that is deleted and created again gets another one."""
    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int
    private: bool
    max_speakers: int | None
    freq: str | None
    owner_id: UserId
    created_at: int
    last_seq: int
    last_ordinal: int
    member_count: int

    def row(self) -> ChannelRow:
        """Return the channel as it stands now."""
        return ChannelRow(
            self.channel_id,
            self.channel_name,
            self.mode,
            self.durable,
            self.capacity,
            self.private,
            self.max_speakers,
            self.freq,
            self.owner_id,
            self.created_at,
            self.last_seq,
            self.last_ordinal,
            self.member_count,
        )


@attrs.define(slots=True, eq=False)
class MemberRecord:
    """A membership; the fields are those of `MemberRow`."""

    channel_key: int
    user_id: UserId
    role: StoredRole
    joined_at: int
    read_seq: int
    read_ordinal: int
    mention_count: int

    def row(self, channel: ChannelRecord) -> MemberRow:
        """Return the membership as it stands now."""
        return MemberRow(
            self.user_id,
            "owner" if self.user_id == channel.owner_id else self.role,
            self.joined_at,
            self.read_seq,
            self.read_ordinal,
            self.mention_count,
        )


NonceKey = tuple[UserId, ChannelId, str]
"""(author, channel, nonce)."""


@value
class NonceRecord:
    """The first result of a nonce; it outlives the message and the channel."""

    key: NonceKey
    body_digest: bytes
    message_id: MessageId
    seq: int
    timestamp: int
    """Milliseconds since 1970."""


@attrs.define(slots=True, eq=False)
class UserRecord:
    """A user beside memberships; the fields are those of `UserRow`."""

    user_id: UserId
    settings: dict[str, object]
    last_seen: int | None
    last_logout: int | None

    def row(self) -> UserRow:
        """Return the user as it stands now."""
        return UserRow(dict(self.settings), self.last_seen, self.last_logout)


class Records(Protocol):
    """The database inside one transaction; what was changed before is seen by everything after.

    A record is shared: after changing its fields call `touch_channel` or `touch_member`.
    """

    def channel(self, channel_id: ChannelId) -> ChannelRecord | None:
        """Return the living channel of this id."""

    def member(self, channel: ChannelRecord, user_id: UserId) -> MemberRecord | None:
        """Return the user's membership."""

    def nonce(self, key: NonceKey) -> NonceRecord | None:
        """Return what is known of a nonce, be it expired or not."""

    def last_message(self, channel: ChannelRecord) -> MessageRow | None:
        """Return the entry with the channel's `last_seq`, if it belongs to this life."""

    def is_banned(self, channel: ChannelRecord, user_id: UserId) -> bool:
        """Tell whether the user is banned from the channel."""

    def ordinal_at(self, channel: ChannelRecord, seq: int) -> int:
        """Return how many messages that are not SYSTEM the channel had at `seq`, which is one of this life."""

    def memberships(self, user_id: UserId, *, with_messages: bool) -> tuple[MemberState, ...]:
        """Return all channels of the user, in binary order of their ids.

        Args:
            with_messages: whether `last_message` is wanted.
        """

    def visible_channels(
        self, user_id: UserId, after: ChannelId | None, limit: int, *, admin: bool
    ) -> ChannelPage:
        """Return what `ListChannels` asks for."""

    def members_of(self, channel: ChannelRecord, after: UserId | None, limit: int) -> MemberPage:
        """Return what `ListMembers` asks for."""

    def user(self, user_id: UserId) -> UserRecord:
        """Return what is known of a user; empty if it is nothing."""

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """Return what `GetAnnouncements` asks for."""

    def transient_members(self) -> tuple[tuple[ChannelId, UserId], ...]:
        """Return what `TransientMembers` asks for."""

    def last_seq_before(self, channel_id: ChannelId) -> int:
        """Return the last `seq` of the channel's earlier lives; 0 if it had none."""

    def add_channel(self, row: ChannelRow) -> ChannelRecord:
        """Add a channel whose id is free."""

    def save_channel(self, channel: ChannelRecord) -> None:
        """Keep changed settings."""

    def remove_channel(self, channel: ChannelRecord) -> tuple[UserId, ...]:
        """Take a channel and its members away; return those, in binary order. Its files go some time later."""

    def touch_channel(self, channel: ChannelRecord) -> None:
        """Keep changed counters."""

    def add_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """Add a member who was none."""

    def touch_member(self, member: MemberRecord) -> None:
        """Keep changed read positions and mentions."""

    def remove_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """Take a membership away, and its mentions."""

    def add_ban(self, channel: ChannelRecord, user_id: UserId, actor_id: UserId, now_ms: int) -> None:
        """Ban a user; nothing happens if that is so already."""

    def remove_ban(self, channel: ChannelRecord, user_id: UserId) -> None:
        """Lift a ban; nothing happens if there is none."""

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """Append an entry to the channel's sequence, whose counters stand at it already."""

    def add_mention(self, member: MemberRecord, seq: int) -> None:
        """Note that a message mentions a member; `mention_count` is the caller's."""

    def remove_mentions(self, member: MemberRecord, until_seq: int) -> int:
        """Forget the member's mentions up to a message; return how many are left."""

    def save_user(self, user: UserRecord) -> None:
        """Keep a changed or new user."""

    def add_announcement(self, announcement: Announcement) -> None:
        """Keep an announcement."""

    def put_nonce(self, nonce: NonceRecord) -> None:
        """Remember a nonce, in place of an expired one."""

    def prune(self, *, nonces_until: int | None, limit: int) -> bool:
        """Remove at most `limit` messages of deleted channels, and as many of the oldest nonces.

        Args:
            nonces_until: remove those with a timestamp up to this one (milliseconds); None: none.

        Returns:
            Whether there may be more to remove.
        """

    def transact(self, operation: Transact[T]) -> T:
        """Do work on the tables beside chat; a `LiveError` of it undoes what it wrote, and is raised.

        Raises:
            NotPersisted: the database refused a value or a constraint, and nothing was written.
        """

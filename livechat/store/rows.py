"""Owns what the store gives back: rows as they stood at one point of the log, and the results of operations.

It must not hold rules or know any database. Everything here is immutable. Times are milliseconds since 1970.
"""

from __future__ import annotations

import os
import secrets
import time
from typing import Final

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import (
    AnnouncementId,
    ChannelId,
    ChannelMode,
    MessageId,
    MessageType,
    Role,
    UserId,
)
from livechat.protocol.value import value

MESSAGE_IDS_DRAWN: Final = 64
"""Drawn together: to ask the operating system for each takes as long as to fill the message."""
_message_ids: Final[list[MessageId]] = []
if hasattr(os, "register_at_fork"):
    # Both processes would use them.
    os.register_at_fork(after_in_child=_message_ids.clear)


def new_message_id() -> MessageId:
    """Return a message id that was never used before (`msg_` and 96 random bits in hex)."""
    try:
        return _message_ids.pop()
    except IndexError:
        digits = os.urandom(12 * MESSAGE_IDS_DRAWN).hex()
        drawn = [MessageId("msg_" + digits[start : start + 24]) for start in range(0, len(digits), 24)]
        last = drawn.pop()
        _message_ids.extend(drawn)
        return last


def new_announcement_id() -> AnnouncementId:
    """Return an announcement id that was never used before (`ann_`, nanoseconds and 48 random bits in hex).

    Those of one process sort as they were made, also within the millisecond that an announcement is dated by.
    """
    return AnnouncementId(f"ann_{time.time_ns():016x}{secrets.token_hex(6)}")


@value
class ChannelRow:
    """A channel as it stood right after the operation that returned it."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    """False: membership ends with the member's last session."""
    capacity: int
    """Members at most."""
    private: bool
    max_speakers: int | None
    freq: str | None
    owner_id: UserId
    created_at: int
    """Milliseconds since 1970."""
    last_seq: int
    """The newest `seq` ever given out; 0 in a channel that never had one."""
    last_ordinal: int
    """How many messages that are not SYSTEM the channel has had."""
    member_count: int


@value
class MemberRow:
    """A user's membership of one channel."""

    user_id: UserId
    role: Role
    """`owner` for the channel's owner, else the stored role."""
    joined_at: int
    """Milliseconds since 1970."""
    read_seq: int
    read_ordinal: int
    """The channel's `last_ordinal` when it stood at `read_seq`."""
    mention_count: int
    """Messages after `read_seq` by others that mention the user."""


@value
class MessageRow:
    """One entry of a channel's sequence: a user's message, or a SYSTEM one for a change of membership."""

    message_id: MessageId
    channel_id: ChannelId
    seq: int
    author_id: UserId
    message_type: MessageType
    content: str
    attachment: dict[str, object] | None
    mentions: tuple[UserId, ...]
    nonce: str | None
    timestamp: int
    """Milliseconds since 1970."""
    system: dict[str, str] | None
    """`event` (`join` or `leave`), `user_id`, and `actor_id`, `cause` where there is one; None unless SYSTEM."""


def unread_count(channel: ChannelRow, member: MemberRow) -> int:
    """Return how many messages by others, SYSTEM ones left out, follow the member's read position.

    Sending moves the author's own position to the message, so none after it can be the member's own.
    """
    return channel.last_ordinal - member.read_ordinal


@attrs.frozen
class Joined:
    """What `JoinChannel` did."""

    channel: ChannelRow
    member: MemberRow
    created: bool
    """False: was a member already, nothing was written."""
    message: MessageRow | None
    """The SYSTEM message of the join; None unless `created`."""


@attrs.frozen
class Left:
    """What `LeaveChannel` did."""

    channel: ChannelRow
    message: MessageRow
    """The SYSTEM message of the leave."""


@attrs.frozen
class Added:
    """What `AddMember` did."""

    channel: ChannelRow
    member: MemberRow
    message: MessageRow | None
    """The SYSTEM message of the join; None for who was a member already and got another role."""


@attrs.frozen
class Removed:
    """What `RemoveMember` did."""

    channel: ChannelRow
    message: MessageRow | None
    """The SYSTEM message of the leave; None for who was not a member and is banned now."""


@attrs.frozen
class Deleted:
    """What `DeleteChannel` took away."""

    channel: ChannelRow
    members: tuple[UserId, ...]
    """Who was a member, in binary order of the ids."""


@value
class Stored:
    """Where a message stands: the first result of its nonce, if it had been sent before."""

    message_id: MessageId
    channel_id: ChannelId
    seq: int
    timestamp: int
    """Milliseconds since 1970."""
    duplicate: bool
    """True: this nonce had been stored before; nothing was written and nothing is to be fanned out."""
    message: MessageRow | None
    """What to fan out; None for a duplicate."""
    mentioned: tuple[UserId, ...] = ()
    """The other members whom it mentions; empty for a duplicate."""


@attrs.frozen
class MemberState:
    """One channel as one of its members sees it."""

    channel: ChannelRow
    member: MemberRow
    last_message: MessageRow | None
    """The entry with `channel.last_seq`, be it SYSTEM or not; None in a channel without entries."""

    @property
    def unread(self) -> int:
        """Messages by others after the read position, SYSTEM ones left out."""
        return unread_count(self.channel, self.member)


@attrs.frozen
class ChannelView:
    """One channel as somebody sees it who need not be a member."""

    channel: ChannelRow
    member: MemberRow | None
    last_message: MessageRow | None
    """As in `MemberState`."""


@attrs.frozen
class ChannelPage:
    """A part of the list of channels, in binary order of their ids."""

    channels: tuple[ChannelRow, ...]
    next: ChannelId | None
    """The `after` that continues the list; None at its end."""


@attrs.frozen
class MemberPage:
    """A part of a channel's members, in binary order of their ids."""

    members: tuple[MemberRow, ...]
    next: UserId | None
    """The `after` that continues the list; None at its end."""


@value
class ReadMark:
    """Where `MarkRead` left a member."""

    channel: ChannelRow
    member: MemberRow
    moved: bool
    """False: had read as far already, nothing was written."""

    @property
    def unread(self) -> int:
        """Messages by others after the read position, SYSTEM ones left out."""
        return unread_count(self.channel, self.member)


@attrs.frozen
class UserRow:
    """What is kept of a user beside memberships."""

    settings: dict[str, object]
    """A JSON object."""
    last_seen: int | None
    """When the user last had a connection, as far as was written; None: never."""
    last_logout: int | None
    """When the user's last session ended; None: never."""


@attrs.frozen
class UserView:
    """All that a user's login needs."""

    user: UserRow
    states: tuple[MemberState, ...]
    """The user's channels, in binary order of their ids."""
    announcements: tuple[Announcement, ...]
    """Those made since the last logout that have not expired, ascending by time."""


@attrs.frozen
class History:
    """A page of a channel's sequence."""

    messages: tuple[MessageRow, ...]
    """Ascending by seq, without holes."""
    has_before: bool
    has_after: bool
    last_seq: int
    """Of the channel, when the page was read."""

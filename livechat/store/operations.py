"""Owns the store's operations: every change, and every read that must be exact relative to the changes.

It must not know any database. A store executes operations one after another in the order of `submit` and answers
after the commit; what need not be exact is a `Query` (see `livechat.store.queries`) and waits for no writer.
"""

from __future__ import annotations

from typing import ClassVar, Generic, Literal, TypeVar

import attrs

from livechat.error import LiveError
from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, ChannelMode, FileId, MessageId, MessageType, UserId
from livechat.protocol.value import value
from livechat.store.rows import (
    Added,
    ChannelPage,
    ChannelRow,
    ChannelView,
    Deleted,
    Joined,
    Left,
    MemberPage,
    MemberState,
    ReadMark,
    Removed,
    Stored,
    UserRow,
    UserView,
    new_message_id,
)

T_co = TypeVar("T_co", covariant=True)


@value
class Operation(Generic[T_co]):
    """A change or an exact read; the parameter is the type of its result.

    An operation that fails with a `LiveError` has written nothing. Times are milliseconds since 1970 and come
    from the caller, so that the log alone decides what happens.
    """

    writes: ClassVar[bool] = True
    """Whether a failure of the store is `NotPersisted`, or `BackendUnavailable` for what only reads."""


@attrs.frozen
class CreateChannel(Operation[ChannelRow]):
    """Create a channel owned by `owner_id`, who does not become a member by it.

    An id that was deleted before goes on after its last `seq`.

    Raises:
        ChannelExists: a channel of this id is there.
    """

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int
    private: bool
    max_speakers: int | None
    freq: str | None
    owner_id: UserId
    now_ms: int


@attrs.frozen
class UpdateChannel(Operation[ChannelRow]):
    """Change those settings that are not None.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the actor neither its owner nor a member.
        Forbidden: the actor is neither owner nor moderator nor `admin`.
    """

    channel_id: ChannelId
    actor_id: UserId
    admin: bool
    """The actor may do all."""
    channel_name: str | None = None
    capacity: int | None = None
    private: bool | None = None
    max_speakers: int | None = None


@attrs.frozen
class DeleteChannel(Operation[Deleted]):
    """Delete a channel with its members and messages; only its last `seq` is remembered.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the actor neither its owner nor a member.
        Forbidden: the actor is neither owner nor `admin`.
    """

    channel_id: ChannelId
    actor_id: UserId
    admin: bool
    """The actor may do all."""
    now_ms: int


@attrs.frozen
class JoinChannel(Operation[Joined]):
    """Make the user a member, who starts having read up to the SYSTEM message of the join.

    For an existing member it succeeds and writes nothing.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user neither its owner nor a member nor `admin`.
        Forbidden: the user is banned.
        ChannelFull: `capacity` members are there.
    """

    channel_id: ChannelId
    user_id: UserId
    now_ms: int
    admin: bool = attrs.field(default=False, kw_only=True)
    """The user may do all."""
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
class LeaveChannel(Operation[Left]):
    """End a membership.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user not a member (be it the owner) nor `admin`.
        NotInChannel: the user is not a member, and may know of the channel.
    """

    channel_id: ChannelId
    user_id: UserId
    now_ms: int
    cause: str | None = None
    """Kept in the SYSTEM message."""
    admin: bool = attrs.field(default=False, kw_only=True)
    """The user may know of all channels."""
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
class FileClaim:
    """A file of this server that a message's attachment refers to."""

    file_id: FileId
    url: str
    """What is stored as the attachment's URL."""
    is_certain: bool
    """Whether the URL is surely one of this server; else it is another's if there is no such file."""


@value
class CreateMessage(Operation[Stored]):
    """Append a message, once per author, channel and nonce within 24 hours.

    The nonce is looked up before anything else is checked, `problem` next. The author's read position moves
    to the message (the author's own mentions are thereby read); every other mentioned member's count grows.

    Raises:
        NonceConflict: the nonce was used for another `body_digest`.
        LiveError: `problem`, unless the nonce answers first.
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the author not a member (be it the owner).
        JoinBeforeMessaging: it is public, and the author not a member.
        ProtocolError: the author knows of no such file as `file` claims.
        Forbidden: that file is another user's, or was uploaded to another channel.
    """

    channel_id: ChannelId
    author_id: UserId
    content: str
    message_type: MessageType
    attachment: dict[str, object] | None
    """A JSON object."""
    mentions: tuple[UserId, ...]
    """Those who are not members are kept in the message and counted nowhere."""
    nonce: str | None
    body_digest: bytes
    """Tells the submitted bodies apart; only looked at together with a nonce."""
    message_id: MessageId
    now_ms: int
    problem: LiveError | None = None
    """What is wrong with the body, found before but only to be said if the nonce is new."""
    admin: bool = False
    """The author may do all: needs not be a member, and then has no read position to move."""
    file: FileClaim | None = None
    """What the attachment refers to: what is stored of that file is put in its place, and it stays from now on."""


@attrs.frozen
class AddMember(Operation[Added]):
    """Make somebody a member, as `JoinChannel` would, or give a member another role. A ban is lifted.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the actor neither its owner nor a member nor `admin`.
        Forbidden: the actor is neither owner nor moderator nor `admin`; or a role is to be given, and the
            actor is neither owner nor `admin`.
        AlreadyInChannel: a member with this role, or of any role if none is to be given.
        ChannelFull: `capacity` members are there.
    """

    channel_id: ChannelId
    actor_id: UserId
    admin: bool
    """The actor may do all."""
    user_id: UserId
    role: Literal["member", "moderator"] | None
    """None: `member` for a new one, as it is for an old one."""
    now_ms: int
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
class RemoveMember(Operation[Removed]):
    """End somebody's membership, and with `ban` keep it from being taken up again.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the actor neither its owner nor a member nor `admin`.
        Forbidden: the actor is neither owner nor moderator nor `admin`; or the user is the owner; or a moderator,
            and the actor neither owner nor `admin`.
        NotInChannel: not a member, and not to be banned.
    """

    channel_id: ChannelId
    actor_id: UserId
    admin: bool
    """The actor may do all."""
    user_id: UserId
    ban: bool
    """Also for who is not a member."""
    now_ms: int
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
class CheckMember(Operation[int]):
    """Return the key of the channel's present life to who may read it: a member, or `admin`.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user not a member (be it the owner) nor `admin`.
        NotInChannel: it is public, and the user not a member nor `admin`.
    """

    writes: ClassVar[bool] = False
    channel_id: ChannelId
    user_id: UserId
    admin: bool = False


@attrs.frozen
class ListMembers(Operation[MemberPage]):
    """Return a channel's members.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user neither its owner nor a member nor `admin`.
        NotInChannel: it is public, and the user neither its owner nor a member nor `admin`.
    """

    writes: ClassVar[bool] = False
    channel_id: ChannelId
    user_id: UserId
    admin: bool = False
    after: UserId | None = None
    """Only ids that come after this one in binary order."""
    limit: int = 100
    """Rows at most (from 1)."""


@value
class MarkRead(Operation[ReadMark]):
    """Move a member's read position forward; where it is as far already, nothing is written.

    Raises:
        ProtocolError: the channel has no such `seq` yet.
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user not a member (be it the owner) nor `admin`.
        NotInChannel: the user is not a member, and may know of the channel.
    """

    channel_id: ChannelId
    user_id: UserId
    seq: int
    admin: bool = attrs.field(default=False, kw_only=True)
    """The user may know of all channels."""


@attrs.frozen
class ChangeSettings(Operation[UserRow]):
    """Merge into a user's settings; a value of None takes the key away.

    Raises:
        PayloadTooLarge: all settings together would pass `SETTINGS_BYTES_MAX`.
    """

    user_id: UserId
    changes: dict[str, object]
    """A JSON object."""


@attrs.frozen
class NoteSeen(Operation[UserRow]):
    """Keep when a user was last connected, or when the user's last session ended; both only move forward."""

    user_id: UserId
    seen_ms: int | None = None
    """None: not to be noted; of a user who hides, nothing is."""
    logout_ms: int | None = None
    """None: not to be noted."""


@attrs.frozen
class CreateAnnouncement(Operation[Announcement]):
    """Keep an announcement for those who log in later."""

    announcement: Announcement


@attrs.frozen
class LoadUser(Operation[UserView]):
    """Return what a user's login needs. A few queries, however many channels."""

    writes: ClassVar[bool] = False
    user_id: UserId
    now_ms: int


@attrs.frozen
class ReadStates(Operation[tuple[MemberState, ...]]):
    """Return those of the channels that the user is a member of, in binary order of their ids.

    `last_message` is left out (None).
    """

    writes: ClassVar[bool] = False
    user_id: UserId
    channel_ids: tuple[ChannelId, ...] | None = None
    """None: all."""


@attrs.frozen
class GetChannel(Operation[ChannelView]):
    """Return one channel as the user sees it.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user neither its owner nor a member nor `admin`.
    """

    writes: ClassVar[bool] = False
    channel_id: ChannelId
    user_id: UserId
    admin: bool = False


@attrs.frozen
class ListChannels(Operation[ChannelPage]):
    """Return the public channels, and the private ones that the user owns or is a member of; all to `admin`."""

    writes: ClassVar[bool] = False
    user_id: UserId
    after: ChannelId | None = None
    """Only ids that come after this one in binary order."""
    limit: int = 100
    """Rows at most (from 1)."""
    admin: bool = False


@attrs.frozen
class TransientMembers(Operation[tuple[tuple[ChannelId, UserId], ...]]):
    """Return all members of channels that are not durable, as (channel_id, user_id), in binary order."""

    writes: ClassVar[bool] = False

"""Owns the vocabulary of the store: its operations, their results and the port every backend fills.

It must not know any database. Every write, and every read that must be exact relative to the writes, is an
`Operation`; a store executes them one after another in the order of `submit` and answers after the commit.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import ClassVar, Generic, Protocol, TypeVar

import attrs
import trio

from livechat.error import LiveError
from livechat.protocol.types import ChannelId, ChannelMode, MessageId, MessageType, Role, UserId

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def new_message_id() -> MessageId:
    """Return a message id that was never used before (`msg_` and 96 random bits in hex)."""
    return MessageId("msg_" + secrets.token_hex(12))


# --- rows -----------------------------------------------------------------------------------------


@attrs.frozen
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


@attrs.frozen
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


@attrs.frozen
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
    """`event` (`join` or `leave`), `user_id`, and `cause` where one was given; None unless SYSTEM."""


def unread_count(channel: ChannelRow, member: MemberRow) -> int:
    """Return how many messages by others, SYSTEM ones left out, follow the member's read position.

    Sending moves the author's own position to the message, so none after it can be the member's own.
    """
    return channel.last_ordinal - member.read_ordinal


# --- results --------------------------------------------------------------------------------------


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
class Deleted:
    """What `DeleteChannel` took away."""

    channel: ChannelRow
    members: tuple[UserId, ...]
    """Who was a member, in binary order of the ids."""


@attrs.frozen
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


# --- operations -----------------------------------------------------------------------------------


@attrs.frozen
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
        AccessDenied: it is private, and the user neither its owner nor a member.
        ChannelFull: `capacity` members are there.
    """

    channel_id: ChannelId
    user_id: UserId
    now_ms: int
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
class LeaveChannel(Operation[Left]):
    """End a membership.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user not a member (be it the owner).
        NotInChannel: it is public, and the user not a member.
    """

    channel_id: ChannelId
    user_id: UserId
    now_ms: int
    cause: str | None = None
    """Kept in the SYSTEM message."""
    message_id: MessageId = attrs.field(factory=new_message_id)
    """The id of the SYSTEM message."""


@attrs.frozen
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


@attrs.frozen
class LoadUser(Operation[tuple[MemberState, ...]]):
    """Return all channels that the user is a member of, in binary order of their ids."""

    writes: ClassVar[bool] = False
    user_id: UserId


@attrs.frozen
class GetChannel(Operation[ChannelView]):
    """Return one channel as the user sees it.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user neither its owner nor a member.
    """

    writes: ClassVar[bool] = False
    channel_id: ChannelId
    user_id: UserId


@attrs.frozen
class ListChannels(Operation[ChannelPage]):
    """Return the public channels, and the private ones that the user owns or is a member of."""

    writes: ClassVar[bool] = False
    user_id: UserId
    after: ChannelId | None = None
    """Only ids that come after this one in binary order."""
    limit: int = 100
    """Rows at most (from 1)."""


@attrs.frozen
class TransientMembers(Operation[tuple[tuple[ChannelId, UserId], ...]]):
    """Return all members of channels that are not durable, as (channel_id, user_id), in binary order."""

    writes: ClassVar[bool] = False


# --- the port -------------------------------------------------------------------------------------


@attrs.frozen
class Outcome(Generic[T_co]):
    """What became of an operation: a value, or the error that refused it."""

    value: T_co | None = None
    error: LiveError | None = None
    late: bool = False
    """True: the second answer of a write that was first answered with RETRY; it is stored after all."""

    def unwrap(self) -> T_co:
        """Return the value.

        Raises:
            LiveError: the error, if that is the outcome.
        """
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


Done = Callable[[Outcome[T]], None]
"""Called in the Trio thread, in commit order; it must not block, and may submit."""


@attrs.frozen
class StoreStatistics:
    """Counters since the store was opened, and what is in it now."""

    operations: int
    """Operations answered, refused ones and the store's own upkeep included."""
    batches: int
    """Transactions committed; `operations / batches` is how well commits are shared."""
    failures: int
    """Operations that the store itself failed (`NotPersisted`, `BackendUnavailable`)."""
    late: int
    """Writes that were stored after having been answered with RETRY."""
    callback_failures: int
    """`done` functions that raised; each is logged."""
    commit_latency_last_s: float
    """From BEGIN to the end of COMMIT, of the newest transaction."""
    commit_latency_max_s: float
    queue_depth: int
    """Operations that wait for a transaction."""


class Store(Protocol):
    """The port: whatever executes operations durably and in order."""

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        """Queue an operation; `done` gets its outcome after the commit. Never blocks.

        `done` is called exactly once, at the latest at the store's deadline (5 s by default). Only after
        `NotPersisted` with the action RETRY is it called once more, with the value and `late=True`, if the
        commit in question proves good.

        Raises:
            Overloaded: too many operations wait.
            ShuttingDown: the store is being closed.
        """

    def statistics(self) -> StoreStatistics:
        """Return the counters."""


async def perform(store: Store, operation: Operation[T]) -> T:
    """Submit an operation and wait for its outcome.

    A late outcome is dropped: who must fan out what proves committed in the end uses `submit`.

    Raises:
        LiveError: the operation was refused, or the store failed.

    Cancellation:
        Stops only the waiting; the operation takes place or not.
    """
    answered = trio.Event()
    outcomes: list[Outcome[T]] = []

    def done(outcome: Outcome[T]) -> None:
        outcomes.append(outcome)
        answered.set()

    store.submit(operation, done)
    await answered.wait()
    return outcomes[0].unwrap()

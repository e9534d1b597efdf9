"""Owns the rules: what each operation checks, in which order, and what it then changes.

It must not know any database: it works on `Records`. All checks of an operation precede its first change, so a
refused one has written nothing. It runs in the writer thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from livechat.error import (
    AccessDenied,
    ChannelExists,
    ChannelFull,
    ChannelNotFound,
    Forbidden,
    JoinBeforeMessaging,
    NonceConflict,
    NotInChannel,
)
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import (
    ChannelPage,
    ChannelRow,
    ChannelView,
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    Deleted,
    GetChannel,
    JoinChannel,
    Joined,
    LeaveChannel,
    Left,
    ListChannels,
    LoadUser,
    MemberState,
    MessageRow,
    Operation,
    Stored,
    TransientMembers,
    UpdateChannel,
)
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, Records

NONCE_TTL_MS: Final = 24 * 60 * 60 * 1000
"""For how long a nonce is unique: the 24 hours of the protocol."""
PRUNE_ROWS_MAX: Final = 1000
"""Rows removed by one transaction, so that upkeep never delays the messages behind it for long."""


@attrs.frozen
class Prune(Operation[bool]):
    """The store's own upkeep: remove one chunk of what nobody can see; tells whether there may be more."""


class Executor:
    """Executes operations on `Records`, one after another."""

    def __init__(self, records: Records, *, nonce_ttl_ms: int = NONCE_TTL_MS) -> None:
        self._records = records
        self._nonce_ttl_ms = nonce_ttl_ms
        # Upkeep measures age by the callers' clock, the only one the log knows.
        self._newest_ms: int | None = None
        self._rules: dict[type[Operation[Any]], Callable[[Any], object]] = {
            CreateChannel: self._create_channel,
            UpdateChannel: self._update_channel,
            DeleteChannel: self._delete_channel,
            JoinChannel: self._join_channel,
            LeaveChannel: self._leave_channel,
            CreateMessage: self._create_message,
            LoadUser: self._load_user,
            GetChannel: self._get_channel,
            ListChannels: self._list_channels,
            TransientMembers: self._transient_members,
            Prune: self._prune,
        }

    def execute(self, operation: Operation[Any]) -> object:
        """Execute an operation and return its result.

        Raises:
            LiveError: it is refused, and nothing has changed.
        """
        return self._rules[type(operation)](operation)

    def prepare(self, operations: Sequence[Operation[Any]]) -> None:
        """Prefetch what the operations will ask the records for."""
        members: list[tuple[ChannelId, UserId]] = []
        nonces: list[NonceKey] = []
        for operation in operations:
            if isinstance(operation, CreateMessage):
                members.append((operation.channel_id, operation.author_id))
                members.extend((operation.channel_id, user_id) for user_id in operation.mentions)
                if operation.nonce is not None:
                    nonces.append((operation.author_id, operation.channel_id, operation.nonce))
            elif isinstance(operation, (JoinChannel, LeaveChannel, GetChannel)):
                members.append((operation.channel_id, operation.user_id))
        self._records.prefetch(members, nonces)

    # --- channels ---------------------------------------------------------------------------------

    def _create_channel(self, operation: CreateChannel) -> ChannelRow:
        if self._records.channel(operation.channel_id) is not None:
            raise ChannelExists(f"channel {operation.channel_id!r} exists already")
        row = ChannelRow(
            channel_id=operation.channel_id,
            channel_name=operation.channel_name,
            mode=operation.mode,
            durable=operation.durable,
            capacity=operation.capacity,
            private=operation.private,
            max_speakers=operation.max_speakers,
            freq=operation.freq,
            owner_id=operation.owner_id,
            created_at=operation.now_ms,
            last_seq=self._records.last_seq_before(operation.channel_id),
            last_ordinal=0,
            member_count=0,
        )
        return self._records.add_channel(row).row()

    def _update_channel(self, operation: UpdateChannel) -> ChannelRow:
        channel, member = self._visible(operation.channel_id, operation.actor_id, admin=operation.admin)
        moderates = member is not None and member.role == "moderator"
        if not (operation.admin or moderates or channel.owner_id == operation.actor_id):
            raise Forbidden("only the owner and moderators may change a channel")
        if operation.channel_name is not None:
            channel.channel_name = operation.channel_name
        if operation.capacity is not None:
            channel.capacity = operation.capacity
        if operation.private is not None:
            channel.private = operation.private
        if operation.max_speakers is not None:
            channel.max_speakers = operation.max_speakers
        self._records.save_channel(channel)
        return channel.row()

    def _delete_channel(self, operation: DeleteChannel) -> Deleted:
        channel, _ = self._visible(operation.channel_id, operation.actor_id, admin=operation.admin)
        if not (operation.admin or channel.owner_id == operation.actor_id):
            raise Forbidden("only the owner may delete a channel")
        row = channel.row()
        return Deleted(row, self._records.remove_channel(channel))

    # --- members ----------------------------------------------------------------------------------

    def _join_channel(self, operation: JoinChannel) -> Joined:
        channel, member = self._visible(operation.channel_id, operation.user_id)
        if member is not None:
            return Joined(channel.row(), member.row(channel), created=False, message=None)
        if channel.member_count >= channel.capacity:
            raise ChannelFull(f"channel {channel.channel_id!r} holds {channel.capacity} members at most")
        channel.member_count += 1
        message = self._add_system_message(channel, operation, event="join", cause=None)
        member = MemberRecord(
            channel_key=channel.channel_key,
            user_id=operation.user_id,
            role="member",
            joined_at=operation.now_ms,
            read_seq=channel.last_seq,
            read_ordinal=channel.last_ordinal,
            mention_count=0,
        )
        self._records.add_member(channel, member)
        return Joined(channel.row(), member.row(channel), created=True, message=message)

    def _leave_channel(self, operation: LeaveChannel) -> Left:
        channel = self._existing(operation.channel_id)
        member = self._records.member(channel, operation.user_id)
        if member is None:
            raise _denied(channel) if channel.private else NotInChannel("not a member of this channel")
        channel.member_count -= 1
        message = self._add_system_message(channel, operation, event="leave", cause=operation.cause)
        self._records.remove_member(channel, member)
        return Left(channel.row(), message)

    def _add_system_message(
        self, channel: ChannelRecord, operation: JoinChannel | LeaveChannel, *, event: str, cause: str | None
    ) -> MessageRow:
        system = {"event": event, "user_id": str(operation.user_id)}
        if cause is not None:
            system["cause"] = cause
        channel.last_seq += 1
        message = MessageRow(
            message_id=operation.message_id,
            channel_id=channel.channel_id,
            seq=channel.last_seq,
            author_id=operation.user_id,
            message_type="SYSTEM",
            content="",
            attachment=None,
            mentions=(),
            nonce=None,
            timestamp=operation.now_ms,
            system=system,
        )
        self._records.add_message(channel, message)
        self._records.touch_channel(channel)
        return message

    # --- messages ---------------------------------------------------------------------------------

    def _create_message(self, operation: CreateMessage) -> Stored:
        duplicate = self._first_result(operation)
        if duplicate is not None:
            return duplicate
        if operation.problem is not None:
            raise operation.problem
        channel = self._existing(operation.channel_id)
        author = self._records.member(channel, operation.author_id)
        if author is None:
            raise _denied(channel) if channel.private else JoinBeforeMessaging("join the channel first")
        mentioned = [
            member
            for user_id in dict.fromkeys(operation.mentions)
            if user_id != operation.author_id and (member := self._records.member(channel, user_id)) is not None
        ]
        return self._append(channel, author, mentioned, operation)

    def _first_result(self, operation: CreateMessage) -> Stored | None:
        """Return the first result of the operation's nonce, if there is one."""
        if operation.nonce is None:
            return None
        first = self._records.nonce((operation.author_id, operation.channel_id, operation.nonce))
        if first is None or operation.now_ms - first.timestamp >= self._nonce_ttl_ms:
            return None
        if first.body_digest != operation.body_digest:
            raise NonceConflict("this nonce was used for another message")
        return Stored(
            message_id=first.message_id,
            channel_id=operation.channel_id,
            seq=first.seq,
            timestamp=first.timestamp,
            duplicate=True,
            message=None,
        )

    def _append(
        self,
        channel: ChannelRecord,
        author: MemberRecord,
        mentioned: list[MemberRecord],
        operation: CreateMessage,
    ) -> Stored:
        records = self._records
        channel.last_seq = seq = channel.last_seq + 1
        channel.last_ordinal += 1
        author.read_seq = seq
        author.read_ordinal = channel.last_ordinal
        author.mention_count = 0
        for member in mentioned:
            member.mention_count += 1
            records.touch_member(member)
        message = MessageRow(
            operation.message_id,
            operation.channel_id,
            seq,
            operation.author_id,
            operation.message_type,
            operation.content,
            operation.attachment,
            operation.mentions,
            operation.nonce,
            operation.now_ms,
            None,
        )
        records.add_message(channel, message)
        records.touch_channel(channel)
        records.touch_member(author)
        if operation.nonce is not None:
            self._keep_nonce(operation, operation.nonce, seq)
        return Stored(operation.message_id, operation.channel_id, seq, operation.now_ms, False, message)

    def _keep_nonce(self, operation: CreateMessage, nonce: str, seq: int) -> None:
        key = (operation.author_id, operation.channel_id, nonce)
        record = NonceRecord(key, operation.body_digest, operation.message_id, seq, operation.now_ms)
        self._records.put_nonce(record)
        self._newest_ms = max(self._newest_ms or operation.now_ms, operation.now_ms)

    # --- reads and upkeep -------------------------------------------------------------------------

    def _load_user(self, operation: LoadUser) -> tuple[MemberState, ...]:
        return self._records.memberships(operation.user_id)

    def _get_channel(self, operation: GetChannel) -> ChannelView:
        channel, member = self._visible(operation.channel_id, operation.user_id)
        return ChannelView(
            channel.row(),
            member.row(channel) if member is not None else None,
            self._records.last_message(channel),
        )

    def _list_channels(self, operation: ListChannels) -> ChannelPage:
        return self._records.visible_channels(operation.user_id, operation.after, operation.limit)

    def _transient_members(self, _: TransientMembers) -> tuple[tuple[ChannelId, UserId], ...]:
        return self._records.transient_members()

    def _prune(self, _: Prune) -> bool:
        until = self._newest_ms - self._nonce_ttl_ms if self._newest_ms is not None else None
        return self._records.prune(nonces_until=until, limit=PRUNE_ROWS_MAX)

    # --- checks -----------------------------------------------------------------------------------

    def _existing(self, channel_id: ChannelId) -> ChannelRecord:
        channel = self._records.channel(channel_id)
        if channel is None:
            raise ChannelNotFound(f"no channel {channel_id!r}")
        return channel

    def _visible(
        self, channel_id: ChannelId, user_id: UserId, *, admin: bool = False
    ) -> tuple[ChannelRecord, MemberRecord | None]:
        """Return a channel that the user may know of, and the user's membership."""
        channel = self._existing(channel_id)
        member = self._records.member(channel, user_id)
        if channel.private and member is None and channel.owner_id != user_id and not admin:
            raise _denied(channel)
        return channel, member


def _denied(channel: ChannelRecord) -> AccessDenied:
    return AccessDenied(f"channel {channel.channel_id!r} is private")

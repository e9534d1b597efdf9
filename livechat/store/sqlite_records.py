"""Owns the records of a SQLite database within the writer's transaction: caches, put-off writes, queries.

It must not hold rules. There is a single writer, so what is cached stays true until `forget`.

Every step of a SQLite statement gives up the interpreter's lock and must win it back from a Trio thread that may
be busy. So the rows of a query come in one step, as one JSON text made by `json_group_array`. What is looked up by
its key or written takes a step each all the same: through JSON it would take twice the time while the other thread
leaves room, and no less when it does not, once the switch interval is as short as `livechat.tuning` makes it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import sqlite_rows as rows
from livechat.store import sqlite_statements as sql
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, UserRecord
from livechat.store.rows import ChannelPage, ChannelRow, MemberPage, MemberState, MessageRow
from livechat.store.side import Transact
from livechat.store.sqlite_side import SqliteSide

T = TypeVar("T")

CHANNELS_CACHED_MAX: Final = 16_384
MEMBERS_CACHED_MAX: Final = 65_536
"""About 20 MB; includes users known not to be members."""


class SqliteRecords:
    """The `Records` of one connection."""

    def __init__(self) -> None:
        self._side: SqliteSide | None = None
        self._channels: dict[ChannelId, ChannelRecord] = {}
        self._members: dict[tuple[int, UserId], MemberRecord | None] = {}
        # Of this transaction only:
        self._nonces: dict[NonceKey, NonceRecord | None] = {}
        self._new_messages: list[tuple[object, ...]] = []
        self._new_messages_with_extras: list[tuple[object, ...]] = []
        self._first_put_off: dict[int, int] = {}
        """channel_key -> the first seq of those in the two lists above."""
        self._new_mentions: list[tuple[object, ...]] = []
        self._new_nonces: list[tuple[object, ...]] = []
        self._touched_channels: dict[int, ChannelRecord] = {}
        self._touched_members: dict[tuple[int, UserId], MemberRecord] = {}
        self._removed_members: dict[tuple[int, UserId], None] = {}

    # --- the transaction --------------------------------------------------------------------------

    def begin(self, connection: sqlite3.Connection) -> None:
        """Start on a new transaction of this connection."""
        self._connection = connection
        self._nonces.clear()
        # Only here, where nothing is put off: what is put off must stay in the caches.
        rows.shrink(self._channels, CHANNELS_CACHED_MAX)
        rows.shrink(self._members, MEMBERS_CACHED_MAX)

    def forget(self) -> None:
        """Drop the caches and what was put off: the transaction was undone, or somebody else wrote."""
        for collection in (
            self._channels,
            self._members,
            self._new_messages,
            self._new_messages_with_extras,
            self._first_put_off,
            self._new_mentions,
            self._new_nonces,
            self._touched_channels,
            self._touched_members,
            self._removed_members,
        ):
            collection.clear()

    def flush(self) -> None:
        """Execute what was put off."""
        if self._removed_members:
            self._write(sql.DELETE_MEMBERS, self._removed_members)
            self._removed_members.clear()
        if self._touched_members:
            self._write(sql.PUT_MEMBERS, [rows.member_values(member) for member in self._touched_members.values()])
            self._touched_members.clear()
        self._first_put_off.clear()
        self._flush_mentions()
        if self._new_messages:
            self._write(sql.INSERT_MESSAGES, self._new_messages)
            self._new_messages.clear()
        if self._new_messages_with_extras:
            self._write(sql.INSERT_MESSAGES_WITH_EXTRAS, self._new_messages_with_extras)
            self._new_messages_with_extras.clear()
        if self._new_nonces:
            self._write(sql.PUT_NONCES, self._new_nonces)
            self._new_nonces.clear()
        if self._touched_channels:
            counters = [
                (channel.last_seq, channel.last_ordinal, channel.member_count, channel.channel_key)
                for channel in self._touched_channels.values()
            ]
            self._write(sql.UPDATE_COUNTERS, counters)
            self._touched_channels.clear()

    def _flush_mentions(self) -> None:
        if self._new_mentions:
            self._write(sql.INSERT_MENTIONS, self._new_mentions)
            self._new_mentions.clear()

    # --- lookups ----------------------------------------------------------------------------------

    def channel(self, channel_id: ChannelId) -> ChannelRecord | None:
        """See `Records.channel`."""
        channel = self._channels.get(channel_id)
        if channel is None:
            values = self._connection.execute(sql.SELECT_CHANNEL, (channel_id,)).fetchone()
            channel = self._keep_channel(values) if values is not None else None
        return channel

    def member(self, channel: ChannelRecord, user_id: UserId) -> MemberRecord | None:
        """See `Records.member`."""
        key = (channel.channel_key, user_id)
        try:
            return self._members[key]
        except KeyError:
            pass
        values = self._connection.execute(sql.SELECT_MEMBER, key).fetchone()
        member = self._members[key] = MemberRecord(*values) if values is not None else None
        return member

    def nonce(self, key: NonceKey) -> NonceRecord | None:
        """See `Records.nonce`."""
        try:
            return self._nonces[key]
        except KeyError:
            pass
        values = self._connection.execute(sql.SELECT_NONCE, key).fetchone()
        nonce = self._nonces[key] = rows.nonce(values) if values is not None else None
        return nonce

    def last_message(self, channel: ChannelRecord) -> MessageRow | None:
        """See `Records.last_message`."""
        self.flush()
        key = (channel.channel_key, channel.last_seq)
        values = self._connection.execute(sql.SELECT_MESSAGE, key).fetchone()
        return rows.message(values, channel.channel_id) if values is not None else None

    def last_seq_before(self, channel_id: ChannelId) -> int:
        """See `Records.last_seq_before`."""
        values = self._connection.execute(sql.SELECT_FORMER, (channel_id,)).fetchone()
        return int(values[0]) if values is not None else 0

    # --- queries ----------------------------------------------------------------------------------

    def memberships(self, user_id: UserId, *, with_messages: bool) -> tuple[MemberState, ...]:
        """See `Records.memberships`."""
        states = []
        statement = sql.SELECT_MEMBERSHIPS if with_messages else sql.SELECT_MEMBERSHIPS_PLAIN
        for channel_values, member_values, message_values in self._query(statement, user_id):
            channel = rows.channel(channel_values)
            message = rows.message(message_values, channel.channel_id) if message_values is not None else None
            states.append(MemberState(channel.row(), MemberRecord(*member_values).row(channel), message))
        states.sort(key=lambda state: state.channel.channel_id)
        return tuple(states)

    def visible_channels(
        self, user_id: UserId, after: ChannelId | None, limit: int, *, admin: bool
    ) -> ChannelPage:
        """See `Records.visible_channels`."""
        # One row more than asked for tells whether there is a next page.
        found = [
            rows.channel(values).row()
            for values in self._query(sql.SELECT_VISIBLE, after or "", user_id, limit + 1, admin)
        ]
        found.sort(key=lambda row: row.channel_id)
        page = tuple(found[:limit])
        return ChannelPage(page, page[-1].channel_id if len(found) > limit else None)

    def transient_members(self) -> tuple[tuple[ChannelId, UserId], ...]:
        """See `Records.transient_members`."""
        return tuple(sorted((values[0], values[1]) for values in self._query(sql.SELECT_TRANSIENT)))

    def members_of(self, channel: ChannelRecord, after: UserId | None, limit: int) -> MemberPage:
        """See `Records.members_of`."""
        found = self._query(sql.SELECT_MEMBERS_PAGE, channel.channel_key, after or "", limit + 1)
        members = sorted((MemberRecord(*values) for values in found), key=lambda member: member.user_id)
        page = tuple([member.row(channel) for member in members[:limit]])
        return MemberPage(page, page[-1].user_id if len(members) > limit else None)

    def is_banned(self, channel: ChannelRecord, user_id: UserId) -> bool:
        """See `Records.is_banned`."""
        key = (channel.channel_key, user_id)
        return self._connection.execute(sql.SELECT_BAN, key).fetchone() is not None

    def ordinal_at(self, channel: ChannelRecord, seq: int) -> int:
        """See `Records.ordinal_at`."""
        key = channel.channel_key
        if seq >= self._first_put_off.get(key, seq + 1):
            self.flush()
        (ordinal,) = self._connection.execute(sql.SELECT_ORDINAL, (key, seq)).fetchone()
        return int(ordinal)

    def user(self, user_id: UserId) -> UserRecord:
        """See `Records.user`."""
        values = self._connection.execute(sql.SELECT_USER, (user_id,)).fetchone()
        if values is None:
            return UserRecord(user_id, {}, None, None)
        _, settings, last_seen, last_logout = values
        return UserRecord(user_id, json.loads(settings), last_seen, last_logout)

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Records.announcements`."""
        found = self._connection.execute(sql.SELECT_ANNOUNCEMENTS, (since_ms, now_ms, limit)).fetchall()
        return tuple([rows.announcement(values) for values in reversed(found)])

    # --- changes ----------------------------------------------------------------------------------

    def add_channel(self, row: ChannelRow) -> ChannelRecord:
        """See `Records.add_channel`."""
        values = (
            None,
            row.channel_id,
            row.channel_name,
            row.mode,
            row.durable,
            row.capacity,
            row.private,
            row.max_speakers,
            row.freq,
            row.owner_id,
            row.created_at,
            row.last_seq,
            row.last_ordinal,
            row.member_count,
        )
        key = self._connection.execute(sql.INSERT_CHANNEL, values).lastrowid
        return self._keep_channel((key, *values[1:]))

    def save_channel(self, channel: ChannelRecord) -> None:
        """See `Records.save_channel`."""
        settings = (channel.channel_name, channel.capacity, channel.private, channel.max_speakers)
        self._connection.execute(sql.SAVE_CHANNEL, (*settings, channel.channel_key))

    def remove_channel(self, channel: ChannelRecord) -> tuple[UserId, ...]:
        """See `Records.remove_channel`. The messages are unreachable from now on, and pruned later."""
        key = channel.channel_key
        user_ids = sorted(self._query(sql.SELECT_MEMBERS_OF, key))
        for statement in sql.DELETE_ALL_OF:
            self._connection.execute(statement, (key,))
        self._connection.execute(sql.DELETE_CHANNEL, (key,))
        self._connection.execute(sql.PUT_FORMER, (channel.channel_id, channel.last_seq))
        self._connection.execute(sql.INSERT_PRUNABLE, (key,))
        self._connection.execute(sql.INSERT_FILE_PRUNABLE, (key,))
        del self._channels[channel.channel_id]
        for user_id in user_ids:
            self._members.pop((key, user_id), None)
        return tuple(user_ids)

    def touch_channel(self, channel: ChannelRecord) -> None:
        """See `Records.touch_channel`."""
        self._touched_channels[channel.channel_key] = channel

    def add_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.add_member`."""
        key = (channel.channel_key, member.user_id)
        self._members[key] = self._touched_members[key] = member

    def touch_member(self, member: MemberRecord) -> None:
        """See `Records.touch_member`."""
        self._touched_members[member.channel_key, member.user_id] = member

    def remove_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.remove_member`."""
        key = (channel.channel_key, member.user_id)
        self._members[key] = None
        self._touched_members.pop(key, None)
        # Deletions are flushed before insertions, so a user who joins again in the same batch is kept.
        self._removed_members[key] = None
        if member.mention_count:
            self.remove_mentions(member, rows.INTEGER_MAX)

    def add_ban(self, channel: ChannelRecord, user_id: UserId, actor_id: UserId, now_ms: int) -> None:
        """See `Records.add_ban`."""
        self._connection.execute(sql.INSERT_BAN, (channel.channel_key, user_id, actor_id, now_ms))

    def remove_ban(self, channel: ChannelRecord, user_id: UserId) -> None:
        """See `Records.remove_ban`."""
        self._connection.execute(sql.DELETE_BAN, (channel.channel_key, user_id))

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """See `Records.add_message`."""
        values = (
            channel.channel_key,
            message.seq,
            message.message_id,
            message.author_id,
            message.message_type,
            message.content,
            message.nonce,
            message.timestamp,
            channel.last_ordinal,
        )
        self._first_put_off.setdefault(channel.channel_key, message.seq)
        if message.attachment is None and not message.mentions and message.system is None:
            self._new_messages.append(values)
            return
        extras = (message.attachment, message.mentions or None, message.system)
        dumped = [rows.dump(extra) if extra is not None else None for extra in extras]
        self._new_messages_with_extras.append((*values, *dumped))

    def add_mention(self, member: MemberRecord, seq: int) -> None:
        """See `Records.add_mention`."""
        self._new_mentions.append((member.channel_key, member.user_id, seq))

    def remove_mentions(self, member: MemberRecord, until_seq: int) -> int:
        """See `Records.remove_mentions`."""
        self._flush_mentions()
        key = (member.channel_key, member.user_id)
        self._connection.execute(sql.DELETE_MENTIONS, (*key, until_seq))
        (left,) = self._connection.execute(sql.COUNT_MENTIONS, key).fetchone()
        return int(left)

    def save_user(self, user: UserRecord) -> None:
        """See `Records.save_user`."""
        values = (user.user_id, rows.dump(user.settings), user.last_seen, user.last_logout)
        self._connection.execute(sql.PUT_USER, values)

    def add_announcement(self, announcement: Announcement) -> None:
        """See `Records.add_announcement`."""
        self._connection.execute(sql.INSERT_ANNOUNCEMENT, rows.announcement_values(announcement))

    def put_nonce(self, nonce: NonceRecord) -> None:
        """See `Records.put_nonce`."""
        self._nonces[nonce.key] = nonce
        digest = nonce.body_digest.hex()
        self._new_nonces.append((*nonce.key, digest, nonce.message_id, nonce.seq, nonce.timestamp))

    def prune(self, *, nonces_until: int | None, limit: int) -> bool:
        """See `Records.prune`."""
        self.flush()
        more = False
        if nonces_until is not None:
            removed = self._connection.execute(sql.PRUNE_NONCES, (nonces_until, limit)).rowcount
            more = removed >= limit
        values = self._connection.execute(sql.SELECT_PRUNABLE).fetchone()
        if values is None:
            return more
        removed = self._connection.execute(sql.PRUNE_MESSAGES, (values[0], limit)).rowcount
        if removed < limit:
            self._connection.execute(sql.DELETE_PRUNABLE, values)
        return True

    def transact(self, operation: Transact[T]) -> T:
        """See `Records.transact`."""
        if self._side is None or self._side.connection is not self._connection:
            self._side = SqliteSide(self._connection)
        return self._side.transact(operation)

    # --- helpers ----------------------------------------------------------------------------------

    def _keep_channel(self, values: Sequence[Any]) -> ChannelRecord:
        channel = rows.channel(values)
        self._channels[channel.channel_id] = channel
        return channel

    def _query(self, statement: str, *parameters: object) -> list[Any]:
        """Run a query that must see what was put off."""
        self.flush()
        return self._fetch(statement, *parameters)

    def _fetch(self, statement: str, *parameters: object) -> list[Any]:
        """Run a query whose result is one JSON array."""
        (text,) = self._connection.execute(statement, parameters).fetchone()
        rows: list[Any] = json.loads(text)
        return rows

    def _write(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """Write rows, one step each."""
        self._connection.executemany(statement, values)

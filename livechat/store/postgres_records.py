"""Owns the records of a PostgreSQL database within the writer's transaction: known, put off, or asked for.

It must not hold rules.

What a batch needs is fetched at once and what it changes is written at once, so a transaction takes three round
trips (locks and reads, writes, COMMIT) however many operations it has. Only what is rare asks for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg
from sqlalchemy.dialects.postgresql.psycopg import dialect as psycopg_dialect

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import postgres_rows as rows
from livechat.store import postgres_statements as sql
from livechat.store.handover import outage_error
from livechat.store.lookups import Lookups
from livechat.store.postgres_changes import Changes
from livechat.store.postgres_connection import Connection, Row, Statement
from livechat.store.postgres_known import Known
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, UserRecord
from livechat.store.rows import ChannelPage, ChannelRow, MemberPage, MemberState, MessageRow
from livechat.store.side import Rows, Tables, Transact, savepoint

T = TypeVar("T")

SEQ_MAX = 2**63 - 1
_CHANNEL_END = sql.CHANNEL.count(",") + 1
_MEMBER_END = _CHANNEL_END + sql.MEMBER.count(",") + 1


class PostgresRecords:
    """The `Records` of one transaction after another."""

    def __init__(self) -> None:
        self._tables = Tables(psycopg_dialect(), self._run)  # type: ignore[no-untyped-call]
        self._known = Known()
        self._changes = Changes()
        self._locks = False
        self.has_written = False
        """Whether the transaction has anything to lose."""

    # --- the transaction --------------------------------------------------------------------------

    def begin(self, connection: Connection, *, write: bool) -> None:
        """Start on a new transaction of this connection."""
        self.forget()
        self._connection = connection
        self._locks = write

    def forget(self) -> None:
        """Drop what is known and what was put off: the transaction has ended."""
        self._known.forget()
        self._changes.clear()
        self.has_written = False

    def take_changes(self) -> list[Statement]:
        """Return the statements that write what was put off."""
        statements = self._changes.take()
        self.has_written = self.has_written or bool(statements)
        return statements

    def prefetch(self, lookups: Lookups) -> None:
        """Fetch all of this in a few queries, and lock what will change if others may write too."""
        self._known.prefetch(self._connection, lookups, lock=self._locks)

    def transact(self, operation: Transact[T]) -> T:
        """See `Records.transact`."""
        connection = self._connection
        connection.start()
        if not operation.writes:
            return operation.work(self._tables)
        self.has_written = True
        try:
            with savepoint(connection.execute):
                return operation.work(self._tables)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise outage_error(operation, "the database refused the values") from error

    def _run(self, statement: str, parameters: Mapping[str, Any]) -> Rows:
        cursor = self._connection.execute(statement, parameters)
        return Rows(cursor.fetchall() if cursor.description else (), cursor.rowcount)

    # --- lookups ----------------------------------------------------------------------------------

    def channel(self, channel_id: ChannelId) -> ChannelRecord | None:
        """See `Records.channel`."""
        channels = self._known.channels
        if channel_id not in channels:
            if self._locks:
                found = self._ask(sql.LOCK_CHANNELS, rows.texts([channel_id]))
            else:
                found = self._ask(sql.SELECT_CHANNEL, channel_id)
            channels[channel_id] = None
            for values in found:
                self._known.keep_channel(ChannelRecord(*values))
        return channels[channel_id]

    def member(self, channel: ChannelRecord, user_id: UserId) -> MemberRecord | None:
        """See `Records.member`."""
        key = (channel.channel_key, user_id)
        members = self._known.members
        try:
            return members[key]
        except KeyError:
            pass
        found = self._ask(sql.SELECT_MEMBER, *key)
        member = members[key] = MemberRecord(*found[0]) if found else None
        return member

    def nonce(self, key: NonceKey) -> NonceRecord | None:
        """See `Records.nonce`."""
        nonces = self._known.nonces
        try:
            return nonces[key]
        except KeyError:
            pass
        found = self._ask(sql.SELECT_NONCE, *key)
        nonce = nonces[key] = rows.nonce(found[0]) if found else None
        return nonce

    def is_banned(self, channel: ChannelRecord, user_id: UserId) -> bool:
        """See `Records.is_banned`."""
        key = (channel.channel_key, user_id)
        bans = self._known.bans
        if key not in bans:
            bans[key] = bool(self._ask(sql.SELECT_BAN, *key))
        return bans[key]

    def user(self, user_id: UserId) -> UserRecord:
        """See `Records.user`."""
        users = self._known.users
        if user_id not in users:
            if self._locks:
                self._ask(sql.LOCK_USERS, rows.texts([user_id]))
            found = self._ask(sql.SELECT_USERS, rows.texts([user_id]))
            users[user_id] = rows.user(found[0]) if found else UserRecord(user_id, {}, None, None)
        return users[user_id]

    def last_message(self, channel: ChannelRecord) -> MessageRow | None:
        """See `Records.last_message`."""
        key = channel.channel_key
        newest = self._changes.newest.get(key)
        if newest is not None:
            return newest
        found = self._ask(sql.SELECT_MESSAGE, key, channel.last_seq)
        return rows.message(found[0], channel.channel_id) if found else None

    def ordinal_at(self, channel: ChannelRecord, seq: int) -> int:
        """See `Records.ordinal_at`."""
        key = (channel.channel_key, seq)
        ordinal = self._changes.ordinals.get(key)
        if ordinal is None:
            ordinal = self._known.ordinals.get(key)
        if ordinal is None:
            ((ordinal,),) = self._ask(sql.SELECT_ORDINAL, *key)
        assert ordinal is not None
        return ordinal

    def last_seq_before(self, channel_id: ChannelId) -> int:
        """See `Records.last_seq_before`."""
        found = self._ask(sql.SELECT_FORMER, channel_id)
        return int(found[0][0]) if found else 0

    # --- queries ----------------------------------------------------------------------------------

    def memberships(self, user_id: UserId, *, with_messages: bool) -> tuple[MemberState, ...]:
        """See `Records.memberships`."""
        states = []
        for values in self._query(
            sql.SELECT_MEMBERSHIPS if with_messages else sql.SELECT_MEMBERSHIPS_PLAIN, user_id
        ):
            channel = ChannelRecord(*values[:_CHANNEL_END])
            member = MemberRecord(*values[_CHANNEL_END:_MEMBER_END])
            message_values = values[_MEMBER_END:]
            has_message = with_messages and message_values[0] is not None
            message = rows.message(message_values, channel.channel_id) if has_message else None
            states.append(MemberState(channel.row(), member.row(channel), message))
        return tuple(states)

    def visible_channels(
        self, user_id: UserId, after: ChannelId | None, limit: int, *, admin: bool
    ) -> ChannelPage:
        """See `Records.visible_channels`."""
        # One row more than asked for tells whether there is a next page.
        found = [
            ChannelRecord(*values).row()
            for values in self._query(sql.SELECT_VISIBLE, admin, user_id, user_id, after or "", limit + 1)
        ]
        page = tuple(found[:limit])
        return ChannelPage(page, page[-1].channel_id if len(found) > limit else None)

    def members_of(self, channel: ChannelRecord, after: UserId | None, limit: int) -> MemberPage:
        """See `Records.members_of`."""
        found = self._query(sql.SELECT_MEMBERS_PAGE, channel.channel_key, after or "", limit + 1)
        page = tuple([MemberRecord(*values).row(channel) for values in found[:limit]])
        return MemberPage(page, page[-1].user_id if len(found) > limit else None)

    def transient_members(self) -> tuple[tuple[ChannelId, UserId], ...]:
        """See `Records.transient_members`."""
        return tuple([(channel_id, user_id) for channel_id, user_id in self._query(sql.SELECT_TRANSIENT)])

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Records.announcements`."""
        found = self._query(sql.SELECT_ANNOUNCEMENTS, since_ms, now_ms, limit)
        return tuple([rows.announcement(values) for values in reversed(found)])

    # --- changes ----------------------------------------------------------------------------------

    def add_channel(self, row: ChannelRow) -> ChannelRecord:
        """See `Records.add_channel`."""
        if not self._known.new_keys:
            self._known.new_keys.extend([key for (key,) in self._ask(sql.NEW_CHANNEL_KEYS, 1)])
        channel = ChannelRecord(
            self._known.new_keys.pop(),
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
        self._known.keep_channel(channel)
        self._changes.new_channels.append(channel)
        return channel

    def save_channel(self, channel: ChannelRecord) -> None:
        """See `Records.save_channel`."""
        self._changes.settings[channel.channel_key] = channel

    def remove_channel(self, channel: ChannelRecord) -> tuple[UserId, ...]:
        """See `Records.remove_channel`. The messages are unreachable from now on, and pruned later."""
        key = channel.channel_key
        user_ids = tuple([user_id for (user_id,) in self._query(sql.SELECT_MEMBERS_OF, key)])
        self._connection.run(
            [
                *[(statement, (key,)) for statement in sql.DELETE_ALL_OF],
                (sql.PUT_FORMER, (channel.channel_id, channel.last_seq)),
                (sql.INSERT_PRUNABLE, (key,)),
                (sql.INSERT_FILE_PRUNABLE, (key,)),
            ]
        )
        self.has_written = True
        # What is known by its key is asked for by nobody any more.
        self._known.channels[channel.channel_id] = None
        return user_ids

    def touch_channel(self, channel: ChannelRecord) -> None:
        """See `Records.touch_channel`."""
        self._changes.counters[channel.channel_key] = channel

    def add_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.add_member`."""
        key = (channel.channel_key, member.user_id)
        self._known.members[key] = self._changes.members[key] = member

    def touch_member(self, member: MemberRecord) -> None:
        """See `Records.touch_member`."""
        self._changes.members[member.channel_key, member.user_id] = member

    def remove_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.remove_member`."""
        key = (channel.channel_key, member.user_id)
        self._known.members[key] = None
        self._changes.members.pop(key, None)
        self._changes.removed_members[key] = None
        if member.mention_count:
            self._changes.read(key, SEQ_MAX)

    def add_ban(self, channel: ChannelRecord, user_id: UserId, actor_id: UserId, now_ms: int) -> None:
        """See `Records.add_ban`."""
        key = (channel.channel_key, user_id)
        self._known.bans[key] = True
        self._changes.bans[key] = (actor_id, now_ms)

    def remove_ban(self, channel: ChannelRecord, user_id: UserId) -> None:
        """See `Records.remove_ban`."""
        key = (channel.channel_key, user_id)
        self._known.bans[key] = False
        self._changes.bans[key] = None

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """See `Records.add_message`."""
        self._changes.add_message(channel, message)

    def add_mention(self, member: MemberRecord, seq: int) -> None:
        """See `Records.add_mention`."""
        self._changes.mentions.setdefault((member.channel_key, member.user_id), []).append(seq)

    def remove_mentions(self, member: MemberRecord, until_seq: int) -> int:
        """See `Records.remove_mentions`."""
        key = (member.channel_key, member.user_id)
        left = self._changes.read(key, until_seq)
        if until_seq < self._known.channels_by_key[member.channel_key].last_seq:
            ((stored,),) = self._ask(sql.COUNT_MENTIONS, *key, until_seq)
            left += stored
        return left

    def save_user(self, user: UserRecord) -> None:
        """See `Records.save_user`."""
        self._known.users[user.user_id] = self._changes.users[user.user_id] = user

    def add_announcement(self, announcement: Announcement) -> None:
        """See `Records.add_announcement`."""
        self._changes.announcements.append(announcement)

    def put_nonce(self, nonce: NonceRecord) -> None:
        """See `Records.put_nonce`."""
        self._known.nonces[nonce.key] = self._changes.nonces[nonce.key] = nonce

    def prune(self, *, nonces_until: int | None, limit: int) -> bool:
        """See `Records.prune`."""
        more = False
        if nonces_until is not None:
            ((removed,),) = self._query(sql.PRUNE_NONCES, nonces_until, limit)
            self.has_written = True
            more = removed >= limit
        found = self._query(sql.SELECT_PRUNABLE)
        if not found:
            return more
        ((key,),) = found
        ((removed,),) = self._query(sql.PRUNE_MESSAGES, key, key, limit)
        if removed < limit:
            self._connection.run([(sql.DELETE_PRUNABLE, (key,))])
        self.has_written = True
        return True

    # --- helpers ----------------------------------------------------------------------------------

    def _ask(self, statement: str, *parameters: object) -> list[Row]:
        """Run a query that does not concern what was put off."""
        return self._connection.run([(statement, parameters)])[0]

    def _query(self, statement: str, *parameters: object) -> list[Row]:
        """Run a query that must see what was put off."""
        return self._connection.run([*self.take_changes(), (statement, parameters)])[-1]

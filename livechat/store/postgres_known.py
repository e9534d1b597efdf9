"""Owns what a transaction knows of a PostgreSQL database: it locks and fetches all that a batch needs, at once.

It must not hold rules, nor write. Other nodes write to the database too, so nothing is kept from one transaction
to the next, and what a change will be based on is locked before it is read:

    1. ids that are to be created      by advisory locks, in order
    2. channels that will change       FOR UPDATE, in binary order of their ids
    3. users that will change          in binary order of their ids

A membership, a ban, a message or a nonce changes only under the lock of its channel. All transactions take their
locks first and in this order, so no two of them wait for each other; should it happen nevertheless, the deadlock
detector undoes one of them, and it is done again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final
from zlib import crc32

from livechat.protocol.types import ChannelId, UserId
from livechat.store import postgres_rows as rows
from livechat.store import postgres_statements as sql
from livechat.store.lookups import Lookups
from livechat.store.postgres_connection import Connection, Row, Statement
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, UserRecord

FREE_ID_SLOTS: Final = 64
"""Advisory locks for ids that are to be created; a server has room for some thousands in all."""
_CHANNEL_COLUMNS: Final = sql.CHANNEL.count(",") + 1

MemberKey = tuple[int, UserId]
"""(channel_key, user_id)."""
Query = tuple[Statement, Callable[[list[Row]], None]]
"""A statement, and what to do with its rows."""


class Known:
    """What one transaction after another has looked up; a None is known to be missing."""

    def __init__(self) -> None:
        self.channels: dict[ChannelId, ChannelRecord | None] = {}
        self.channels_by_key: dict[int, ChannelRecord] = {}
        self.members: dict[MemberKey, MemberRecord | None] = {}
        self.bans: dict[MemberKey, bool] = {}
        self.nonces: dict[NonceKey, NonceRecord | None] = {}
        self.ordinals: dict[tuple[int, int], int] = {}
        """By (channel_key, seq)."""
        self.users: dict[UserId, UserRecord] = {}
        self.new_keys: list[int] = []
        """Keys for new channels."""

    def forget(self) -> None:
        """Drop everything: the transaction has ended."""
        for collection in vars(self).values():
            collection.clear()

    def keep_channel(self, channel: ChannelRecord) -> None:
        """Keep a channel that was looked up or is new."""
        self.channels[channel.channel_id] = channel
        self.channels_by_key[channel.channel_key] = channel

    def prefetch(self, connection: Connection, lookups: Lookups, *, lock: bool) -> None:
        """Look up all of this; one round trip, if the channels that will change are there.

        Args:
            lock: whether the transaction writes.
        """
        changed = {channel_id for channel_id, _ in lookups.changed} if lock else set()
        _ask(connection, [*self._locks(lookups, changed), *self._reads(lookups, lock=lock)])
        while missing := sorted(changed.difference(self.channels)):
            # While its lock was waited for, it may have been deleted and created again in one transaction: the new
            # row did not exist yet when the statement began. So only what is not even seen is missing.
            _ask(connection, [self._missing_channels(missing)])
            if seen := [channel_id for channel_id in missing if channel_id not in self.channels]:
                _ask(connection, [self._lock_channels(seen), *self._reads(lookups, lock=lock)])

    # --- the queries of a batch -------------------------------------------------------------------

    def _locks(self, lookups: Lookups, changed: set[ChannelId]) -> Iterator[Query]:
        if lookups.created:
            slots = {crc32(channel_id.encode()) % FREE_ID_SLOTS for channel_id in lookups.created}
            yield (sql.LOCK_FREE_IDS, (rows.numbers(sorted(slots)),)), _ignore
        if channel_ids := sorted(changed.union(lookups.created)):
            yield self._lock_channels(channel_ids)
        if lookups.users_changed:
            yield (sql.LOCK_USERS, (rows.texts(sorted(set(lookups.users_changed))),)), _ignore

    def _reads(self, lookups: Lookups, *, lock: bool) -> Iterator[Query]:
        read = lookups.read
        if lookups.changed:
            if lock:
                yield self._members(lookups.changed)
            else:
                read = read + lookups.changed
        if read:
            yield self._channels_and_members(read)
        if lookups.created:
            yield self._new_keys(lookups.created)
        if lookups.banned:
            yield self._bans(lookups.banned)
        if lookups.nonces:
            yield self._nonces(lookups.nonces)
        if lookups.positions:
            yield self._ordinals(lookups.positions)
        if lookups.users_changed or lookups.users_read:
            yield self._users({*lookups.users_changed, *lookups.users_read})

    def _lock_channels(self, channel_ids: list[ChannelId]) -> Query:
        def keep(found: list[Row]) -> None:
            for values in found:
                self.keep_channel(ChannelRecord(*values))

        return (sql.LOCK_CHANNELS, (rows.texts(channel_ids),)), keep

    def _missing_channels(self, channel_ids: list[ChannelId]) -> Query:
        def keep(found: list[Row]) -> None:
            self.channels.update(
                dict.fromkeys(set(channel_ids).difference([channel_id for (channel_id,) in found]))
            )

        return (sql.SELECT_CHANNEL_IDS, (rows.texts(channel_ids),)), keep

    def _members(self, wanted: Collection[tuple[ChannelId, UserId]]) -> Query:
        """Look up memberships of channels that are locked."""
        wanted = set(wanted)

        def keep(found: list[Row]) -> None:
            for values in found:
                self.members[values[0], values[1]] = MemberRecord(*values)
            self._note_missing_members(wanted)

        return (sql.SELECT_MEMBERS, _two_columns(wanted)), keep

    def _channels_and_members(self, wanted: Collection[tuple[ChannelId, UserId]]) -> Query:
        """Look up channels that are not locked, with memberships; what is known of a locked one stays."""
        wanted = set(wanted)

        def keep(found: list[Row]) -> None:
            for values in found:
                if values[1] not in self.channels:
                    self.keep_channel(ChannelRecord(*values[:_CHANNEL_COLUMNS]))
                if values[_CHANNEL_COLUMNS] is not None:
                    member = MemberRecord(*values[_CHANNEL_COLUMNS:])
                    self.members.setdefault((member.channel_key, member.user_id), member)
            for channel_id, _ in wanted:
                self.channels.setdefault(channel_id, None)
            self._note_missing_members(wanted)

        return (sql.SELECT_CHANNELS_AND_MEMBERS, _two_columns(wanted)), keep

    def _note_missing_members(self, wanted: Collection[tuple[ChannelId, UserId]]) -> None:
        for channel_id, user_id in wanted:
            channel = self.channels.get(channel_id)
            if channel is not None:
                self.members.setdefault((channel.channel_key, user_id), None)

    def _new_keys(self, created: Collection[ChannelId]) -> Query:
        def keep(found: list[Row]) -> None:
            self.new_keys.extend([key for (key,) in found])
            # Nobody else may create them now, so those that are missing are free.
            for channel_id in created:
                self.channels.setdefault(channel_id, None)

        return (sql.NEW_CHANNEL_KEYS, (len(created),)), keep

    def _bans(self, wanted: Collection[tuple[ChannelId, UserId]]) -> Query:
        wanted = set(wanted)

        def keep(found: list[Row]) -> None:
            self.bans.update(dict.fromkeys([(key, user_id) for key, user_id in found], True))
            for channel_id, user_id in wanted:
                channel = self.channels.get(channel_id)
                if channel is not None:
                    self.bans.setdefault((channel.channel_key, user_id), False)

        return (sql.SELECT_BANS, _two_columns(wanted)), keep

    def _nonces(self, wanted: Collection[NonceKey]) -> Query:
        def keep(found: list[Row]) -> None:
            self.nonces.update(dict.fromkeys(wanted))
            for values in found:
                nonce = rows.nonce(values)
                self.nonces[nonce.key] = nonce

        columns = [rows.texts(column) for column in zip(*wanted, strict=True)]
        return (sql.SELECT_NONCES, columns), keep

    def _ordinals(self, wanted: Collection[tuple[ChannelId, int]]) -> Query:
        def keep(found: list[Row]) -> None:
            self.ordinals.update({(key, seq): ordinal for key, seq, ordinal in found})

        wanted = set(wanted)
        columns = (rows.texts([each[0] for each in wanted]), rows.numbers([each[1] for each in wanted]))
        return (sql.SELECT_ORDINALS, columns), keep

    def _users(self, wanted: Collection[UserId]) -> Query:
        def keep(found: list[Row]) -> None:
            for user_id in wanted:
                self.users[user_id] = UserRecord(user_id, {}, None, None)
            for values in found:
                self.users[values[0]] = rows.user(values)

        return (sql.SELECT_USERS, (rows.texts(wanted),)), keep


def _ask(connection: Connection, queries: Collection[Query]) -> None:
    """Run all queries in one round trip, then give each its rows."""
    if not queries:
        return
    answers = connection.run([statement for statement, _ in queries])
    for (_, keep), found in zip(queries, answers, strict=True):
        keep(found)


def _ignore(found: list[Row]) -> None:
    pass


def _two_columns(pairs: Collection[tuple[str, str]]) -> tuple[str, str]:
    return rows.texts([pair[0] for pair in pairs]), rows.texts([pair[1] for pair in pairs])

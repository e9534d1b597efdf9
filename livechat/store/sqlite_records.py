"""Owns the records of a SQLite database within the writer's transaction: caches, put-off writes, queries.

It must not hold rules. There is a single writer, so what is cached stays true until `forget`.

Every step of a SQLite statement gives up the interpreter's lock and must win it back from a Trio thread that may
be busy: milliseconds each time. So the statements per batch are few and constant: rows travel in both
directions as one JSON text, written by `json_each` and read by `json_group_array`.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from livechat.protocol.types import ChannelId, UserId
from livechat.store import sqlite_statements as sql
from livechat.store.base import ChannelPage, ChannelRow, MemberState, MessageRow
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord

K = TypeVar("K")
V = TypeVar("V")

CHANNELS_CACHED_MAX: Final = 16_384
MEMBERS_CACHED_MAX: Final = 65_536
"""About 20 MB; includes users known not to be members."""

_ESCAPED_NUL: Final = "\\u0000"
"""SQLite's JSON functions take it for the end of the string."""
_INTEGER_MAX: Final = 2**63 - 1
"""What SQLite can hold; through JSON it would quietly round anything above."""


class SqliteRecords:
    """The `Records` of one connection."""

    def __init__(self) -> None:
        self._channels: dict[ChannelId, ChannelRecord] = {}
        self._members: dict[tuple[int, UserId], MemberRecord | None] = {}
        # Of this transaction only:
        self._nonces: dict[NonceKey, NonceRecord | None] = {}
        self._new_messages: list[list[object]] = []
        self._new_messages_with_extras: list[list[object]] = []
        self._new_nonces: list[list[object]] = []
        self._touched_channels: dict[int, ChannelRecord] = {}
        self._touched_members: dict[tuple[int, UserId], MemberRecord] = {}
        self._removed_members: dict[tuple[int, UserId], None] = {}

    # --- the transaction --------------------------------------------------------------------------

    def begin(self, connection: sqlite3.Connection) -> None:
        """Start on a new transaction of this connection."""
        self._connection = connection
        self._nonces.clear()
        # Only here, where nothing is put off: what is put off must stay in the caches.
        _shrink(self._channels, CHANNELS_CACHED_MAX)
        _shrink(self._members, MEMBERS_CACHED_MAX)

    def forget(self) -> None:
        """Drop the caches and what was put off: the transaction was undone, or somebody else wrote."""
        for collection in (
            self._channels,
            self._members,
            self._new_messages,
            self._new_messages_with_extras,
            self._new_nonces,
            self._touched_channels,
            self._touched_members,
            self._removed_members,
        ):
            collection.clear()

    def flush(self) -> None:
        """Execute what was put off."""
        if self._removed_members:
            self._write(sql.DELETE_MEMBERS, [list(key) for key in self._removed_members])
            self._removed_members.clear()
        if self._touched_members:
            self._write(sql.PUT_MEMBERS, [_member_values(member) for member in self._touched_members.values()])
            self._touched_members.clear()
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
            counters: list[list[object]] = [
                [channel.channel_key, channel.last_seq, channel.last_ordinal, channel.member_count]
                for channel in self._touched_channels.values()
            ]
            self._write(sql.UPDATE_COUNTERS, counters)
            self._touched_channels.clear()

    def prefetch(self, members: Sequence[tuple[ChannelId, UserId]], nonces: Sequence[NonceKey]) -> None:
        """See `Records.prefetch`; three queries at most, and none for what is cached."""
        channels = self._channels
        missing = {channel_id for channel_id, _ in members if channel_id not in channels}
        for values in self._fetch_keys(sql.SELECT_CHANNELS, missing) or ():
            self._keep_channel(values)
        keys = {
            key
            for channel_id, user_id in members
            if channel_id in channels and (key := (channels[channel_id].channel_key, user_id)) not in self._members
        }
        if (found := self._fetch_keys(sql.SELECT_MEMBERS, keys)) is not None:
            self._members.update(dict.fromkeys(keys))
            for values in found:
                self._members[values[0], values[1]] = MemberRecord(*values)
        if (found := self._fetch_keys(sql.SELECT_NONCES, nonces)) is not None:
            self._nonces.update(dict.fromkeys(nonces))
            for values in found:
                nonce = _nonce(values)
                self._nonces[nonce.key] = nonce

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
        nonce = self._nonces[key] = _nonce(values) if values is not None else None
        return nonce

    def last_message(self, channel: ChannelRecord) -> MessageRow | None:
        """See `Records.last_message`."""
        self.flush()
        key = (channel.channel_key, channel.last_seq)
        values = self._connection.execute(sql.SELECT_MESSAGE, key).fetchone()
        return _message(values, channel.channel_id) if values is not None else None

    def last_seq_before(self, channel_id: ChannelId) -> int:
        """See `Records.last_seq_before`."""
        values = self._connection.execute(sql.SELECT_FORMER, (channel_id,)).fetchone()
        return int(values[0]) if values is not None else 0

    # --- queries ----------------------------------------------------------------------------------

    def memberships(self, user_id: UserId) -> tuple[MemberState, ...]:
        """See `Records.memberships`."""
        states = []
        for channel_values, member_values, message_values in self._query(sql.SELECT_MEMBERSHIPS, user_id):
            channel = _channel(channel_values)
            message = _message(message_values, channel.channel_id) if message_values is not None else None
            states.append(MemberState(channel.row(), MemberRecord(*member_values).row(channel), message))
        states.sort(key=lambda state: state.channel.channel_id)
        return tuple(states)

    def visible_channels(self, user_id: UserId, after: ChannelId | None, limit: int) -> ChannelPage:
        """See `Records.visible_channels`."""
        # One row more than asked for tells whether there is a next page.
        rows = [
            _channel(values).row() for values in self._query(sql.SELECT_VISIBLE, after or "", user_id, limit + 1)
        ]
        rows.sort(key=lambda row: row.channel_id)
        page = tuple(rows[:limit])
        return ChannelPage(page, page[-1].channel_id if len(rows) > limit else None)

    def transient_members(self) -> tuple[tuple[ChannelId, UserId], ...]:
        """See `Records.transient_members`."""
        return tuple(sorted((values[0], values[1]) for values in self._query(sql.SELECT_TRANSIENT)))

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
        self._connection.execute(sql.DELETE_MEMBERS_OF, (key,))
        self._connection.execute(sql.DELETE_CHANNEL, (key,))
        self._connection.execute(sql.PUT_FORMER, (channel.channel_id, channel.last_seq))
        self._connection.execute(sql.INSERT_PRUNABLE, (key,))
        del self._channels[channel.channel_id]
        for user_id in user_ids:
            self._members.pop((key, user_id), None)
        return tuple(user_ids)

    def touch_channel(self, channel: ChannelRecord) -> None:
        """See `Records.touch_channel`."""
        self._touched_channels[channel.channel_key] = channel

    def add_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.add_member`."""
        _check_integer(member.joined_at)
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

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """See `Records.add_message`."""
        _check_integer(message.timestamp)
        values: list[object] = [
            channel.channel_key,
            message.seq,
            message.message_id,
            message.author_id,
            message.message_type,
            message.content,
            message.nonce,
            message.timestamp,
        ]
        if message.attachment is None and not message.mentions and message.system is None:
            self._new_messages.append(values)
            return
        extras = (message.attachment, message.mentions or None, message.system)
        values += [_dump(extra) if extra is not None else None for extra in extras]
        self._new_messages_with_extras.append(values)

    def put_nonce(self, nonce: NonceRecord) -> None:
        """See `Records.put_nonce`."""
        self._nonces[nonce.key] = nonce
        digest = nonce.body_digest.hex()
        self._new_nonces.append([*nonce.key, digest, nonce.message_id, nonce.seq, nonce.timestamp])

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

    # --- helpers ----------------------------------------------------------------------------------

    def _keep_channel(self, values: Sequence[Any]) -> ChannelRecord:
        channel = _channel(values)
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

    def _fetch_keys(self, statement: str, keys: Collection[object]) -> list[Any] | None:
        """Fetch the rows of these keys; None if JSON can't carry a key unharmed, so that each is looked up."""
        if not keys:
            return []
        text = _dump(list(keys))
        return self._fetch(statement, text) if _ESCAPED_NUL not in text else None

    def _write(self, statements: tuple[str, str], rows: list[list[object]]) -> None:
        """Write rows in one step, or one by one where JSON could not carry them unharmed."""
        one, all_of_json = statements
        if len(rows) > 1:
            text = _dump(rows)
            if _ESCAPED_NUL not in text:
                self._connection.execute(all_of_json, (text,))
                return
        self._connection.executemany(one, rows)


# Of the other characters only these are escaped, so that a lone surrogate fails at binding instead of being
# stored as broken UTF-8.
_dump: Final[Callable[[object], str]] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _check_integer(value: int) -> None:
    if not -_INTEGER_MAX <= value <= _INTEGER_MAX:
        raise OverflowError("an integer does not fit 64 bits")


def _shrink(cache: dict[K, V], size_max: int) -> None:
    """Drop the older half of a cache that has grown too large."""
    if len(cache) > size_max:
        for key in list(itertools.islice(cache, len(cache) - size_max // 2)):
            del cache[key]


def _channel(values: Sequence[Any]) -> ChannelRecord:
    """Return the record of a row as `sqlite_statements.CHANNEL` orders it."""
    channel = ChannelRecord(*values)
    channel.durable = bool(channel.durable)
    channel.private = bool(channel.private)
    return channel


def _member_values(member: MemberRecord) -> list[object]:
    """Return a row as `sqlite_statements.MEMBER` orders it."""
    return [
        member.channel_key,
        member.user_id,
        member.role,
        member.joined_at,
        member.read_seq,
        member.read_ordinal,
        member.mention_count,
    ]


def _message(values: Sequence[Any], channel_id: ChannelId) -> MessageRow:
    """Return the message of a row as `sqlite_statements.MESSAGE` orders it."""
    _, seq, message_id, author_id, kind, content, nonce, timestamp, attachment, mentions, system = values
    return MessageRow(
        message_id=message_id,
        channel_id=channel_id,
        seq=seq,
        author_id=author_id,
        message_type=kind,
        content=content,
        attachment=json.loads(attachment) if attachment is not None else None,
        mentions=tuple(json.loads(mentions)) if mentions is not None else (),
        nonce=nonce,
        timestamp=timestamp,
        system=json.loads(system) if system is not None else None,
    )


def _nonce(values: Sequence[Any]) -> NonceRecord:
    """Return the record of a row as `sqlite_statements.NONCE` orders it."""
    author_id, channel_id, nonce, digest, message_id, seq, timestamp = values
    key = (author_id, channel_id, nonce)
    return NonceRecord(key, bytes.fromhex(digest), message_id, seq, timestamp)

"""Owns the SQL text of the PostgreSQL store.

It must not execute it. Everything is made of the constants in this file; values are always bound. Rows travel to
the database as one array a column, from which `unnest` makes rows again: a statement is the same for one row and
for thousands.
"""
# ruff: noqa: S608

from __future__ import annotations

from typing import Final

CHANNEL: Final = (
    "channel_key, channel_id, channel_name, mode, durable, capacity, private, max_speakers, freq, owner_id,"
    " created_at, last_seq, last_ordinal, member_count"
)
MEMBER: Final = "channel_key, user_id, role, joined_at, read_seq, read_ordinal, mention_count"
MESSAGE_PLAIN: Final = "channel_key, seq, message_id, author_id, message_type, content, nonce, timestamp, ordinal"
MESSAGE: Final = MESSAGE_PLAIN + ", attachment, mentions, system"
MENTION: Final = "channel_key, user_id, seq"
BAN: Final = "channel_key, user_id, actor_id, created_at"
USER: Final = "user_id, settings, last_seen, last_logout"
ANNOUNCEMENT: Final = "announcement_id, title, body, severity, created_at, url, image_url, expires_at"
NONCE: Final = "author_id, channel_id, nonce, body_digest, message_id, seq, timestamp"

_TYPES: Final = {
    "after_seq": "bigint",
    "before_seq": "bigint",
    "capacity": "int",
    "channel_key": "bigint",
    "created_at": "bigint",
    "durable": "boolean",
    "expires_at": "bigint",
    "joined_at": "bigint",
    "last_logout": "bigint",
    "last_ordinal": "bigint",
    "last_seen": "bigint",
    "last_seq": "bigint",
    "max_speakers": "int",
    "member_count": "int",
    "mention_count": "int",
    "ordinal": "bigint",
    "position": "int",
    "private": "boolean",
    "read_ordinal": "bigint",
    "read_seq": "bigint",
    "seq": "bigint",
    "timestamp": "bigint",
}
"""The types of columns that are not text."""


def _columns(names: str, table: str) -> str:
    """Return the names qualified by the table."""
    return ", ".join(f"{table}.{name}" for name in names.split(", "))


def _arrays(names: str, table: str = "given") -> str:
    """Return a table of these columns, bound as one array each."""
    arrays = ", ".join(f"%s::{_TYPES.get(name, 'text')}[]" for name in names.split(", "))
    return f"unnest({arrays}) AS {table} ({names})"


def _same(names: str, table: str, other: str = "given") -> str:
    """Return the condition that these columns are the same; of two collations it names the one that is indexed."""
    return " AND ".join(
        f"{table}.{name} = {other}.{name}" + ("" if name in _TYPES else ' COLLATE "C"')
        for name in names.split(", ")
    )


def _lookup(names: str, table: str, key: str) -> str:
    """Return a join with the row of a table that has the channel's key and these other columns of its key.

    It is a query of its own for each row: with a plain join the planner, short of statistics, may look up the
    channel only and compare all its members.
    """
    return (
        f"LATERAL (SELECT {names} FROM {table} WHERE {table}.channel_key = channel.channel_key"
        f" AND {_same(key, table)} LIMIT 1) AS {table}"
    )


def _insert(table: str, names: str) -> str:
    return f"INSERT INTO {table} ({names}) SELECT {names} FROM {_arrays(names)}"


# --- transactions ---------------------------------------------------------------------------------

# Named, so that no default of the server, the database or the role matters. Under READ COMMITTED every statement
# sees what was committed before it; what must not change in between is locked by the first ones.
BEGIN_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"
BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
COMMIT: Final = "COMMIT"

# --- locks, in the order in which a transaction takes them ----------------------------------------

# What does not exist has no row to lock. The first number is an arbitrary one of ours.
LOCK_FREE_IDS: Final = "SELECT pg_advisory_xact_lock(1819698019, slot) FROM unnest(%s::int[]) AS slot"
LOCK_CHANNELS: Final = (
    f"SELECT {CHANNEL} FROM channel WHERE channel_id = ANY(%s::text[]) ORDER BY channel_id FOR UPDATE"
)
# The condition keeps existing rows as they are, yet locks them.
LOCK_USERS: Final = (
    f"INSERT INTO user_state (user_id, settings) SELECT user_id, '{{}}' FROM {_arrays('user_id')}"
    " ON CONFLICT (user_id) DO UPDATE SET settings = excluded.settings WHERE false"
)

# --- reads of a batch -----------------------------------------------------------------------------

_WITH_CHANNEL: Final = f"JOIN channel ON {_same('channel_id', 'channel')}"

SELECT_CHANNEL_IDS: Final = "SELECT channel_id FROM channel WHERE channel_id = ANY(%s::text[])"
SELECT_CHANNEL: Final = f"SELECT {CHANNEL} FROM channel WHERE channel_id = %s"
SELECT_MEMBERS: Final = (
    f"SELECT {_columns(MEMBER, 'member')} FROM {_arrays('channel_id, user_id')} {_WITH_CHANNEL}"
    f" CROSS JOIN {_lookup(MEMBER, 'member', 'user_id')}"
)
# Both in one statement: without a lock the next one would see another state.
SELECT_CHANNELS_AND_MEMBERS: Final = (
    f"SELECT {_columns(CHANNEL, 'channel')}, {_columns(MEMBER, 'member')}"
    f" FROM {_arrays('channel_id, user_id')} {_WITH_CHANNEL}"
    f" LEFT JOIN {_lookup(MEMBER, 'member', 'user_id')} ON true"
)
SELECT_BANS: Final = (
    f"SELECT ban.channel_key, ban.user_id FROM {_arrays('channel_id, user_id')} {_WITH_CHANNEL}"
    f" CROSS JOIN {_lookup(BAN, 'ban', 'user_id')}"
)
SELECT_NONCES: Final = (
    f"SELECT {_columns(NONCE, 'nonce')} FROM {_arrays('author_id, channel_id, nonce')}"
    f" JOIN nonce ON {_same('author_id, channel_id, nonce', 'nonce')}"
)
SELECT_ORDINALS: Final = (
    f"SELECT channel.channel_key, message.seq, message.ordinal FROM {_arrays('channel_id, seq')} {_WITH_CHANNEL}"
    f" CROSS JOIN {_lookup('seq, ordinal', 'message', 'seq')}"
)
SELECT_USERS: Final = f"SELECT {USER} FROM user_state WHERE user_id = ANY(%s::text[])"
NEW_CHANNEL_KEYS: Final = (
    "SELECT nextval(pg_get_serial_sequence('channel', 'channel_key')) FROM generate_series(1, %s)"
)

# --- reads of one operation -----------------------------------------------------------------------

SELECT_MEMBER: Final = f"SELECT {MEMBER} FROM member WHERE channel_key = %s AND user_id = %s"
SELECT_BAN: Final = "SELECT 1 FROM ban WHERE channel_key = %s AND user_id = %s"
SELECT_NONCE: Final = f"SELECT {NONCE} FROM nonce WHERE author_id = %s AND channel_id = %s AND nonce = %s"
SELECT_FORMER: Final = "SELECT last_seq FROM former_channel WHERE channel_id = %s"
SELECT_MESSAGE: Final = f"SELECT {MESSAGE} FROM message WHERE channel_key = %s AND seq = %s"
SELECT_ORDINAL: Final = "SELECT ordinal FROM message WHERE channel_key = %s AND seq = %s"
COUNT_MENTIONS: Final = "SELECT count(*) FROM mention WHERE channel_key = %s AND user_id = %s AND seq > %s"
SELECT_MEMBERS_OF: Final = "SELECT user_id FROM member WHERE channel_key = %s ORDER BY user_id"
SELECT_MEMBERS_PAGE: Final = (
    f"SELECT {MEMBER} FROM member WHERE channel_key = %s AND user_id > %s ORDER BY user_id LIMIT %s"
)
SELECT_MEMBERSHIPS: Final = (
    f"SELECT {_columns(CHANNEL, 'channel')}, {_columns(MEMBER, 'member')}, {_columns(MESSAGE, 'message')}"
    " FROM member JOIN channel USING (channel_key) LEFT JOIN message"
    " ON message.channel_key = channel.channel_key AND message.seq = channel.last_seq"
    " WHERE member.user_id = %s ORDER BY channel.channel_id"
)
SELECT_MEMBERSHIPS_PLAIN: Final = (
    f"SELECT {_columns(CHANNEL, 'channel')}, {_columns(MEMBER, 'member')}"
    " FROM member JOIN channel USING (channel_key) WHERE member.user_id = %s ORDER BY channel.channel_id"
)
SELECT_VISIBLE: Final = (
    f"SELECT {CHANNEL} FROM channel WHERE (%s OR NOT private OR owner_id = %s OR EXISTS (SELECT 1 FROM member"
    " WHERE member.channel_key = channel.channel_key AND member.user_id = %s))"
    " AND channel_id > %s ORDER BY channel_id LIMIT %s"
)
SELECT_TRANSIENT: Final = (
    "SELECT channel.channel_id, member.user_id FROM channel JOIN member USING (channel_key)"
    " WHERE NOT channel.durable ORDER BY channel.channel_id, member.user_id"
)
SELECT_ANNOUNCEMENTS: Final = (
    f"SELECT {ANNOUNCEMENT} FROM announcement WHERE created_at >= %s AND (expires_at IS NULL OR expires_at > %s)"
    " ORDER BY created_at DESC, announcement_id DESC LIMIT %s"
)

# --- writes of a batch ----------------------------------------------------------------------------

_COUNTERS: Final = "last_seq, last_ordinal, member_count"
_SETTINGS: Final = "channel_name, capacity, private, max_speakers"


def _update_channels(names: str) -> str:
    """Return the update of these columns; it names the row by the channel's key."""
    changes = ", ".join(f"{name} = given.{name}" for name in names.split(", "))
    source = _arrays(f"channel_key, {names}")
    return f"UPDATE channel SET {changes} FROM {source} WHERE channel.channel_key = given.channel_key"


INSERT_CHANNELS: Final = _insert("channel", CHANNEL)
UPDATE_COUNTERS: Final = _update_channels(_COUNTERS)
UPDATE_SETTINGS: Final = _update_channels(_SETTINGS)
DELETE_MEMBERS: Final = (
    f"DELETE FROM member USING {_arrays('channel_key, user_id')} WHERE {_same('channel_key, user_id', 'member')}"
)
PUT_MEMBERS: Final = (
    f"{_insert('member', MEMBER)} ON CONFLICT (channel_key, user_id) DO UPDATE SET role = excluded.role,"
    " read_seq = excluded.read_seq, read_ordinal = excluded.read_ordinal, mention_count = excluded.mention_count"
)
# Most messages have none of the last three columns.
INSERT_MESSAGES: Final = _insert("message", MESSAGE_PLAIN)
INSERT_MESSAGES_WITH_EXTRAS: Final = _insert("message", MESSAGE)
DELETE_MENTIONS: Final = (
    f"DELETE FROM mention USING {_arrays(MENTION)}"
    f" WHERE {_same('channel_key, user_id', 'mention')} AND mention.seq <= given.seq"
)
INSERT_MENTIONS: Final = _insert("mention", MENTION)
# The key is renewed too: the oldest are looked for by it.
PUT_NONCES: Final = (
    f"{_insert('nonce', NONCE)} ON CONFLICT (author_id, channel_id, nonce) DO UPDATE SET"
    " nonce_key = excluded.nonce_key, body_digest = excluded.body_digest, message_id = excluded.message_id,"
    " seq = excluded.seq, timestamp = excluded.timestamp"
)
DELETE_BANS: Final = (
    f"DELETE FROM ban USING {_arrays('channel_key, user_id')} WHERE {_same('channel_key, user_id', 'ban')}"
)
INSERT_BANS: Final = f"{_insert('ban', BAN)} ON CONFLICT DO NOTHING"
PUT_USERS: Final = (
    f"{_insert('user_state', USER)} ON CONFLICT (user_id) DO UPDATE SET settings = excluded.settings,"
    " last_seen = excluded.last_seen, last_logout = excluded.last_logout"
)
INSERT_ANNOUNCEMENTS: Final = _insert("announcement", ANNOUNCEMENT)

# --- the end of a channel, and upkeep -------------------------------------------------------------

DELETE_ALL_OF: Final = tuple(
    f"DELETE FROM {table} WHERE channel_key = %s" for table in ("member", "mention", "ban", "channel")
)
PUT_FORMER: Final = (
    "INSERT INTO former_channel (channel_id, last_seq) VALUES (%s, %s)"
    " ON CONFLICT (channel_id) DO UPDATE SET last_seq = excluded.last_seq"
)
INSERT_PRUNABLE: Final = "INSERT INTO prunable (channel_key) VALUES (%s)"
INSERT_FILE_PRUNABLE: Final = (
    "INSERT INTO file_prunable (channel_key) SELECT channel_key FROM file WHERE channel_key = %s LIMIT 1"
)
# What another node is about to remove is left to it.
SELECT_PRUNABLE: Final = "SELECT channel_key FROM prunable LIMIT 1 FOR UPDATE SKIP LOCKED"
DELETE_PRUNABLE: Final = "DELETE FROM prunable WHERE channel_key = %s"
PRUNE_MESSAGES: Final = (
    "WITH removed AS (DELETE FROM message WHERE channel_key = %s AND seq <= (SELECT max(seq) FROM"
    " (SELECT seq FROM message WHERE channel_key = %s ORDER BY seq LIMIT %s) AS oldest) RETURNING 1)"
    " SELECT count(*) FROM removed"
)
PRUNE_NONCES: Final = (
    "WITH removed AS (DELETE FROM nonce WHERE timestamp <= %s AND nonce_key IN"
    " (SELECT nonce_key FROM nonce ORDER BY nonce_key LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING 1)"
    " SELECT count(*) FROM removed"
)

# --- whether a commit took place ------------------------------------------------------------------

ADD_WRITER: Final = "INSERT INTO writer (writer_id, batch) VALUES (%s, 0) ON CONFLICT DO NOTHING"
MARK_BATCH: Final = "UPDATE writer SET batch = %s WHERE writer_id = %s RETURNING 1"
# The lock is given only when the transaction in question has ended, whichever way.
SELECT_LAST_BATCH: Final = "SELECT batch FROM writer WHERE writer_id = %s FOR UPDATE"
REMOVE_WRITER: Final = "DELETE FROM writer WHERE writer_id = %s"

# --- queries --------------------------------------------------------------------------------------

SELECT_GLANCE: Final = (
    "SELECT channel.channel_key, owner_id, private, last_seq, member.role"
    f" FROM {_arrays('channel_id, user_id')} {_WITH_CHANNEL}"
    f" LEFT JOIN {_lookup('role', 'member', 'user_id')} ON true"
)
# A page of history, from either end; one row more than wanted tells whether there is more.
HISTORY_BEFORE: Final = (
    f"SELECT {MESSAGE} FROM message WHERE channel_key = %s AND seq < %s ORDER BY seq DESC LIMIT %s"
)
HISTORY_AFTER: Final = f"SELECT {MESSAGE} FROM message WHERE channel_key = %s AND seq > %s ORDER BY seq LIMIT %s"
HISTORY_HAS_BEFORE: Final = "SELECT 1 FROM message WHERE channel_key = %s AND seq <= %s LIMIT 1"
SELECT_RANGES: Final = (
    f"SELECT channel.channel_id, {_columns(MESSAGE, 'message')}"
    f" FROM {_arrays('position, channel_id, after_seq, before_seq')} {_WITH_CHANNEL}"
    f" CROSS JOIN LATERAL (SELECT {MESSAGE} FROM message WHERE message.channel_key = channel.channel_key"
    " AND seq > given.after_seq AND seq < given.before_seq ORDER BY seq LIMIT %s) AS message"
    " ORDER BY given.position, message.seq LIMIT %s"
)

# --- opening --------------------------------------------------------------------------------------

DESCRIBE: Final = (
    "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),"
    " pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,"
    " to_regclass('alembic_version') IS NOT NULL"
)
SELECT_REVISION: Final = "SELECT version_num FROM alembic_version"

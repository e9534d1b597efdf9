"""Owns the SQL text of the SQLite store.

It must not execute it. Everything is made of the constants in this file; values are always bound.
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


def _columns(names: str, table: str) -> str:
    """Return the names qualified by the table."""
    return ", ".join(f"{table}.{name.strip()}" for name in names.split(","))


def _elements(names: str) -> str:
    """Return expressions for the elements of the rows that `json_each` yields."""
    return ", ".join(f"json_extract(value, '$[{index}]')" for index in range(names.count(",") + 1))


def _marks(names: str) -> str:
    return ", ".join("?" * (names.count(",") + 1))


# A row value IN (SELECT … FROM json_each) would compare the user with every member of the channel: what comes
# out of json_each has no affinity, and so no use of the whole key. CROSS JOIN fixes the order of the loops.
_MEMBERS_OF_KEYS: Final = (
    "FROM json_each(?) CROSS JOIN member WHERE channel_key = json_extract(value, '$[0]')"
    " AND user_id = json_extract(value, '$[1]')"
)

# --- writes: a pair each, (for one row bound by position, for all rows of one JSON text) ----------

_MEMBER_CONFLICT: Final = (
    " ON CONFLICT (channel_key, user_id) DO UPDATE SET role = excluded.role, read_seq = excluded.read_seq,"
    " read_ordinal = excluded.read_ordinal, mention_count = excluded.mention_count"
)
# By the primary key SQLite would look up the channel only and compare the users with all its members. The cast
# gives the users an affinity, without which the index is used for them alone.
DELETE_MEMBERS: Final = (
    "DELETE FROM member WHERE channel_key = ? AND user_id = ?",
    "DELETE FROM member INDEXED BY ix_member_user_id WHERE (user_id, channel_key) IN"
    " (SELECT CAST(json_extract(value, '$[1]') AS TEXT), json_extract(value, '$[0]') FROM json_each(?))",
)
PUT_MEMBERS: Final = (
    f"INSERT INTO member ({MEMBER}) VALUES ({_marks(MEMBER)}){_MEMBER_CONFLICT}",
    # WHERE true keeps the parser from taking ON CONFLICT for the condition of a join.
    f"INSERT INTO member ({MEMBER}) SELECT {_elements(MEMBER)} FROM json_each(?) WHERE true{_MEMBER_CONFLICT}",
)
# Most messages have none of the last three columns, and every column taken out of JSON costs its share.
INSERT_MESSAGES: Final = (
    f"INSERT INTO message ({MESSAGE_PLAIN}) VALUES ({_marks(MESSAGE_PLAIN)})",
    f"INSERT INTO message ({MESSAGE_PLAIN}) SELECT {_elements(MESSAGE_PLAIN)} FROM json_each(?)",
)
INSERT_MESSAGES_WITH_EXTRAS: Final = (
    f"INSERT INTO message ({MESSAGE}) VALUES ({_marks(MESSAGE)})",
    f"INSERT INTO message ({MESSAGE}) SELECT {_elements(MESSAGE)} FROM json_each(?)",
)
INSERT_MENTIONS: Final = (
    f"INSERT INTO mention ({MENTION}) VALUES ({_marks(MENTION)})",
    f"INSERT INTO mention ({MENTION}) SELECT {_elements(MENTION)} FROM json_each(?)",
)
PUT_NONCES: Final = (
    f"INSERT OR REPLACE INTO nonce ({NONCE}) VALUES ({_marks(NONCE)})",
    f"INSERT OR REPLACE INTO nonce ({NONCE}) SELECT {_elements(NONCE)} FROM json_each(?)",
)
UPDATE_COUNTERS: Final = (
    "UPDATE channel SET last_seq = ?2, last_ordinal = ?3, member_count = ?4 WHERE channel_key = ?1",
    "UPDATE channel SET last_seq = json_extract(value, '$[1]'), last_ordinal = json_extract(value, '$[2]'),"
    " member_count = json_extract(value, '$[3]')"
    " FROM json_each(?) WHERE channel_key = json_extract(value, '$[0]')",
)

INSERT_CHANNEL: Final = f"INSERT INTO channel ({CHANNEL}) VALUES ({_marks(CHANNEL)})"
SAVE_CHANNEL: Final = (
    "UPDATE channel SET channel_name = ?, capacity = ?, private = ?, max_speakers = ? WHERE channel_key = ?"
)
DELETE_CHANNEL: Final = "DELETE FROM channel WHERE channel_key = ?"
DELETE_ALL_OF: Final = tuple(
    f"DELETE FROM {table} WHERE channel_key = ?" for table in ("member", "mention", "ban")
)
DELETE_MENTIONS: Final = "DELETE FROM mention WHERE channel_key = ? AND user_id = ? AND seq <= ?"
INSERT_BAN: Final = f"INSERT OR IGNORE INTO ban ({BAN}) VALUES ({_marks(BAN)})"
DELETE_BAN: Final = "DELETE FROM ban WHERE channel_key = ? AND user_id = ?"
PUT_USER: Final = f"INSERT OR REPLACE INTO user_state ({USER}) VALUES ({_marks(USER)})"
INSERT_ANNOUNCEMENT: Final = f"INSERT INTO announcement ({ANNOUNCEMENT}) VALUES ({_marks(ANNOUNCEMENT)})"
PUT_FORMER: Final = (
    "INSERT INTO former_channel (channel_id, last_seq) VALUES (?, ?)"
    " ON CONFLICT (channel_id) DO UPDATE SET last_seq = excluded.last_seq"
)
INSERT_PRUNABLE: Final = "INSERT INTO prunable (channel_key) VALUES (?)"
DELETE_PRUNABLE: Final = "DELETE FROM prunable WHERE channel_key = ?"
PRUNE_MESSAGES: Final = (
    "DELETE FROM message WHERE channel_key = ?1 AND seq IN"
    " (SELECT seq FROM message WHERE channel_key = ?1 ORDER BY seq LIMIT ?2)"
)
PRUNE_NONCES: Final = (
    "DELETE FROM nonce WHERE timestamp <= ? AND nonce_key IN"
    " (SELECT nonce_key FROM nonce ORDER BY nonce_key LIMIT ?)"
)

# --- reads ----------------------------------------------------------------------------------------

SELECT_FORMER: Final = "SELECT last_seq FROM former_channel WHERE channel_id = ?"
SELECT_PRUNABLE: Final = "SELECT channel_key FROM prunable LIMIT 1"
SELECT_MEMBERS_OF: Final = "SELECT json_group_array(user_id) FROM member WHERE channel_key = ?"
SELECT_CHANNEL: Final = f"SELECT {CHANNEL} FROM channel WHERE channel_id = ?"
SELECT_CHANNELS: Final = (
    f"SELECT json_group_array(json_array({CHANNEL})) FROM channel"
    " WHERE channel_id IN (SELECT value FROM json_each(?))"
)
SELECT_MEMBER: Final = f"SELECT {MEMBER} FROM member WHERE channel_key = ? AND user_id = ?"
SELECT_MEMBERS: Final = f"SELECT json_group_array(json_array({MEMBER})) {_MEMBERS_OF_KEYS}"
SELECT_NONCE: Final = f"SELECT {NONCE} FROM nonce WHERE author_id = ? AND channel_id = ? AND nonce = ?"
SELECT_NONCES: Final = (
    f"SELECT json_group_array(json_array({NONCE})) FROM nonce WHERE (author_id, channel_id, nonce) IN"
    f" (SELECT {_elements('author_id, channel_id, nonce')} FROM json_each(?))"
)
SELECT_MESSAGE: Final = f"SELECT {MESSAGE} FROM message WHERE channel_key = ? AND seq = ?"
SELECT_MEMBERSHIPS: Final = (
    f"SELECT json_group_array(json_array(json_array({_columns(CHANNEL, 'channel')}),"
    f" json_array({_columns(MEMBER, 'member')}),"
    f" CASE WHEN message.seq IS NOT NULL THEN json_array({_columns(MESSAGE, 'message')}) END))"
    " FROM member JOIN channel USING (channel_key) LEFT JOIN message"
    " ON message.channel_key = channel.channel_key AND message.seq = channel.last_seq"
    " WHERE member.user_id = ?"
)
SELECT_MEMBERSHIPS_PLAIN: Final = (
    f"SELECT json_group_array(json_array(json_array({_columns(CHANNEL, 'channel')}),"
    f" json_array({_columns(MEMBER, 'member')}), NULL))"
    " FROM member JOIN channel USING (channel_key) WHERE member.user_id = ?"
)
SELECT_MEMBERS_PAGE: Final = (
    f"SELECT json_group_array(json_array({MEMBER})) FROM (SELECT * FROM member"
    " WHERE channel_key = ? AND user_id > ? ORDER BY user_id LIMIT ?)"
)
SELECT_GLANCE: Final = (
    "SELECT channel.channel_key, owner_id, private, last_seq, member.role FROM channel LEFT JOIN member"
    " ON member.channel_key = channel.channel_key AND member.user_id = ? WHERE channel_id = ?"
)
# A page of history, from either end; one row more than wanted tells whether there is more.
HISTORY_BEFORE: Final = (
    f"SELECT json_group_array(json_array({MESSAGE})) FROM (SELECT * FROM message"
    " WHERE channel_key = ? AND seq < ? ORDER BY seq DESC LIMIT ?)"
)
HISTORY_AFTER: Final = (
    f"SELECT json_group_array(json_array({MESSAGE})) FROM (SELECT * FROM message"
    " WHERE channel_key = ? AND seq > ? ORDER BY seq LIMIT ?)"
)
HISTORY_HAS_BEFORE: Final = "SELECT 1 FROM message WHERE channel_key = ? AND seq <= ? LIMIT 1"
# [channel_id, after, before] each. CROSS JOIN fixes the order of the loops, and with it that of the rows: by
# range, then by the primary key. An ORDER BY would read all that is in the ranges, for every page of them.
SELECT_RANGES: Final = (
    f"SELECT json_group_array(json_array(channel_id, json_array({_columns(MESSAGE, 'found')}))) FROM ("
    "SELECT message.*, channel.channel_id FROM json_each(?) AS wanted"
    " CROSS JOIN channel ON channel.channel_id = json_extract(wanted.value, '$[0]')"
    " CROSS JOIN message ON message.channel_key = channel.channel_key"
    " AND message.seq > json_extract(wanted.value, '$[1]') AND message.seq < json_extract(wanted.value, '$[2]')"
    " LIMIT ?) AS found"
)
SELECT_BAN: Final = "SELECT 1 FROM ban WHERE channel_key = ? AND user_id = ?"
SELECT_ORDINAL: Final = "SELECT ordinal FROM message WHERE channel_key = ? AND seq = ?"
COUNT_MENTIONS: Final = "SELECT count(*) FROM mention WHERE channel_key = ? AND user_id = ?"
SELECT_USER: Final = f"SELECT {USER} FROM user_state WHERE user_id = ?"
SELECT_ANNOUNCEMENTS: Final = (
    f"SELECT {ANNOUNCEMENT} FROM announcement WHERE created_at >= ? AND (expires_at IS NULL OR expires_at > ?)"
    " ORDER BY created_at DESC, announcement_id DESC LIMIT ?"
)
SELECT_VISIBLE: Final = (
    f"SELECT json_group_array(json_array({CHANNEL})) FROM (SELECT * FROM channel WHERE channel_id > ?1 AND"
    " (?4 OR NOT private OR owner_id = ?2 OR EXISTS (SELECT 1 FROM member"
    " WHERE member.channel_key = channel.channel_key AND member.user_id = ?2))"
    " ORDER BY channel_id LIMIT ?3)"
)
SELECT_TRANSIENT: Final = (
    "SELECT json_group_array(json_array(channel.channel_id, member.user_id))"
    " FROM channel JOIN member USING (channel_key) WHERE NOT channel.durable"
)

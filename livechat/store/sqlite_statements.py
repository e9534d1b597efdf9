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


def _marks(names: str) -> str:
    return ", ".join("?" * (names.count(",") + 1))


# --- writes: bound by position, for one row or, by executemany, for many --------------------------

DELETE_MEMBERS: Final = "DELETE FROM member WHERE channel_key = ? AND user_id = ?"
PUT_MEMBERS: Final = (
    f"INSERT INTO member ({MEMBER}) VALUES ({_marks(MEMBER)})"
    " ON CONFLICT (channel_key, user_id) DO UPDATE SET role = excluded.role, read_seq = excluded.read_seq,"
    " read_ordinal = excluded.read_ordinal, mention_count = excluded.mention_count"
)
# Most messages have none of the last three columns.
INSERT_MESSAGES: Final = f"INSERT INTO message ({MESSAGE_PLAIN}) VALUES ({_marks(MESSAGE_PLAIN)})"
INSERT_MESSAGES_WITH_EXTRAS: Final = f"INSERT INTO message ({MESSAGE}) VALUES ({_marks(MESSAGE)})"
INSERT_MENTIONS: Final = f"INSERT INTO mention ({MENTION}) VALUES ({_marks(MENTION)})"
PUT_NONCES: Final = f"INSERT OR REPLACE INTO nonce ({NONCE}) VALUES ({_marks(NONCE)})"
UPDATE_COUNTERS: Final = (
    "UPDATE channel SET last_seq = ?, last_ordinal = ?, member_count = ? WHERE channel_key = ?"
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
INSERT_FILE_PRUNABLE: Final = (
    "INSERT INTO file_prunable (channel_key) SELECT channel_key FROM file WHERE channel_key = ? LIMIT 1"
)
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
SELECT_MEMBER: Final = f"SELECT {MEMBER} FROM member WHERE channel_key = ? AND user_id = ?"
SELECT_NONCE: Final = f"SELECT {NONCE} FROM nonce WHERE author_id = ? AND channel_id = ? AND nonce = ?"
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

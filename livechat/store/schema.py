"""Owns the tables, as SQLAlchemy Core metadata, and the revision they stand at.

It must not hold queries. A change here needs a migration beside it; a test compares the two.

A channel's `channel_key` names one life of it: deleting a channel makes its messages unreachable at once, and
what belongs to the key is removed later. That is why messages have no foreign key to their channel.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION: Final = "0006"
"""The newest migration."""

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite numbers rows by itself only in a column declared INTEGER.
_KEY: Final = BigInteger().with_variant(Integer, "sqlite")
# Ids are compared byte by byte; SQLite does so by itself, PostgreSQL by the language of its database.
_ID: Final = String(64).with_variant(String(64, collation="C"), "postgresql")

CHANNEL: Final = Table(
    "channel",
    METADATA,
    Column("channel_key", _KEY, primary_key=True),
    Column("channel_id", _ID, nullable=False),
    Column("channel_name", Text, nullable=False),
    Column("mode", String(16), nullable=False),
    Column("durable", Boolean, nullable=False),
    Column("capacity", Integer, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("max_speakers", Integer),
    Column("freq", Text),
    Column("owner_id", _ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("last_ordinal", BigInteger, nullable=False),
    Column("member_count", Integer, nullable=False),
    UniqueConstraint("channel_id"),
    # Without it the key of the newest channel, once deleted, would be given out again, with its messages.
    sqlite_autoincrement=True,
)

FORMER_CHANNEL: Final = Table(
    "former_channel",
    METADATA,
    Column("channel_id", _ID, primary_key=True),
    Column("last_seq", BigInteger, nullable=False),
    comment="Where the seq of a deleted channel goes on.",
    sqlite_with_rowid=False,
)

PRUNABLE: Final = Table(
    "prunable",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    comment="Lives of channels that have ended and whose messages are yet to be removed.",
    sqlite_with_rowid=False,
)

MEMBER: Final = Table(
    "member",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", _ID, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("joined_at", BigInteger, nullable=False),
    Column("read_seq", BigInteger, nullable=False),
    Column("read_ordinal", BigInteger, nullable=False),
    Column("mention_count", Integer, nullable=False),
    Index(None, "user_id"),
    sqlite_with_rowid=False,
)

# Clustered by (channel_key, seq): an append touches one page per channel, and history is one range of pages.
MESSAGE: Final = Table(
    "message",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", _ID, nullable=False),
    Column("author_id", _ID, nullable=False),
    Column("message_type", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("attachment", Text, comment="A JSON object."),
    Column("mentions", Text, comment="A JSON array of user ids; NULL for none."),
    Column("nonce", _ID),
    Column("timestamp", BigInteger, nullable=False),
    Column("system", Text, comment="A JSON object; NULL unless the type is SYSTEM."),
    Column(
        "ordinal",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="How many messages that are not SYSTEM the channel has had, this one included.",
    ),
    sqlite_with_rowid=False,
)

# One row for each member whom a message mentions and who has not read it: what `mention_count` counts.
MENTION: Final = Table(
    "mention",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", _ID, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

BAN: Final = Table(
    "ban",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", _ID, primary_key=True),
    Column("actor_id", _ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# `user` is a reserved word in PostgreSQL.
USER: Final = Table(
    "user_state",
    METADATA,
    Column("user_id", _ID, primary_key=True),
    Column("settings", Text, nullable=False, comment="A JSON object."),
    Column("last_seen", BigInteger),
    Column("last_logout", BigInteger),
    sqlite_with_rowid=False,
)

ANNOUNCEMENT: Final = Table(
    "announcement",
    METADATA,
    Column("announcement_id", _ID, primary_key=True),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("url", Text),
    Column("image_url", Text),
    Column("expires_at", BigInteger),
    Index(None, "created_at"),
)

# Numbered in the order of insertion, so that the oldest are found for removal without an index on the time.
NONCE: Final = Table(
    "nonce",
    METADATA,
    Column("nonce_key", _KEY, primary_key=True),
    Column("author_id", _ID, nullable=False),
    Column("channel_id", _ID, nullable=False),
    Column("nonce", _ID, nullable=False),
    Column("body_digest", Text, nullable=False, comment="In hex."),
    Column("message_id", _ID, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    UniqueConstraint("author_id", "channel_id", "nonce"),
)

# Written by PostgreSQL's store only: which of its transactions a writer committed last.
WRITER: Final = Table(
    "writer",
    METADATA,
    Column("writer_id", _ID, primary_key=True),
    Column("batch", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

ACCOUNT: Final = Table(
    "account",
    METADATA,
    Column("user_id", _ID, primary_key=True),
    Column("same_as", Text, nullable=False, comment="What all ids share that would be taken for this one."),
    Column("password_hash", Text, nullable=False, comment="PHC string of argon2id."),
    Column("display_name", Text),
    Column("scopes", Text, nullable=False, comment="Of its tokens, with spaces between."),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("same_as"),
    sqlite_with_rowid=False,
)

# A login on one device; without a foreign key, so that an account can go before the last token of a login does.
ACCOUNT_FAMILY: Final = Table(
    "account_family",
    METADATA,
    Column("family_id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("selector", _ID, nullable=False, comment="SHA-256 of what all its refresh tokens share, in hex."),
    Column("digest", _ID, nullable=False, comment="SHA-256 of the newest refresh token, in hex."),
    Column("started_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("access_until", BigInteger, nullable=False, comment="When the last of its access tokens ends."),
    Column("revoked_at", BigInteger),
    UniqueConstraint("selector"),
    Index(None, "user_id"),
    Index(None, "expires_at"),
    sqlite_with_rowid=False,
)

# Sorted by its id, which begins with the time, a user's jobs are in the order in which they came.
JOB: Final = Table(
    "job",
    METADATA,
    Column("job_id", _ID, primary_key=True),
    Column("user_id", _ID, nullable=False),
    Column("kind", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("progress", Integer, nullable=False, comment="In millionths."),
    Column("event_seq", BigInteger, nullable=False, comment="Of its last event."),
    Column("input", Text, nullable=False, comment="A JSON object."),
    Column("session_id", _ID),
    Column("is_admin", Boolean, nullable=False),
    Column("safe_to_rerun", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("runner_id", _ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("result", Text, comment="A JSON value."),
    Column("error_code", Integer),
    Column("error_reason", Text),
    Column("output_name", Text),
    Column("output_mime", Text),
    Column("output_bytes", BigInteger),
    Column("idempotency_key", Text),
    Column("body_digest", Text, comment="In hex."),
    UniqueConstraint("user_id", "idempotency_key"),
    Index(None, "user_id", "job_id"),
    Index(None, "state"),
    Index(None, "finished_at"),
)

JOB_EVENT: Final = Table(
    "job_event",
    METADATA,
    Column("job_id", _ID, primary_key=True),
    Column("event_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("partial_text", Text),
    Column("partial_bytes", LargeBinary),
    sqlite_with_rowid=False,
)

JOB_RUNNER: Final = Table(
    "job_runner",
    METADATA,
    Column("runner_id", _ID, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
    comment="The servers that share the database, and when each was last alive.",
    sqlite_with_rowid=False,
)

FILE: Final = Table(
    "file",
    METADATA,
    Column("file_id", _ID, primary_key=True),
    Column("channel_key", BigInteger, nullable=False),
    Column("channel_id", _ID, nullable=False),
    Column("uploader_id", _ID, nullable=False),
    Column("name", Text, nullable=False),
    Column("mime", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False, comment="In hex."),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, comment="From when on it is gone; NULL: a message refers to it. 0: removed."),
    Index(None, "channel_key"),
    Index(None, "expires_at"),
    sqlite_with_rowid=False,
)

FILE_USAGE: Final = Table(
    "file_usage",
    METADATA,
    Column("user_id", _ID, primary_key=True, comment="Empty: all users."),
    Column("bytes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

FILE_PRUNABLE: Final = Table(
    "file_prunable",
    METADATA,
    Column("channel_key", BigInteger, primary_key=True, autoincrement=False),
    comment="Lives of channels that have ended and whose files are yet to be removed.",
    sqlite_with_rowid=False,
)

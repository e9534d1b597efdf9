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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION: Final = "0003"
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

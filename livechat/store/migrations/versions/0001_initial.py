"""The first tables: channels, members, messages, nonces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    _create_channels()
    _create_messages()


def _create_channels() -> None:
    op.create_table(
        "channel",
        sa.Column("channel_key", _KEY, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("channel_name", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("durable", sa.Boolean(), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("max_speakers", sa.Integer()),
        sa.Column("freq", sa.Text()),
        sa.Column("owner_id", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_ordinal", sa.BigInteger(), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("channel_key", name="pk_channel"),
        sa.UniqueConstraint("channel_id", name="uq_channel_channel_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "former_channel",
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel_id", name="pk_former_channel"),
        comment="Where the seq of a deleted channel goes on.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prunable",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("channel_key", name="pk_prunable"),
        comment="Lives of channels that have ended and whose messages are yet to be removed.",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "member",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=False),
        sa.Column("read_seq", sa.BigInteger(), nullable=False),
        sa.Column("read_ordinal", sa.BigInteger(), nullable=False),
        sa.Column("mention_count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("channel_key", "user_id", name="pk_member"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_member_user_id", "member", ["user_id"])


def _create_messages() -> None:
    op.create_table(
        "message",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("author_id", _ID, nullable=False),
        sa.Column("message_type", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("attachment", sa.Text(), comment="A JSON object."),
        sa.Column("mentions", sa.Text(), comment="A JSON array of user ids; NULL for none."),
        sa.Column("nonce", _ID),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("system", sa.Text(), comment="A JSON object; NULL unless the type is SYSTEM."),
        sa.PrimaryKeyConstraint("channel_key", "seq", name="pk_message"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nonce",
        sa.Column("nonce_key", _KEY, nullable=False),
        sa.Column("author_id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("nonce", _ID, nullable=False),
        sa.Column("body_digest", sa.Text(), nullable=False, comment="In hex."),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce_key", name="pk_nonce"),
        sa.UniqueConstraint("author_id", "channel_id", "nonce", name="uq_nonce_author_id"),
    )


def downgrade() -> None:
    """Drop the tables, and all that is in them."""
    for table in ("nonce", "message", "member", "prunable", "former_channel", "channel"):
        op.drop_table(table)

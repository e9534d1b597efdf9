"""What read positions, mentions, bans, settings and announcements need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")

# The same on SQLite (from 3.33) and PostgreSQL.
_NUMBER_MESSAGES = """
UPDATE message SET ordinal = numbered.ordinal FROM (
    SELECT channel_key AS numbered_key, seq AS numbered_seq,
        SUM(CASE WHEN message_type = 'SYSTEM' THEN 0 ELSE 1 END) OVER (PARTITION BY channel_key ORDER BY seq)
        AS ordinal
    FROM message
) AS numbered
WHERE channel_key = numbered_key AND seq = numbered_seq
"""
# What the counts of mentions counted is not known one by one any more; they begin anew.
_FORGET_MENTIONS = "UPDATE member SET mention_count = 0"


def upgrade() -> None:
    """Number the messages and create the new tables."""
    op.add_column(
        "message",
        sa.Column(
            "ordinal",
            sa.BigInteger(),
            nullable=False,
            server_default=sa.text("0"),
            comment="How many messages that are not SYSTEM the channel has had, this one included.",
        ),
    )
    op.execute(_NUMBER_MESSAGES)
    op.execute(_FORGET_MENTIONS)
    op.create_table(
        "mention",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("channel_key", "user_id", "seq", name="pk_mention"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ban",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("actor_id", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("channel_key", "user_id", name="pk_ban"),
        sqlite_with_rowid=False,
    )
    _create_users_and_announcements()


def _create_users_and_announcements() -> None:
    op.create_table(
        "user_state",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("settings", sa.Text(), nullable=False, comment="A JSON object."),
        sa.Column("last_seen", sa.BigInteger()),
        sa.Column("last_logout", sa.BigInteger()),
        sa.PrimaryKeyConstraint("user_id", name="pk_user_state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "announcement",
        sa.Column("announcement_id", _ID, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("url", sa.Text()),
        sa.Column("image_url", sa.Text()),
        sa.Column("expires_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("announcement_id", name="pk_announcement"),
    )
    op.create_index("ix_announcement_created_at", "announcement", ["created_at"])


def downgrade() -> None:
    """Drop the new tables, and all that is in them."""
    for table in ("announcement", "user_state", "ban", "mention"):
        op.drop_table(table)
    op.drop_column("message", "ordinal")

"""Files that messages refer to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
_EXPIRES_AT = "From when on it is gone; NULL: a message refers to it. 0: removed."


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "file",
        sa.Column("file_id", _ID, nullable=False),
        sa.Column("channel_key", sa.BigInteger(), nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("uploader_id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False, comment="In hex."),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), comment=_EXPIRES_AT),
        sa.PrimaryKeyConstraint("file_id", name="pk_file"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_file_channel_key", "file", ["channel_key"])
    op.create_index("ix_file_expires_at", "file", ["expires_at"])
    op.create_table(
        "file_usage",
        sa.Column("user_id", _ID, nullable=False, comment="Empty: all users."),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_file_usage"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "file_prunable",
        sa.Column("channel_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("channel_key", name="pk_file_prunable"),
        comment="Lives of channels that have ended and whose files are yet to be removed.",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("file_prunable", "file_usage", "file"):
        op.drop_table(table)

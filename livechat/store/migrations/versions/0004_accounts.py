"""Accounts and their logins."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "account",
        sa.Column("user_id", _ID, nullable=False),
        sa.Column(
            "same_as", sa.Text(), nullable=False, comment="What all ids share that would be taken for this one."
        ),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="PHC string of argon2id."),
        sa.Column("display_name", sa.Text()),
        sa.Column("scopes", sa.Text(), nullable=False, comment="Of its tokens, with spaces between."),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name="pk_account"),
        sa.UniqueConstraint("same_as", name="uq_account_same_as"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "account_family",
        sa.Column("family_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column(
            "selector",
            _ID,
            nullable=False,
            comment="SHA-256 of what all its refresh tokens share, in hex.",
        ),
        sa.Column("digest", _ID, nullable=False, comment="SHA-256 of the newest refresh token, in hex."),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "access_until", sa.BigInteger(), nullable=False, comment="When the last of its access tokens ends."
        ),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("family_id", name="pk_account_family"),
        sa.UniqueConstraint("selector", name="uq_account_family_selector"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_account_family_user_id", "account_family", ["user_id"])
    op.create_index("ix_account_family_expires_at", "account_family", ["expires_at"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("account_family")
    op.drop_table("account")

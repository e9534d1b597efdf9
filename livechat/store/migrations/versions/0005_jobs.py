"""Jobs, their events, and who runs them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "job",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("kind", _ID, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False, comment="In millionths."),
        sa.Column("event_seq", sa.BigInteger(), nullable=False, comment="Of its last event."),
        sa.Column("input", sa.Text(), nullable=False, comment="A JSON object."),
        sa.Column("session_id", _ID),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("safe_to_rerun", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("runner_id", _ID, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("result", sa.Text(), comment="A JSON value."),
        sa.Column("error_code", sa.Integer()),
        sa.Column("error_reason", sa.Text()),
        sa.Column("output_name", sa.Text()),
        sa.Column("output_mime", sa.Text()),
        sa.Column("output_bytes", sa.BigInteger()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("body_digest", sa.Text(), comment="In hex."),
        sa.PrimaryKeyConstraint("job_id", name="pk_job"),
        sa.UniqueConstraint("user_id", "idempotency_key", name="uq_job_user_id"),
    )
    op.create_index("ix_job_user_id", "job", ["user_id", "job_id"])
    op.create_index("ix_job_state", "job", ["state"])
    op.create_index("ix_job_finished_at", "job", ["finished_at"])
    op.create_table(
        "job_event",
        sa.Column("job_id", _ID, nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("progress", sa.Integer(), nullable=False),
        sa.Column("partial_text", sa.Text()),
        sa.Column("partial_bytes", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("job_id", "event_seq", name="pk_job_event"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job_runner",
        sa.Column("runner_id", _ID, nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("runner_id", name="pk_job_runner"),
        comment="The servers that share the database, and when each was last alive.",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("job_runner", "job_event", "job"):
        op.drop_table(table)

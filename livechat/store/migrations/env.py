"""Alembic's entry point: runs the migrations on the connection that `livechat.store.migrate` hands over.

It must not configure logging, nor end the caller's transaction.
"""

from __future__ import annotations

from alembic import context

from livechat.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()

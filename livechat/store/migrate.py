"""Owns running the migrations on a connection.

It must not know where that leads, nor print or configure logging.
"""

from __future__ import annotations

import threading
from typing import Final

import attrs
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from livechat.error import ConfigError
from livechat.store.schema import REVISION

# Alembic keeps the migration that runs in module globals: one at a time in a process.
_ALEMBIC_LOCK: Final = threading.Lock()
# An arbitrary number: who holds this advisory lock of a PostgreSQL database migrates it.
_POSTGRES_LOCK: Final = 7810779349


@attrs.frozen
class Migrated:
    """What a migration did."""

    before: str | None
    """The revision it found; None: an empty database."""
    after: str
    """The newest revision; the same as before if there was nothing to do."""


def upgrade(connection: sa.Connection) -> Migrated:
    """Bring the schema to the newest revision, within the caller's transaction. Blocks.

    Raises:
        ConfigError: the database is at a revision this livechat does not know.
    """
    if connection.dialect.name == "postgresql":
        # SQLite's transactions exclude each other by themselves.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))
    with _ALEMBIC_LOCK:
        before = MigrationContext.configure(connection).get_current_revision()
        check_known(before)
        command.upgrade(_config(connection), "head")
    return Migrated(before, REVISION)


def check_known(revision: str | None) -> None:
    """Refuse a revision that this livechat does not know.

    Raises:
        ConfigError: it does not.
    """
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigError(f"is at revision {revision!r}, which only a newer livechat knows")


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the schema back to `revision` (`base`: to nothing), within the caller's transaction. Blocks."""
    with _ALEMBIC_LOCK:
        command.downgrade(_config(connection), revision)


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "livechat.store:migrations")
    config.attributes["connection"] = connection
    return config

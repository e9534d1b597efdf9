"""Owns running the migrations on a connection.

It must not know which database that is, nor print or configure logging.
"""

from __future__ import annotations

import threading
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from livechat.error import ConfigError

# Alembic keeps the migration that runs in module globals: one at a time in a process.
_ALEMBIC_LOCK: Final = threading.Lock()


def upgrade(connection: sa.Connection) -> None:
    """Bring the schema to the newest revision, within the caller's transaction. Blocks.

    Raises:
        ConfigError: the database is at a revision this livechat does not know.
    """
    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _ALEMBIC_LOCK:
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise ConfigError(f"is at revision {current!r}, which only a newer livechat knows")
        command.upgrade(config, "head")


def downgrade(connection: sa.Connection, revision: str) -> None:
    """Take the schema back to `revision` (`base`: to nothing), within the caller's transaction. Blocks."""
    with _ALEMBIC_LOCK:
        command.downgrade(_config(connection), revision)


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "livechat.store:migrations")
    config.attributes["connection"] = connection
    return config

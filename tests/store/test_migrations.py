"""The migrations lead exactly to the schema, and back."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from livechat.store import migrate
from livechat.store.base import perform
from livechat.store.schema import METADATA, REVISION
from livechat.store.sqlite import DATABASE_NAME, open_sqlite_store, sqlite_engine
from tests.support.store import create


def definitions(path: Path) -> set[str]:
    """Return what the database says about its tables, whatever the order of columns and constraints."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"
        ).fetchall()
    return {f"{kind} {name} {sorted((sql or '').replace(',', ' ').split())}" for kind, name, sql in rows}


def test_migrations_and_schema_agree(tmp_path: Path) -> None:
    migrated, created = sqlite_engine(tmp_path / "migrated.db"), sqlite_engine(tmp_path / "created.db")
    with migrated.begin() as connection:
        migrate.upgrade(connection)
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, METADATA) == []
    with created.begin() as connection:
        METADATA.create_all(connection)
    assert definitions(tmp_path / "migrated.db") == definitions(tmp_path / "created.db")


def test_downgrade_leaves_nothing_and_upgrade_works_again(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "a.db")
    for _ in range(2):
        with engine.begin() as connection:
            migrate.upgrade(connection)
        assert set(sa.inspect(engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
        with engine.begin() as connection:
            migrate.downgrade(connection, "base")
        assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "a.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE nonce (id INTEGER)")
    with pytest.raises(sa.exc.OperationalError), engine.begin() as connection:
        migrate.upgrade(connection)
    assert sa.inspect(engine).get_table_names() == ["nonce"]


async def test_opening_is_silent_and_leaves_logging_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, create())
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / DATABASE_NAME).exists()

"""On PostgreSQL, too, the migrations lead exactly to the schema and back, and nobody migrates twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from livechat.error import ConfigError
from livechat.store import migrate, postgres_schema
from livechat.store.base import perform
from livechat.store.migrate import Migrated
from livechat.store.postgres import open_postgres_store
from livechat.store.postgres_schema import migrate_postgres, postgres_engine, postgres_revision
from livechat.store.schema import METADATA, REVISION
from tests.support.postgres import PostgresServer
from tests.support.server import wait_until
from tests.support.store import create, last_seq, message

COLUMNS = """
    SELECT table_name, column_name, data_type, character_maximum_length, collation_name, is_nullable,
        column_default, col_description(format('%I', table_name)::regclass, ordinal_position)
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
CONSTRAINTS = """
    SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid <> coalesce(to_regclass('alembic_version'), 0)
"""
INDEXES = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""


@pytest.fixture
def make_empty(postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes databases without tables, and returns the URL of each."""
    names: list[str] = []

    def make() -> str:
        names.append(postgres.create_database(empty=True))
        return postgres.url(names[-1])

    yield make
    for name in names:
        postgres.drop_database(name)


def definitions(connection: sa.Connection) -> set[str]:
    """Return what the database says about its tables, whatever the order of the columns."""
    return {str(row) for query in (COLUMNS, CONSTRAINTS, INDEXES) for row in connection.execute(sa.text(query))}


def test_migrations_and_schema_agree(make_empty: Callable[[], str]) -> None:
    with postgres_engine(make_empty()).begin() as connection:
        migrate.upgrade(connection)
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, METADATA) == []
        migrated = definitions(connection)
    with postgres_engine(make_empty()).begin() as connection:
        METADATA.create_all(connection)
        assert definitions(connection) == migrated
    assert len(migrated) > 80


def test_downgrade_leaves_nothing_and_upgrade_works_again(make_empty: Callable[[], str]) -> None:
    engine = postgres_engine(make_empty())
    for _ in range(2):
        with engine.begin() as connection:
            migrate.upgrade(connection)
        assert set(sa.inspect(engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
        with engine.begin() as connection:
            migrate.downgrade(connection, "base")
        assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_ids_are_compared_byte_by_byte(make_empty: Callable[[], str]) -> None:
    engine = postgres_engine(make_empty())
    with engine.begin() as connection:
        migrate.upgrade(connection)
    inspector = sa.inspect(engine)
    found = {
        (table, column["name"]): getattr(column["type"], "collation", None)
        for table in METADATA.tables
        for column in inspector.get_columns(table)
        if isinstance(column["type"], sa.String) and column["type"].length == 64
    }
    assert set(found.values()) == {"C"}
    assert {name for _, name in found} >= {"channel_id", "user_id", "author_id", "announcement_id", "message_id"}


async def test_messages_keep_their_place_when_they_get_their_ordinals(make_empty: Callable[[], str]) -> None:
    url = make_empty()
    engine = postgres_engine(url)
    with engine.begin() as connection:
        migrate.upgrade(connection)
    async with open_postgres_store(url) as store:
        await perform(store, create())
    with engine.begin() as connection:
        migrate.downgrade(connection, "0001")
        values = [("SYSTEM", 1), ("TEXT", 2), ("SYSTEM", 3), ("TEXT", 4), ("IMAGE", 5)]
        for kind, seq in values:
            connection.exec_driver_sql(
                "INSERT INTO message (channel_key, seq, message_id, author_id, message_type, content, timestamp)"
                " SELECT channel_key, %s, 'm', 'ann', %s, '', 0 FROM channel",
                (seq, kind),
            )
        connection.exec_driver_sql("UPDATE channel SET last_seq = 5, last_ordinal = 3")
        connection.exec_driver_sql(
            "INSERT INTO member SELECT channel_key, 'ann', 'member', 0, 0, 0, 7 FROM channel"
        )
    assert migrate_postgres(url) == Migrated("0001", REVISION)
    with engine.begin() as connection:
        ordinals = connection.exec_driver_sql("SELECT seq, ordinal FROM message ORDER BY seq").fetchall()
        assert [tuple(row) for row in ordinals] == [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3)]
        assert connection.exec_driver_sql("SELECT mention_count FROM member").fetchall() == [(0,)]
    async with open_postgres_store(url) as store:
        assert (await perform(store, message("ann"))).seq == 6
        assert await last_seq(store) == 6


def test_a_migration_that_fails_changes_nothing(make_empty: Callable[[], str]) -> None:
    url = make_empty()
    engine = postgres_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE nonce (id INTEGER)")
    with pytest.raises(ConfigError, match=r"^[^\n]* can't be migrated: relation \"nonce\" already exists[^\n]*$"):
        migrate_postgres(url)
    assert sa.inspect(engine).get_table_names() == ["nonce"]


async def test_a_migration_waits_for_the_one_that_runs_and_finds_its_work_done(
    make_empty: Callable[[], str],
) -> None:
    url = make_empty()
    assert postgres_revision(url) is None
    with ThreadPoolExecutor(1) as threads, psycopg.connect(url, autocommit=True) as observer:
        with postgres_engine(url).begin() as connection:
            assert migrate.upgrade(connection) == Migrated(None, REVISION)
            second = threads.submit(migrate_postgres, url)
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
            )
            await wait_until(lambda: observer.execute(waiting).fetchall())
            assert not second.done()
        assert second.result(30) == Migrated(REVISION, REVISION)
    assert postgres_revision(url) == REVISION


def test_a_migration_that_has_to_wait_too_long_gives_up(
    make_empty: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = make_empty()
    monkeypatch.setattr(postgres_schema, "LOCK_TIMEOUT_MS", 50)
    with postgres_engine(url).begin() as connection:
        migrate.upgrade(connection)
        with pytest.raises(ConfigError, match=r"^[^\n]* can't be migrated: [^\n]*lock timeout[^\n]*$"):
            migrate_postgres(url)


def test_migrating_is_silent_and_leaves_logging_alone(
    make_empty: Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    migrate_postgres(make_empty())
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")

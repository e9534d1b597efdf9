"""Opening a PostgreSQL store: databases that can't be used, and what is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest
import sqlalchemy as sa
import trio

from livechat.error import ConfigError
from livechat.store import migrate
from livechat.store.base import perform
from livechat.store.postgres import open_postgres_store
from livechat.store.postgres_schema import postgres_engine
from livechat.store.schema import REVISION
from tests.support.postgres import USER, PostgresServer
from tests.support.server import wait_until
from tests.support.store import create, in_one_go, join, last_seq, message


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[str]:
    """A database without tables."""
    name = postgres.create_database(empty=True)
    yield name
    postgres.drop_database(name)


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "livechat-store"]


async def refused_to_open(url: str) -> str:
    """Return the line with which opening is refused."""
    with pytest.raises(ConfigError) as caught:
        async with open_postgres_store(url, timeout_s=1.0):
            raise AssertionError("must not be opened")
    line = str(caught.value)
    assert "\n" not in line
    assert writer_threads() == []
    return line


async def test_a_database_without_tables_is_not_migrated_by_itself(postgres: PostgresServer, empty: str) -> None:
    line = await refused_to_open(postgres.url(empty))
    assert line == f"the database {empty} on {postgres.folder} is empty: run `livechat migrate`"
    with postgres.connect(empty) as connection:
        assert connection.execute("SELECT to_regclass('channel')").fetchone() == (None,)


async def test_a_database_at_an_older_revision_waits_for_the_operator(
    postgres: PostgresServer, empty: str
) -> None:
    engine = postgres_engine(postgres.url(empty))
    with engine.begin() as connection:
        migrate.upgrade(connection)
        migrate.downgrade(connection, "0001")
    line = await refused_to_open(postgres.url(empty))
    assert line.endswith(" is at revision 0001, which is too old: run `livechat migrate`")
    with engine.begin() as connection:
        assert migrate.upgrade(connection) == migrate.Migrated("0001", REVISION)
    async with open_postgres_store(postgres.url(empty)) as store:
        await perform(store, create())


def newer(connection: sa.Connection) -> None:
    migrate.upgrade(connection)
    connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")


def unversioned(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (newer, " is at revision '9999', which only a newer livechat knows"),
        (unversioned, " is empty: run `livechat migrate`"),
    ],
)
async def test_a_database_that_cannot_be_used_is_refused(
    postgres: PostgresServer, empty: str, damage: Callable[[sa.Connection], None], reason: str
) -> None:
    with postgres_engine(postgres.url(empty)).begin() as connection:
        damage(connection)
    assert (await refused_to_open(postgres.url(empty))).endswith(reason)


async def test_a_read_only_database_is_refused(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    with postgres.connect(name) as operator:
        operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert (await refused_to_open(postgres.url(name))).endswith(" is read-only")
    postgres.drop_database(name)


async def test_a_database_that_cannot_hold_all_scripts_is_refused(postgres: PostgresServer) -> None:
    with postgres.connect("postgres") as connection:
        connection.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    assert (await refused_to_open(postgres.url("latin"))).endswith(" is encoded in LATIN1; UTF8 is needed")
    postgres.drop_database("latin")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:t0psecret@127.0.0.1:1/db", "the database db on 127.0.0.1:1 can't be used: "),
        ("postgresql://u:t0psecret@/db?host=/nowhere", "the database db on /nowhere can't be used: "),
        ("postgresql://u:t0psecret@[::1", "store.url: libpq can't read this PostgreSQL URL"),
        ("postgresql://u:t0psecret@h/db?unknown=1", "store.url: libpq can't read this PostgreSQL URL"),
    ],
)
async def test_a_server_that_cannot_be_reached_is_one_line_without_the_password(url: str, reason: str) -> None:
    line = await refused_to_open(url)
    assert line.startswith(reason)
    assert "t0psecret" not in line


async def test_a_missing_database_is_refused(postgres: PostgresServer) -> None:
    assert 'database "nowhere" does not exist' in await refused_to_open(postgres.url("nowhere"))


async def test_no_thread_connection_or_row_outlives_the_store(database_url: str) -> None:
    async with open_postgres_store(database_url) as store:
        await perform(store, create())
        assert len(writer_threads()) == 1
    with trio.CancelScope() as scope:
        async with open_postgres_store(database_url) as store:
            await perform(store, join())
            scope.cancel()
            await trio.sleep_forever()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_postgres_store(database_url):
            await trio.sleep_forever()
    assert writer_threads() == []
    with psycopg.connect(database_url, autocommit=True) as observer:
        assert observer.execute("SELECT * FROM writer").fetchall() == []
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        # The server sees to it a moment later.
        await wait_until(lambda: not observer.execute(others).fetchall())


@pytest.mark.parametrize(("configured", "effective"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_what_is_acknowledged_is_on_disk_whatever_the_server_defaults_to(
    database_url: str, configured: str, effective: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as operator:
        operator.execute(f"ALTER ROLE {USER} SET synchronous_commit = {configured}")
        operator.execute("CREATE TABLE seen (setting TEXT)")
        operator.execute(
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$"
        )
        operator.execute("CREATE TRIGGER see AFTER INSERT ON channel EXECUTE FUNCTION see()")
        try:
            async with open_postgres_store(database_url) as store:
                await perform(store, create())
        finally:
            operator.execute(f"ALTER ROLE {USER} RESET synchronous_commit")
        assert operator.execute("SELECT * FROM seen").fetchall() == [(effective,)]


async def test_databases_do_not_meet(postgres: PostgresServer) -> None:
    async def open_and_use(name: str) -> None:
        async with open_postgres_store(postgres.url(name)) as store:
            await in_one_go(store, [create(), join("ann"), message("ann")])
            assert await last_seq(store) == 2

    names = [postgres.create_database() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(partial(open_and_use, name))
    for name in names:
        postgres.drop_database(name)

"""What every store is tested with; a new implementation joins the suite by one more parameter here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from livechat.store.memory import open_memory_store
from livechat.store.memory_records import MemoryRecords
from livechat.store.postgres import open_postgres_store
from livechat.store.sqlite import open_sqlite_store
from tests.support.postgres import PostgresServer
from tests.support.postgres_proxy import Proxy
from tests.support.store import OpenStore


def _opener(kind: str, request: pytest.FixtureRequest) -> OpenStore:
    if kind == "sqlite":
        data_dir: Path = request.getfixturevalue("tmp_path")
        return partial(open_sqlite_store, data_dir / "data")
    if kind == "postgres":
        return partial(open_postgres_store, request.getfixturevalue("database_url"))
    assert kind == "memory"
    # What is written to it would be gone with it; so the next one goes on with the records of the one before.
    return partial(open_memory_store, records=MemoryRecords())


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    return _opener(request.param, request)


@pytest.fixture(params=["sqlite", "postgres"])
def open_durable_store(request: pytest.FixtureRequest) -> OpenStore:
    """The same for tests of what only a store with transactions does."""
    return _opener(request.param, request)


@pytest.fixture(scope="module")
def victim() -> Iterator[PostgresServer]:
    """A server that may be stopped; commits wait for a standby where a database is told so."""
    server = PostgresServer("fsync=off", "synchronous_standby_names=nobody", "synchronous_commit=local")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database(victim: PostgresServer) -> Iterator[str]:
    name = victim.create_database()
    yield name
    victim.drop_database(name)


@pytest.fixture
def proxy(victim: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(victim)
    yield proxy
    proxy.close()

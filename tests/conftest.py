"""What tests of several folders share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.support.postgres import PostgresServer

# Where the tests run in the background of a shell, it had SIGINT ignored; what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of a run; started by the first one that wants it."""
    server = PostgresServer("fsync=off")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """A database with all tables in it, for one test."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)

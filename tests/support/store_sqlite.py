"""Connections that make a database slow or its disk full, and a second writer that gets in the way."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from livechat.store.base import Store
from livechat.store.group_commit import open_group_commit
from livechat.store.sqlite import DATABASE_NAME, SqliteBackend
from livechat.store.sqlite_reader import SqliteReader
from tests.support.store import DAY_MS


class Gate:
    """A commit that stops, before it is done, until the test lets it go."""

    def __init__(self) -> None:
        self._armed = False
        self._skip = 0
        self._reached = threading.Event()
        self._released = threading.Event()
        gate = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                gate._pass()
                super().commit()

        self.connection_factory: type[sqlite3.Connection] = Connection

    def arm(self, *, skip: int = 0) -> None:
        """Stop the next commit, or the one after `skip` more. One that stands at the gate is not concerned."""
        self._reached = threading.Event()
        self._released = threading.Event()
        self._skip = skip
        self._armed = True

    async def wait_reached(self) -> None:
        """Wait until a commit stands at the gate."""
        assert await trio.to_thread.run_sync(self._reached.wait, 30)

    def release(self) -> None:
        """Let the commit go on."""
        self._released.set()

    def _pass(self) -> None:
        if not self._armed:
            return
        if self._skip:
            self._skip -= 1
            return
        self._armed = False
        released = self._released
        self._reached.set()
        assert released.wait(30)


class SlowExecution(Gate):
    """The same for the first insertion into `message`, which is before the decision to commit."""

    def __init__(self) -> None:
        super().__init__()
        gate = self

        class Connection(sqlite3.Connection):
            def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
                if "INTO message" in sql:
                    gate._pass()
                return super().executemany(sql, parameters)

        self.connection_factory = Connection


class SlowReading:
    """Reads of messages that stop, inside their transaction, until the test lets them go."""

    def __init__(self) -> None:
        self._armed = False
        self._standing = threading.Semaphore(0)
        self._released = threading.Event()
        reading = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if reading._armed and "FROM message" in sql:
                    reading._standing.release()
                    assert reading._released.wait(30)
                return super().execute(sql, parameters)

        self.connection_factory: type[sqlite3.Connection] = Connection

    def arm(self) -> None:
        """Stop all reads from now on. Those that stand still already are not concerned."""
        self._released = threading.Event()
        self._armed = True

    async def wait_standing(self, count: int = 1) -> None:
        """Wait until `count` more reads stand still."""
        for _ in range(count):
            assert await trio.to_thread.run_sync(partial(self._standing.acquire, timeout=30))

    def release(self) -> None:
        """Let all reads go on."""
        self._armed = False
        self._released.set()

    @asynccontextmanager
    async def open_store(self, data_dir: Path, *, timeout_s: float = 5.0) -> AsyncGenerator[Store]:
        """Open a store that reads through this, and otherwise is what `open_sqlite_store` opens."""
        backend = SqliteBackend(data_dir, connection_factory=sqlite3.Connection, nonce_ttl_ms=DAY_MS)
        reader = SqliteReader(data_dir / DATABASE_NAME, connection_factory=self.connection_factory)
        async with open_group_commit(backend, reader, timeout_s=timeout_s, queue_max=100) as store:
            yield store


class Disk:
    """A disk that can be full: the database is not allowed to grow past its pages."""

    def __init__(self) -> None:
        self._full = False
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql.startswith("BEGIN"):
                    # SQLite never goes below what is in use.
                    pages = 1 if disk._full else 2**30
                    super().execute(f"PRAGMA max_page_count = {pages}")
                return super().execute(sql, parameters)

        self.connection_factory: type[sqlite3.Connection] = Connection

    def fill(self) -> None:
        self._full = True

    def make_room(self) -> None:
        self._full = False


class Rival:
    """Another program's connection to the store's database."""

    def __init__(self, data_dir: Path) -> None:
        self._connection = sqlite3.connect(data_dir / DATABASE_NAME, isolation_level=None)

    def lock(self) -> None:
        """Take the lock for writing."""
        self._connection.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        self._connection.rollback()

    def query(self, sql: str, *parameters: object) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        self._connection.close()

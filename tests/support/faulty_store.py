"""A real store behind a door: while a test says so its queries fail, or wait, and its operations wait."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

import livechat
from livechat.error import BackendUnavailable
from livechat.store.base import Done, Store, StoreStatistics
from livechat.store.operations import Operation
from livechat.store.queries import Query
from livechat.store.sqlite import open_sqlite_store
from tests.support.server import DEADLINE_S, make_config

T = TypeVar("T")


class StoreDoor:
    """The `Store` that the server sees, and what the test does with it."""

    def __init__(self) -> None:
        self.inner: Store
        self.is_unreadable = False
        """Every query raises `BackendUnavailable`."""
        self.queries_left: int | None = None
        """So many queries more are answered before the store is unreadable; None: any number."""
        self.fetches_waiting = 0
        """Queries that stand before the closed door."""
        self.operations_waiting = 0
        self._opened: trio.Event | None = None
        self._waiting: list[Callable[[], None]] = []
        self._held: tuple[type[Operation[Any]], ...] = ()

    # --- what a test does ------------------------------------------------------------------------------

    def close_for_queries(self) -> None:
        """Let no query through until `open`."""
        self._opened = trio.Event()

    def close_for(self, *kinds: type[Operation[Any]]) -> None:
        """Let no operation of these kinds through until `open`."""
        self._held = kinds

    def open(self) -> None:
        """Let everything through, what waits first."""
        if self._opened is not None:
            self._opened.set()
        self._opened = None
        self.open_for_operations()

    def open_for_operations(self) -> None:
        """Let operations through, and queries as before."""
        self._held = ()
        waiting, self._waiting = self._waiting, []
        self.operations_waiting = 0
        for submit in waiting:
            submit()

    # --- the store -------------------------------------------------------------------------------------

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        if isinstance(operation, self._held):
            self._waiting.append(lambda: self.inner.submit(operation, done))
            self.operations_waiting += 1
        else:
            self.inner.submit(operation, done)

    async def fetch(self, query: Query[T]) -> T:
        if self.queries_left is not None:
            self.is_unreadable = self.queries_left == 0
            self.queries_left -= 1
        if self.is_unreadable:
            await trio.lowlevel.checkpoint()
            raise BackendUnavailable("the store cannot be read")
        if self._opened is not None:
            self.fetches_waiting += 1
            try:
                await self._opened.wait()
            finally:
                self.fetches_waiting -= 1
        return await self.inner.fetch(query)

    async def give_way(self, most_s: float) -> None:
        await self.inner.give_way(most_s)

    def statistics(self) -> StoreStatistics:
        return self.inner.statistics()


@asynccontextmanager
async def server_with_door(data_dir: Path, **overrides: Any) -> AsyncGenerator[tuple[livechat.Server, StoreDoor]]:
    """Run a server whose store has a door."""
    door = StoreDoor()

    @asynccontextmanager
    async def open_store(config: livechat.Config) -> AsyncGenerator[Store]:
        async with open_sqlite_store(config.data_dir, timeout_s=DEADLINE_S) as store:
            door.inner = store
            yield door

    with trio.fail_after(120):
        async with livechat.open_server(make_config(data_dir, **overrides), open_store=open_store) as server:
            yield server, door
            door.open()

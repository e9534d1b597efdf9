"""Owns the store that keeps everything in memory and nothing longer: for tests, benchmarks and throw-away servers.

It must not know any database. Operations are executed by the same rules as everywhere, at once and in the Trio
thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast

import structlog
import trio

from livechat.error import BackendUnavailable, LiveError, NotPersisted, ShuttingDown
from livechat.store.base import Done, Outcome, Store, StoreStatistics
from livechat.store.executor import NONCE_TTL_MS, Executor, Prune
from livechat.store.handover import outage_error
from livechat.store.memory_records import MemoryRecords
from livechat.store.memory_snapshot import MemorySnapshot
from livechat.store.operations import CreateMessage, DeleteChannel, Operation
from livechat.store.queries import Query
from livechat.store.reading import answer
from livechat.telemetry.trace import in_trace

T = TypeVar("T")

PRUNE_EVERY_MESSAGES: Final = 1000
"""Messages with a nonce between two looks for expired nonces."""

_log = structlog.get_logger("livechat.store")


@asynccontextmanager
async def open_memory_store(
    *, nonce_ttl_ms: int = NONCE_TTL_MS, records: MemoryRecords | None = None
) -> AsyncGenerator[Store]:
    """Open a store that is gone when the block is left.

    All messages of a living channel are kept, so its memory grows with every message: it suits a server that is
    thrown away, not one that runs for weeks.

    Args:
        nonce_ttl_ms: for how long a nonce is unique, milliseconds.
        records: what an earlier store of this process has left; an empty one, if left out.
    """
    store = MemoryStore(records if records is not None else MemoryRecords(), nonce_ttl_ms=nonce_ttl_ms)
    try:
        yield store
    finally:
        store.close()
    await trio.lowlevel.checkpoint()


class MemoryStore:
    """A `Store` without a database; made by `open_memory_store`.

    `submit` calls `done` before it returns. Only what a `done` submits waits until that has returned, so calls are
    never nested and come in the order of execution. A chain of them that never ends would never let go of the
    Trio thread.
    """

    def __init__(self, records: MemoryRecords, *, nonce_ttl_ms: int) -> None:
        self._executor = Executor(records, nonce_ttl_ms=nonce_ttl_ms)
        self._snapshot = MemorySnapshot(records)
        self._waiting: deque[tuple[Operation[Any], Done[Any]]] = deque()
        self._busy = False
        self._closed = False
        self._is_prune_due = False
        self._nonces_since_prune = 0
        self._operations = 0
        self._failures = 0
        self._callback_failures = 0

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        """Execute an operation; see `Store.submit`."""
        if self._closed:
            raise ShuttingDown("the store is closing")
        if self._busy:
            self._waiting.append((operation, in_trace(done)))
            return
        self._busy = True
        try:
            self._answer(operation, done)
            while self._waiting:
                self._answer(*self._waiting.popleft())
        finally:
            self._busy = False

    async def fetch(self, query: Query[T]) -> T:
        """Answer a query; see `Store.fetch`."""
        if self._closed:
            raise ShuttingDown("the store is closing")
        await trio.lowlevel.checkpoint()
        return cast(T, answer(query, self._snapshot))

    async def give_way(self, most_s: float) -> None:
        """Do nothing but a checkpoint: all is executed when it is submitted; see `Store.give_way`."""
        await trio.lowlevel.checkpoint()

    def statistics(self) -> StoreStatistics:
        """Return the counters; each operation counts as a batch of its own."""
        return StoreStatistics(
            operations=self._operations,
            batches=self._operations,
            failures=self._failures,
            late=0,
            callback_failures=self._callback_failures,
            commit_latency_last_s=0.0,
            commit_latency_max_s=0.0,
            queue_depth=len(self._waiting),
        )

    def close(self) -> None:
        """Take no more operations."""
        self._closed = True

    def _answer(self, operation: Operation[T], done: Done[T]) -> None:
        outcome = self._execute(operation)
        try:
            done(outcome)
        except Exception as error:  # noqa: BLE001 - one caller's bug must not cost the others their answers
            self._callback_failures += 1
            _log.error("store.callback_failed", operation=type(operation).__name__, exc_info=error)
        if outcome.error is None:
            self._note_upkeep(operation)
        if self._is_prune_due:
            # One chunk with each operation, so that none takes long.
            self._is_prune_due = bool(self._execute(Prune()).value)

    def _execute(self, operation: Operation[T]) -> Outcome[T]:
        self._operations += 1
        try:
            return Outcome(self._executor.execute(operation))
        except LiveError as error:
            if isinstance(error, (NotPersisted, BackendUnavailable)):
                self._failures += 1
            return Outcome(error=error.with_traceback(None))
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not hurt the others
            self._failures += 1
            _log.error("store.operation_failed", operation=type(operation).__name__, exc_info=error)
            return Outcome(error=outage_error(operation, "the store refused"))

    def _note_upkeep(self, operation: Operation[Any]) -> None:
        if type(operation) is CreateMessage and operation.nonce is not None:
            self._nonces_since_prune += 1
            if self._nonces_since_prune < PRUNE_EVERY_MESSAGES:
                return
        elif type(operation) is not DeleteChannel:
            return
        self._nonces_since_prune = 0
        self._is_prune_due = True

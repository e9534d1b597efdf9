"""Owns the Trio side of a store: gathering operations into batches, deadlines, answers in commit order.

It must not know any database: a `Backend` in the writer thread executes the batches.

One batch is in flight while the next gathers, so the slower a commit, the more operations share the next one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol, TypeVar, cast

import structlog
import trio

from livechat.error import BackendUnavailable, LiveError, NotPersisted, Overloaded, ShuttingDown
from livechat.store.base import Done, Outcome, StoreStatistics
from livechat.store.executor import Prune
from livechat.store.failures import reason_of
from livechat.store.handover import (
    Entry,
    EntryState,
    Handover,
    doubtful_error,
    withdrawn_error,
)
from livechat.store.operations import CreateMessage, DeleteChannel, Operation
from livechat.store.queries import Query
from livechat.store.writer import Backend, Writer
from livechat.telemetry.histogram import Histogram
from livechat.telemetry.instruments import find_spans
from livechat.telemetry.trace import in_trace

T = TypeVar("T")

BATCH_OPERATIONS_MAX: Final = 4096
"""Bounds the time a batch keeps the Trio thread busy with its answers."""
READERS_MAX: Final = 4
"""Queries answered at a time; more wait, within their deadline."""
PRUNE_EVERY_MESSAGES: Final = 10_000
"""Messages with a nonce between two looks for expired nonces."""

_log = structlog.get_logger("livechat.store")


class Reader(Protocol):
    """The reading side of a database; called in worker threads, several at a time."""

    def read(self, query: Query[Any]) -> object:
        """Answer a query from one state of the database, and one that holds all that is committed by now.

        Raises:
            LiveError: it is refused. Any other exception means that the database can't be read.
        """

    def close(self) -> None:
        """Give back what reading took; nothing is read afterwards. Never raises."""


@asynccontextmanager
async def open_group_commit(
    backend: Backend, reader: Reader, *, timeout_s: float, queue_max: int
) -> AsyncGenerator[GroupCommit]:
    """Open the backend in a thread of its own and run a store on it.

    Leaving the block refuses new operations, finishes those submitted and ends the thread; it takes at most
    twice `timeout_s`, under cancellation too.

    Args:
        timeout_s: by when an operation is answered, seconds after its `submit`.
        queue_max: operations waiting for a transaction, at most.

    Raises:
        ConfigError: the backend can't be opened.

    Cancellation:
        Opening runs to its end; leaving is shielded and bounded.
    """
    store = GroupCommit(backend, reader, timeout_s=timeout_s, queue_max=queue_max)
    await store.start()
    try:
        async with trio.open_nursery() as nursery:
            try:
                nursery.start_soon(store.watch_deadlines)
                yield store
            finally:
                await store.aclose()
    except BaseExceptionGroup as group:
        # The caller can't see the nursery, so it must not wrap what the caller's own block raised.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


class GroupCommit:
    """A `Store` on top of a `Backend`; made by `open_group_commit`."""

    def __init__(self, backend: Backend, reader: Reader, *, timeout_s: float, queue_max: int) -> None:
        self._reader = reader
        self._reading = trio.CapacityLimiter(READERS_MAX)
        self._timeout_s = timeout_s
        self._queue_max = queue_max
        self._handover = Handover()
        self._writer = Writer(backend, self._handover, self)
        self._gathering: list[Entry] = []
        self._in_flight: list[Entry] = []
        self._settled = trio.lowlevel.ParkingLot()  # who waits for the batch in flight
        self._closing = False
        self._unreadable = False  # between the first query that failed and the next that did not
        self._open_error: Exception | None = None
        self._idle: trio.Event | None = None  # who waits for the queue to run empty
        self._parked: trio.Event | None = None  # the watcher, while there is no deadline
        self._watcher_scope = trio.CancelScope(shield=True)
        self._pruning = False
        self._nonces_since_prune = 0
        self._operations = 0
        self._batches = 0
        self._failures = 0
        self._late = 0
        self._callback_failures = 0
        self._commit_latency_last_s = 0.0
        self._commit_latency_max_s = 0.0
        self._commit_latency = Histogram()
        self._spans = find_spans()

    # --- the port ---------------------------------------------------------------------------------

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        """Queue an operation; see `Store.submit`."""
        if self._closing:
            raise ShuttingDown("the store is closing")
        if len(self._gathering) >= self._queue_max:
            raise Overloaded(f"{self._queue_max} operations wait for the store already")
        entry = Entry(operation, in_trace(done), time.monotonic() + self._timeout_s)
        if self._spans is not None:
            entry.cause = self._spans.cause()
        self._queue(entry)

    async def fetch(self, query: Query[T]) -> T:
        """Answer a query in a thread; see `Store.fetch`."""
        if self._closing:
            raise ShuttingDown("the store is closing")
        try:
            with trio.fail_after(self._timeout_s):
                answer = await trio.to_thread.run_sync(
                    self._reader.read, query, abandon_on_cancel=True, limiter=self._reading
                )
        except LiveError:
            raise
        except trio.TooSlowError:
            self._failures += 1
            raise BackendUnavailable("the store did not answer in time") from None
        except Exception as error:
            self._failures += 1
            if not self._unreadable:
                # Once, not with every query: they go on failing as fast as they come.
                self._unreadable = True
                _log.error("store.query_failed", query=type(query).__name__, error=reason_of(error))
            raise BackendUnavailable("the store can't be read") from error
        self._unreadable = False
        return cast(T, answer)

    async def give_way(self, most_s: float) -> None:
        """Wait for the end of the batch in flight; see `Store.give_way`."""
        if not self._in_flight:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(most_s):
            await self._settled.park()

    def statistics(self) -> StoreStatistics:
        """Return the counters."""
        return StoreStatistics(
            operations=self._operations,
            batches=self._batches,
            failures=self._failures,
            late=self._late,
            callback_failures=self._callback_failures,
            commit_latency_last_s=self._commit_latency_last_s,
            commit_latency_max_s=self._commit_latency_max_s,
            queue_depth=len(self._gathering),
            commit_latency=self._commit_latency,
        )

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the writer thread and wait until the backend is open.

        Raises:
            ConfigError: the backend can't be opened; the thread has ended.
        """
        self._token = trio.lowlevel.current_trio_token()
        self._opened = trio.Event()
        self._closed = trio.Event()
        # A daemon, so that a disk that never answers can't keep the process from ending.
        self._thread = threading.Thread(target=self._writer.run, name="livechat-store", daemon=True)
        self._thread.start()
        with trio.CancelScope(shield=True):
            await self._opened.wait()
        if self._open_error is not None:
            self._thread.join()
            raise self._open_error
        self._prune()

    async def aclose(self) -> None:
        """Finish what was submitted, as far as `timeout_s` allows, and end the thread."""
        self._closing = True
        if self._gathering or self._in_flight:
            self._idle = trio.Event()
            with trio.move_on_after(self._timeout_s, shield=True):
                await self._idle.wait()
        self._give_up(math.inf)
        # Before the writer, which on leaving tidies up only what nobody reads any more.
        self._reader.close()
        self._writer.put(None)
        with trio.move_on_after(self._timeout_s, shield=True):
            await self._closed.wait()
            self._thread.join()  # its report was the last thing it does
        self._watcher_scope.cancel()

    async def watch_deadlines(self) -> None:
        """Answer each operation at its deadline, until `aclose`. Sleeps without a timer while idle.

        Cancellation:
            Only `aclose` ends it: what is flushed under cancellation needs its deadlines too.
        """
        with self._watcher_scope:
            while True:
                deadline = self._next_deadline()
                if deadline is None:
                    self._parked = trio.Event()
                    await self._parked.wait()
                else:
                    await trio.sleep(max(0.0, deadline - time.monotonic()))
                    self._give_up(time.monotonic())

    # --- the writer's reports (in its thread) -----------------------------------------------------

    def opened(self, error: Exception | None) -> None:
        """See `Report.opened`."""
        self._open_error = error
        self._to_trio(self._opened.set)

    def settled(self, entries: list[Entry], *, commit_latency_s: float | None, finished: bool) -> None:
        """See `Report.settled`."""
        self._to_trio(self._on_settled, entries, commit_latency_s, finished)

    def closed(self) -> None:
        """See `Report.closed`."""
        self._to_trio(self._closed.set)

    def _to_trio(self, function: Callable[..., object], *args: object) -> None:
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            pass  # Trio gave up waiting for a disk that did not answer

    # --- batches ----------------------------------------------------------------------------------

    def _queue(self, entry: Entry) -> None:
        self._gathering.append(entry)
        if not self._in_flight:
            self._start_batch()
        if self._parked is not None:
            self._parked.set()
            self._parked = None

    def _start_batch(self) -> None:
        if len(self._gathering) <= BATCH_OPERATIONS_MAX:
            self._in_flight, self._gathering = self._gathering, []
        else:
            self._in_flight = self._gathering[:BATCH_OPERATIONS_MAX]
            del self._gathering[:BATCH_OPERATIONS_MAX]
        self._writer.put(self._in_flight)

    def _on_settled(self, entries: list[Entry], commit_latency_s: float | None, finished: bool) -> None:
        if commit_latency_s is not None:
            self._batches += 1
            self._commit_latency_last_s = commit_latency_s
            self._commit_latency_max_s = max(self._commit_latency_max_s, commit_latency_s)
            self._commit_latency.observe(commit_latency_s)
            if self._spans is not None:
                causes = [entry.cause for entry in entries if entry.cause is not None]
                self._spans.record("store.commit", commit_latency_s, {"livechat.operations": len(entries)}, causes)
        if finished:
            self._settled.unpark_all()
            # The next batch runs while this one is answered.
            self._in_flight = []
            if self._gathering:
                self._start_batch()
        for entry in entries:
            self._settle(entry)
        if self._idle is not None and not self._in_flight:
            self._idle.set()

    def _settle(self, entry: Entry) -> None:
        state, entry.state = entry.state, EntryState.SETTLED
        if state is EntryState.WITHDRAWN:
            return
        if state is not EntryState.DOUBTFUL:
            self._answer(entry, Outcome(entry.value, entry.error))
        elif entry.error is None and entry.operation.writes:
            self._late += 1
            self._call(entry, Outcome(entry.value, late=True))
        if entry.error is None:
            self._note_upkeep(entry.operation)

    def _answer(self, entry: Entry, outcome: Outcome[Any]) -> None:
        self._operations += 1
        if isinstance(outcome.error, (NotPersisted, BackendUnavailable)):
            self._failures += 1
        self._call(entry, outcome)

    def _call(self, entry: Entry, outcome: Outcome[Any]) -> None:
        try:
            entry.done(outcome)
        except Exception as error:  # noqa: BLE001 - one caller's bug must not cost the others their answers
            self._callback_failures += 1
            _log.error("store.callback_failed", operation=type(entry.operation).__name__, exc_info=error)

    # --- deadlines --------------------------------------------------------------------------------

    def _next_deadline(self) -> float | None:
        """Return the earliest deadline of what is unanswered; deadlines rise in the order of `submit`."""
        for entry in self._in_flight:
            if entry.state in (EntryState.WAITING, EntryState.COMMITTING):
                return entry.deadline
        return self._gathering[0].deadline if self._gathering else None

    def _give_up(self, now: float) -> None:
        """Answer everything that is past its deadline."""
        for entry in self._handover.give_up(self._in_flight, now):
            doubtful = entry.state is EntryState.DOUBTFUL
            error = doubtful_error(entry.operation) if doubtful else withdrawn_error(entry.operation)
            self._answer(entry, Outcome(error=error))
        expired = 0
        while expired < len(self._gathering) and self._gathering[expired].deadline <= now:
            expired += 1
        withdrawn = self._gathering[:expired]
        del self._gathering[:expired]
        for entry in withdrawn:
            self._answer(entry, Outcome(error=withdrawn_error(entry.operation)))

    # --- upkeep -----------------------------------------------------------------------------------

    def _note_upkeep(self, operation: Operation[Any]) -> None:
        if type(operation) is CreateMessage and operation.nonce is not None:
            self._nonces_since_prune += 1
            if self._nonces_since_prune >= PRUNE_EVERY_MESSAGES:
                self._prune()
        elif type(operation) is DeleteChannel:
            self._prune()

    def _prune(self) -> None:
        """Remove one chunk of what nobody can see any more, and go on while there is more."""
        if self._pruning or self._closing:
            return
        self._pruning = True
        self._nonces_since_prune = 0
        self._queue(Entry(Prune(), self._on_pruned, time.monotonic() + self._timeout_s))

    def _on_pruned(self, outcome: Outcome[bool]) -> None:
        if outcome.late:
            return
        self._pruning = False
        if outcome.error is None and outcome.value:
            self._prune()

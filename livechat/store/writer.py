"""Owns the writer thread: it runs each batch of operations as one transaction of a `Backend`.

It must not know any database, nor Trio: results go back through the `report` it is given.

    a batch:  BEGIN ── execute each ── flush ── may commit? ── COMMIT ── report
                │                        │          └ no: a deadline passed: ROLLBACK, again with the others
                └ locked: wait           ├ one operation broke it: ROLLBACK, then each by itself
                                         └ it lost to somebody else's: ROLLBACK, again
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from livechat.error import LiveError
from livechat.store.failures import reason_of, without_detail
from livechat.store.handover import Entry, Handover, outage_error
from livechat.store.operations import Operation

_log = structlog.get_logger("livechat.store")


class TransactionLost(Exception):
    """A transaction gave way to somebody else's, or lost its connection before COMMIT: it may be done again."""


class Backend(Protocol):
    """A database as the writer thread sees it; methods are called in that thread only, except for `abandon`.

    `begin`, `prepare`, `execute` and `flush` may raise `TransactionLost`, at any time before COMMIT.
    """

    def open(self) -> None:
        """Get ready for `begin`.

        Raises:
            ConfigError: the operator must do something about it.
        """

    def close(self) -> None:
        """Give back everything that `open` took. Never raises."""

    def begin(self, *, write: bool, wait_s: float) -> bool:
        """Begin a transaction, waiting at most `wait_s` for locks; return False if they are still held."""

    def prepare(self, operations: Sequence[Operation[Any]]) -> None:
        """Fetch what these operations will need, in as few queries as possible."""

    def execute(self, operation: Operation[Any]) -> object:
        """Execute one operation and return its result.

        Raises:
            LiveError: it is refused, and has written nothing.
        """

    def flush(self) -> None:
        """Send all that `execute` has put off to the database, short of COMMIT."""

    def commit(self) -> None:
        """Make the transaction durable; return or raise only once it is certain that it is, or never will be.

        If the connection breaks meanwhile, that may take as long as the database is away.
        """

    def abandon(self) -> None:
        """Make a `commit` that still looks for its outcome raise; nobody waits for it any more. Any thread."""

    def rollback(self) -> None:
        """Undo the transaction, if there still is one, and forget all that was cached. Never raises."""

    def is_outage(self, error: Exception) -> bool:
        """Tell a database that can't work now (full, locked, broken) from an operation that can't be done."""


class Report(Protocol):
    """How the writer thread tells what came out; called in that thread, must not block or raise."""

    def opened(self, error: Exception | None) -> None:
        """The backend is open, or could not be opened."""

    def settled(self, entries: list[Entry], *, commit_latency_s: float | None, finished: bool) -> None:
        """These entries have their value or error.

        Args:
            entries: in the order of their execution.
            commit_latency_s: how long the transaction took; None if there was none.
            finished: nothing more comes of the batch.
        """

    def closed(self) -> None:
        """The backend is closed and the thread ends."""


class Writer:
    """The body of the writer thread."""

    def __init__(self, backend: Backend, handover: Handover, report: Report) -> None:
        self._backend = backend
        self._handover = handover
        self._report = report
        self._out = False  # between the first failure of the database and its next success
        self._batches: queue.SimpleQueue[list[Entry] | None] = queue.SimpleQueue()

    def put(self, batch: list[Entry] | None) -> None:
        """Hand over the next batch, or None to end the thread after those before, all answered. Any thread."""
        self._batches.put(batch)
        if batch is None:
            self._backend.abandon()

    def run(self) -> None:
        """Open the backend, run batches until a None comes, close the backend."""
        try:
            self._backend.open()
        except Exception as error:  # noqa: BLE001 - the thread's boundary: the opener raises it
            self._backend.close()
            self._report.opened(error)
            return
        self._report.opened(None)
        while (batch := self._batches.get()) is not None:
            self._run_batch(batch)
        self._backend.close()
        self._report.closed()

    def _run_batch(self, batch: list[Entry]) -> None:
        latency_s: float | None = None
        try:
            latency_s = self._transact(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not hurt the others
            self._backend.rollback()
            if len(batch) > 1 and not self._backend.is_outage(error):
                self._run_one_by_one(batch)
                return
            self._fail(batch, error)
        self._report.settled(batch, commit_latency_s=latency_s, finished=True)

    def _run_one_by_one(self, batch: list[Entry]) -> None:
        """Give every operation its own transaction, so that only the one that broke the batch fails."""
        last = batch[-1]
        for entry in batch:
            latency_s: float | None = None
            try:
                latency_s = self._transact([entry])
            except Exception as error:  # noqa: BLE001 - as in _run_batch
                self._backend.rollback()
                self._fail([entry], error)
            self._report.settled([entry], commit_latency_s=latency_s, finished=entry is last)

    def _transact(self, batch: list[Entry]) -> float | None:
        """Execute and commit those of the batch that still have time; return how long it took in seconds.

        Each turn of the loop ends it, or sees the deadline of at least one more operation pass, or has waited for
        somebody else's transaction to end.
        """
        entries = batch
        while entries := self._handover.take_live(entries, now := time.monotonic()):
            write = any(entry.operation.writes for entry in entries)
            wait_s = min(entry.deadline for entry in entries) - now
            try:
                if not self._backend.begin(write=write, wait_s=wait_s):
                    continue
                self._execute(entries)
                self._backend.flush()
            except TransactionLost:
                self._backend.rollback()
                continue
            if self._handover.may_commit(entries, time.monotonic()):
                self._backend.commit()
                latency_s = time.monotonic() - now
                # From here on nothing may raise: what is committed must not be taken for undone.
                _say(self._note_success)
                return latency_s
            self._backend.rollback()
        return None

    def _execute(self, entries: list[Entry]) -> None:
        execute = self._backend.execute
        self._backend.prepare([entry.operation for entry in entries])
        for entry in entries:
            try:
                entry.value = execute(entry.operation)
            except LiveError as error:
                # The traceback would keep the frames of this thread alive with the answer.
                entry.error = error.with_traceback(None)

    def _fail(self, entries: list[Entry], error: Exception) -> None:
        """Answer all with the failure of the store; what the undone transaction refused counts for nothing."""
        for entry in entries:
            entry.value = None
            entry.error = outage_error(entry.operation, "the store refused or is away")
        _say(self._note_failure, entries, error)

    def _note_failure(self, entries: list[Entry], error: Exception) -> None:
        if not self._backend.is_outage(error):
            operation = type(entries[0].operation).__name__
            _log.error("store.operation_failed", operation=operation, exc_info=without_detail(error))
        elif not self._out:
            # Once, not with every batch: they go on failing as fast as they come.
            self._out = True
            _log.error("store.outage", error=reason_of(error))

    def _note_success(self) -> None:
        if self._out:
            self._out = False
            _log.info("store.recovered")


def _say(log: Callable[..., None], *args: object) -> None:
    """Log something; a log that cannot be written, on a full disk for one, must not change what is answered."""
    try:
        log(*args)
    except Exception:  # noqa: BLE001, S110 - whatever a host's logger raises, and there is nowhere to say it
        pass

"""Owns the port every store fills, and what became of an operation.

It must not know any database. Every write, and every read that must be exact relative to the writes, is an
`Operation`; a store executes them one after another in the order of `submit` and answers after the commit. Other
reads are a `Query`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import attrs
import trio

from livechat.error import LiveError
from livechat.protocol.value import value
from livechat.store.operations import Operation
from livechat.store.queries import Query
from livechat.telemetry.histogram import Histogram

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@value
class Outcome(Generic[T_co]):
    """What became of an operation: a value, or the error that refused it."""

    value: T_co | None = None
    error: LiveError | None = None
    late: bool = False
    """True: the second answer of a write that was first answered with RETRY; it is stored after all."""

    def unwrap(self) -> T_co:
        """Return the value.

        Raises:
            LiveError: the error, if that is the outcome.
        """
        if self.error is not None:
            raise self.error
        assert self.value is not None
        return self.value


Done = Callable[[Outcome[T]], None]
"""Called in the Trio thread, in commit order; it must not block, and may submit."""


@attrs.frozen
class StoreStatistics:
    """Counters since the store was opened, and what is in it now."""

    operations: int
    """Operations answered, refused ones and the store's own upkeep included."""
    batches: int
    """Transactions committed; `operations / batches` is how well commits are shared."""
    failures: int
    """Operations that the store itself failed (`NotPersisted`, `BackendUnavailable`)."""
    late: int
    """Writes that were stored after having been answered with RETRY."""
    callback_failures: int
    """`done` functions that raised; each is logged."""
    commit_latency_last_s: float
    """From BEGIN to the end of COMMIT, of the newest transaction."""
    commit_latency_max_s: float
    queue_depth: int
    """Operations that wait for a transaction."""
    commit_latency: Histogram = attrs.field(factory=Histogram, eq=False, repr=False)
    """Of all transactions, as `commit_latency_last_s`."""


class Store(Protocol):
    """The port: whatever executes operations durably and in order."""

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        """Queue an operation; `done` gets its outcome after the commit. Never blocks.

        `done` belongs to the trace of whoever submits (`livechat.telemetry.trace`). It is called exactly once, at
        the latest at the store's deadline (5 s by default) and at the earliest before this returns, though never
        while another `done` runs. Only after `NotPersisted` with the action RETRY is it called once more, with the
        value and `late=True`, if the commit in question proves good.

        Raises:
            Overloaded: too many operations wait.
            ShuttingDown: the store is being closed.
        """

    async def fetch(self, query: Query[T]) -> T:
        """Answer a query from what is committed, without waiting for operations or delaying them.

        Raises:
            LiveError: the query was refused.
            BackendUnavailable: the store is away, or did not answer within its deadline.
            ShuttingDown: the store is being closed.

        Cancellation:
            Stops the waiting at once.
        """

    async def give_way(self, most_s: float) -> None:
        """Let go of the processor while operations are being executed, for so many seconds at most.

        For tasks that keep the Trio thread busy for long: a writer in a thread of its own needs the interpreter's
        lock for each step of a transaction, and gets it from a busy thread only now and then.

        Cancellation: at once; it is a checkpoint in any case.
        """

    def statistics(self) -> StoreStatistics:
        """Return the counters."""


async def perform(store: Store, operation: Operation[T]) -> T:
    """Submit an operation and wait for its outcome.

    A late outcome is dropped: who must fan out what proves committed in the end uses `submit`.

    Raises:
        LiveError: the operation was refused, or the store failed.

    Cancellation:
        Stops only the waiting; the operation takes place or not.
    """
    answered = trio.Event()
    outcomes: list[Outcome[T]] = []

    def done(outcome: Outcome[T]) -> None:
        outcomes.append(outcome)
        answered.set()

    store.submit(operation, done)
    await answered.wait()
    return outcomes[0].unwrap()

"""Owns the hand-over of operations between the Trio thread and the writer thread.

It must not execute anything. One small lock decides the only race that matters: whether an operation whose
deadline has passed is withdrawn, or its commit has begun and its outcome is in doubt.

    state       set by     from         meaning
    WAITING     (initial)               may still be withdrawn
    COMMITTING  writer     WAITING      its COMMIT runs or has run
    WITHDRAWN   Trio side  WAITING      answered: surely not stored
    DOUBTFUL    Trio side  COMMITTING   answered: stored or not, nobody knows yet
    SETTLED     Trio side  any          the writer has reported it; nothing more comes
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import attrs

from livechat.error import BackendUnavailable, LiveError, NotPersisted
from livechat.store.base import Outcome
from livechat.store.operations import Operation

if TYPE_CHECKING:
    from livechat.telemetry.spans import SpanContext


class EntryState(enum.Enum):
    """Where an operation stands; the table is in the module's docstring."""

    WAITING = enum.auto()
    COMMITTING = enum.auto()
    WITHDRAWN = enum.auto()
    DOUBTFUL = enum.auto()
    SETTLED = enum.auto()


@attrs.define(slots=True, eq=False)
class Entry:
    """A submitted operation on its way through the store."""

    operation: Operation[Any]
    done: Callable[[Outcome[Any]], None]
    deadline: float
    """Monotonic seconds."""
    state: EntryState = EntryState.WAITING
    """Changed only under the lock of the `Handover`, until the writer has reported the entry."""
    value: object = None
    """Set by the writer thread; read in the Trio thread after the writer's report."""
    error: LiveError | None = None
    """As `value`."""
    cause: SpanContext | None = None
    """The span of the request that submitted it; None where there are no spans."""


class Handover:
    """Decides under one lock who may still change the fate of an operation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def take_live(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Return those that may still be executed; mark the others as not stored. Writer thread."""
        live = []
        with self._lock:
            for entry in entries:
                if entry.state is EntryState.WAITING and entry.deadline > now:
                    entry.value = entry.error = None
                    live.append(entry)
                else:
                    entry.error = withdrawn_error(entry.operation)
        return live

    def may_commit(self, entries: Iterable[Entry], now: float) -> bool:
        """Begin the commit, unless a write among the executed ones is past its deadline. Writer thread.

        From a True on, none of the entries can be withdrawn any more.
        """
        with self._lock:
            for entry in entries:
                expired = entry.state is EntryState.WITHDRAWN or entry.deadline <= now
                if expired and entry.operation.writes:
                    return False
            for entry in entries:
                if entry.state is EntryState.WAITING:
                    entry.state = EntryState.COMMITTING
        return True

    def give_up(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Take back those past their deadline, and return them; each must be answered. Trio thread."""
        given_up = []
        with self._lock:
            for entry in entries:
                if entry.deadline > now:
                    continue
                if entry.state is EntryState.WAITING:
                    entry.state = EntryState.WITHDRAWN
                elif entry.state is EntryState.COMMITTING:
                    entry.state = EntryState.DOUBTFUL
                else:
                    continue
                given_up.append(entry)
        return given_up


def withdrawn_error(operation: Operation[Any]) -> LiveError:
    """Return the answer for what was never executed, or rolled back, for want of time."""
    return outage_error(operation, "the store did not get to it in time")


def doubtful_error(operation: Operation[Any]) -> LiveError:
    """Return the answer for what is being committed right now."""
    reason = "the store did not confirm the commit in time"
    return NotPersisted(reason, action="RETRY") if operation.writes else BackendUnavailable(reason)


def outage_error(operation: Operation[Any], reason: str) -> LiveError:
    """Return the answer for what the store failed: surely not stored, or not read."""
    return NotPersisted(reason) if operation.writes else BackendUnavailable(reason)

"""Owns which job is to be started next, and how many there are. Pure.

It must not run anything, nor know what a job does. Jobs of one kind start in the order in which they came; a kind
that has no room, or that nobody has registered yet, lets the others pass.

    add ──► waiting, by kind ──► take ──► running ──► end
                  └─ remove
"""

from __future__ import annotations

from collections import Counter
from itertools import count

import attrs

from livechat.protocol.types import JobId, UserId


@attrs.frozen
class Ticket:
    """A job in the queue."""

    job_id: JobId
    kind: str
    user_id: UserId
    trace: str | None = None
    """The traceparent of the request that handed it in."""


class JobQueue:
    """The jobs of one server that wait or run.

    Args:
        concurrency: jobs that run at a time.
        queue_max: jobs that wait, as far as `room` cares.
        per_user: jobs of one user, as far as `room` cares.
    """

    def __init__(self, *, concurrency: int, queue_max: int, per_user: int) -> None:
        self._concurrency = concurrency
        self._queue_max = queue_max
        self._per_user = per_user
        self._limits: dict[str, int] = {}
        """How many of each kind may run; the others must wait."""
        self._waiting: dict[str, dict[JobId, tuple[int, Ticket]]] = {}
        """By kind, in the order in which they came, each with its number in that order."""
        self._running: dict[JobId, Ticket] = {}
        self._running_of: Counter[str] = Counter()
        self._of_user: Counter[UserId] = Counter()
        self._reserved = 0
        self._order = count()
        self.waiting = 0
        """How many wait."""

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._running)

    def allow(self, kind: str, limit: int | None) -> None:
        """Let jobs of a kind be started, at most so many at a time; None: as many as run in all."""
        self._limits[kind] = self._concurrency if limit is None else limit

    # --- room ---------------------------------------------------------------------------------------

    def problem(self, user_id: UserId) -> str | None:
        """Return why there is no room for another job; None if there is."""
        if self._of_user[user_id] >= self._per_user:
            return f"the user has {self._per_user} jobs that wait or run, the most allowed"
        if self.waiting + self._reserved >= self._queue_max:
            return f"{self._queue_max} jobs wait, the most allowed"
        return None

    def reserve(self, user_id: UserId) -> None:
        """Count a job that is being stored: it takes its room already."""
        self._reserved += 1
        self._of_user[user_id] += 1

    def release(self, user_id: UserId) -> None:
        """Count it no more: it is in the queue, or came to nothing."""
        self._reserved -= 1
        self._count_down(user_id)

    def _count_down(self, user_id: UserId) -> None:
        self._of_user[user_id] -= 1
        if not self._of_user[user_id]:
            del self._of_user[user_id]

    # --- the way of a job -----------------------------------------------------------------------------

    def add(self, ticket: Ticket) -> None:
        """Append a job, whether or not there is room; nothing happens if it is here already."""
        of_kind = self._waiting.setdefault(ticket.kind, {})
        if ticket.job_id in of_kind or ticket.job_id in self._running:
            return
        of_kind[ticket.job_id] = (next(self._order), ticket)
        self._of_user[ticket.user_id] += 1
        self.waiting += 1

    def take(self) -> Ticket | None:
        """Return the job that is to be started now, which counts as running; None if there is none."""
        if len(self._running) >= self._concurrency:
            return None
        heads = [
            next(iter(of_kind.values()))
            for kind, of_kind in self._waiting.items()
            if self._running_of[kind] < self._limits.get(kind, 0)
        ]
        if not heads:
            return None
        _, ticket = min(heads, key=lambda head: head[0])
        self._drop(ticket)
        self._running[ticket.job_id] = ticket
        self._running_of[ticket.kind] += 1
        return ticket

    def remove(self, job_id: JobId) -> bool:
        """Take a job out that waits; return whether it did."""
        for of_kind in self._waiting.values():
            if job_id in of_kind:
                _, ticket = of_kind[job_id]
                self._drop(ticket)
                self._count_down(ticket.user_id)
                return True
        return False

    def _drop(self, ticket: Ticket) -> None:
        of_kind = self._waiting[ticket.kind]
        del of_kind[ticket.job_id]
        if not of_kind:
            del self._waiting[ticket.kind]
        self.waiting -= 1

    def end(self, job_id: JobId) -> None:
        """Note that a job runs no more."""
        ticket = self._running.pop(job_id)
        self._running_of[ticket.kind] -= 1
        self._count_down(ticket.user_id)

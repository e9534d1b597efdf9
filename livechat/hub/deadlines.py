"""Owns what is due when: one heap for every timer of the server, so no connection needs a task for its own.

It must not read a clock or wait; the reaper passes `now` in (monotonic seconds) and sleeps until `next_due`.

Entries are never moved. Whoever's deadline recedes (a heartbeat came) leaves its entry where it is and, once
asked, answers with the new deadline: a busy connection thus costs the heap one operation per interval,
not one per frame. What was cancelled stays as an empty entry until it comes up, or until such entries are the
greater part of the heap: then all of them go at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

Due = Callable[[float], float | None]
"""Called once its deadline has come; returns the next deadline, or None when there is none any more."""

EMPTY_MIN: Final = 64
"""So many cancelled entries are not worth the walk through the heap."""


class Timer:
    """An entry of the heap, by which it can be cancelled."""

    __slots__ = ("due",)

    def __init__(self, due: Due) -> None:
        self.due: Due | None = due
        """None: it is not in the heap any more, or cancelled."""


class Deadlines:
    """A heap of `Due` calls.

    Args:
        on_earlier: called when a new entry became the first one, so that a sleeper can be woken.
    """

    __slots__ = ("_empty", "_entries", "_order", "on_earlier")

    def __init__(self, on_earlier: Callable[[], object] = lambda: None) -> None:
        self._entries: list[tuple[float, int, Timer]] = []
        self._empty = 0
        """How many of the entries were cancelled. The first one never was."""
        self._order = count()
        self.on_earlier = on_earlier

    def __len__(self) -> int:
        return len(self._entries) - self._empty

    @property
    def next_due(self) -> float | None:
        """The earliest deadline, or None."""
        return self._entries[0][0] if self._entries else None

    def schedule(self, deadline: float, due: Due) -> Timer:
        """Call `due(now)` at `deadline` or a little later."""
        first = self.next_due
        timer = Timer(due)
        heapq.heappush(self._entries, (deadline, next(self._order), timer))
        if first is None or deadline < first:
            self.on_earlier()
        return timer

    def cancel(self, timer: Timer) -> None:
        """Forget a call, and all that it would need; nothing happens if it was made or is being made."""
        if timer.due is None:
            return
        timer.due = None
        self._empty += 1
        if self._empty > EMPTY_MIN and self._empty * 2 > len(self._entries):
            self._entries = [entry for entry in self._entries if entry[2].due is not None]
            self._empty = 0
            heapq.heapify(self._entries)
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Drop cancelled entries that have come to be the first."""
        while self._entries and self._entries[0][2].due is None:
            heapq.heappop(self._entries)
            self._empty -= 1

    def run_due(self, now: float, most: int = 1000, *, on_failure: Callable[[Due], None] | None = None) -> int:
        """Call everything due at `now`, at most `most` calls; return how many were made.

        Args:
            on_failure: told, inside the `except`, of an entry that raised; the others go on. Without it the
                exception does too.
        """
        calls = 0
        while self._entries and self._entries[0][0] <= now and calls < most:
            timer = heapq.heappop(self._entries)[2]
            self._drop_empty()
            due, timer.due = timer.due, None
            assert due is not None
            calls += 1
            try:
                again = due(now)
            except Exception:
                if on_failure is None:
                    raise
                on_failure(due)
                continue
            if again is not None:
                timer.due = due
                # A deadline not in the future would make this loop spin on one entry.
                heapq.heappush(self._entries, (max(again, now + 1e-3), next(self._order), timer))
        return calls

"""Owns what is due when: one heap for every timer of the server, so no connection needs a task for its own.

It must not read a clock or wait; the reaper passes `now` in (monotonic seconds) and sleeps until `next_due`.

Entries are never moved. Whoever's deadline recedes (a heartbeat came) leaves its entry where it is and, once
asked, answers with the new deadline: a busy connection thus costs the heap one operation per interval,
not one per frame.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Due = Callable[[float], float | None]
"""Called once its deadline has come; returns the next deadline, or None when there is none any more."""


class Deadlines:
    """A heap of `Due` calls.

    Args:
        on_earlier: called when a new entry became the first one, so that a sleeper can be woken.
    """

    __slots__ = ("_entries", "_order", "on_earlier")

    def __init__(self, on_earlier: Callable[[], object] = lambda: None) -> None:
        self._entries: list[tuple[float, int, Due]] = []
        self._order = count()
        self.on_earlier = on_earlier

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_due(self) -> float | None:
        """The earliest deadline, or None."""
        return self._entries[0][0] if self._entries else None

    def schedule(self, deadline: float, due: Due) -> None:
        """Call `due(now)` at `deadline` or a little later."""
        first = self.next_due
        heapq.heappush(self._entries, (deadline, next(self._order), due))
        if first is None or deadline < first:
            self.on_earlier()

    def run_due(self, now: float, most: int = 1000, *, on_failure: Callable[[Due], None] | None = None) -> int:
        """Call everything due at `now`, at most `most` calls; return how many were made.

        Args:
            on_failure: told, inside the `except`, of an entry that raised; the others go on. Without it the
                exception does too.
        """
        calls = 0
        entries = self._entries
        while entries and entries[0][0] <= now and calls < most:
            _, _, due = heapq.heappop(entries)
            calls += 1
            try:
                again = due(now)
            except Exception:
                if on_failure is None:
                    raise
                on_failure(due)
                continue
            if again is not None:
                # A deadline not in the future would make this loop spin on one entry.
                heapq.heappush(entries, (max(again, now + 1e-3), next(self._order), due))
        return calls

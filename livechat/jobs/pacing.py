"""Owns how often a job's progress is told: the newest value, once in a while. Pure.

It must not know a clock: it takes `now`, in monotonic seconds.
"""

from __future__ import annotations

import math


class ProgressPace:
    """The progress of one job on its way to its owner.

    Args:
        interval_s: between two events that tell of nothing else.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._told_at = -math.inf
        self._pending: float | None = None

    def note(self, progress: float) -> None:
        """Take a value, in place of one that was not told yet."""
        self._pending = progress

    @property
    def due_at(self) -> float:
        """When to tell it; infinite if there is nothing to tell."""
        return math.inf if self._pending is None else self._told_at + self._interval_s

    def take(self, now: float) -> float | None:
        """Return the value to tell now, whether or not it is due; None: it is known."""
        progress, self._pending = self._pending, None
        if progress is not None:
            self._told_at = now
        return progress

"""Owns a distribution as Prometheus wants it: how many values lay at or below each bound. Pure.

It must not know what is measured, nor how it is written; observing is all the hot path does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

DURATION_BOUNDS_S: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Of requests and commits: from what an idle server needs up to its deadlines, seconds."""
PAUSE_BOUNDS_S: Final = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
"""Of what stops the whole process, seconds."""


class Histogram:
    """One distribution.

    Args:
        bounds: the upper bounds of the buckets, ascending; what lies above the last is counted as well.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = DURATION_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Values by bucket, not cumulated."""
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return the lowest bound that at least this share of the values lay at or below; 0 without values.

        Of values above the last bound nothing more is known: then it is infinite.
        """
        wanted = share * self.count
        return next((bound for bound, count in self.cumulated() if count >= wanted), 0.0) if wanted else 0.0

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Yield (bound, how many values were at or below it); the last bound is infinite."""
        yield from zip((*self.bounds, float("inf")), accumulate(self.counts), strict=True)

"""Owns the sums of what workers count. Pure.

It must not let a counter go back: a worker that is started anew counts from zero, and what those before it have
counted stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

GAUGES: Final = frozenset({"peers"})
"""What `Relay.statistics` has that goes up and down."""


class Tally:
    """The counters of one worker, over all its runs."""

    def __init__(self) -> None:
        self._before: Counter[str] = Counter()
        self._now: Mapping[str, int] = {}

    def update(self, counters: Mapping[str, int]) -> None:
        """Note what the worker that lives has counted since its start."""
        self._now = counters

    def restart(self) -> None:
        """Note that it has ended."""
        self._before.update({name: number for name, number in self._now.items() if name not in GAUGES})
        self._now = {}

    def total(self) -> Counter[str]:
        """Return the counters since the first start."""
        return sum_up((self._before, self._now))


def sum_up(tallies: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return the sums by name; those that are zero as well."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    return total

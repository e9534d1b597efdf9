"""Owns buckets of tokens by name, in bounded memory. Pure.

It must not know what a name stands for, or what a token buys.

A bucket is one number: the time at which it is full again (the generic cell rate algorithm, ITU-T I.371, Annex A).
One that is full need not be remembered at all, so memory holds only those who asked lately.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

SLACK_S: Final = 1e-6
"""What adding up times may be wrong by, and more: who waited exactly as told must get through."""
SWEPT: Final = 2
"""Names looked at for each that comes, so that the full ones go faster than others come."""


class Buckets:
    """A bucket for each name; full at first.

    Args:
        per_s: tokens that come back each second; 0: nothing is limited.
        burst: tokens in a full bucket.
        names_max: beyond it, the name that took a token longest ago is forgotten.
    """

    __slots__ = ("_burst_s", "_full_at", "_names_max", "_token_s")

    def __init__(self, per_s: float, burst: int, names_max: int) -> None:
        self._token_s = 1 / per_s if per_s else 0.0
        self._burst_s = burst * self._token_s
        self._names_max = names_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_ms(self, name: str, now: float) -> int | None:
        """Return after how many milliseconds (≥ 1) there will be a token; None: there is one.

        Args:
            now: monotonic seconds.
        """
        too_far_s = self._next(name, now) - now - self._burst_s
        if not self._token_s or too_far_s <= SLACK_S:
            return None
        return math.ceil((too_far_s - SLACK_S / 2) * 1000)

    def take(self, name: str, now: float) -> int | None:
        """Take a token if there is one; returns as `wait_ms`."""
        wait_ms = self.wait_ms(name, now)
        if wait_ms is None and self._token_s:
            self._full_at[name] = self._next(name, now)
            self._full_at.move_to_end(name)
            self._sweep(now)
        return wait_ms

    def give_back(self, name: str) -> None:
        """Take back that a token was taken."""
        if name in self._full_at:
            self._full_at[name] -= self._token_s

    def refill(self, name: str) -> None:
        """Fill a bucket."""
        self._full_at.pop(name, None)

    def _next(self, name: str, now: float) -> float:
        return max(self._full_at.get(name, now), now) + self._token_s

    def _sweep(self, now: float) -> None:
        for _ in range(SWEPT):
            eldest, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._names_max:
                return
            del self._full_at[eldest]

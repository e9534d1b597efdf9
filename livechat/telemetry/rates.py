"""Owns how busy the server was lately: what its counters grew by within the last minute. Pure.

It must not look at a clock; whoever takes the samples does.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs

from livechat.protocol.opcodes import Op
from livechat.telemetry.counters import Counters

SAMPLE_INTERVAL_S: Final = 5.0
WINDOW_S: Final = 60.0


@attrs.frozen
class Rates:
    """What happened per second, lately."""

    over_s: float
    """How long that is: a minute, less where the server is younger."""
    packets_in: float
    packets_out: float
    bytes_in: float
    bytes_out: float
    messages: float
    """MESSAGE_CREATEs answered."""
    errors: float
    """ERROR packets and HTTP problems."""
    http: float
    """HTTP responses."""


@attrs.frozen
class _Sample:
    at: float
    values: tuple[int, ...]
    """In the order of the fields of `Rates` that follow `over_s`."""


class RecentRates:
    """The last minute of one server's counters.

    Args:
        now: monotonic seconds at the start.
    """

    def __init__(self, counters: Counters, now: float) -> None:
        self._counters = counters
        self._samples: deque[_Sample] = deque([self._sample(now)])

    def sample(self, now: float) -> float:
        """Note how the counters stand; return when to do so again."""
        self._samples.append(self._sample(now))
        # The oldest one is the first from within the window, or the last before it.
        while len(self._samples) > 1 and self._samples[1].at <= now - WINDOW_S:
            self._samples.popleft()
        return now + SAMPLE_INTERVAL_S

    def rates(self, now: float) -> Rates:
        """Return what happened per second since the oldest sample."""
        oldest, newest = self._samples[0], self._sample(now)
        over_s = newest.at - oldest.at
        grown = zip(newest.values, oldest.values, strict=True)
        rates = [round((new - old) / over_s, 2) if over_s > 0 else 0.0 for new, old in grown]
        return Rates(round(over_s, 3), *rates)

    def _sample(self, now: float) -> _Sample:
        counters = self._counters
        messages = counters.commands.get(Op.MESSAGE_CREATE)
        values = (
            counters.packets_in,
            counters.packets_out,
            counters.bytes_in,
            counters.bytes_out,
            0 if messages is None else messages.count,
            sum(counters.errors.values()),
            sum(counters.http.values()),
        )
        return _Sample(now, values)

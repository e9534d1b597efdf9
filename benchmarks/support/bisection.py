"""Owns the search for the highest rate at which something still holds. Pure: it is told how each trial went."""

from __future__ import annotations

from typing import Final

FIRST_SHARE: Final = 0.95
"""The first trial is a little below the guess: more often than not it holds, and the search is narrow at once."""
STEP: Final = 1.10
"""How far to go up while nothing has failed. Down, while nothing has held, each step is twice the one before: the
guess was wrong, or the machine is not what it was."""
ATTEMPTS: Final = 2
"""A rate has failed when this many trials of it did: on a machine that does other things too, one failure may be
theirs. What held once was possible."""
EXCUSES_MAX: Final = 3
"""So many failures at one rate may be excused as disturbed; then they count like any other."""


class Bisection:
    """A search between a rate that held and one that did not.

    Args:
        guess: where the answer may be; a wrong one only costs trials.
        precision: how close the two rates must come, as a share.
        trials_max: ends the search in any case.
    """

    def __init__(self, guess: float, *, precision: float = 0.03, trials_max: int = 20) -> None:
        self.held: float | None = None
        """The highest rate that held so far."""
        self.failed: float | None = None
        """The lowest rate that failed so far."""
        self._rate = guess * FIRST_SHARE
        self._failures = self._excuses = 0
        self._step_down = STEP
        self._precision = precision
        self._trials_left = trials_max

    def next_rate(self) -> float | None:
        """Return the rate to try; None once the answer, `held`, is known."""
        return self._rate if self._trials_left > 0 and not self._is_narrow() else None

    def tell(self, *, held: bool, disturbed: bool = False) -> None:
        """Say how the trial at `next_rate` went; a failure that was disturbed from outside says nothing."""
        self._trials_left -= 1
        if disturbed and not held and self._excuses < EXCUSES_MAX:
            self._excuses += 1
            return
        if held:
            self.held = max(self._rate, self.held or 0.0)
        else:
            self._failures += 1
            if self._failures < ATTEMPTS:
                return
            self.failed = min(self._rate, self.failed or self._rate)
        self._failures = self._excuses = 0
        self._rate = self._between()

    def _between(self) -> float:
        if self.failed is None:
            return self._rate * STEP
        if self.held is None:
            self._step_down **= 2
            return self._rate / self._step_down
        return (self.held + self.failed) / 2

    def _is_narrow(self) -> bool:
        if self.held is None or self.failed is None:
            return False
        return self.failed <= self.held * (1 + self._precision)

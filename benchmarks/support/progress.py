"""Owns how far a benchmark is, on standard error: on a terminal a line that changes, else a line now and then.

It must not print results.
"""

from __future__ import annotations

import shutil
import sys
import time
from typing import Final

from benchmarks.support.scenario import Progress

LINE_INTERVAL_S: Final = 2.0
"""Between lines of progress where they cannot replace each other."""


class ProgressLine:
    """The line of one scenario."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._on_terminal = sys.stderr.isatty()
        self._doing = ""
        self._shown_at = 0.0

    def tell(self, progress: Progress) -> None:
        """Show it."""
        doing, done, total = progress
        self._show(doing, f"{doing} {done} of {total}")

    def tell_trial(self, system: str, legs_per_s: float, outcome: str) -> None:
        """Show how a trial went."""
        self._show("trial", f"{system} at {legs_per_s / 1000:.0f}k legs/s: {outcome}")

    def tell_text(self, text: str) -> None:
        """Show what is being done."""
        self._show(text.partition(":")[0], text)

    def _show(self, doing: str, what: str) -> None:
        text = f"{self._prefix}: {what}"
        if self._on_terminal:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:width].ljust(width)}", end="", file=sys.stderr, flush=True)
        elif doing != self._doing or time.monotonic() > self._shown_at + LINE_INTERVAL_S:
            print(text, file=sys.stderr, flush=True)
            self._doing, self._shown_at = doing, time.monotonic()

    def end(self) -> None:
        """Leave the line free for what comes next."""
        if self._on_terminal:
            blank = " " * (shutil.get_terminal_size().columns - 1)
            print(f"\r{blank}\r", end="", file=sys.stderr, flush=True)

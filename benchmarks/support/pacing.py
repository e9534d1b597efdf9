"""Owns when things are sent: on a fixed schedule, whether or not the server keeps up with it.

It must not slow down with the server: a benchmark that waits for answers before it goes on leaves out just
the bad moments ("coordinated omission").
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

SPIN_NS: Final = 300_000 if len(os.sched_getaffinity(0)) > 1 else 0
"""So long before its time the process is woken: to be woken takes an idle machine 0.2 to 0.5 ms. The rest is
spent on checkpoints, which receive in the meantime. Not on a lone CPU: the server needs it."""


class Metronome:
    """Waits for points in time more exactly than `trio.sleep_until`, which ends on a whole millisecond of epoll.

    The system's interval timer wakes the loop instead. A process has one such timer, so it may have one metronome.
    """

    def __init__(self, alarms: AsyncIterator[int]) -> None:
        self._alarms = alarms

    async def wait_until(self, due_ns: int) -> None:
        """Wait until `time.perf_counter_ns()` has reached `due_ns`; a checkpoint in any case."""
        while (left_ns := due_ns - time.perf_counter_ns()) > SPIN_NS:
            # Zero would turn the timer off.
            signal.setitimer(signal.ITIMER_REAL, (left_ns - SPIN_NS) / 1e9 + 1e-6)
            await anext(self._alarms)
        await trio.lowlevel.checkpoint()
        while time.perf_counter_ns() < due_ns:
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_metronome() -> AsyncGenerator[Metronome]:
    """Provide the process's metronome; it needs the main thread."""
    with trio.open_signal_receiver(signal.SIGALRM) as alarms:
        try:
            yield Metronome(alarms)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

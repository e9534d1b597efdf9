"""Owns the one task that acts on deadlines: zombies, parked sessions, silent media peers.

It must not know what is due; each entry of the heap does.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from livechat.hub.deadlines import Deadlines, Due

log = structlog.get_logger("livechat.reaper")

AT_ONCE: Final = 256
"""Entries handled before other tasks get their turn."""


async def run(deadlines: Deadlines) -> None:
    """Call what is due, for ever."""
    sleeper = trio.lowlevel.ParkingLot()
    deadlines.on_earlier = sleeper.unpark_all
    while True:
        if deadlines.run_due(trio.current_time(), AT_ONCE, on_failure=_log_failure) == AT_ONCE:
            await trio.lowlevel.checkpoint()
            continue
        due = deadlines.next_due
        with trio.move_on_at(trio.current_time() + 3600 if due is None else due):
            await sleeper.park()


def _log_failure(due: Due) -> None:
    log.exception("deadline failed", due=repr(due))

"""Owns how fast clients come in: what a newcomer costs is done by turns, a few in each round of the event loop.

It must not know what is done in a turn, nor refuse anybody: who has to wait is let in a little later.

    kernel's backlog ──► accepted ──► head read ──► turn ──► upgrade, token, READY
                  ▲                         ▲
                  │ a crowd waits for       │ over TLS a turn for each step of the handshake,
                  │ turns: none is accepted │ later one for each IDENTIFY or RESUME

To let one client in costs the processor most of a millisecond. A thousand that come at once would make everybody
who is in wait for a second; by turns nobody waits longer than a round takes, and the crowd is in as soon.
"""

from __future__ import annotations

import math
from typing import Final

import trio

WAITING_MAX: Final = 64
"""Clients that wait for a turn, before the rest stays in the kernel's backlog."""
BURST_S: Final = 1.0
"""After a pause so many seconds' worth may be accepted at once."""


class Entrance:
    """Gives turns, in the order in which they are asked for.

    Args:
        at_once: turns in each round of the event loop.
        accepts_per_s: how many may be let in, in the long run and at once; 0: any number.
    """

    def __init__(self, at_once: int, accepts_per_s: int = 0) -> None:
        self._places = trio.Semaphore(at_once)
        self._room = trio.lowlevel.ParkingLot()
        self._interval_s = 1 / accepts_per_s if accepts_per_s else 0.0
        self._full_at = -math.inf
        """When the whole burst may be accepted at once; `livechat.limits.buckets` says how that works."""

    @property
    def waiting(self) -> int:
        """Clients that wait for a turn."""
        return self._places.statistics().tasks_waiting

    async def turn(self) -> None:
        """Wait for a turn; what it costs must be done before the next await, or soon after."""
        # Who gets a free place goes on in the next round only, as does who is handed a place by whoever had it. So
        # no more than there are places begin in a round.
        await self._places.acquire()
        self._places.release()
        if self._room and self.waiting < WAITING_MAX:
            self._room.unpark_all()

    async def wait_open(self) -> None:
        """Wait until one more client may be accepted."""
        while self.waiting >= WAITING_MAX:
            await self._room.park()
        # Two listening sockets may both be let through here: one accept too many, and the next ones wait for it.
        if self._interval_s:
            await trio.sleep_until(self._full_at + self._interval_s - BURST_S)

    def accepted(self) -> None:
        """Count a client that was accepted."""
        if self._interval_s:
            self._full_at = max(self._full_at, trio.current_time()) + self._interval_s

"""Owns when to send a heartbeat, and when the server counts as gone. Pure: `now` comes in, deadlines go out.

It must not send or close anything. Only HEARTBEAT_ACK is a sign of life: other frames may have waited in a buffer.

    due         unanswered < limit    beat, and count it
    due         unanswered = limit    the connection is dead
"""

from __future__ import annotations

import math
from typing import Literal


class HeartbeatMonitor:
    """The heartbeats of one client, over all its connections.

    Args:
        missed_max: so many heartbeats without an answer, and the connection is dead when the next one is due.
    """

    __slots__ = ("_interval_s", "_missed_max", "_next_at", "_unanswered")

    def __init__(self, missed_max: int) -> None:
        self._missed_max = missed_max
        self._interval_s = math.inf
        self._next_at = math.inf
        self._unanswered = 0

    def start(self, now: float, interval_s: float) -> None:
        """Begin: HELLO has told the interval."""
        self._interval_s = interval_s
        self._next_at = now + interval_s
        self._unanswered = 0

    def stop(self) -> None:
        """End: there is no connection."""
        self._next_at = math.inf

    def acknowledged(self) -> None:
        """Note that HEARTBEAT_ACK came; it answers all that were sent before."""
        self._unanswered = 0

    @property
    def deadline(self) -> float:
        """When to call `due` next."""
        return self._next_at

    def due(self, now: float) -> Literal["nothing", "beat", "dead"]:
        """Tell what to do now; after `beat` a heartbeat counts as sent."""
        if now < self._next_at:
            return "nothing"
        if self._unanswered >= self._missed_max:
            return "dead"
        self._unanswered += 1
        self._next_at = now + self._interval_s
        return "beat"

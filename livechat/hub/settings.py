"""Owns the settings of the hubs; the configuration holds these."""

from __future__ import annotations

import attrs


@attrs.frozen
class FloorSettings:
    """How push-to-talk channels are kept going."""

    ping_timeout_ms: int = 6_000
    """Whoever has the floor and sends no FLOOR_PING for so long loses it."""
    duration_max_ms: int = 30_000
    """Nobody has the floor longer than that at a time, pings or not."""
    waiting_max: int = 32
    """So many wait for the floor of a channel at most; 0: nobody waits, who cannot have it is told so."""

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


@attrs.frozen
class ChunkSettings:
    """What live media over WebSocket (MEDIA_CHUNK) may take."""

    data_bytes: int = 262_144
    """Of one chunk; more gets ERROR 1005."""
    init_bytes: int = 65_536
    """Of an `init` chunk, which is kept for those who join later; more gets ERROR 1005."""
    kept_bytes: int = 67_108_864
    """Of all `init` chunks that are kept; past it, none is taken (9001) until streams have ended. At least
    `init_bytes`."""
    streams_per_user: int = 8
    """Live ones of one user in one channel; a further one gets ERROR 9001."""
    streams_max: int = 10_000
    """Live ones in all; a further one gets ERROR 9001."""
    silence_ms: int = 30_000
    """A stream of which nothing comes for so long is over; a later chunk begins a new one."""

    def doubts(self) -> list[str]:
        """Return what an operator should know of bounds of which one makes another pointless, a line each."""
        if self.kept_bytes >= self.init_bytes:
            return []
        return [f"chunks.kept_bytes: {self.kept_bytes} is less than chunks.init_bytes, {self.init_bytes}"]

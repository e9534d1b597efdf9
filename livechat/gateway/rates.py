"""Owns how many requests of a kind one connection may make. Pure: `now` comes in, a verdict goes out.

It must not answer or close anything; the connection does: ERROR 1006 with what `take` returns, and 4504 once
`is_abusive`.

A bucket holds `burst` tokens and gets `per_s` new ones a second. It is kept as one number, the time at which it is
full again if nothing more is taken (the generic cell rate algorithm, ITU-T I.371, Annex A): each token taken moves
that time on by 1 / per_s, and it may not come to lie further ahead than a whole burst takes to refill.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from functools import lru_cache
from typing import Final

import attrs

from livechat.protocol.opcodes import Op

REFUSALS_MAX: Final = 1000
REFUSALS_WINDOW_S: Final = 10.0
"""So many refusals within so many seconds are abuse (protocol, section 3)."""
SLACK_S: Final = 1e-6
"""What adding up times may be wrong by, and more: a client that waited exactly as told must get through."""


@attrs.frozen
class RateLimits:
    """How many requests each connection may make. Every number counts for one connection; HEARTBEAT is free."""

    messages_per_s: int = 50
    """MESSAGE_CREATE, in the long run; 0: any number."""
    messages_burst: int = 500
    """MESSAGE_CREATE, at once after a pause."""
    history_per_s: int = 50
    """HISTORY, in the long run; 0: any number."""
    history_burst: int = 500
    """HISTORY, at once after a pause."""
    sync_per_s: int = 50
    """SYNC, in the long run; 0: any number."""
    sync_burst: int = 500
    """SYNC, at once after a pause."""
    read_per_s: int = 50
    """READ, in the long run; 0: any number."""
    read_burst: int = 500
    """READ, at once after a pause."""
    chunks_per_s: int = 250
    """MEDIA_CHUNK, in the long run; 0: any number."""
    chunks_burst: int = 1000
    """MEDIA_CHUNK, at once after a pause."""
    chunk_bytes_per_s: int = 2_097_152
    """Data of MEDIA_CHUNKs in bytes, in the long run; 0: any number."""
    chunk_bytes_burst: int = 8_388_608
    """Data of MEDIA_CHUNKs in bytes, at once after a pause."""
    others_per_s: int = 200
    """All other requests together, in the long run; 0: any number."""
    others_burst: int = 2000
    """All other requests together, at once after a pause."""


_FREE: Final = -1
_OTHERS: Final = 0
_CHUNK_BYTES: Final = 6
_CLASSES: Final[dict[int, int]] = {
    Op.HEARTBEAT: _FREE,
    Op.MESSAGE_CREATE: 1,
    Op.HISTORY: 2,
    Op.SYNC: 3,
    Op.READ: 4,
    Op.MEDIA_CHUNK: 5,
}
"""Which bucket an op takes from; all that are not named take from `_OTHERS`."""

_Bucket = tuple[float, float]
"""(seconds that a token takes to come back, seconds that a burst of them does)."""


@lru_cache
def _buckets(limits: RateLimits) -> tuple[_Bucket | None, ...]:
    """Return the buckets by class; None: without a limit. All connections share them."""
    pairs = (
        (limits.others_per_s, limits.others_burst),
        (limits.messages_per_s, limits.messages_burst),
        (limits.history_per_s, limits.history_burst),
        (limits.sync_per_s, limits.sync_burst),
        (limits.read_per_s, limits.read_burst),
        (limits.chunks_per_s, limits.chunks_burst),
        (limits.chunk_bytes_per_s, limits.chunk_bytes_burst),
    )
    return tuple([(1 / per_s, burst / per_s) if per_s else None for per_s, burst in pairs])


class RateLimiter:
    """The buckets of one connection; full at first.

    Args:
        limits: as configured.
        now: when the connection was opened, in monotonic seconds.
    """

    __slots__ = ("_buckets", "_full_at", "_opened_at", "_refusals", "is_abusive")

    def __init__(self, limits: RateLimits, now: float) -> None:
        self.is_abusive = False
        """So much was refused in so short a time that the connection is to be closed (4504)."""
        self._buckets = _buckets(limits)
        self._opened_at = now
        self._full_at: dict[int, float] = {}
        """When each bucket is full again, by class; those never taken from are not in it."""
        self._refusals: deque[float] | None = None
        """When the newest refusals were; most connections never have one."""

    def take(self, op: int, now: float) -> int | None:
        """Take a token for a request.

        Args:
            op: the request's opcode, known or not.
            now: monotonic seconds.

        Returns:
            None: it may go ahead. Else it may not, and a token will be there after so many milliseconds (≥ 1).
        """
        kind = _CLASSES.get(op, _OTHERS)
        return None if kind == _FREE else self._take(kind, 1, now)

    def take_chunk(self, size: int, now: float) -> int | None:
        """Take tokens for a MEDIA_CHUNK with so many bytes of data; see `take`."""
        wait_ms = self.take(Op.MEDIA_CHUNK, now)
        return self._take(_CHUNK_BYTES, size, now) if wait_ms is None else wait_ms

    def _take(self, kind: int, tokens: int, now: float) -> int | None:
        bucket = self._buckets[kind]
        if bucket is None:
            return None
        token_s, burst_s = bucket
        full_at = self._full_at.get(kind, self._opened_at)
        full_at = (full_at if full_at > now else now) + token_s * tokens
        too_far_s = full_at - now - burst_s
        if too_far_s > SLACK_S:
            self._refused(now)
            # Half the slack is for what was added up wrongly until now, half for what will be at the next call.
            return math.ceil((too_far_s - SLACK_S / 2) * 1000)
        self._full_at[kind] = full_at
        return None

    def _refused(self, now: float) -> None:
        if self._refusals is None:
            self._refusals = deque(maxlen=REFUSALS_MAX)
        times = self._refusals
        times.append(now)
        if len(times) == REFUSALS_MAX and now - times[0] <= REFUSALS_WINDOW_S:
            self.is_abusive = True


class RateLimiters:
    """A `RateLimiter` for each name, in bounded memory.

    Args:
        names_max: beyond it, the name that asked longest ago is forgotten.
    """

    def __init__(self, limits: RateLimits, names_max: int) -> None:
        self._limits = limits
        self._names_max = names_max
        self._by_name: OrderedDict[str, RateLimiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def take(self, name: str, op: int, now: float) -> int | None:
        """Take a token for a request; see `RateLimiter.take`."""
        limiter = self._by_name.get(name)
        if limiter is None:
            limiter = self._by_name[name] = RateLimiter(self._limits, now)
            if len(self._by_name) > self._names_max:
                self._by_name.popitem(last=False)
        self._by_name.move_to_end(name)
        return limiter.take(op, now)

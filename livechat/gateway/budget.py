"""Owns how much all egress queues of a server may hold, and who goes first when that is too much.

It must not know connections or frames; a queue tells it how much it holds, whenever that changes. Each counts in
full what waits in it, though a frame for many is one object: what is counted is never less than what is used.

Past the limit, until a tenth of it is free:

    1. the queues with the most chunks lose those                       (counted as drops)
    2. the connections whose queues hold the most are closed (4001)     (counted in `closed`)
"""

from __future__ import annotations

from typing import Final, Protocol

import attrs

from livechat.telemetry.counters import Counters

RELIEVED_SHARE: Final = 0.9
"""Down to this share of the limit, so that the next frame does not look for the largest again."""
CROWDED_SHARE: Final = 0.25


@attrs.frozen
class EgressLimits:
    """When a client counts as a slow consumer, and how many chunks wait for it."""

    bytes_max: int = 1 << 20
    """Bytes that wait in one connection's queue, chunks aside."""
    frames_max: int = 4096
    """Frames that wait in one connection's queue, chunks aside."""
    chunk_bytes_max: int = 1 << 19
    """Bytes of chunks that wait beside them; past it the oldest is dropped."""
    chunk_frames_max: int = 256
    """Chunks that wait beside them; past it the oldest is dropped."""

    def are_passed(self, frames: int, size: int) -> bool:
        """Tell whether so much makes a slow consumer."""
        return frames > self.frames_max or size > self.bytes_max

    def are_neared(self, frames: int, size: int) -> bool:
        """Tell whether a share of the limits is used up that what can wait should leave to what can't."""
        return frames > int(self.frames_max * CROWDED_SHARE) or size > int(self.bytes_max * CROWDED_SHARE)


class Holder(Protocol):
    """A queue, as the budget sees it."""

    @property
    def held_bytes(self) -> int:
        """What it has told last that it holds."""
        ...

    @property
    def droppable_bytes(self) -> int:
        """Of that, what `drop_chunks` would free."""
        ...

    def drop_chunks(self) -> None:
        """Let go of all chunks that have not begun to leave."""
        ...

    def evict(self) -> None:
        """Close the connection as that of a slow consumer, and let go of what has not begun to leave."""
        ...


class Budget:
    """What all queues hold together.

    Args:
        limit_bytes: 0: no limit.
    """

    def __init__(self, limit_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.closed = 0
        """Connections closed to keep within the limit."""
        self._holders: set[Holder] = set()
        """Queues that hold something."""
        self._is_relieving = False

    @property
    def holders(self) -> int:
        """Queues that hold something."""
        return len(self._holders)

    def note(self, holder: Holder, before: int, now: int) -> None:
        """Note that a queue holds more or less than before; if it is too much for all, make room at once."""
        self.used_bytes += now - before
        if not now:
            self._holders.discard(holder)
        elif not before:
            self._holders.add(holder)
        # A queue that goes may cause packets to others, which come here again.
        if self.used_bytes > self.limit_bytes > 0 and now > before and not self._is_relieving:
            self._is_relieving = True
            try:
                self._relieve()
            finally:
                self._is_relieving = False

    def _relieve(self) -> None:
        goal = int(self.limit_bytes * RELIEVED_SHARE)
        with_chunks = [holder for holder in self._holders if holder.droppable_bytes]
        for holder in sorted(with_chunks, key=lambda each: -each.droppable_bytes):
            if self.used_bytes <= goal:
                return
            holder.drop_chunks()
        for holder in sorted(self._holders, key=lambda each: -each.held_bytes):
            if self.used_bytes <= goal:
                return
            self.closed += 1
            holder.evict()


@attrs.define(slots=True, eq=False)
class EgressPool:
    """What all egress queues of a server have in common."""

    limits: EgressLimits = attrs.field(factory=EgressLimits)
    counters: Counters = attrs.field(factory=Counters)
    """Where bytes and drops are counted."""
    budget: Budget = attrs.field(factory=Budget)

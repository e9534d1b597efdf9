"""Owns the packet index: its estimate from 16 bits of sequence number, and which were used already.

It must not know of keys, of packets, or of which of the two directions it serves.

Source: RFC 3711 sections 3.3.1 and 3.3.2, appendix A.

    index  =  rollover counter (32 bits) ‖ sequence number (16 bits)

    seen, bit d  =  index (highest - d) was committed, for 0 <= d < WINDOW_PACKETS
"""

from __future__ import annotations

from typing import Final

WINDOW_PACKETS: Final = 128
"""How far behind the highest index a packet may come. RFC 3711 section 3.3.2 asks for 64 at least;
libsrtp has 128."""

_SEEN_MASK: Final = (1 << WINDOW_PACKETS) - 1


class ReplayWindow:
    """The indexes of one stream, in one direction.

    Only `commit` changes anything: estimate and test freely, commit once the packet proved authentic.
    """

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        """The highest index committed; -1 before the first."""
        self._seen = 0

    def copy(self, shift: int = 0) -> ReplayWindow:
        """Return a window of the same indexes, each `shift` higher."""
        copied = ReplayWindow()
        copied.highest = self.highest + shift if self.highest >= 0 else -1
        copied._seen = self._seen
        return copied

    def estimate(self, sequence: int) -> int:
        """Return the index that a sequence number most probably stands for: the nearest to the highest.

        Before the first commit that is the sequence number itself, at a rollover count of 0.
        """
        highest = self.highest
        ahead = (sequence - highest) & 0xFFFF
        # Exactly half way round, RFC 3711 appendix A stays within the rollover count of the highest.
        if ahead > 0x8000 or (ahead == 0x8000 and highest & 0x8000):
            ahead -= 0x10000
        index = highest + ahead
        # Nothing was ever sent before index 0, so the number can only be a jump ahead; libsrtp
        # agrees, where the RFC's formula would wrap to 2^48.
        return index if index >= 0 else index + 0x10000

    def is_replay(self, index: int) -> bool:
        """Say whether an index was committed before, or is too old to tell."""
        behind = self.highest - index
        return behind >= 0 and (behind >= WINDOW_PACKETS or bool(self._seen >> behind & 1))

    def commit(self, index: int) -> bool:
        """Record an index that `is_replay` denied. Returns whether it is the highest by now."""
        ahead = index - self.highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _SEEN_MASK if ahead < WINDOW_PACKETS else 1
            self.highest = index
            return True
        self._seen |= 1 << -ahead
        return False

    def commit_next(self) -> None:
        """Do as `commit` does for the index right after the highest."""
        self._seen = (self._seen << 1 | 1) & _SEEN_MASK
        self.highest += 1

"""Owns what was sent lately, so that a packet lost on the way can be sent once more: the very same bytes.

It must not seal anything: to seal another packet at an index that was used is the two-time pad.

    publisher, in index & 127  ->  (in index, turn, start, end);   turn[start:end] went to its listeners

A *turn* is the list of what the relay made at one go. The last turns are kept as they are, which costs nothing
per packet; past the byte budget the oldest are emptied, and whoever still points at one finds nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from livechat.srtp.sealed import Sealed, packet_for

SENT_PACKETS: Final = 128
"""How many of a publisher's packets are remembered at most: as many as a replay window still takes."""

_ITEM_BYTES: Final = 250
"""What Python takes for an item of a turn beside its content: the objects around it and the slot."""

SentPacket = tuple[int, Sealed, int, int]
"""(in index, turn, start, end)."""
SentSlots = dict[int, SentPacket]
"""By the in index's low 7 bits."""

_SLOT_MASK: Final = SENT_PACKETS - 1


class SentTurns:
    """The packets of the last turns.

    Args:
        bytes_max: how much memory they may take, about; 0 keeps nothing.
    """

    __slots__ = ("_bytes_max", "_turns", "bytes", "keeps")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._turns: deque[tuple[Sealed, int]] = deque()
        self.bytes = 0
        """How much is kept, about."""
        self.keeps = bytes_max > 0
        """Whether there is any use in `remember`."""

    def end_turn(self, turn: Sealed) -> None:
        """Keep a turn whose packets are sent by now, and forget the oldest to make room for it."""
        if not self.keeps or not turn:
            return
        size = sum([len(data) for data, _ in turn]) + _ITEM_BYTES * len(turn)
        self._turns.append((turn, size))
        self.bytes += size
        while self.bytes > self._bytes_max:
            oldest, size = self._turns.popleft()
            oldest.clear()
            self.bytes -= size


def remember(slots: SentSlots, index: int, turn: Sealed, start: int) -> None:
    """Note where a publisher's packet is: in the turn from `start` to its end, for now."""
    slots[index & _SLOT_MASK] = index, turn, start, len(turn)


def is_remembered(slots: SentSlots, index: int) -> bool:
    """Tell at once whether it is worth while to look for a publisher's packet."""
    slot = slots.get(index & _SLOT_MASK)
    return slot is not None and slot[0] == index


def find_sent(slots: SentSlots, index: int, listener: int) -> bytes | None:
    """Return what a publisher's packet was for a listener, by its peer id; None if it is not remembered."""
    if not is_remembered(slots, index):
        return None
    _, turn, start, end = slots[index & _SLOT_MASK]
    return packet_for(listener, turn[start:end])

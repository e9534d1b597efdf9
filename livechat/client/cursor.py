"""Owns the order of one channel: what was handed over, what is held because an earlier event is missing.

It must not fetch what is missing (see `inbox`). Every seq is handed over at most once, in order.

    1 2 3 4 5 . . 8 9 . . 12            5 is `last`, 8 and 9 are held, 12 is `known`
              hole: (5, 8)
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Cursor(Generic[T]):
    """The place of a reader in one channel's sequence.

    Args:
        last: the last seq that needs not be handed over any more.
        held_max: events held at most; the newest are let go first, as they are the last to be needed.
    """

    __slots__ = ("_held", "_held_max", "known", "last")

    def __init__(self, last: int, *, held_max: int) -> None:
        self.last = last
        """The last seq that was handed over."""
        self.known = last
        """The highest seq that is known to exist."""
        self._held: dict[int, T] = {}
        self._held_max = held_max

    @property
    def held(self) -> int:
        """Events held."""
        return len(self._held)

    @property
    def has_hole(self) -> bool:
        """Whether something is missing."""
        return self.known > self.last

    def hole(self) -> tuple[int, int]:
        """Return (after, before): the next missing seqs lie strictly between. There must be a hole."""
        return self.last, min(self._held, default=self.known + 1)

    def expect(self, seq: int) -> None:
        """Note that `seq` exists."""
        self.known = max(self.known, seq)

    def offer(self, seq: int, event: T) -> list[T]:
        """Take an event, from wherever it comes; return what can be handed over now, in order."""
        self.expect(seq)
        if seq <= self.last or seq in self._held:
            return []
        if seq == self.last + 1:
            self.last = seq
            return [event, *self._take_held()]
        self._held[seq] = event
        if len(self._held) > self._held_max:
            del self._held[max(self._held)]
        return []

    def skip(self, before: int) -> list[T]:
        """Give up what is missing before `before`; return what can be handed over now, in order.

        Nothing may be held below `before`.
        """
        assert before <= min(self._held, default=before), "what is held is not missing"
        self.last = max(self.last, before - 1)
        self.known = max(self.known, self.last)
        return self._take_held()

    def _take_held(self) -> list[T]:
        ready: list[T] = []
        while (event := self._held.pop(self.last + 1, None)) is not None:
            self.last += 1
            ready.append(event)
        return ready

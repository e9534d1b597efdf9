"""Owns the number of unread messages of one channel, between what the server states now and then.

It must not know where messages come from. It counts as the server does: messages of others after the read
position. Sending moves the read position as well (`read`).

    stated    `base` messages are unread up to `stated_at`, which of them is not known
    counted   (seq, mentions me) of every unread message after that
"""

from __future__ import annotations

from collections import deque
from typing import Final

COUNTED_MAX: Final = 1000
"""Beyond it the oldest are only a number any more."""


class UnreadCount:
    """Unread messages and mentions of one user in one channel."""

    __slots__ = ("_base", "_base_mentions", "_counted", "_stated_at", "read_seq")

    def __init__(self) -> None:
        self.read_seq = 0
        """Everything up to here is read."""
        self._base = 0
        self._base_mentions = 0
        self._stated_at = 0
        self._counted: deque[tuple[int, bool]] = deque()

    @property
    def unread(self) -> int:
        """Messages by others after `read_seq`."""
        return self._base + len(self._counted)

    @property
    def mention_count(self) -> int:
        """Those of them that mention the user."""
        return self._base_mentions + sum(mentions_me for _, mentions_me in self._counted)

    def state(self, unread: int, read_seq: int, at: int, mention_count: int | None = None) -> None:
        """Take the server's word for everything up to seq `at`.

        Args:
            mention_count: None: the server did not say; then as many as were known, as far as they can be unread.
        """
        mentions = self.mention_count if mention_count is None else mention_count
        self.read_seq = read_seq
        self._base = unread
        self._base_mentions = min(mentions, unread)
        self._stated_at = at
        self._counted.clear()

    def heard(self, seq: int, *, mentions_me: bool) -> None:
        """Count a message by somebody else; what was stated before is not counted again."""
        if seq <= max(self._stated_at, self.read_seq):
            return
        self._counted.append((seq, mentions_me))
        if len(self._counted) > COUNTED_MAX:
            self._stated_at, mentions_me = self._counted.popleft()
            self._base += 1
            self._base_mentions += mentions_me

    def read(self, seq: int, stated_unread: int | None = None) -> None:
        """Move the read position forward.

        Args:
            stated_unread: the server's count; it tells how many of the stated ones are left.
        """
        if seq <= self.read_seq:
            return
        self.read_seq = seq
        while self._counted and self._counted[0][0] <= seq:
            self._counted.popleft()
        if seq >= self._stated_at:
            self._base = self._base_mentions = 0
        elif stated_unread is not None:
            self._base = max(0, min(self._base, stated_unread - len(self._counted)))
            self._base_mentions = min(self._base_mentions, self._base)

"""Owns which tokens count no more although they have not ended: by their id, or by user and time.

It must not close connections (see `livechat.handlers.revoke`). What is kept is bounded by the tokens' own ends: a
token that has ended needs no revocation.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

from livechat.protocol.types import UserId


class Revocations(Protocol):
    """The port. Every method answers at once: it is asked for every token, and by every request over HTTP."""

    def revoke_token(self, token_id: str, until_ms: int) -> None:
        """Let a token count no more.

        Args:
            token_id: its `jti`.
            until_ms: when it ends by itself, or later; milliseconds since 1970.
        """
        ...

    def revoke_user(self, user_id: UserId, before_ms: int, until_ms: int) -> None:
        """Let a user's tokens count no more that were issued by then; the latest such time holds.

        Args:
            before_ms: in the future, the user is kept out until then.
            until_ms: when the last of those tokens ends, or later.
        """
        ...

    def is_revoked(self, user_id: UserId, token_id: str | None, issued_at: int | None) -> bool:
        """Tell whether a token counts no more.

        Args:
            token_id: None: it has none.
            issued_at: milliseconds since 1970; 0: unknown, so long ago; None: it is proven anew each time, so now.
        """
        ...

    def kept_out_until(self, user_id: UserId) -> int | None:
        """Tell until when a user is kept out, whatever the token; None: not at all.

        Returns:
            The `before_ms` of a revocation, if that is in the future; milliseconds since 1970.
        """
        ...


class MemoryRevocations:
    """Revocations of one process. They are forgotten when it ends: access tokens should be short-lived.

    Args:
        now_ms: milliseconds since 1970.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._tokens: dict[str, int] = {}
        """Until when each is to be remembered."""
        self._users: dict[UserId, tuple[int, int]] = {}
        """(issued by then, to be remembered until)."""
        self._ends: list[tuple[int, str, bool]] = []
        """A heap: (until when, of what, whether that is a user)."""

    def __len__(self) -> int:
        return len(self._tokens) + len(self._users)

    def revoke_token(self, token_id: str, until_ms: int) -> None:
        """See `Revocations`."""
        self._forget_ended()
        self._tokens[token_id] = max(until_ms, self._tokens.get(token_id, 0))
        heapq.heappush(self._ends, (until_ms, token_id, False))

    def revoke_user(self, user_id: UserId, before_ms: int, until_ms: int) -> None:
        """See `Revocations`."""
        self._forget_ended()
        known_before_ms, known_until_ms = self._users.get(user_id, (0, 0))
        self._users[user_id] = max(before_ms, known_before_ms), max(until_ms, known_until_ms)
        heapq.heappush(self._ends, (until_ms, user_id, True))

    def is_revoked(self, user_id: UserId, token_id: str | None, issued_at: int | None) -> bool:
        """See `Revocations`."""
        if token_id is not None and token_id in self._tokens:
            return True
        revoked = self._users.get(user_id)
        if revoked is None:
            return False
        return (self._now_ms() if issued_at is None else issued_at) <= revoked[0]

    def kept_out_until(self, user_id: UserId) -> int | None:
        """See `Revocations`."""
        before_ms, _ = self._users.get(user_id, (0, 0))
        return before_ms if before_ms > self._now_ms() else None

    def _forget_ended(self) -> None:
        now_ms = self._now_ms()
        while self._ends and self._ends[0][0] <= now_ms:
            _, name, is_user = heapq.heappop(self._ends)
            # A later end may have been given since; that one has an entry of its own.
            if is_user and self._users.get(UserId(name), (0, now_ms + 1))[1] <= now_ms:
                del self._users[UserId(name)]
            elif not is_user and self._tokens.get(name, now_ms + 1) <= now_ms:
                del self._tokens[name]

"""Owns how long a connection may go on without this or that. Pure: `now` comes in, deadlines go out.

It must not close anything; the connection does, with the code that the deadline carries.

    silence     1.5 heartbeat intervals without a complete frame, or a little more  4002
    identify    no IDENTIFY or RESUME in time; stands still while one is answered   4506
    warning     the token ends soon                                                none: the client is told
    token       the token that proved the identity has ended                       4502
"""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from livechat.protocol.opcodes import CloseCode

ZOMBIE_FACTOR: Final = 1.5
"""Heartbeat intervals without a complete frame after which a connection counts as dead."""
SILENCE_GRAINS: Final = 64
"""Silence is looked for only at whole multiples of this part of it, the same for all connections: to wake up for
each by itself costs as much as its heartbeats do."""


class Liveness:
    """The deadlines of one connection, in monotonic seconds.

    Args:
        now: when it was opened.
        heartbeat_interval_s: as told in HELLO.
        identify_timeout_s: how long it may stay without a session.
    """

    __slots__ = (
        "_asked_at",
        "_extended",
        "_grain_s",
        "_heard_at",
        "_identify_by",
        "_identify_timeout_s",
        "_silence_s",
        "_token_by",
        "_warn_by",
    )

    def __init__(self, now: float, *, heartbeat_interval_s: float, identify_timeout_s: float) -> None:
        self._silence_s = ZOMBIE_FACTOR * heartbeat_interval_s
        self._grain_s = self._silence_s / SILENCE_GRAINS
        self._identify_timeout_s = identify_timeout_s
        self._heard_at = now
        self._identify_by: float | None = now + identify_timeout_s
        self._asked_at: float | None = None
        self._extended = False
        self._token_by: float | None = None
        self._warn_by: float | None = None

    def heard(self, now: float) -> None:
        """Note that a complete frame came."""
        self._heard_at = now

    def asked(self, now: float) -> None:
        """Note that IDENTIFY came and is being answered: it came in time, however long the answer takes."""
        self._asked_at = now

    def answered(self, now: float) -> None:
        """Note that IDENTIFY was answered; if it was refused the time goes on from where it stood still."""
        if self._asked_at is not None and self._identify_by is not None:
            self._identify_by += now - self._asked_at
        self._asked_at = None

    def extend(self, now: float) -> None:
        """Give the whole time again, once: RESUME came and the session was gone, so IDENTIFY is to follow."""
        if not self._extended and self._identify_by is not None:
            self._extended = True
            self._identify_by = now + self._identify_timeout_s

    def identified(self, token_by: float | None, warn_by: float | None = None) -> None:
        """Note that there is a session, or a new token for it.

        Args:
            token_by: when the token ends; None: never.
            warn_by: when the client is to be told of that.
        """
        self._identify_by = None
        self._token_by = token_by
        self._warn_by = warn_by

    def warned(self) -> None:
        """Note that the client was told that its token ends soon."""
        self._warn_by = None

    def deadline(self) -> tuple[float, CloseCode | None]:
        """Return the next deadline, and with what to close once it has passed; None: only warn."""
        silent_by = -(-(self._heard_at + self._silence_s) // self._grain_s) * self._grain_s
        candidates: list[tuple[float, CloseCode | None]] = [(silent_by, CloseCode.HEARTBEAT_TIMEOUT)]
        if self._identify_by is not None and self._asked_at is None:
            candidates.append((self._identify_by, CloseCode.IDENTIFY_TIMEOUT))
        if self._token_by is not None:
            candidates.append((self._token_by, CloseCode.TOKEN_EXPIRED))
        if self._warn_by is not None:
            candidates.append((self._warn_by, None))
        return min(candidates, key=itemgetter(0))

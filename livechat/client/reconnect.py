"""Owns whether, when and how to come back after a connection has ended. Pure: randomness comes in as a function.

It must not connect or sleep.

    how it ended                                    then
    handshake refused, retryable                    again, after the backoff
    handshake refused, 1001                         again at once with a fresh token, else stop
    handshake refused, any other                    stop with the refusal
    closed with 4502                                again at once with a fresh token, else stop
    closed with 4500-4999                           stop
    closed otherwise, cut, or not reached at all    again, after the backoff or when RECONNECT said so
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from livechat.client.error import CannotConnect, ClientError, SessionEnded
from livechat.client.settings import Backoff
from livechat.error import InvalidToken, LiveError
from livechat.protocol.opcodes import CloseCode


@attrs.frozen
class Ended:
    """How a connection ended, or the try to make one."""

    reason: str
    code: int | None = None
    """The close code, if there was a connection."""
    refusal: LiveError | None = None
    """What the server answered to IDENTIFY or RESUME."""

    @property
    def ends_session(self) -> bool:
        """Whether the server has given the session up."""
        return self.code is not None and 4500 <= self.code <= 4999

    @property
    def asks_for_token(self) -> bool:
        """Whether the token was what was wrong."""
        return self.code == CloseCode.TOKEN_EXPIRED or isinstance(self.refusal, InvalidToken)

    def error(self) -> ClientError | LiveError:
        """Return the exception to give up with."""
        if self.refusal is not None:
            return self.refusal
        if self.ends_session and self.code is not None:
            return SessionEnded(self.code, self.reason)
        return CannotConnect(self.reason)


@attrs.frozen
class Again:
    """Try once more."""

    delay_s: float
    fresh_token: bool = False


class Reconnection:
    """Counts the tries.

    Args:
        backoff: how long to wait.
        uniform: returns a random number from 0 to 1; the wait is that part of its ceiling ("full jitter"), so
            that a server that comes back is not met by all its clients in one instant.
        can_renew: whether a fresh token can be had.
    """

    def __init__(self, backoff: Backoff, uniform: Callable[[], float], *, can_renew: bool) -> None:
        self._backoff = backoff
        self._uniform = uniform
        self._can_renew = can_renew
        self._renewed = False
        self._tries = 0
        self._asked_for: float | None = None

    def succeeded(self) -> None:
        """Note that READY or RESUMED came."""
        self._tries = 0
        self._renewed = False
        self._asked_for = None

    def asked_for(self, at: float) -> None:
        """Note that RECONNECT came: the server wants us back no earlier than `at`."""
        self._asked_for = at

    def after(self, ended: Ended, now: float) -> Again:
        """Decide.

        Raises:
            LiveError: the handshake was refused for good.
            ClientError: the session was ended for good, or too many tries have failed.
        """
        if ended.asks_for_token:
            # Once: a fresh token that is refused as well will not get better by asking again.
            if not self._can_renew or self._renewed:
                raise ended.error()
            self._renewed = True
            return Again(0.0, fresh_token=True)
        if ended.ends_session or (ended.refusal is not None and not ended.refusal.retryable):
            raise ended.error()
        asked_for, self._asked_for = self._asked_for, None
        if asked_for is not None:
            # The server has spread its clients itself.
            return Again(max(0.0, asked_for - now))
        if self._tries == self._backoff.tries_max:
            raise CannotConnect(f"gave up after {self._tries} tries: {ended.reason}")
        ceiling_s = self._backoff.ceiling_s(self._tries)
        self._tries += 1
        return Again(ceiling_s * self._uniform())

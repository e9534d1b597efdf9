"""Owns which ends of a connection are treated how. Pure.

It must not close anything; the connection does.
"""

from __future__ import annotations

from typing import Final, Protocol

from livechat.protocol.opcodes import CloseCode

LOGGED_CLOSES: Final = (
    CloseCode.INTERNAL,
    CloseCode.SLOW_CONSUMER,
    CloseCode.AUTHENTICATION_FAILED,
    CloseCode.PROTOCOL_ABUSE,
)
"""Closes that an operator wants to hear of; the others are ordinary life."""
DROPPING_CLOSES: Final = (CloseCode.SLOW_CONSUMER, CloseCode.TAKEN_OVER)
"""Closes after which nobody reads what is queued."""
CLOSE_CODES: Final = frozenset(CloseCode)
OTHER_CODE: Final = 0
"""Of a client that closed with a number that is none of the protocol's."""


class Nobody:
    """Owns what a connection that is over has left; nothing comes of it any more. See `EgressOwner`."""

    def start_writer(self) -> None:
        """Do nothing."""

    def overflow(self) -> None:
        """Do nothing."""


NOBODY: Final = Nobody()


class Part(Protocol):
    """Part of a connection, that holds on to the connection."""

    def let_go(self) -> None:
        """Do so no longer; nothing is asked of it any more."""
        ...


def let_go(*parts: Part | None) -> None:
    """Have the parts of a connection that is over let it go."""
    for part in parts:
        if part is not None:
            part.let_go()

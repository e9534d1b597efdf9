"""Owns which ends of a connection are treated how. Pure.

It must not close anything; the connection does.
"""

from __future__ import annotations

from typing import Final

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

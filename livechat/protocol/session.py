"""Owns the state of one connection's conversation: which ops may come when.

It must not know what an op does. The transitions are one nested dict; a missing key is the error.

    state      HEARTBEAT  IDENTIFY   RESUME    others
    CONNECTED  CONNECTED  ACTIVE     ACTIVE    1000 not authenticated
    ACTIVE     ACTIVE     ACTIVE     1002      ACTIVE
    CLOSED     none: nothing is read after the close

IDENTIFY and RESUME move the state only once they succeed; refused, they leave it as it was.
HEARTBEAT is answered in every state, as in Discord's gateway.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from livechat.error import AlreadyIdentified, LiveError, NotAuthenticated, UnknownOpcode
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import REQUESTS


class State(Enum):
    """Where a conversation stands."""

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at each look into a table.

    CONNECTED = auto()
    """HELLO was sent; nobody is known yet."""
    ACTIVE = auto()
    """A session is attached."""
    CLOSED = auto()
    """A close frame went out or came in."""


TRANSITIONS: Final[dict[State, dict[int, State]]] = {
    State.CONNECTED: {
        Op.HEARTBEAT: State.CONNECTED,
        Op.IDENTIFY: State.ACTIVE,
        Op.RESUME: State.ACTIVE,
    },
    State.ACTIVE: {op: State.ACTIVE for op in REQUESTS if op != Op.RESUME},
    State.CLOSED: {},
}


def next_state(state: State, op: int) -> State:
    """Return the state that `op` leads to once it succeeds.

    Raises:
        UnknownOpcode: no client may send this op.
        NotAuthenticated: it needs a session and there is none.
        AlreadyIdentified: RESUME on a connection that has a session.
    """
    following = TRANSITIONS[state].get(op)
    if following is None:
        raise _refusal(state, op)
    return following


def _refusal(state: State, op: int) -> LiveError:
    if op not in REQUESTS:
        return UnknownOpcode(f"op: {op} is not an opcode that clients may send")
    if state is State.ACTIVE:
        return AlreadyIdentified("this connection has a session; RESUME belongs on a new one")
    return NotAuthenticated("IDENTIFY or RESUME first")

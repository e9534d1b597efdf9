"""Owns who is here: users, their sessions, and whether each session has a connection.

It must not send, wait or look at a clock; it knows nothing of channels beyond the ids a session joined.

A session's life, one line per state:

    LIVE    attached to a connection              -> PARKED (connection lost), ENDED (closed, kicked)
    PARKED  no connection, resumable until then   -> LIVE (resumed), ENDED (window over)
    ENDED   in no hub; the object is only history
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import Protocol

import attrs

from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, UserId


class SessionState(Enum):
    LIVE = auto()
    PARKED = auto()
    ENDED = auto()


class Outlet(Protocol):
    """What a session's events leave through: a connection's egress queue."""

    def send(self, packet: Outgoing) -> None:
        """Queue a packet; never waits, never raises."""
        ...


@attrs.define(slots=True, eq=False)
class Session:
    """A user's conversation with the server; it outlives the connection it runs on."""

    session_id: SessionId = attrs.field(repr=False)
    user_id: UserId
    created_at: float
    """Monotonic seconds."""
    expires_at: int | None = None
    """When its token ends, in milliseconds since 1970; None: never."""
    outlet: Outlet | None = None
    """The connection's egress; None while parked or ended."""
    state: SessionState = SessionState.LIVE
    parked_at: float | None = None
    joined: set[ChannelId] = attrs.field(factory=set, repr=False)
    """Channels of this session's own successful CHANNEL_JOINs."""


class UserHub:
    """Every session of this node, by id and by user."""

    __slots__ = ("_by_id", "_by_user", "arriving")

    def __init__(self) -> None:
        self.arriving: Counter[UserId] = Counter()
        """How many sessions of each user are being opened; nobody else is in it."""
        self._by_id: dict[SessionId, Session] = {}
        self._by_user: dict[UserId, dict[SessionId, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def get(self, session_id: SessionId) -> Session | None:
        """Return a living or parked session."""
        return self._by_id.get(session_id)

    def sessions_of(self, user_id: UserId) -> Collection[Session]:
        """Return the user's living and parked sessions."""
        return self._by_user.get(user_id, {}).values()

    def live_sessions_of(self, user_id: UserId) -> list[Session]:
        """Return the user's sessions that have a connection."""
        return [session for session in self.sessions_of(user_id) if session.outlet is not None]

    def is_connected(self, user_id: UserId) -> bool:
        """Tell whether any session of the user has a connection."""
        return any(session.outlet is not None for session in self.sessions_of(user_id))

    def is_arriving(self, user_id: UserId) -> bool:
        """Tell whether a session of the user is being opened."""
        return user_id in self.arriving

    def add(self, session: Session) -> None:
        """Take in a new session that has a connection."""
        assert session.session_id not in self._by_id
        assert session.state is SessionState.LIVE
        self._by_id[session.session_id] = session
        self._by_user.setdefault(session.user_id, {})[session.session_id] = session

    def park(self, session: Session, now: float) -> None:
        """Note that a session lost its connection and waits to be resumed."""
        assert session.state is SessionState.LIVE
        session.outlet = None
        session.state = SessionState.PARKED
        session.parked_at = now

    def end(self, session: Session) -> bool:
        """Forget a session; return whether it was its user's last one on this node."""
        assert session.state is not SessionState.ENDED
        session.outlet = None
        session.state = SessionState.ENDED
        del self._by_id[session.session_id]
        sessions = self._by_user[session.user_id]
        del sessions[session.session_id]
        if sessions:
            return False
        del self._by_user[session.user_id]
        return True

"""Owns presence: what others see of a user over all the user's sessions, and who has to be told of a change.

It must not send, wait or look at a clock; it knows sessions by their ids, and nothing of channels.

    a user is shown   while
    ONLINE            a connected session is ONLINE
    AWAY              none is, but one is AWAY
    OFFLINE           neither; but where a lost connection led to it, only after a grace

Changes gather until the shell takes them. Whoever has heard every take knows what was shown at the last one; a
session that got its snapshot since then may know something that came after it. So changes are numbered: a session
notes `version` with its snapshot, once, and every change can tell whether that session needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import Final

import attrs

from livechat.protocol.events import UserPresence
from livechat.protocol.types import PresenceStatus, SessionId, UserId

GRACE_S: Final = 5.0
"""How long a lost connection shows nothing (protocol, section 3)."""

_Shown = tuple[PresenceStatus, str | None]
_OFFLINE: Final[_Shown] = ("OFFLINE", None)


@attrs.frozen
class PresenceChange:
    """A user who is no longer shown as somebody may know the user."""

    presence: UserPresence
    """What is shown now."""
    _history: tuple[tuple[int, bool], ...] = attrs.field(repr=False)
    """(from which version on, whether it is what is shown now), newest first; the last one is of version 0."""

    def concerns(self, version: int) -> bool:
        """Tell whether a session needs this that knew all up to `version` and has heard of every take since."""
        for since, is_shown_now in self._history:
            if since <= version:
                return not is_shown_now
        raise AssertionError("versions count from 0")


@attrs.frozen
class Departure:
    """A user whose last connection is gone for good: nobody came back within the grace."""

    user_id: UserId
    lost_ms: int
    """When the last connection was lost; of an invisible user nobody may be shown it."""
    last_seen: int | None
    """What may be shown: when the user was last connected and not invisible; None: not in this visit."""


@attrs.define(slots=True, eq=False)
class _User:
    user_id: UserId
    sessions: dict[SessionId, _Shown] = attrs.field(factory=dict)
    """What each connected session chose, in the order of choosing."""
    shown: _Shown = _OFFLINE
    visible_ms: int | None = None
    """When the user was last connected and not invisible, if that is past."""
    lost_ms: int = 0
    history: list[tuple[int, _Shown]] = attrs.field(factory=list)
    """(from which version on, what was shown), as far as somebody may know it; empty if the last take told all."""

    def chosen(self) -> _Shown:
        """Return what the connected sessions want to be shown; of equals the newest choice wins."""
        away = _OFFLINE
        for choice in reversed(self.sessions.values()):
            if choice[0] == "ONLINE":
                return choice
            if choice[0] == "AWAY" and away == _OFFLINE:
                away = choice
        return away


class PresenceHub:
    """The presence of every user who is connected, or was a moment ago; everybody else is OFFLINE.

    Times are monotonic seconds (`now`, which never goes back) and milliseconds since 1970 (`now_ms`). The shell
    calls `take_changes` and `take_departed` at `next_due`, and within its coalescing window once `is_changed`.

    Args:
        grace_s: how long a user whose connection was lost is shown as before; 0: not at all.
    """

    __slots__ = (
        "_changed",
        "_departed",
        "_grace_s",
        "_held",
        "_leaving",
        "_user_of",
        "_users",
        "_version",
        "_version_read",
    )

    def __init__(self, grace_s: float = GRACE_S) -> None:
        assert grace_s >= 0
        self._grace_s = grace_s
        self._users: dict[UserId, _User] = {}
        self._user_of: dict[SessionId, _User] = {}
        # Deadlines, one a user. The grace is the same for all, so each new one is the last: they are in order.
        self._held: dict[UserId, float] = {}
        """Until when a user is shown as before without a session that would account for it."""
        self._leaving: dict[UserId, float] = {}
        """When a user without any connection has departed."""
        self._changed: list[_User] = []
        self._departed: list[Departure] = []
        self._version = 0
        self._version_read = 0
        """The newest version at which somebody may have looked."""

    def __len__(self) -> int:
        """How many users are remembered."""
        return len(self._users)

    def __contains__(self, user_id: object) -> bool:
        """Tell whether a user is connected, or has not departed yet, or is yet to be told of."""
        return user_id in self._users

    @property
    def version(self) -> int:
        """The number of the newest change; a session notes it with its snapshot (`shown`), and keeps it."""
        return self._version

    @property
    def is_changed(self) -> bool:
        """Whether somebody was shown differently since the last take."""
        return bool(self._changed)

    @property
    def next_due(self) -> float | None:
        """When the next grace ends; None: nobody is waited for."""
        first = [next(iter(deadlines.values())) for deadlines in (self._held, self._leaving) if deadlines]
        return min(first, default=None)

    # --- what happens ---------------------------------------------------------------------------------

    def connected(
        self,
        session_id: SessionId,
        user_id: UserId,
        status: PresenceStatus,
        text: str | None,
        now: float,
        now_ms: int,
    ) -> None:
        """Note that a session got a connection, and what it wants to be shown.

        A session has one connection at a time: the loss of the one before is noted first.
        """
        self._expire(now)
        user = self._users.get(user_id)
        if user is None:
            user = self._users[user_id] = _User(user_id)
        self._user_of[session_id] = user
        self._leaving.pop(user_id, None)
        self._choose(user, session_id, (status, text), now_ms)

    def updated(
        self, session_id: SessionId, status: PresenceStatus, text: str | None, now: float, now_ms: int
    ) -> None:
        """Note that a session wants to be shown otherwise. One without a connection has no say."""
        self._expire(now)
        user = self._user_of.get(session_id)
        if user is not None:
            self._choose(user, session_id, (status, text), now_ms)

    def disconnected(self, session_id: SessionId, now: float, now_ms: int) -> None:
        """Note that a session lost its connection, whatever the reason. One without a connection is left alone."""
        user = self._user_of.pop(session_id, None)
        if user is None:
            return
        was_visible = user.chosen() != _OFFLINE
        del user.sessions[session_id]
        chosen = user.chosen()
        if chosen != _OFFLINE:
            self._show(user, chosen)
        elif was_visible:
            user.visible_ms = now_ms
            self._held[user.user_id] = now + self._grace_s
        if not user.sessions:
            user.lost_ms = now_ms
            self._leaving[user.user_id] = now + self._grace_s
        self._expire(now)

    def _choose(self, user: _User, session_id: SessionId, choice: _Shown, now_ms: int) -> None:
        was_visible = user.chosen() != _OFFLINE
        # Taken out first, so that it becomes the newest.
        user.sessions.pop(session_id, None)
        user.sessions[session_id] = choice
        chosen = user.chosen()
        if was_visible and chosen == _OFFLINE:
            user.visible_ms = now_ms
        # Somebody is there and has chosen: nothing is waited for any more, and OFFLINE shows at once.
        self._held.pop(user.user_id, None)
        self._show(user, chosen)

    def _show(self, user: _User, shown: _Shown) -> None:
        if shown == user.shown:
            return
        if not user.history:
            user.history.append((0, user.shown))
            self._changed.append(user)
        elif user.history[-1][0] > self._version_read:
            # Nobody looked while this was shown, so nobody knows it.
            user.history.pop()
        self._version += 1
        user.history.append((self._version, shown))
        user.shown = shown

    def _expire(self, now: float) -> None:
        for user_id in _pop_due(self._held, now):
            self._show(self._users[user_id], _OFFLINE)
        for user_id in _pop_due(self._leaving, now):
            user = self._users[user_id]
            self._departed.append(Departure(user_id, user.lost_ms, user.visible_ms))
            self._forget(user)

    def _forget(self, user: _User) -> None:
        """Forget a user who is neither here nor waited for, and of whom all is told."""
        if not user.sessions and not user.history and user.user_id not in self._leaving:
            self._users.pop(user.user_id, None)

    # --- what is shown --------------------------------------------------------------------------------

    def presence_of(self, user_id: UserId, now_ms: int) -> UserPresence:
        """Return what is shown of a user.

        `last_seen` is null where the hub does not know it: then the answer is what the store keeps from the last
        departure, for an invisible user as for one who is not here.

        A session that is to be shown it after its snapshot (it joined a channel) gets it right after a take: its
        version does not tell that it knows more of this user.
        """
        self._version_read = self._version
        user = self._users.get(user_id)
        return UserPresence(user_id, "OFFLINE", None) if user is None else _presence(user, now_ms)

    def shown(self, user_ids: Iterable[UserId], limit: int) -> dict[UserId, PresenceStatus]:
        """Return the status of users who are not OFFLINE, the first `limit` of them: a session's snapshot."""
        self._version_read = self._version
        return dict(islice(self._not_offline(user_ids), limit))

    def _not_offline(self, user_ids: Iterable[UserId]) -> Iterator[tuple[UserId, PresenceStatus]]:
        for user_id in user_ids:
            user = self._users.get(user_id)
            if user is not None and user.shown != _OFFLINE:
                yield user_id, user.shown[0]

    # --- what is to be told ---------------------------------------------------------------------------

    def take_changes(self, now: float, now_ms: int) -> list[PresenceChange]:
        """Return the users who are shown differently than somebody may know, and begin to gather anew.

        Who came and went since the last take is among them only if somebody looked in between.
        """
        self._expire(now)
        changed, self._changed = self._changed, []
        changes = []
        for user in changed:
            history = tuple([(since, shown == user.shown) for since, shown in reversed(user.history)])
            if not all(is_shown_now for _, is_shown_now in history):
                changes.append(PresenceChange(_presence(user, now_ms), history))
            user.history.clear()
            self._forget(user)
        return changes

    def take_departed(self, now: float) -> list[Departure]:
        """Return who has departed since the last call, each departure once."""
        self._expire(now)
        departed, self._departed = self._departed, []
        return departed


def _presence(user: _User, now_ms: int) -> UserPresence:
    status, text = user.shown
    last_seen = user.visible_ms if user.chosen() == _OFFLINE else now_ms
    return UserPresence(user.user_id, status, last_seen, text)


def _pop_due(deadlines: dict[UserId, float], now: float) -> list[UserId]:
    """Take out those whose deadline has come; the deadlines are in order."""
    due = list(takewhile(lambda user_id: deadlines[user_id] <= now, deadlines))
    for user_id in due:
        del deadlines[user_id]
    return due

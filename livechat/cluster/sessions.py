"""Owns what the nodes know of each other's sessions: the port, and the storage of a single node.

It must not hold what a session does; the node that serves it does. A record lives as long as its node says so from
time to time (`touch`): those of a node that died are over after their time to live, by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import attrs
import trio

from livechat.protocol.types import ChannelId, SessionId, UserId

NOWHERE: Final[Mapping[ChannelId, int]] = MappingProxyType({})
"""The positions of a session that has a connection: one for all."""


@attrs.frozen
class SessionRecord:
    """A session, as far as another node needs it to go on with it."""

    session_id: SessionId = attrs.field(repr=False)
    user_id: UserId
    node_id: str
    """The node that serves it, or served it last."""
    is_admin: bool = False
    positions: Mapping[ChannelId, int] = NOWHERE
    """While parked: the last seq that it was told of each channel it is subscribed to."""
    unsubscribed: frozenset[ChannelId] = frozenset()
    """Channels of its user that it does not want to hear."""
    parked_at_ms: int | None = None
    """Milliseconds since 1970; None while it has a connection."""


class SessionStorage(Protocol):
    """The port. Every method may raise `BackendUnavailable`; callers set the deadlines."""

    async def create(self, record: SessionRecord) -> None:
        """Keep a new session, or a changed one."""

    async def get(self, session_id: SessionId) -> SessionRecord | None:
        """Return a session that is not over."""

    async def touch(self, session_ids: Iterable[SessionId]) -> None:
        """Give these sessions their whole time to live again; those that are over stay so."""

    async def take_over(self, session_id: SessionId, node_id: str) -> SessionRecord | None:
        """Make a node the one that serves a session, atomically; return it as it was before.

        None if it is over, or another node was faster.
        """

    async def delete(self, session_id: SessionId) -> None:
        """Forget a session; nothing happens if it is over."""

    async def of_user(self, user_id: UserId) -> list[SessionRecord]:
        """Return the user's sessions that are not over, on whatever node."""


class MemorySessionStorage:
    """The storage of a single node.

    Args:
        ttl_s: how long a session lives that is not touched.
        now: monotonic seconds.
    """

    def __init__(self, ttl_s: float, now: Callable[[], float] = trio.current_time) -> None:
        self._ttl_s = ttl_s
        self._now = now
        self._records: dict[SessionId, tuple[SessionRecord, float]] = {}
        self._by_user: dict[UserId, tuple[SessionId, ...]] = {}
        """Most users have one, and a set would be four times as large."""

    def __len__(self) -> int:
        return len(self._records)

    async def create(self, record: SessionRecord) -> None:
        """See `SessionStorage.create`."""
        await trio.lowlevel.checkpoint()
        if record.session_id not in self._records:
            self._by_user[record.user_id] = (*self._by_user.get(record.user_id, ()), record.session_id)
        self._records[record.session_id] = (record, self._now() + self._ttl_s)

    async def get(self, session_id: SessionId) -> SessionRecord | None:
        """See `SessionStorage.get`."""
        await trio.lowlevel.checkpoint()
        return self._living(session_id)

    async def touch(self, session_ids: Iterable[SessionId]) -> None:
        """See `SessionStorage.touch`."""
        await trio.lowlevel.checkpoint()
        until = self._now() + self._ttl_s
        for session_id in session_ids:
            record = self._living(session_id)
            if record is not None:
                self._records[session_id] = (record, until)

    async def take_over(self, session_id: SessionId, node_id: str) -> SessionRecord | None:
        """See `SessionStorage.take_over`."""
        await trio.lowlevel.checkpoint()
        record = self._living(session_id)
        if record is not None:
            self._records[session_id] = (attrs.evolve(record, node_id=node_id), self._now() + self._ttl_s)
        return record

    async def delete(self, session_id: SessionId) -> None:
        """See `SessionStorage.delete`."""
        await trio.lowlevel.checkpoint()
        self._forget(session_id)

    async def of_user(self, user_id: UserId) -> list[SessionRecord]:
        """See `SessionStorage.of_user`."""
        await trio.lowlevel.checkpoint()
        found = [self._living(session_id) for session_id in sorted(self._by_user.get(user_id, ()))]
        return [record for record in found if record is not None]

    def _living(self, session_id: SessionId) -> SessionRecord | None:
        entry = self._records.get(session_id)
        if entry is None:
            return None
        record, until = entry
        if until > self._now():
            return record
        self._forget(session_id)
        return None

    def _forget(self, session_id: SessionId) -> None:
        entry = self._records.pop(session_id, None)
        if entry is None:
            return
        user_id = entry[0].user_id
        others = tuple(each for each in self._by_user.pop(user_id) if each != session_id)
        if others:
            self._by_user[user_id] = others

"""A session storage that fails or hangs while a test says so, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from livechat.cluster.sessions import MemorySessionStorage, SessionRecord
from livechat.error import BackendUnavailable
from livechat.protocol.types import SessionId, UserId


class FaultySessionStorage:
    """In front of a `MemorySessionStorage`."""

    def __init__(self, ttl_s: float = 1e9) -> None:
        self.inner = MemorySessionStorage(ttl_s)
        self.fault: Exception | None = None
        """Raised by every call."""
        self._released: trio.Event | None = None
        self.calls: list[tuple[str, float]] = []
        """(method, when), failed ones too."""

    @property
    def hangs(self) -> bool:
        """Whether no call returns; those that hang go on once it is false again."""
        return self._released is not None

    @hangs.setter
    def hangs(self, hangs: bool) -> None:
        if self._released is not None:
            self._released.set()
        self._released = trio.Event() if hangs else None

    async def _pass(self, method: str) -> None:
        self.calls.append((method, trio.current_time()))
        if self._released is not None:
            await self._released.wait()
        if self.fault is not None:
            await trio.lowlevel.checkpoint()
            raise self.fault

    async def create(self, record: SessionRecord) -> None:
        await self._pass("create")
        await self.inner.create(record)

    async def get(self, session_id: SessionId) -> SessionRecord | None:
        await self._pass("get")
        return await self.inner.get(session_id)

    async def touch(self, session_ids: Iterable[SessionId]) -> None:
        await self._pass("touch")
        await self.inner.touch(session_ids)

    async def take_over(self, session_id: SessionId, node_id: str) -> SessionRecord | None:
        await self._pass("take_over")
        return await self.inner.take_over(session_id, node_id)

    async def delete(self, session_id: SessionId) -> None:
        await self._pass("delete")
        await self.inner.delete(session_id)

    async def of_user(self, user_id: UserId) -> list[SessionRecord]:
        await self._pass("of_user")
        return await self.inner.of_user(user_id)


def unavailable() -> BackendUnavailable:
    """What a storage raises that is away."""
    return BackendUnavailable("session storage: away")

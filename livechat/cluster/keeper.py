"""Owns keeping the session storage informed of this node's sessions, without anybody waiting for it.

It must not decide anything. Whoever changes a session says so (`note`), and the task here writes what has become
of it; what can't be written is tried again. All sessions are touched as often as clients send heartbeats.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from livechat.cluster.sessions import NOWHERE, SessionRecord, SessionStorage
from livechat.hub.users import Session, SessionState, UserHub
from livechat.protocol.types import SessionId

log = structlog.get_logger("livechat.sessions")

STORAGE_TIMEOUT_S: Final = 5.0
"""How long one call of the storage may take."""
RETRY_S: Final = 1.0


class SessionKeeper:
    """Writes this node's sessions to the storage.

    Args:
        touch_interval_s: how often living sessions are given their time to live again.
    """

    def __init__(self, storage: SessionStorage, users: UserHub, node_id: str, *, touch_interval_s: float) -> None:
        self._storage = storage
        self._users = users
        self._node_id = node_id
        self._touch_interval_s = touch_interval_s
        self._changed: dict[SessionId, Session] = {}
        self._wake = trio.lowlevel.ParkingLot()

    def note(self, session: Session) -> None:
        """Have the storage learn how a session stands by now. Never waits."""
        self._changed[session.session_id] = session
        self._wake.unpark_all()

    async def run(self) -> None:
        """Write, for ever."""
        touch_at = trio.current_time() + self._touch_interval_s
        while True:
            if not self._changed:
                with trio.move_on_at(touch_at):
                    await self._wake.park()
            await self._write_changed()
            if trio.current_time() >= touch_at:
                touch_at = trio.current_time() + self._touch_interval_s
                await self._touch()

    async def _write_changed(self) -> None:
        while self._changed:
            session_id, session = next(iter(self._changed.items()))
            del self._changed[session_id]
            try:
                with trio.fail_after(STORAGE_TIMEOUT_S):
                    if session.state is SessionState.ENDED:
                        await self._storage.delete(session_id)
                    else:
                        await self._storage.create(self._record(session))
            except Exception as error:  # noqa: BLE001 - a storage that fails must not end the server
                log.warning("session storage failed", error=str(error) or type(error).__name__)
                self._changed.setdefault(session_id, session)
                await trio.sleep(RETRY_S)

    async def _touch(self) -> None:
        try:
            with trio.fail_after(STORAGE_TIMEOUT_S):
                await self._storage.touch([session.session_id for session in self._users])
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("session storage failed", error=str(error) or type(error).__name__)

    def _record(self, session: Session) -> SessionRecord:
        is_parked = session.state is SessionState.PARKED
        positions = {channel_id: spans[0].after for channel_id, spans in session.spans.items() if spans}
        return SessionRecord(
            session_id=session.session_id,
            user_id=session.user_id,
            node_id=self._node_id,
            is_admin=session.is_admin,
            positions=positions or NOWHERE,
            unsubscribed=session.unsubscribed,
            parked_at_ms=session.parked_at_ms if is_parked else None,
        )

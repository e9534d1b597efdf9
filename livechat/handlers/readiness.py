"""Owns whether this server could do what it is for right now: a probe really goes through store and backplane.

It must not decide what becomes of a server that could not; whoever asks does.

    store       a row is written, read and removed in one transaction of the writer, and committed
    backplane   a notice is published, and must come back
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import sqlalchemy as sa
import structlog
import trio

from livechat.cluster.backplane import Backplane, ProbeNotice
from livechat.store.base import Store, perform
from livechat.store.schema import WRITER
from livechat.store.side import Tables, Transact

log = structlog.get_logger("livechat.readiness")

PROBE_TIMEOUT_S: Final = 2.0
"""By when each part must have answered: below what orchestrators grant a probe, and far above a slow commit."""
FRESH_S: Final = 1.0
"""How long a verdict counts for all who ask: an endpoint that all may call must not be a way to load the store."""
OK: Final = "ok"
LATE: Final = "no answer in time"
FAILED: Final = "failed"

_KEY: Final[sa.BindParameter[str]] = sa.bindparam("key")
_WRITE: Final = sa.insert(WRITER).values(writer_id=_KEY, batch=sa.bindparam("number"))
_READ: Final = sa.select(WRITER.c.batch).where(WRITER.c.writer_id == _KEY)
_REMOVE: Final = sa.delete(WRITER).where(WRITER.c.writer_id == _KEY)


@attrs.frozen
class Verdict:
    """What a probe found."""

    store: str
    """`ok`, or in a few words what was wrong."""
    backplane: str
    """Likewise."""

    @property
    def store_works(self) -> bool:
        """Whether the store answered as it must."""
        return self.store == OK

    @property
    def is_ready(self) -> bool:
        """Whether every part answered as it must."""
        return self.store_works and self.backplane == OK


class Readiness:
    """The probe of one server. However many ask, one probe runs at a time, and at most one a second."""

    def __init__(self, node_id: str, store: Store, backplane: Backplane) -> None:
        self._node_id = node_id
        self._store = store
        self._backplane = backplane
        self._number = 0
        self._arrived = trio.Event()
        self._running: trio.Event | None = None
        self._verdict = Verdict(OK, OK)
        self._fresh_until = float("-inf")

    async def verdict(self) -> Verdict:
        """Return how things stand, at most a second ago.

        Cancellation:
            Stops the probe; somebody else who waits begins another.
        """
        while trio.current_time() >= self._fresh_until:
            if self._running is not None:
                await self._running.wait()
                continue
            self._running = trio.Event()
            try:
                await self._probe()
            finally:
                self._running.set()
                self._running = None
        return self._verdict

    def heard(self, notice: ProbeNotice) -> None:
        """Note that a probe came back; called for those of all nodes."""
        if notice.node_id == self._node_id and notice.number == self._number:
            self._arrived.set()

    async def _probe(self) -> None:
        self._number += 1
        found = dict.fromkeys(("store", "backplane"), FAILED)

        async def ask(part: str, question: Callable[[], Awaitable[None]]) -> None:
            try:
                with trio.fail_after(PROBE_TIMEOUT_S):
                    await question()
                found[part] = OK
            except trio.TooSlowError:
                found[part] = LATE
            except Exception as error:  # noqa: BLE001 - whatever a backend raises, the answer is that it failed
                log.warning("probe failed", part=part, error=type(error).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "store", self._ask_store)
            nursery.start_soon(ask, "backplane", self._ask_backplane)
        before, self._verdict = self._verdict, Verdict(**found)
        self._fresh_until = trio.current_time() + FRESH_S
        if before.is_ready != self._verdict.is_ready:
            say = log.info if self._verdict.is_ready else log.warning
            say("ready again" if self._verdict.is_ready else "not ready", **found)

    async def _ask_store(self) -> None:
        # No writer has such an id, and no other node the same.
        key, number = f" probe {self._node_id}"[:64], self._number

        def work(tables: Tables) -> int:
            tables.execute(_REMOVE, {"key": key})
            tables.execute(_WRITE, {"key": key, "number": number})
            row = tables.execute(_READ, {"key": key}).first()
            tables.execute(_REMOVE, {"key": key})
            return -1 if row is None else int(row[0])

        read = await perform(self._store, Transact(work))
        if read != number:
            raise ValueError("the store did not give back what was written")

    async def _ask_backplane(self) -> None:
        self._arrived = trio.Event()
        self._backplane.publish(ProbeNotice(self._node_id, self._number))
        await self._arrived.wait()

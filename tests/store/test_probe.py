from __future__ import annotations

from livechat.cluster.backplane import MemoryBackplane, Notice, ProbeNotice
from livechat.handlers.readiness import Readiness
from livechat.store.base import Store, perform
from livechat.store.schema import WRITER
from livechat.store.side import Tables, Transact
from tests.support.store import OpenStore


async def is_ready(store: Store, node_id: str) -> bool:
    backplane = MemoryBackplane()
    readiness = Readiness(node_id, store, backplane)

    def deliver(notice: Notice) -> None:
        assert isinstance(notice, ProbeNotice)
        readiness.heard(notice)

    backplane.subscribe(deliver)
    return (await readiness.verdict()).is_ready


def left(tables: Tables) -> int:
    return len(tables.execute(WRITER.select().where(WRITER.c.writer_id.like(" probe%"))).all())


async def test_the_readiness_probe_works_in_every_store_and_leaves_nothing_behind(open_store: OpenStore) -> None:
    async with open_store() as store:
        for node_id in ("node_a", "n" * 64, "node_a"):
            assert await is_ready(store, node_id)
        assert await perform(store, Transact(left, writes=False)) == 0

"""The probe itself, with backends that do what a test says; the clock jumps."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypeVar

import attrs
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from trio.testing import MockClock

from livechat.cluster.backplane import MemoryBackplane, Notice, ProbeNotice
from livechat.error import BackendUnavailable
from livechat.handlers.readiness import FAILED, FRESH_S, LATE, OK, Readiness, Verdict
from livechat.store.base import Done, Store, StoreStatistics
from livechat.store.memory import open_memory_store
from livechat.store.operations import Operation
from livechat.store.queries import Query

T = TypeVar("T")
READY = Verdict(OK, OK)


class Backplane(MemoryBackplane):
    """One that can be mute, broken or full of what others say."""

    def __init__(self) -> None:
        super().__init__()
        self.is_mute = False
        self.is_broken = False
        self.probes = 0

    def publish(self, notice: Notice) -> None:
        self.probes += 1
        if self.is_broken:
            raise OSError("a connection was lost")
        if not self.is_mute:
            super().publish(notice)


class Door:
    """A store that can be mute or broken."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.is_mute = False
        self.is_broken = False

    def submit(self, operation: Operation[T], done: Done[T]) -> None:
        if self.is_broken:
            raise BackendUnavailable("away")
        if not self.is_mute:
            self._inner.submit(operation, done)

    async def fetch(self, query: Query[T]) -> T:
        return await self._inner.fetch(query)

    async def give_way(self, most_s: float) -> None:
        await self._inner.give_way(most_s)

    def statistics(self) -> StoreStatistics:
        return self._inner.statistics()


@attrs.define
class Stage:
    readiness: Readiness
    store: Door
    backplane: Backplane


@asynccontextmanager
async def stage() -> AsyncGenerator[Stage]:
    async with open_memory_store() as inner:
        store, backplane = Door(inner), Backplane()
        readiness = Readiness("node_a", store, backplane)

        def deliver(notice: Notice) -> None:
            assert isinstance(notice, ProbeNotice)
            readiness.heard(notice)

        backplane.subscribe(deliver)
        yield Stage(readiness, store, backplane)


async def test_with_both_parts_at_work_it_is_ready(autojump_clock: MockClock) -> None:
    async with stage() as on:
        assert await on.readiness.verdict() == READY
        assert READY.is_ready


@pytest.mark.parametrize(
    ("part", "way", "expected"),
    [
        ("store", "is_mute", Verdict(LATE, OK)),
        ("store", "is_broken", Verdict(FAILED, OK)),
        ("backplane", "is_mute", Verdict(OK, LATE)),
        ("backplane", "is_broken", Verdict(OK, FAILED)),
    ],
)
async def test_the_part_that_does_not_answer_is_named_and_it_recovers(
    autojump_clock: MockClock, part: str, way: str, expected: Verdict
) -> None:
    async with stage() as on:
        assert await on.readiness.verdict() == READY
        setattr(getattr(on, part), way, True)
        await trio.sleep(FRESH_S)
        with capture_logs() as lines:
            assert await on.readiness.verdict() == expected
            await trio.sleep(FRESH_S)
            assert await on.readiness.verdict() == expected
        assert not expected.is_ready
        # Said once, not with every probe.
        assert [line["event"] for line in lines].count("not ready") == 1
        setattr(getattr(on, part), way, False)
        await trio.sleep(FRESH_S)
        with capture_logs() as lines:
            assert await on.readiness.verdict() == READY
        assert [line["event"] for line in lines] == ["ready again"]


async def test_a_verdict_counts_for_a_second_and_many_share_one_probe(autojump_clock: MockClock) -> None:
    async with stage() as on:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(on.readiness.verdict)
        await on.readiness.verdict()
        assert on.backplane.probes == 1
        await trio.sleep(FRESH_S)
        await on.readiness.verdict()
        assert on.backplane.probes == 2


async def test_who_waits_for_a_probe_that_is_cancelled_begins_another(autojump_clock: MockClock) -> None:
    async with stage() as on:
        on.backplane.is_mute = True
        verdicts = []

        async def ask() -> None:
            verdicts.append(await on.readiness.verdict())

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.5):
                async with trio.open_nursery() as hasty:
                    hasty.start_soon(on.readiness.verdict)
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(ask)
            on.backplane.is_mute = False
        assert verdicts == [READY]
        assert on.backplane.probes == 2


@pytest.mark.parametrize("notice", [ProbeNotice("node_b", 1), ProbeNotice("node_a", 0)])
async def test_probes_of_other_nodes_and_late_ones_prove_nothing(
    autojump_clock: MockClock, notice: ProbeNotice
) -> None:
    async with stage() as on, trio.open_nursery() as nursery:
        on.backplane.is_mute = True

        async def ask() -> None:
            assert await on.readiness.verdict() == Verdict(OK, LATE)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        on.readiness.heard(notice)

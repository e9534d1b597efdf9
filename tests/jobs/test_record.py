"""The steps of a job are stored one after another and told once, whatever the store answers."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from livechat.error import JobNotFound, NotPersisted, Overloaded
from livechat.jobs.record import Record
from livechat.protocol.types import JobId
from livechat.store.job_rows import Moved, Step
from livechat.store.memory import open_memory_store
from tests.support.jobs import NOW_MS, RUNNER, in_order, submit
from tests.support.moody_store import Moody


async def record_of(store: Moody, told: list[Moved]) -> Record:
    await submit(store.inner)
    record = Record(store, JobId("job_a"), RUNNER, told.append)  # type: ignore[arg-type] # it only submits
    await record.add(Step("start", NOW_MS))
    return record


def spoken(told: list[Moved]) -> list[object]:
    events = [moved.event for moved in told if moved.event is not None]
    assert in_order(events, 2)
    return [event.partial for event in events if event.partial is not None]


async def test_what_the_store_refuses_for_now_is_tried_again(autojump_clock: MockClock) -> None:
    told: list[Moved] = []
    async with open_memory_store() as inner:
        store = Moody(inner)
        record = await record_of(store, told)
        for _ in range(5):
            store.refuses(NotPersisted("away"))
        store.raises(Overloaded("full"))
        await record.add(Step("report", NOW_MS, partial="a"))
        await record.add(Step("report", NOW_MS, partial="b"))
    assert spoken(told) == ["a", "b"]


@pytest.mark.parametrize("proves_good", [False, True])
async def test_a_step_in_doubt_is_taken_and_told_once(autojump_clock: MockClock, proves_good: bool) -> None:
    told: list[Moved] = []
    async with open_memory_store() as inner:
        store = Moody(inner)
        record = await record_of(store, told)
        store.doubts(proves_good=proves_good)
        moved = await record.add(Step("report", NOW_MS, partial="a"))
        assert moved.event is not None
        store.doubts(proves_good=proves_good)
        await record.add(Step("report", NOW_MS, partial="b"))
        await record.add(Step("succeed", NOW_MS, result="1"))
    assert spoken(told) == ["a", "b"]
    assert told[-1].job.state == "succeeded"


async def test_what_the_store_refuses_for_good_is_raised() -> None:
    async with open_memory_store() as inner:
        store = Moody(inner)
        record = await record_of(store, [])
        store.refuses(JobNotFound("gone"))
        with pytest.raises(JobNotFound):
            await record.add(Step("report", NOW_MS))


async def test_steps_of_several_tasks_wait_for_each_other(autojump_clock: MockClock) -> None:
    told: list[Moved] = []
    async with open_memory_store() as inner:
        store = Moody(inner)
        record = await record_of(store, told)
        store.doubts(proves_good=False)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(record.add, Step("report", NOW_MS, partial=str(number)))
    assert sorted(map(str, spoken(told))) == ["0", "1", "2", "3", "4"]

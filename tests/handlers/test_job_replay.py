"""What a session missed of jobs is told in order and once, whatever the store does meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from livechat.error import BackendUnavailable
from livechat.handlers import job_replay
from livechat.handlers.job_replay import JobReplay
from livechat.hub.users import Session
from livechat.protocol.events import ResumedJob
from livechat.protocol.outgoing import JobMark
from livechat.protocol.types import JobId, SessionId, UserId
from livechat.store.job_rows import Step
from livechat.store.memory import open_memory_store
from tests.support.jobs import NOW_MS, move, new_job, submit
from tests.support.moody_store import Moody
from tests.support.replay import FakeCaller

PARTS = 100


def seqs(reader: FakeCaller, name: str) -> list[int]:
    return [packet.payload.event_seq for packet in reader.sent if packet.payload.job_id == name]


def session_missing(**due: int) -> Session:
    session = Session(SessionId("sess_1"), UserId("ann"), created_at=0.0)
    session.jobs_due.update({JobId(name): seq for name, seq in due.items()})
    return session


async def talk(store: Moody, name: str, parts: int) -> None:
    await submit(store.inner, new_job(name))
    await move(store.inner, "start", name)
    for number in range(parts):
        await move(store.inner, Step("report", NOW_MS, partial=str(number)), name)


async def test_everything_that_is_due_is_told_page_by_page() -> None:
    async with open_memory_store() as inner:
        store, reader = Moody(inner), FakeCaller()
        await talk(store, "job_a", PARTS)
        await talk(store, "job_b", 0)
        session = session_missing(job_a=1, job_b=0, job_z=4)
        replay = JobReplay()
        node: Any = SimpleNamespace(store=store)
        await replay.finish(node, reader, session)
        assert session.jobs_due == {}
        assert seqs(reader, "job_a") == list(range(2, PARTS + 3))
        assert seqs(reader, "job_b") == [1, 2]
        assert all(isinstance(packet.mark, JobMark) for packet in reader.sent)
        assert replay.resumed() == {
            "job_a": ResumedJob(PARTS + 1, PARTS + 2, recovered=True),
            "job_b": ResumedJob(2, 2, recovered=True),
            "job_z": ResumedJob(0, 0, recovered=False),
        }


async def test_many_jobs_are_asked_for_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_replay, "JOBS_AT_ONCE", 2)
    async with open_memory_store() as inner:
        store, reader = Moody(inner), FakeCaller()
        names = [f"job_{number}" for number in range(5)]
        for name in names:
            await talk(store, name, 0)
        session = session_missing(**dict.fromkeys(names, 1))
        node: Any = SimpleNamespace(store=store)
        await JobReplay().chase(node, reader, session)
        assert session.jobs_due == {}
        assert [seqs(reader, name) for name in names] == [[2]] * 5


async def test_a_store_that_fails_leaves_due_what_was_not_told() -> None:
    async with open_memory_store() as inner:
        store, reader = Moody(inner), FakeCaller()
        await talk(store, "job_a", 1)
        session = session_missing(job_a=1)
        node: Any = SimpleNamespace(store=store)
        store.refuses(BackendUnavailable("away"))
        with pytest.raises(BackendUnavailable):
            await JobReplay().finish(node, reader, session)
        assert (session.jobs_due, reader.sent) == ({"job_a": 1}, [])


async def test_a_live_session_is_told_once_the_store_is_back(autojump_clock: MockClock) -> None:
    async with open_memory_store() as inner:
        store, reader = Moody(inner), FakeCaller()
        await talk(store, "job_a", 1)
        session = session_missing(job_a=1)
        node: Any = SimpleNamespace(store=store)
        for _ in range(3):
            store.refuses(BackendUnavailable("away"))
        await JobReplay().follow(node, reader, session)
        assert (session.jobs_due, seqs(reader, "job_a")) == ({}, [2, 3])


async def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    async with open_memory_store() as inner:
        store, reader = Moody(inner), FakeCaller()
        await talk(store, "job_a", 1)
        session = session_missing(job_a=1)
        node: Any = SimpleNamespace(store=store)
        answers = store.holds()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(JobReplay().finish, node, reader, session)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert len(answers) == 1
        for answer in answers:
            answer()
        assert (session.jobs_due, reader.sent) == ({"job_a": 1}, [])


def test_a_parked_session_notes_the_first_event_of_a_job_that_it_missed() -> None:
    session = session_missing()
    for seq in (5, 6, 3, 7):
        session.miss_job_event(JobMark(JobId("job_a"), seq))
    assert session.jobs_due == {"job_a": 2}

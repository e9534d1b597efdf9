"""Short ways to say what a test of jobs does: in the store, over HTTP, and what was pushed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import attrs
import httpx
import trio

from livechat.error import LiveError
from livechat.jobs.kinds import JobContext, JobUpdate, Partial, Progress, Result
from livechat.protocol.jobs import JobEvent, JobStep
from livechat.protocol.types import JobId, UserId
from livechat.store.base import Store, perform
from livechat.store.job_rows import Moved, NewJob, Step, Submitted
from livechat.store.jobs import move_job, submit_job
from tests.support.client import Client
from tests.support.server import DEADLINE_S

JOB_EVENT = 120
NOW_MS = 1_700_000_000_000
DAY_MS = 24 * 60 * 60 * 1000
RUNNER = "run_1"


# --- in the store -----------------------------------------------------------------------------------


def new_job(name: str = "job_a", user_id: str = "ann", **fields: Any) -> NewJob:
    plain = NewJob(
        job_id=JobId(name),
        user_id=UserId(user_id),
        kind="speak",
        input='{"text":"한"}',
        session_id=None,
        is_admin=False,
        safe_to_rerun=False,
        created_at=NOW_MS,
    )
    return attrs.evolve(plain, **fields)


async def submit(
    store: Store,
    job: NewJob | None = None,
    *,
    runner_id: str = RUNNER,
    key: str | None = None,
    digest: str = "d",
    problem: LiveError | None = None,
) -> Submitted:
    work = submit_job(job or new_job(), runner_id, key=key, digest=digest, problem=problem)
    return await perform(store, work)


async def move(store: Store, step: JobStep | Step, name: str = "job_a", **who: Any) -> Moved:
    taken = step if isinstance(step, Step) else Step(step, NOW_MS + 1)
    return await perform(store, move_job(JobId(name), taken, **who))


# --- handlers ---------------------------------------------------------------------------------------


async def speak(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
    """Tell progress, text and bytes."""
    yield Progress(0.25)
    yield Partial("안녕", 0.5)
    yield Partial(b"\x00\xff", 0.75)
    yield Result({"said": job.input})


class Gate:
    """A handler that tells where it is and waits until a test lets it go on."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.go_on = trio.Event()
        self.closed = trio.Event()
        """Its `finally` block was run."""
        self.attempts: list[int] = []

    async def __call__(self, job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        self.attempts.append(job.attempt)
        try:
            yield Partial("began")
            self.began.set()
            await self.go_on.wait()
            yield Partial("went on")
            yield Result("done")
        finally:
            self.closed.set()


# --- over HTTP --------------------------------------------------------------------------------------


async def post(
    http: httpx.AsyncClient,
    kind: str = "speak",
    *,
    key: str | None = None,
    traceparent: str | None = None,
    **body: Any,
) -> str:
    """Hand in a job that must be taken; return its id."""
    given = {"Idempotency-Key": key, "traceparent": traceparent}
    headers = {name: value for name, value in given.items() if value is not None}
    response = await http.post("/jobs", json={"kind": kind, **body}, headers=headers)
    told = response.json()
    assert response.status_code == 202, told
    assert response.headers["location"] == told["status_url"] == f"/api/v1/jobs/{told['job_id']}"
    job_id: str = told["job_id"]
    return job_id


async def look(http: httpx.AsyncClient, job_id: str, **query: Any) -> dict[str, Any]:
    """Return a job that must be there."""
    response = await http.get(f"/jobs/{job_id}", params=query)
    told: dict[str, Any] = response.json()
    assert response.status_code == 200, told
    return told


async def until_over(http: httpx.AsyncClient, job_id: str) -> dict[str, Any]:
    """Ask until a job is over; return it."""
    with trio.fail_after(DEADLINE_S):
        while (job := await look(http, job_id))["state"] in ("queued", "running"):  # noqa: ASYNC110
            await trio.sleep(0.01)
    return job


# --- what was pushed --------------------------------------------------------------------------------


async def job_events(client: Client, job_id: str, until: str = "") -> list[dict[str, Any]]:
    """Return the events of a job, up to its end or to the first one in a state; nothing else may come."""
    told: list[dict[str, Any]] = []
    while not told or told[-1]["state"] not in (until or "succeeded", "succeeded", "failed", "cancelled"):
        event = await client.expect(JOB_EVENT)
        assert event["job_id"] == job_id, event
        told.append(event)
    return told


def in_order(events: list[dict[str, Any]] | list[JobEvent], first: int = 1) -> bool:
    """Tell whether events are numbered without holes and doubles."""
    seqs = [event["event_seq"] if isinstance(event, dict) else event.event_seq for event in events]
    return seqs == list(range(first, first + len(seqs)))

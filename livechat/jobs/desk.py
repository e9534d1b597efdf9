"""Owns what may be asked of jobs: handing one in, looking at it, cancelling it, having its file.

It must not run them (see `runner`). It is the `Jobs` of the node, through which the HTTP API asks, and all that
the server knows of jobs.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import trio

from livechat.cluster.backplane import Backplane
from livechat.error import JobNotFound, LiveError, Overloaded, PayloadTooLarge, ShuttingDown
from livechat.handlers.auth import ADMIN_SCOPE, Identity
from livechat.jobs.kinds import JobKind, JobKinds
from livechat.jobs.outputs import Outputs
from livechat.jobs.queue import Ticket
from livechat.jobs.runner import JobRunner
from livechat.jobs.settings import JobSettings
from livechat.protocol.jobs import OVER
from livechat.protocol.types import JobId, SessionId, UserId
from livechat.store.base import Outcome, Store, perform
from livechat.store.job_rows import (
    Job,
    JobOutput,
    JobPage,
    JobWithEvents,
    Moved,
    NewJob,
    Step,
    Submitted,
    channel_of,
    new_job_id,
)
from livechat.store.jobs import get_job, list_jobs, move_job, submit_job
from livechat.store.location import Location, PostgresLocation
from livechat.telemetry.counters import JobCounters
from livechat.telemetry.trace import traceparent
from livechat.tokens.issuer import wall_clock_ms


class JobDesk:
    """The jobs of one server, as others may ask for them.

    Args:
        store: where jobs are kept.
        backplane: tells of their events.
        settings: the bounds.
        folder: where the files go that jobs make.
        location: where the store is: other servers may use the same PostgreSQL.
        counters: where jobs are counted.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        backplane: Backplane,
        settings: JobSettings,
        folder: Path,
        location: Location,
        counters: JobCounters,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        is_shared = isinstance(location, PostgresLocation)
        self._store = store
        self._kinds = JobKinds()
        self._outputs = Outputs(folder, settings.output_bytes)
        self._runner = JobRunner(
            store,
            backplane,
            self._kinds,
            settings,
            self._outputs,
            is_shared=is_shared,
            counters=counters,
            now_ms=now_ms,
        )
        self._counters = counters
        self._settings = settings
        self._now_ms = now_ms

    # --- what the server asks for -----------------------------------------------------------------------

    async def start(self) -> None:
        """Take over what servers that are gone have left; see `JobRunner.start`."""
        await self._runner.start()

    async def run(self) -> None:
        """Run jobs, for ever; see `JobRunner.run`."""
        await self._runner.run()

    def close(self) -> None:
        """Take and start no more jobs; those that run go on."""
        self._runner.is_draining = True

    async def wait_idle(self) -> None:
        """Wait until no job runs."""
        await self._runner.wait_idle()

    def add_kind(self, kind: JobKind) -> None:
        """Take jobs of a kind from now on, and start those that wait for it."""
        self._kinds.add(kind)
        self._runner.allow(kind)

    # --- what users ask for -----------------------------------------------------------------------------

    async def submit(
        self,
        identity: Identity,
        kind: str,
        given: dict[str, Any],
        *,
        session_id: SessionId | None = None,
        key: str | None = None,
    ) -> Submitted:
        """Keep a job, and return once it is kept; see `livechat.handlers.node.Jobs`."""
        user_id = identity.user_id
        problem, safe_to_rerun = self._examine(identity, kind, given)
        if problem is not None and key is None:
            raise problem
        job = NewJob(
            job_id=new_job_id(),
            user_id=user_id,
            kind=kind,
            input=_serialize(given),
            session_id=session_id,
            is_admin=ADMIN_SCOPE in identity.scopes,
            safe_to_rerun=safe_to_rerun,
            created_at=self._now_ms(),
        )
        digest = _digest(kind, given, session_id)
        answered = trio.Event()
        outcomes: list[Outcome[Submitted]] = []

        def done(outcome: Outcome[Submitted]) -> None:
            if not outcomes and problem is None:
                self._runner.queue.release(user_id)
            outcomes.append(outcome)
            answered.set()
            # Also late: a commit that was in doubt and proves good.
            if outcome.value is not None and outcome.value.event is not None:
                self._counters.submitted[kind] += 1
                self._runner.publish(user_id, session_id, channel_of(given), outcome.value.event)
                self._runner.enqueue(Ticket(job.job_id, kind, user_id, traceparent()))

        if problem is None:
            self._runner.queue.reserve(user_id)
        try:
            self._store.submit(
                submit_job(job, self._runner.runner_id, key=key, digest=digest, problem=problem), done
            )
        except LiveError:
            if problem is None:
                self._runner.queue.release(user_id)
            raise
        await answered.wait()
        return outcomes[0].unwrap()

    def _examine(self, identity: Identity, kind: str, given: dict[str, Any]) -> tuple[LiveError | None, bool]:
        """Return what is against a job, and whether it is safe to run again."""
        try:
            known = self._kinds.get(kind)
            size = len(_serialize(given).encode())
            if size > self._settings.input_bytes:
                raise PayloadTooLarge(
                    f"input: expected at most {self._settings.input_bytes} bytes of JSON, got {size}"
                )
            known.check(given, identity)
            if self._runner.is_draining:
                raise ShuttingDown("this server is shutting down")
            crowd = self._runner.queue.problem(identity.user_id)
            if crowd is not None:
                raise Overloaded(f"jobs: {crowd}")
        except LiveError as refusal:
            return refusal.with_traceback(None), False
        return None, known.safe_to_rerun

    async def get(self, job_id: JobId, user_id: UserId | None, *, after: int, most: int) -> JobWithEvents:
        """Return a job and its events after one; see `livechat.handlers.node.Jobs`."""
        found = await perform(self._store, get_job(job_id, after, most))
        _check_owner(found.job, user_id)
        return found

    async def list(self, user_id: UserId, *, before: JobId | None, most: int) -> JobPage:
        """Return a user's jobs; see `livechat.handlers.node.Jobs`."""
        return await perform(self._store, list_jobs(user_id, before, most))

    async def cancel(self, job_id: JobId, user_id: UserId | None) -> Job:
        """Cancel a job; see `livechat.handlers.node.Jobs`."""
        answered = trio.Event()
        outcomes: list[Outcome[Moved]] = []

        def done(outcome: Outcome[Moved]) -> None:
            outcomes.append(outcome)
            answered.set()
            moved = outcome.value
            if moved is not None and moved.event is not None:
                # The runner, here or on another server, hears of it as the owner does, and ends the job's task.
                self._runner.tell(moved)

        self._store.submit(move_job(job_id, Step("cancel", self._now_ms()), user_id=user_id), done)
        await answered.wait()
        return outcomes[0].unwrap().job

    async def open_output(self, job_id: JobId, user_id: UserId | None) -> tuple[JobOutput, AsyncIterator[bytes]]:
        """Open the file that a job has made; see `livechat.handlers.node.Jobs`."""
        job = (await self.get(job_id, user_id, after=0, most=1)).job
        if job.output is None:
            raise JobNotFound("job_id: the job has made no file")
        return job.output, await self._outputs.read(job_id, job.output)

    def statistics(self) -> Mapping[str, float]:
        """Return the counters: jobs that wait and run, and those that have ended, by their state."""
        counters = self._counters
        ended = Counter[str](dict.fromkeys(OVER, 0))
        for (_, state), number in counters.finished.items():
            ended[state] += number
        return {"queued": counters.queued, "running": counters.running, **ended}


def _check_owner(job: Job, user_id: UserId | None) -> None:
    if user_id is not None and job.user_id != user_id:
        # The same words as for one that is not there: ids of other users' jobs are theirs.
        raise JobNotFound("job_id: no such job")


def _serialize(given: dict[str, Any]) -> str:
    return json.dumps(given, ensure_ascii=False, separators=(",", ":"))


def _digest(kind: str, given: dict[str, Any], session_id: SessionId | None) -> str:
    """Tell submitted bodies apart, whatever the order of their fields."""
    body = json.dumps([kind, given, session_id], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(body.encode()).hexdigest()

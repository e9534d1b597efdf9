"""Owns jobs in the store: the rules of what is written and read of them, as work for `Transact`.

It must not know who runs a job or hears of it. Each step of a job, its state and its event are written in one
transaction, and told of after the commit: whoever reads a job and its events sees all that was told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from livechat.error import IdempotencyKeyReused, InternalError, JobNotFound, LiveError, ShuttingDown
from livechat.protocol.jobs import FIRST_STATE, OVER, JobError, JobEvent, next_state
from livechat.protocol.types import JobId, UserId
from livechat.store import job_statements as sql
from livechat.store.job_rows import (
    PROGRESS_UNITS,
    Adopted,
    Job,
    JobEvents,
    JobOutput,
    JobPage,
    JobWithEvents,
    Moved,
    NewJob,
    Pruned,
    Step,
    Submitted,
)
from livechat.store.side import Tables, Transact

KEY_TTL_MS: Final = 24 * 60 * 60 * 1000
"""For how long an Idempotency-Key is unique: the 24 hours of the protocol."""
EVENTS_KEPT: Final = 2000
"""Of each job, the newest; a little more between two trims."""
TRIM_EVERY: Final = 64
"""Events between two trims."""
EVENTS_READ: Final = 32
BYTES_READ: Final = 131_072
"""What one read returns at most, though at least one event: well below what may wait for one client."""
LAST_ID: Final = "job_~"
"""Sorts after every job id."""


# --- handing in -----------------------------------------------------------------------------------


def submit_job(
    job: NewJob,
    runner_id: str,
    *,
    key: str | None,
    digest: str,
    problem: LiveError | None = None,
) -> Transact[Submitted]:
    """Keep a new job, once for each user and key within 24 hours.

    Args:
        job: what to keep.
        runner_id: the server that is to run it.
        key: the Idempotency-Key.
        digest: tells the submitted bodies apart; only looked at together with a key.
        problem: what is against it, to be said unless the key answers first.

    Raises:
        IdempotencyKeyReused: the key was used for another body.
        LiveError: `problem`.
    """

    def work(tables: Tables) -> Submitted:
        earlier = None if key is None else _earlier(tables, job, key, digest)
        if earlier is not None:
            return Submitted(earlier, None)
        if problem is not None:
            raise problem
        tables.execute(
            sql.INSERT_JOB,
            {
                "job": job.job_id,
                "user": job.user_id,
                "kind_": job.kind,
                "state_": FIRST_STATE,
                "input_": job.input,
                "session": job.session_id,
                "admin": job.is_admin,
                "safe": job.safe_to_rerun,
                "runner": runner_id,
                "now": job.created_at,
                "key": key,
                "digest": None if key is None else digest,
            },
        )
        event = JobEvent(job.job_id, job.kind, FIRST_STATE, 0.0, 1)
        _insert_event(tables, event)
        return Submitted(job.job_id, event)

    return Transact(work)


def _earlier(tables: Tables, job: NewJob, key: str, digest: str) -> JobId | None:
    """Return the job that the key stands for by now."""
    found = tables.execute(sql.FIND_KEY, {"user": job.user_id, "key": key}).first()
    if found is None:
        return None
    job_id, its_digest, created_at = found
    if created_at <= job.created_at - KEY_TTL_MS:
        tables.execute(sql.FREE_KEY, {"job": job_id})
        return None
    if its_digest != digest:
        raise IdempotencyKeyReused("idempotency-key: was used for another body within 24 hours")
    return JobId(job_id)


# --- steps ----------------------------------------------------------------------------------------


def move_job(
    job_id: JobId, step: Step, *, runner_id: str | None = None, user_id: UserId | None = None
) -> Transact[Moved]:
    """Take a step of a job, if its state allows it.

    Args:
        runner_id: only if that server is to run it; None: whichever is.
        user_id: only for its owner; None: for whoever it is.

    Raises:
        JobNotFound: no such job, or another user's.
    """

    def work(tables: Tables) -> Moved:
        found = tables.execute(sql.LOCK_JOB, {"job": job_id}).first()
        if found is None:
            raise JobNotFound("job_id: no such job")
        job = _job(found)
        if user_id is not None and job.user_id != user_id:
            raise JobNotFound("job_id: no such job")
        if runner_id is not None and job.runner_id != runner_id:
            return Moved(job, None)
        return _move(tables, job, step)

    return Transact(work)


def _move(tables: Tables, job: Job, step: Step) -> Moved:
    if step.after is not None and job.event_seq > step.after:
        # Its outcome was unknown, and it was taken; or the job was cancelled meanwhile.
        return Moved(job, _event_after(tables, job, step.after))
    state = next_state(job.state, step.name)
    if state is None:
        return Moved(job, None)
    is_start = step.name == "start"
    progress = job.progress if step.progress is None else round(step.progress * PROGRESS_UNITS) / PROGRESS_UNITS
    moved = attrs.evolve(
        job,
        state=state,
        progress=1.0 if state == "succeeded" else 0.0 if is_start else progress,
        event_seq=job.event_seq + 1,
        attempts=job.attempts + is_start,
        started_at=step.now_ms if is_start else job.started_at,
        finished_at=step.now_ms if state in OVER else None,
        result=step.result,
        error=step.error,
        output=step.output,
    )
    _update(tables, moved)
    event = _event(moved, moved.event_seq, state, moved.progress, step.partial)
    _insert_event(tables, event)
    if moved.event_seq % TRIM_EVERY == 0 and moved.event_seq > EVENTS_KEPT:
        tables.execute(sql.TRIM_EVENTS, {"job": job.job_id, "until": moved.event_seq - EVENTS_KEPT})
    return Moved(moved, event)


def _update(tables: Tables, job: Job) -> None:
    output = job.output
    tables.execute(
        sql.MOVE_JOB,
        {
            "job": job.job_id,
            "state_": job.state,
            "progress_": round(job.progress * PROGRESS_UNITS),
            "seq": job.event_seq,
            "attempts_": job.attempts,
            "runner": job.runner_id,
            "started": job.started_at,
            "finished": job.finished_at,
            "result_": job.result,
            "code": None if job.error is None else job.error.code,
            "reason": None if job.error is None else job.error.reason,
            "name_": None if output is None else output.name,
            "mime_": None if output is None else output.mime,
            "size_": None if output is None else output.size,
        },
    )


def _insert_event(tables: Tables, event: JobEvent) -> None:
    partial = event.partial
    tables.execute(
        sql.INSERT_EVENT,
        {
            "job": event.job_id,
            "seq": event.event_seq,
            "state_": event.state,
            "progress_": round(event.progress * PROGRESS_UNITS),
            "text_": partial if isinstance(partial, str) else None,
            "bytes_": partial if isinstance(partial, bytes) else None,
        },
    )


# --- reading --------------------------------------------------------------------------------------


def get_job(job_id: JobId, after: int, most: int = EVENTS_READ) -> Transact[JobWithEvents]:
    """Return a job with its events after one.

    Raises:
        JobNotFound: no such job.
    """

    def work(tables: Tables) -> JobWithEvents:
        found = tables.execute(sql.GET_JOB, {"job": job_id}).first()
        if found is None:
            raise JobNotFound("job_id: no such job")
        job = _job(found)
        read = _read_events(tables, job, after, most)
        return JobWithEvents(job, read.events, read.has_more)

    return Transact(work, writes=False)


def list_jobs(user_id: UserId, before: JobId | None, most: int) -> Transact[JobPage]:
    """Return a user's jobs, the newest first.

    Args:
        before: only those that are older than this one.
    """

    def work(tables: Tables) -> JobPage:
        parameters = {"user": user_id, "before": before or LAST_ID, "most": most + 1}
        jobs = tuple(_job(row) for row in tables.execute(sql.LIST_JOBS, parameters).all())
        return JobPage(jobs[:most], len(jobs) > most)

    return Transact(work, writes=False)


def output_bytes_of(user_id: UserId) -> Transact[int]:
    """Return how many bytes the files have that jobs of a user have made and that are kept."""

    def work(tables: Tables) -> int:
        found = tables.execute(sql.SUM_OUTPUTS, {"user": user_id}).first()
        assert found is not None
        return int(found[0] or 0)

    return Transact(work, writes=False)


def read_job_events(
    user_id: UserId, positions: Mapping[JobId, int], most: int = EVENTS_READ
) -> Transact[tuple[JobEvents, ...]]:
    """Return the events of several jobs of a user, each after one, until there are as many as may be.

    Args:
        positions: the last `event_seq` that is not wanted, by job. Those that are left out have more.
    """

    def work(tables: Tables) -> tuple[JobEvents, ...]:
        read = []
        left = most
        for job_id, after in positions.items():
            found = tables.execute(sql.GET_JOB, {"job": job_id}).first()
            job = None if found is None else _job(found)
            if job is None or job.user_id != user_id:
                read.append(JobEvents(job_id, 0, (), has_more=False))
                continue
            read.append(_read_events(tables, job, after, left))
            left -= len(read[-1].events)
            if left <= 0:
                break
        return tuple(read)

    return Transact(work, writes=False)


def _read_events(tables: Tables, job: Job, after: int, most: int) -> JobEvents:
    parameters = {"job": job.job_id, "after": after, "most": most}
    events: list[JobEvent] = []
    size = 0
    for row in tables.execute(sql.READ_EVENTS, parameters).all():
        event = _event_of(job, row)
        size += len(event.partial or "") + (len(job.result or "") if event.state in OVER else 0)
        if events and size > BYTES_READ:
            break
        events.append(event)
    has_more = bool(events) and events[-1].event_seq < job.event_seq
    return JobEvents(job.job_id, job.event_seq, tuple(events), has_more, job.channel_id)


def _event_after(tables: Tables, job: Job, after: int) -> JobEvent | None:
    found = tables.execute(sql.READ_EVENTS, {"job": job.job_id, "after": after, "most": 1}).first()
    return None if found is None else _event_of(job, found)


# --- servers that are gone, and upkeep ------------------------------------------------------------


def adopt_jobs(
    runner_id: str, now_ms: int, *, alive_since_ms: int | None, attempts_max: int, most: int = 100
) -> Transact[Adopted]:
    """Take over jobs whose server is gone: those that wait, and those that may run again; the others have failed.

    Args:
        runner_id: the server that takes them over.
        now_ms: the time.
        alive_since_ms: servers that were seen since then still live; None: no other server uses the database.
        attempts_max: a job that was started so often is not run again: it may be what ends the servers.
        most: jobs at a time.
    """

    def work(tables: Tables) -> Adopted:
        alive_since = alive_since_ms if alive_since_ms is not None else 2**62
        parameters = {"runner": runner_id, "alive_since": alive_since, "most": most}
        moved = []
        for row in tables.execute(sql.ORPHANS, parameters).all():
            job = attrs.evolve(_job(row), runner_id=runner_id)
            if job.state == FIRST_STATE:
                tables.execute(sql.ADOPT, {"job": job.job_id, "runner": runner_id})
                moved.append(Moved(job, None))
            else:
                moved.append(_move(tables, job, stopped(job, now_ms, attempts_max)))
        return Adopted(tuple(moved))

    return Transact(work)


def stopped(job: Job, now_ms: int, attempts_max: int) -> Step:
    """Return what is to happen to a running job whose server stops, or has stopped."""
    if not job.safe_to_rerun:
        return Step("fail", now_ms, error=JobError(ShuttingDown.code, "the server stopped"))
    if job.attempts >= attempts_max:
        reason = f"the server stopped {job.attempts} times while it ran"
        return Step("fail", now_ms, error=JobError(InternalError.code, reason))
    return Step("requeue", now_ms, progress=0.0)


def see_runner(runner_id: str, now_ms: int, *, forget_before_ms: int) -> Transact[bool]:
    """Note that a server lives, and forget those that were not seen for long."""

    def work(tables: Tables) -> bool:
        tables.execute(sql.SEE_RUNNER, {"runner": runner_id, "now": now_ms})
        tables.execute(sql.FORGET_RUNNERS, {"seen_before": forget_before_ms})
        return True

    return Transact(work)


def prune_jobs(now_ms: int, retention_ms: int, most: int = 10) -> Transact[Pruned]:
    """Remove jobs that have ended long ago with their events; a key is kept for its 24 hours all the same."""

    def work(tables: Tables) -> Pruned:
        parameters = {
            "finished_before": now_ms - retention_ms,
            "created_before": now_ms - KEY_TTL_MS,
            "most": most,
        }
        job_ids = [row[0] for row in tables.execute(sql.FIND_OLD, parameters).all()]
        for job_id in job_ids:
            tables.execute(sql.DELETE_EVENTS, {"job": job_id})
            tables.execute(sql.DELETE_JOB, {"job": job_id})
        return Pruned(tuple(JobId(job_id) for job_id in job_ids))

    return Transact(work)


# --- rows -----------------------------------------------------------------------------------------


def _job(row: Sequence[Any]) -> Job:
    *_, error_code, error_reason, output_name, output_mime, output_bytes = row
    fields = dict(zip([column.name for column in sql.JOB_COLUMNS], row, strict=True))
    return Job(
        job_id=fields["job_id"],
        user_id=fields["user_id"],
        kind=fields["kind"],
        state=fields["state"],
        progress=fields["progress"] / PROGRESS_UNITS,
        event_seq=fields["event_seq"],
        input=fields["input"],
        session_id=fields["session_id"],
        is_admin=bool(fields["is_admin"]),
        safe_to_rerun=bool(fields["safe_to_rerun"]),
        attempts=fields["attempts"],
        runner_id=fields["runner_id"],
        created_at=fields["created_at"],
        started_at=fields["started_at"],
        finished_at=fields["finished_at"],
        result=fields["result"],
        error=None if error_code is None else JobError(error_code, error_reason),
        output=None if output_name is None else JobOutput(output_name, output_mime, output_bytes),
    )


def _event_of(job: Job, row: Sequence[Any]) -> JobEvent:
    event_seq, state, progress, text, data = row
    return _event(job, event_seq, state, progress / PROGRESS_UNITS, text if data is None else bytes(data))


def _event(job: Job, event_seq: int, state: Any, progress: float, partial: str | bytes | None) -> JobEvent:
    """Build an event; what ended the job is kept with the job alone."""
    is_last = state in OVER
    return JobEvent(
        job_id=job.job_id,
        kind=job.kind,
        state=state,
        progress=progress,
        event_seq=event_seq,
        partial=partial,
        result=json.loads(job.result) if is_last and job.result is not None else None,
        error=job.error if is_last else None,
    )

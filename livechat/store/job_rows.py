"""Owns what the store says of jobs, and what it is told of them.

It must not know any database.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs

from livechat.protocol.jobs import OVER, JobError, JobEvent, JobStep
from livechat.protocol.types import ChannelId, JobId, JobState, SessionId, UserId

PROGRESS_UNITS: Final = 1_000_000
"""The store keeps progress in millionths: whole numbers are the same in every database."""


def new_job_id() -> JobId:
    """Return a job id that was never used before (`job_`, milliseconds in hex and 80 random bits in hex).

    They sort by the time at which they were made, to the millisecond.
    """
    return JobId(f"job_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}")


def channel_of(given: Mapping[str, Any]) -> ChannelId | None:
    """Return the channel that an input names, if it does."""
    named = given.get("channel_id")
    return ChannelId(named) if isinstance(named, str) else None


@attrs.frozen
class JobOutput:
    """A file that a job has made."""

    name: str
    mime: str
    size: int
    """Bytes."""


@attrs.frozen
class NewJob:
    """A job as it is handed in."""

    job_id: JobId
    user_id: UserId
    kind: str
    input: str
    """A JSON object."""
    session_id: SessionId | None
    """The session that alone hears of it, as long as it is there."""
    is_admin: bool
    """The owner's token had the `admin` scope."""
    safe_to_rerun: bool
    """It may be run from the start again if the server stops in the middle of it."""
    created_at: int
    """Milliseconds since 1970."""


@attrs.frozen
class Job:
    """A job as it stands."""

    job_id: JobId
    user_id: UserId
    kind: str
    state: JobState
    progress: float
    """0 to 1."""
    event_seq: int
    """Of its last event."""
    input: str = attrs.field(repr=False)
    session_id: SessionId | None = attrs.field(repr=False)
    is_admin: bool
    safe_to_rerun: bool
    attempts: int
    """How often it was started."""
    runner_id: str
    """The server that runs it, or is to."""
    created_at: int
    started_at: int | None
    finished_at: int | None
    result: str | None = attrs.field(repr=False)
    """A JSON value."""
    error: JobError | None
    output: JobOutput | None

    @property
    def channel_id(self) -> ChannelId | None:
        """The channel that it is about, where its input names one by this field."""
        return channel_of(json.loads(self.input)) if '"channel_id"' in self.input else None

    @property
    def is_over(self) -> bool:
        """Whether nothing moves it any more."""
        return self.state in OVER


@attrs.frozen
class Step:
    """What is to happen to a job."""

    name: JobStep
    now_ms: int
    progress: float | None = None
    """None: as it was."""
    partial: str | bytes | None = attrs.field(default=None, repr=False)
    result: str | None = attrs.field(default=None, repr=False)
    error: JobError | None = None
    output: JobOutput | None = None
    after: int | None = None
    """The job's last `event_seq` as far as its runner knows; it was taken already if the job is further. None: the
    runner does not know."""


@attrs.frozen
class Moved:
    """What became of a step."""

    job: Job
    """As it stands now."""
    event: JobEvent | None
    """None: the step came too late."""


@attrs.frozen
class Submitted:
    """What became of a job that was handed in."""

    job_id: JobId
    """That of the first one, if the Idempotency-Key was used before."""
    event: JobEvent | None
    """None: it was there already."""


@attrs.frozen
class JobEvents:
    """A part of a job's events."""

    job_id: JobId
    last_seq: int
    """Of the job's last event; 0: the user has no such job."""
    events: tuple[JobEvent, ...]
    has_more: bool
    """More of them follow."""
    channel_id: ChannelId | None = None
    """The channel that the job is about."""


@attrs.frozen
class JobWithEvents:
    """A job and a part of its events."""

    job: Job
    events: tuple[JobEvent, ...]
    has_more: bool


@attrs.frozen
class JobPage:
    """Some of a user's jobs, the newest first."""

    jobs: tuple[Job, ...]
    has_more: bool


@attrs.frozen
class Adopted:
    """What became of jobs whose server is gone."""

    moved: tuple[Moved, ...]
    """Those that wait to be run are the adopting server's from here on."""


@attrs.frozen
class Pruned:
    """The jobs that were removed."""

    job_ids: tuple[JobId, ...]

"""Serves jobs: handing one in, looking at it, cancelling it, downloading what it made.

It must not run them: the node's `jobs` does.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final
from urllib.parse import quote

import attrs
from starlette.responses import Response, StreamingResponse

from livechat.error import (
    Forbidden,
    IdempotencyKeyReused,
    JobNotFound,
    PayloadTooLarge,
    ProtocolError,
    UnknownJobKind,
)
from livechat.handlers.access import check_channel
from livechat.handlers.auth import ADMIN_SCOPE, Identity
from livechat.http.endpoint import API, READING, WRITING, Answer, Call, Endpoint
from livechat.protocol.jobs import JobError, JobEvent
from livechat.protocol.patterns import allowed
from livechat.protocol.types import JobId, JobState, SessionId, UserId
from livechat.protocol.validators import SEQ_MAX, between, json_object, length
from livechat.store.job_rows import Job

KEY_CHARS_MAX: Final = 255
INPUT_BYTES_MAX: Final = 1_048_576
INPUT_LEVELS_MAX: Final = 32
"""What is read of an input at all; how large it may be is in the configuration."""
EVENTS_MAX: Final = 200
JOBS_MAX: Final = 100


@attrs.frozen
class JobCreate:
    """What is to be done."""

    kind: str = attrs.field(validator=length(1, 64))
    """What the server is to do; `export_history` and `announce` are built in, others are its operator's."""
    input: dict[str, Any] = attrs.field(
        factory=dict, repr=False, validator=json_object(INPUT_BYTES_MAX, INPUT_LEVELS_MAX)
    )
    """What it has to know for that; each kind has fields of its own."""
    session_id: SessionId | None = attrs.field(default=None, repr=False)
    """The user's session that alone is to hear of the job, as long as it is there; left out: all do."""


@attrs.frozen
class JobAccepted:
    """The job is stored, and will be done."""

    job_id: JobId
    status_url: str
    """Where to look at it; as in the header Location."""


@attrs.frozen
class JobFile:
    """The file that a job has made."""

    url: str
    name: str
    mime: str
    bytes: int


@attrs.frozen
class JobSummary:
    """A job as it stands."""

    job_id: JobId
    kind: str
    user_id: UserId
    state: JobState
    progress: float
    """0 to 1."""
    event_seq: int
    """Of its last event."""
    created_at: int
    """Milliseconds since 1970."""
    started_at: int | None = None
    finished_at: int | None = None
    error: JobError | None = None
    """With `failed`."""
    output: JobFile | None = None
    """With `succeeded`, if it has made a file."""


@attrs.frozen
class JobEventView:
    """One event of a job, as JOB_EVENT tells it."""

    event_seq: int
    state: JobState
    progress: float
    partial: str | None = None
    """A part of the result."""
    partial_base64: str | None = None
    """A part of the result that is no text."""


@attrs.frozen
class JobView(JobSummary):
    """A job, and a part of its events."""

    events: list[JobEventView] = attrs.field(kw_only=True)
    """Those after `after`, ascending. Of a job with very many the oldest are not kept."""
    has_more: bool = attrs.field(kw_only=True)
    """More events follow: ask again, after the last of these."""
    result: Any = attrs.field(default=None, kw_only=True)
    """With `succeeded`: any value of JSON."""


@attrs.frozen
class JobQuery:
    """Which events are wanted."""

    after: int = attrs.field(default=0, validator=between(0, SEQ_MAX))
    """The last `event_seq` that is known already."""
    limit: int = attrs.field(default=EVENTS_MAX, validator=between(1, EVENTS_MAX))


@attrs.frozen
class JobListQuery:
    """Which jobs are wanted."""

    limit: int = attrs.field(default=20, validator=between(1, JOBS_MAX))
    after: JobId | None = None
    """The `next` of the page before."""


@attrs.frozen
class JobList:
    """The user's jobs, the newest first."""

    jobs: list[JobSummary]
    next: JobId | None = None
    """With more to come: the `after` of the next page."""


async def create(call: Call) -> Answer:
    """Keep a job; the answer comes once it is stored."""
    wanted: JobCreate = call.body
    submitted = await call.node.jobs.submit(
        call.identity, wanted.kind, wanted.input, session_id=wanted.session_id, key=_key_untrusted(call)
    )
    url = _url(submitted.job_id)
    return Answer(JobAccepted(submitted.job_id, url), 202, {"location": url})


def _key_untrusted(call: Call) -> str | None:
    """Return the Idempotency-Key; two of them count as one that has a comma, as with any header.

    Raises:
        ProtocolError: it is no key.
    """
    values = call.request.headers.getlist("idempotency-key")
    if not values:
        return None
    key = ",".join(values).strip()
    if not 1 <= len(key) <= KEY_CHARS_MAX or not key.isascii() or not key.isprintable():
        raise ProtocolError(f"idempotency-key: expected 1 to {KEY_CHARS_MAX} printable ASCII characters")
    return key


async def get(call: Call) -> Answer:
    """Return a job and its events after one."""
    wanted: JobQuery = call.query
    found = await call.node.jobs.get(_job_id(call), _viewer(call), after=wanted.after, most=wanted.limit)
    job = found.job
    _check_channel(call.identity, job)
    view = JobView(
        **attrs.asdict(_summary(job), recurse=False),
        events=[_event(event) for event in found.events],
        has_more=found.has_more,
        result=None if job.result is None else json.loads(job.result),
    )
    return Answer(view)


async def list_own(call: Call) -> Answer:
    """Return the user's jobs, but for those about channels that the token is not good for."""
    wanted: JobListQuery = call.query
    page = await call.node.jobs.list(call.identity.user_id, before=wanted.after, most=wanted.limit)
    jobs = [_summary(job) for job in page.jobs if _is_good_for(call.identity, job)]
    return Answer(JobList(jobs, page.jobs[-1].job_id if page.has_more else None))


async def cancel(call: Call) -> Answer:
    """Cancel a job, if it is not over."""
    await _look_before(call)
    return Answer(_summary(await call.node.jobs.cancel(_job_id(call), _viewer(call))))


async def download(call: Call) -> Response:
    """Stream the file that a job has made."""
    await _look_before(call)
    output, content = await call.node.jobs.open_output(_job_id(call), _viewer(call))
    headers = {
        "content-length": str(output.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(output.name, safe='')}",
        "cache-control": "private, no-store",
        # A browser must not take it for something that it runs.
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
    }
    return StreamingResponse(content, headers=headers, media_type=output.mime)


def _job_id(call: Call) -> JobId:
    return JobId(call.path["job_id"])


def _viewer(call: Call) -> UserId | None:
    """Return whose jobs may be seen; None: everybody's."""
    return None if ADMIN_SCOPE in call.identity.scopes else call.identity.user_id


async def _look_before(call: Call) -> None:
    """Look at a job before it is touched, where not every job is open to the token.

    Raises: see `_check_channel`.
    """
    if call.identity.channels is not None:
        found = await call.node.jobs.get(_job_id(call), _viewer(call), after=0, most=1)
        _check_channel(call.identity, found.job)


def _check_channel(identity: Identity, job: Job) -> None:
    """Refuse a job about a channel that the token is not good for: it may tell what was said there.

    Raises:
        Forbidden: it is about one.
    """
    if job.channel_id is not None:
        check_channel(identity.channels, job.channel_id)


def _is_good_for(identity: Identity, job: Job) -> bool:
    return job.channel_id is None or allowed(identity.channels, job.channel_id)


def _url(job_id: JobId) -> str:
    return f"{API}/jobs/{job_id}"


def _summary(job: Job) -> JobSummary:
    output = job.output
    return JobSummary(
        job_id=job.job_id,
        kind=job.kind,
        user_id=job.user_id,
        state=job.state,
        progress=job.progress,
        event_seq=job.event_seq,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=job.error,
        output=None
        if output is None
        else JobFile(f"{_url(job.job_id)}/output", output.name, output.mime, output.size),
    )


def _event(event: JobEvent) -> JobEventView:
    partial = event.partial
    return JobEventView(
        event_seq=event.event_seq,
        state=event.state,
        progress=event.progress,
        partial=partial if isinstance(partial, str) else None,
        partial_base64=base64.b64encode(partial).decode() if isinstance(partial, bytes) else None,
    )


TAG: Final = "jobs"
ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "POST",
        f"{API}/jobs",
        create,
        TAG,
        "Have something done",
        "user",
        body=JobCreate,
        answers={202: JobAccepted},
        errors=(*WRITING, UnknownJobKind, IdempotencyKeyReused, Forbidden, PayloadTooLarge),
        description=(
            "The answer comes once the job is stored. What becomes of it is pushed to the user's sessions as "
            "JOB_EVENT, and kept for GET."
        ),
        request_headers={
            "Idempotency-Key": "The same one by the same user within 24 hours makes no second job, and is "
            "answered as the first was; with another body it is refused (5002)."
        },
        answer_headers={"Location": "Where to look at the job."},
    ),
    Endpoint(
        "GET",
        f"{API}/jobs",
        list_own,
        TAG,
        "List one's jobs",
        "user",
        query=JobListQuery,
        answers={200: JobList},
        errors=READING,
    ),
    Endpoint(
        "GET",
        f"{API}/jobs/{{job_id}}",
        get,
        TAG,
        "Look at a job",
        "user",
        query=JobQuery,
        answers={200: JobView},
        errors=(*READING, JobNotFound),
        description="Its owner may, and who has the scope `admin`.",
    ),
    Endpoint(
        "DELETE",
        f"{API}/jobs/{{job_id}}",
        cancel,
        TAG,
        "Cancel a job",
        "user",
        answers={200: JobSummary},
        errors=(*WRITING, JobNotFound),
        description="A job that is over stays as it is: the answer tells how that is.",
    ),
    Endpoint(
        "GET",
        f"{API}/jobs/{{job_id}}/output",
        download,
        TAG,
        "Download the file that a job has made",
        "user",
        errors=(*READING, JobNotFound),
        produces={200: "application/octet-stream"},
    ),
)

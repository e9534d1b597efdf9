"""Owns the states of a job, which step may be taken in which of them, and the event that tells of it.

It must not know who takes a step, nor where a job is kept. The transitions are one nested dict; a missing key
means that the step comes too late.

    state      start    report   succeed    fail    cancel     requeue
    queued     running  -        -          failed  cancelled  -
    running    -        running  succeeded  failed  cancelled  queued
    succeeded, failed, cancelled: the job is over, and nothing moves it any more

Every step that is taken is one event, and the events of a job are numbered from 1 (`event_seq`), without holes;
the first one says that it is queued.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from livechat.protocol.types import JobId, JobState

JobStep = Literal["start", "report", "succeed", "fail", "cancel", "requeue"]
"""`report` tells of progress or a part of the result; `requeue` puts back what was stopped and may run again."""

FIRST_STATE: Final[JobState] = "queued"

TRANSITIONS: Final[dict[JobState, dict[JobStep, JobState]]] = {
    "queued": {"start": "running", "fail": "failed", "cancel": "cancelled"},
    "running": {
        "report": "running",
        "succeed": "succeeded",
        "fail": "failed",
        "cancel": "cancelled",
        "requeue": "queued",
    },
    "succeeded": {},
    "failed": {},
    "cancelled": {},
}

OVER: Final = frozenset(state for state, steps in TRANSITIONS.items() if not steps)
"""The states in which a job has ended."""


def next_state(state: JobState, step: JobStep) -> JobState | None:
    """Return the state that a step leads to; None if it cannot be taken."""
    return TRANSITIONS[state].get(step)


@attrs.frozen
class JobError:
    """Why a job failed."""

    code: int
    reason: str


@attrs.frozen
class JobEvent:
    """Op 120: a job of the user's has come further. Events of one job are numbered from 1, without holes."""

    job_id: JobId
    kind: str
    state: JobState
    progress: float
    """0 to 1."""
    event_seq: int
    partial: str | bytes | None = None
    """A part of the result; with bytes the packet is msgpack, in a binary frame, whatever the subprotocol."""
    result: Any = None
    """With `succeeded`: any value of JSON."""
    error: JobError | None = None
    """With `failed`."""

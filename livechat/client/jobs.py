"""Owns what a client knows of the user's jobs: how far each was heard, and the newest events. Pure.

It must not know connections. Events of a job are handed over in their order and once; where some are missing, that
is told first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from livechat.client.events import JobGap
from livechat.protocol.events import ResumedJob
from livechat.protocol.jobs import OVER, JobEvent
from livechat.protocol.requests import JOBS_MAX
from livechat.protocol.types import JobId

OVER_KEPT: Final = 1000
"""Jobs that have ended and of which nothing more is taken; past it the oldest are forgotten."""


class JobBook:
    """The jobs of one user.

    Args:
        events_kept: the newest events over all jobs, for who asks for a job after it has begun.
    """

    def __init__(self, events_kept: int) -> None:
        self._heard: dict[JobId, int] = {}
        """The last `event_seq` of each job that is not over, the one heard last at the end."""
        self._over: dict[JobId, None] = {}
        self._kept: deque[JobEvent] = deque(maxlen=events_kept)

    def positions(self) -> dict[JobId, int] | None:
        """Return where each job that is not over stands, for RESUME and IDENTIFY; None: there is none."""
        newest = list(self._heard.items())[-JOBS_MAX:]
        return dict(newest) or None

    def kept(self, job_id: JobId) -> list[JobEvent]:
        """Return the events of a job that are kept, in their order."""
        return [event for event in self._kept if event.job_id == job_id]

    def take(self, event: JobEvent) -> list[JobEvent | JobGap]:
        """Take an event from the server; return what the application is to be told."""
        job_id = event.job_id
        heard = self._heard.get(job_id)
        if job_id in self._over or (heard is not None and event.event_seq <= heard):
            return []
        told: list[JobEvent | JobGap] = []
        if heard is not None and event.event_seq > heard + 1:
            told.append(JobGap(job_id, heard, event.event_seq))
        self._kept.append(event)
        self._heard.pop(job_id, None)
        if event.state in OVER:
            self._end(job_id)
        else:
            self._heard[job_id] = event.event_seq
        return [*told, event]

    def resumed(self, stated: Mapping[JobId, ResumedJob]) -> list[JobGap]:
        """Take what RESUMED says of the jobs; return what is lost."""
        lost = []
        for job_id, done in stated.items():
            heard = self._heard.get(job_id)
            if heard is not None and not done.recovered and done.event_seq < heard:
                # The server knows nothing of it (any more), or has lost what we have seen.
                del self._heard[job_id]
                self._end(job_id)
                lost.append(JobGap(job_id, heard, None))
        return lost

    def _end(self, job_id: JobId) -> None:
        self._over[job_id] = None
        if len(self._over) > OVER_KEPT:
            del self._over[next(iter(self._over))]

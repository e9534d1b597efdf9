"""Owns following one job: what is known of it already, then what comes, up to its end.

It must not ask for anything: a job that the session does not hear of yields nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import trio

from livechat.client.error import JobLost
from livechat.client.events import JobGap
from livechat.client.subscribers import Subscription
from livechat.protocol.jobs import OVER, JobEvent


class JobEvents:
    """An iterator over the events of one job; it ends after the one that says how the job has ended.

    Args:
        known: the events that came before.
        coming: those that come, and the gaps between.
    """

    def __init__(self, known: Iterable[JobEvent], coming: Subscription[JobEvent | JobGap]) -> None:
        self._known = deque(known)
        self._coming = coming
        self._is_over = False

    def __aiter__(self) -> JobEvents:
        return self

    async def __anext__(self) -> JobEvent:
        """Return the next event.

        Raises:
            JobLost: the server knows nothing of the job (any more).
            SubscriberTooSlow: too many events had to wait; from here on some are missing.
            ClientError, LiveError: the client has ended by that.

        Cancellation:
            No event was taken.
        """
        if self._is_over:
            raise StopAsyncIteration
        event = await self._next()
        if event.state in OVER:
            self._is_over = True
            self._coming.close()
        return event

    async def _next(self) -> JobEvent:
        if self._known:
            await trio.lowlevel.checkpoint()
            return self._known.popleft()
        while True:
            event = await anext(self._coming)
            if isinstance(event, JobEvent):
                return event
            if event.before is None:
                self._is_over = True
                raise JobLost(f"the server knows nothing of job {event.job_id} any more")

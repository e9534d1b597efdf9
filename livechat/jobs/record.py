"""Owns how the steps of one running job are stored and told of: one after another, each once.

It must not decide which steps there are (see `work`, `runner`). A step is told of in the callback of its commit,
so the events of a job go out in their order, those of other jobs and of chat between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import structlog
import trio

from livechat.error import LiveError, ShuttingDown
from livechat.protocol.types import JobId
from livechat.store.base import Outcome, Store
from livechat.store.job_rows import Moved, Step
from livechat.store.jobs import move_job

log = structlog.get_logger("livechat.jobs")

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 10.0
"""How long to wait before a step is tried again that the store could not take; it doubles up to the second."""


class Record:
    """The steps of one job.

    Args:
        store: where they are kept.
        job_id: whose they are.
        runner_id: the server that runs the job; the steps are not taken if another one does.
        tell: takes what was stored.
    """

    def __init__(self, store: Store, job_id: JobId, runner_id: str, tell: Callable[[Moved], None]) -> None:
        self._store = store
        self._job_id = job_id
        self._runner_id = runner_id
        self._tell = tell
        self._event_seq = 0
        """Of the last event that was told."""
        self._storing = trio.Lock()

    async def add(self, step: Step) -> Moved:
        """Store a step and tell of it, trying until the store takes it; return the job as it stands then.

        Raises:
            LiveError: it never will.

        Cancellation:
            Stops only the waiting; the step is taken or not.
        """
        delay_s = RETRY_FIRST_S
        async with self._storing:
            # After an unknown outcome the same step is not taken a second time.
            step = attrs.evolve(step, after=self._event_seq) if step.name == "report" else step
            while True:
                try:
                    return await self._try(step)
                except ShuttingDown:
                    # The server is about to cancel us. What is to be written then, it writes by `add_nowait`.
                    await trio.sleep_forever()
                except LiveError as error:
                    if not error.retryable:
                        raise
                    log.warning("a step of a job waits for the store", job_id=self._job_id, error=error.reason)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _try(self, step: Step) -> Moved:
        answered = trio.Event()
        outcomes: list[Outcome[Moved]] = []

        def done(outcome: Outcome[Moved]) -> None:
            outcomes.append(outcome)
            answered.set()
            self._told(outcome)

        self._store.submit(move_job(self._job_id, step, runner_id=self._runner_id), done)
        await answered.wait()
        return outcomes[0].unwrap()

    def add_nowait(self, step: Step) -> None:
        """Store a step that nobody waits for; a store that is closing still writes it.

        Raises:
            LiveError: it is not taken.
        """
        self._store.submit(move_job(self._job_id, step, runner_id=self._runner_id), self._told)

    def _told(self, outcome: Outcome[Moved]) -> None:
        """Tell of a step that was stored, once; also late, when a commit that was in doubt proves good."""
        moved = outcome.value
        if moved is not None and moved.event is not None and moved.event.event_seq > self._event_seq:
            self._event_seq = moved.event.event_seq
            self._tell(moved)

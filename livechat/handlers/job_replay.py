"""Owns sending the events of jobs that a session has missed, from the store, for RESUME and IDENTIFY.

It must not know which of the two asks. While a job is in `Session.jobs_due` the fan-out sends nothing of it; it is
taken out in the callback of the read that found nothing more, which runs in commit order: what that read has not
seen is fanned out after it. So nothing is told twice, or out of order, or not at all.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import attrs
import structlog
import trio

from livechat.error import LiveError
from livechat.handlers.call import Caller
from livechat.handlers.node import Node
from livechat.hub.users import Session
from livechat.protocol.events import ResumedJob
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import JobMark, Outgoing
from livechat.protocol.types import JobId
from livechat.store.base import Outcome
from livechat.store.job_rows import JobEvents
from livechat.store.jobs import read_job_events

log = structlog.get_logger("livechat.handlers")

RETRY_S: Final = 1.0
"""How long to wait before the store is asked again that failed."""
JOBS_AT_ONCE: Final = 50
"""Jobs that one read asks for."""


@attrs.define(slots=True)
class _Told:
    """What was told of one job."""

    replayed: int = 0
    event_seq: int = 0
    recovered: bool = True


@attrs.define(slots=True)
class JobReplay:
    """The events of jobs on their way to one session."""

    _told: dict[JobId, _Told] = attrs.field(factory=dict)

    async def chase(self, node: Node, caller: Caller, session: Session) -> None:
        """Send what was missed, until little is left: what a busy job adds meanwhile stays due.

        Raises: see `finish`.
        """
        while session.jobs_due and await self._read(node, caller, session):
            pass

    async def finish(self, node: Node, caller: Caller, session: Session) -> None:
        """Send what was missed, until nothing is due.

        Raises:
            BackendUnavailable: the store can't be read; what was sent is due no more.
            ShuttingDown: the store is being closed.

        Cancellation:
            As for an error.
        """
        while session.jobs_due:
            await self._read(node, caller, session)

    async def follow(self, node: Node, caller: Caller, session: Session) -> None:
        """Send what was missed to a session that is live, and go on trying while the store fails.

        Cancellation:
            What is due stays so, and is told if the session is resumed.
        """
        while True:
            try:
                await self.finish(node, caller, session)
            except LiveError as error:
                log.warning("events of jobs can't be read", error=error.reason)
                await trio.sleep(RETRY_S)
            else:
                return

    def resumed(self) -> dict[JobId, ResumedJob]:
        """Return what RESUMED says of the jobs."""
        return {
            job_id: ResumedJob(told.replayed, told.event_seq, told.recovered)
            for job_id, told in self._told.items()
        }

    async def _read(self, node: Node, caller: Caller, session: Session) -> bool:
        """Read and send some events of some jobs; return whether there is more of what was asked for."""
        await caller.wait_room()
        asked = dict(islice(session.jobs_due.items(), JOBS_AT_ONCE))
        answered = trio.Event()
        outcomes: list[Outcome[tuple[JobEvents, ...]]] = []
        is_waiting = True

        def done(outcome: Outcome[tuple[JobEvents, ...]]) -> None:
            # Who does not wait any more has lost the connection, and the session may be another one's by now.
            if is_waiting and outcome.value is not None:
                for part in outcome.value:
                    self._tell(caller, session, part, asked[part.job_id])
            outcomes.append(outcome)
            answered.set()

        node.store.submit(read_job_events(session.user_id, asked), done)
        try:
            await answered.wait()
        finally:
            is_waiting = False
        parts = outcomes[0].unwrap()
        return len(asked) == JOBS_AT_ONCE or len(parts) < len(asked) or parts[-1].has_more

    def _tell(self, caller: Caller, session: Session, part: JobEvents, after: int) -> None:
        if part.channel_id is not None and not session.may_hear(part.channel_id):
            # As over HTTP, what a job about that channel tells is not for this token.
            part = JobEvents(part.job_id, 0, (), has_more=False)
        told = self._told.setdefault(part.job_id, _Told())
        told.event_seq = part.last_seq
        first = part.events[0].event_seq if part.events else part.last_seq + 1
        if part.last_seq == 0 or first != after + 1:
            told.recovered = False
        for event in part.events:
            mark = JobMark(event.job_id, event.event_seq)
            caller.send_later(Outgoing(Op.JOB_EVENT, event, mark=mark, has_bytes=isinstance(event.partial, bytes)))
        told.replayed += len(part.events)
        if part.has_more:
            session.jobs_due[part.job_id] = part.events[-1].event_seq
        else:
            session.jobs_due.pop(part.job_id, None)

"""Owns the jobs of one server while they wait and run: one task each, under a cancel scope of its own.

It must not decide who may have a job done (see `desk`), nor what is written (see `livechat.store.jobs`). Whatever
becomes of a job is stored first, and told after the commit.

    run ── for ever
    ├─ upkeep           removes old jobs; where servers share a store, takes over those of the dead
    └─ one task a job   start ──► handler: progress, parts ──► its end

A job ends by its own handler, by its deadline, by its owner (the state is `cancelled` at once, and the task
follows it), or with the server: then it has failed, or waits for the next start where its kind may run again.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
import structlog
import trio
from structlog.contextvars import clear_contextvars

from livechat.cluster.backplane import Backplane, Notice, UserNotice
from livechat.error import LiveError
from livechat.jobs.kinds import JobKind, JobKinds
from livechat.jobs.outputs import Outputs
from livechat.jobs.queue import JobQueue, Ticket
from livechat.jobs.record import Record
from livechat.jobs.settings import JobSettings
from livechat.jobs.work import Work
from livechat.protocol.jobs import OVER, JobEvent
from livechat.protocol.types import ChannelId, JobId, SessionId, UserId
from livechat.store.base import Store, perform
from livechat.store.job_rows import Job, Moved, Step
from livechat.store.jobs import adopt_jobs, output_bytes_of, prune_jobs, see_runner, stopped
from livechat.telemetry.counters import JobCounters
from livechat.telemetry.scope import Scope, log_fields
from livechat.telemetry.trace import parse_traceparent_untrusted

log = structlog.get_logger("livechat.jobs")

SEEN_EVERY_S: Final = 10.0
"""How often a server says that it lives, where several share a store."""
DEAD_AFTER_MS: Final = 60_000
"""From when on a server that was not seen counts as dead."""
FORGET_AFTER_MS: Final = 24 * 60 * 60 * 1000
PRUNE_EVERY_S: Final = 60.0


@attrs.define(eq=False)
class Run:
    """A job that was taken out of the queue."""

    ticket: Ticket
    record: Record
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_over: bool = False
    """Its state is final: what its handler still does counts for nothing."""
    job: Job | None = None
    """As it stood when it was started."""


class JobRunner:
    """Runs the jobs of one server.

    Args:
        store: where jobs are kept.
        backplane: tells of their events.
        kinds: how they are done.
        settings: the bounds.
        outputs: the files they make.
        is_shared: other servers use the same store.
        counters: where jobs are counted.
        now_ms: milliseconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        backplane: Backplane,
        kinds: JobKinds,
        settings: JobSettings,
        outputs: Outputs,
        *,
        is_shared: bool,
        counters: JobCounters,
        now_ms: Callable[[], int],
    ) -> None:
        self.runner_id = f"run_{secrets.token_hex(8)}"
        self.queue = JobQueue(
            concurrency=settings.concurrency, queue_max=settings.queue_max, per_user=settings.per_user
        )
        self._counters = counters
        self._store = store
        self._backplane = backplane
        self._kinds = kinds
        self._settings = settings
        self._outputs = outputs
        self._is_shared = is_shared
        self._now_ms = now_ms
        self._runs: dict[JobId, Run] = {}
        self._nursery: trio.Nursery | None = None
        self.is_draining = False
        """No more jobs are started, and none are taken."""
        self._idle = trio.lowlevel.ParkingLot()

    # --- what the server and the desk ask for -----------------------------------------------------------

    def allow(self, kind: JobKind) -> None:
        """Start jobs of a kind from now on."""
        self.queue.allow(kind.name, kind.concurrency)
        self._start_ready()

    def enqueue(self, ticket: Ticket) -> None:
        """Take a job that was stored."""
        self.queue.add(ticket)
        self._start_ready()

    def publish(
        self, user_id: UserId, session_id: SessionId | None, channel_id: ChannelId | None, event: JobEvent
    ) -> None:
        """Tell of an event that was stored."""
        self._backplane.publish(UserNotice(user_id, event, only=session_id, channel_id=channel_id))

    def tell(self, moved: Moved) -> None:
        """Count a step that was stored, and tell of it."""
        job, event = moved.job, moved.event
        assert event is not None
        if event.state in OVER:
            self._counters.finished[job.kind, event.state] += 1
            if job.started_at is not None:
                took_ms = (job.finished_at or job.started_at) - job.started_at
                self._counters.durations[job.kind].observe(max(0, took_ms) / 1000)
            run = self._runs.get(job.job_id)
            if run is not None:
                run.is_over = True
        self.publish(job.user_id, job.session_id, job.channel_id, event)

    def hear(self, notice: Notice) -> None:
        """Follow the backplane: a job that was cancelled, wherever that was asked for, ends here."""
        if not isinstance(notice, UserNotice) or not isinstance(notice.event, JobEvent):
            return
        if notice.event.state != "cancelled":
            return
        run = self._runs.get(notice.event.job_id)
        if run is None:
            self.queue.remove(notice.event.job_id)
            self._note_queue()
            return
        run.is_over = True
        run.scope.cancel()

    async def wait_idle(self) -> None:
        """Wait until no job runs."""
        while self._runs:
            await self._idle.park()

    async def start(self) -> None:
        """Take over what servers that are gone have left, before anything else is done.

        Raises:
            LiveError: the store fails.
        """
        if self._is_shared:
            await self.say_alive()
        self._backplane.subscribe(self.hear)
        await self.recover()

    async def recover(self) -> None:
        """Take over what servers that are gone have left.

        Raises:
            LiveError: the store fails.
        """
        while True:
            now_ms = self._now_ms()
            work = adopt_jobs(
                self.runner_id,
                now_ms,
                alive_since_ms=now_ms - DEAD_AFTER_MS if self._is_shared else None,
                attempts_max=self._settings.attempts_max,
            )
            adopted = await perform(self._store, work)
            for moved in adopted.moved:
                self._adopt(moved)
            if not adopted.moved:
                return

    def _adopt(self, moved: Moved) -> None:
        job = moved.job
        if moved.event is not None:
            log.info("job was running when its server stopped", job_id=job.job_id, kind=job.kind, state=job.state)
            self.tell(moved)
        if not job.is_over:
            self.enqueue(Ticket(job.job_id, job.kind, job.user_id))

    async def run(self) -> None:
        """Run jobs, for ever.

        Cancellation:
            Ends all jobs; each handler has `cleanup_ms` to clean up.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                nursery.start_soon(self._keep_clean)
                if self._is_shared:
                    nursery.start_soon(self._keep_alive)
                self._start_ready()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    # --- upkeep ---------------------------------------------------------------------------------------

    async def _keep_clean(self) -> None:
        while True:
            try:
                while removed := await self._prune():
                    await self._outputs.remove(removed)
            except LiveError as error:
                log.warning("old jobs can't be removed", error=error.reason)
            await trio.sleep(PRUNE_EVERY_S)

    async def _prune(self) -> tuple[JobId, ...]:
        return (await perform(self._store, prune_jobs(self._now_ms(), self._settings.retention_ms))).job_ids

    async def _keep_alive(self) -> None:
        while True:
            try:
                await self.say_alive()
                await self.recover()
            except LiveError as error:
                log.warning("the store can't be told that this server lives", error=error.reason)
            await trio.sleep(SEEN_EVERY_S)

    async def say_alive(self) -> None:
        """Have other servers of the same store leave our jobs alone.

        Raises:
            LiveError: the store fails.
        """
        now_ms = self._now_ms()
        await perform(self._store, see_runner(self.runner_id, now_ms, forget_before_ms=now_ms - FORGET_AFTER_MS))

    # --- one job --------------------------------------------------------------------------------------

    def _start_ready(self) -> None:
        while self._nursery is not None and not self.is_draining and (ticket := self.queue.take()) is not None:
            record = Record(self._store, ticket.job_id, self.runner_id, self.tell)
            run = self._runs[ticket.job_id] = Run(ticket, record)
            self._nursery.start_soon(self._run_in_scope, run)
        self._note_queue()

    def _note_queue(self) -> None:
        self._counters.queued, self._counters.running = self.queue.waiting, self.queue.running

    async def _run_in_scope(self, run: Run) -> None:
        # A task begins with the context of whoever started it, which may be another job that made room.
        clear_contextvars()
        trace = parse_traceparent_untrusted(run.ticket.trace)
        with Scope(trace, log_fields(user=run.ticket.user_id, trace=trace)):
            await self._run(run)

    async def _run(self, run: Run) -> None:
        ticket = run.ticket
        is_stopped = True
        try:
            await self._begin_and_end(run)
            is_stopped = False
        except Exception:
            # The boundary of one job: whatever fails in here must not reach the others.
            is_stopped = False
            log.exception("job failed", job_id=ticket.job_id, kind=ticket.kind)
        finally:
            if is_stopped:
                # The server stops. The store's own closing writes this, whether or not anybody waits for it.
                self._note_stopped(run)
            del self._runs[ticket.job_id]
            self.queue.end(ticket.job_id)
            self._start_ready()
            if not self._runs:
                self._idle.unpark_all()

    async def _begin_and_end(self, run: Run) -> None:
        job_id = run.ticket.job_id
        begun = await run.record.add(Step("start", self._now_ms()))
        if begun.event is None:
            return  # it was cancelled, or another server has it
        run.job = begun.job
        kind = self._kinds.get(begun.job.kind)
        count = partial(perform, self._store, output_bytes_of(begun.job.user_id))
        work = Work(begun.job, kind, self._settings, self._outputs, run.record, run.scope, self._now_ms, count)
        end = await work.run()
        ended = await run.record.add(end)
        if ended.job.output is None:
            await self._outputs.remove([job_id])

    def _note_stopped(self, run: Run) -> None:
        if run.job is None or run.is_over:
            return  # what was not started waits for the next start of the server
        step = stopped(run.job, self._now_ms(), self._settings.attempts_max)
        try:
            run.record.add_nowait(step)
        except LiveError:
            pass  # the next start finds it running, and does the same
        log.info("job stopped with the server", job_id=run.job.job_id, kind=run.job.kind, step=step.name)

"""Owns one handler at work: what it yields becomes steps, and however it ends becomes the last one.

It must not store anything by itself (see `record`). A handler's generator is always closed before its job has
ended: its `finally` blocks have run, within a bound.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
import trio

from livechat.error import InternalError, LiveError, Overloaded, PayloadTooLarge
from livechat.jobs.kinds import JobContext, JobKind, Partial, Progress, Result, serialize_result
from livechat.jobs.outputs import OutputFile, Outputs
from livechat.jobs.pacing import ProgressPace
from livechat.jobs.record import Record
from livechat.jobs.settings import JobSettings
from livechat.protocol.jobs import JobError
from livechat.store.job_rows import Job, JobOutput, Step

log = structlog.get_logger("livechat.jobs")

INTERNAL: Final = JobError(InternalError.code, "the job failed for an internal reason")


class Work:
    """One job being done.

    Args:
        job: as it stood when it was started.
        kind: how it is done.
        settings: the bounds.
        outputs: where its file goes.
        record: where its steps go.
        scope: is given the deadline; cancelled, it ends the job as if that had passed.
        now_ms: milliseconds since 1970.
        count_outputs: returns how many bytes the files have that the owner's jobs have made.
    """

    def __init__(
        self,
        job: Job,
        kind: JobKind,
        settings: JobSettings,
        outputs: Outputs,
        record: Record,
        scope: trio.CancelScope,
        now_ms: Callable[[], int],
        count_outputs: Callable[[], Awaitable[int]],
    ) -> None:
        self._job = job
        self._kind = kind
        self._settings = settings
        self._outputs = outputs
        self._record = record
        self._scope = scope
        self._now_ms = now_ms
        self._count_outputs = count_outputs
        self._output: JobOutput | None = None
        self._pace = ProgressPace(settings.progress_interval_ms / 1000)
        self._progressed = trio.lowlevel.ParkingLot()

    async def run(self) -> Step:
        """Do the job, within its time; return the step that its end is."""
        kind = self._kind
        timeout_s = kind.timeout_s if kind.timeout_s is not None else self._settings.timeout_ms / 1000
        self._scope.deadline = trio.current_time() + timeout_s
        with self._scope:
            return await self._attempt()
        return self._failed(JobError(InternalError.code, f"the job did not end within {timeout_s:g} s"))

    async def _attempt(self) -> Step:
        try:
            result = await self._listen(self._context())
            text = serialize_result(result.value, self._settings.result_bytes)
        except Exception as exc:
            # The boundary of an embedder's handler: of what it raises, only a refusal is for the owner's eyes.
            refusal = _lone(exc)
            if isinstance(refusal, LiveError):
                return self._failed(JobError(refusal.code, refusal.reason))
            log.exception("handler of a job failed", job_id=self._job.job_id, kind=self._kind.name)
            return self._failed(INTERNAL)
        return Step("succeed", self._now_ms(), result=text, output=self._output)

    def _failed(self, error: JobError) -> Step:
        return Step("fail", self._now_ms(), progress=self._pace.take(trio.current_time()), error=error)

    def _context(self) -> JobContext[Any]:
        job = self._job
        return JobContext(
            job_id=job.job_id,
            kind=job.kind,
            user_id=job.user_id,
            is_admin=job.is_admin,
            input=self._kind.structure(json.loads(job.input)),
            attempt=job.attempts,
            open_file=self._open_file,
        )

    @asynccontextmanager
    async def _open_file(self, name: str, mime: str) -> AsyncGenerator[OutputFile]:
        self._output = None
        kept, most = await self._count_outputs(), self._settings.outputs_bytes
        if kept >= most:
            raise Overloaded(f"output: the user's jobs have made files of {kept} bytes, at most {most} are kept")
        async with self._outputs.open(self._job.job_id) as file:
            yield file
        self._output = JobOutput(name, mime, file.size)

    # --- what the handler yields ------------------------------------------------------------------------

    async def _listen(self, context: JobContext[Any]) -> Result:
        failure: Exception | None = None
        result = Result()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_progress)
            try:
                result = await self._iterate(context)
            except Exception as exc:  # noqa: BLE001 - raised again below: our nursery must not show in it
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    async def _iterate(self, context: JobContext[Any]) -> Result:
        generator = self._kind.handler(context)
        try:
            async for update in generator:
                if isinstance(update, Result):
                    return update
                if isinstance(update, Progress):
                    self._pace.note(update.value)
                    self._progressed.unpark_all()
                elif isinstance(update, Partial):
                    await self._tell_part(update)
                else:
                    raise TypeError(f"expected Progress, Partial or Result, got {type(update).__name__}")
        finally:
            with trio.move_on_after(self._settings.cleanup_ms / 1000, shield=True) as patience:
                await generator.aclose()
            if patience.cancelled_caught:
                log.warning("handler of a job took too long to clean up", job_id=context.job_id, kind=context.kind)
        return Result()

    async def _tell_part(self, part: Partial) -> None:
        content, most = part.content, self._settings.partial_bytes
        size = len(content) if isinstance(content, bytes) else len(content.encode())
        if size > most:
            raise PayloadTooLarge(f"partial: expected at most {most} bytes, got {size}")
        if part.progress is not None:
            self._pace.note(part.progress)
        progress = self._pace.take(trio.current_time())
        await self._report(Step("report", self._now_ms(), progress=progress, partial=content))

    async def _tell_progress(self) -> None:
        """Tell the newest progress, no more often than it should be told."""
        while True:
            if self._pace.due_at == math.inf:
                await self._progressed.park()
                continue
            await trio.sleep_until(self._pace.due_at)
            progress = self._pace.take(trio.current_time())
            if progress is not None:
                await self._report(Step("report", self._now_ms(), progress=progress))

    async def _report(self, step: Step) -> None:
        if (await self._record.add(step)).event is None:
            # It was cancelled where we do not hear of it, or is another server's by now.
            self._scope.cancel()
            await trio.lowlevel.checkpoint()


def _lone(exc: BaseException) -> BaseException:
    """Take off the groups that a handler's nurseries put around a lone exception."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc

"""Owns the files that jobs make: one a job, in a folder of their own, read by their owners only.

It must not know what is in them, nor who may have them. Whatever touches the disk runs in a thread, with a limiter
of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

import structlog
import trio

from livechat.error import BackendUnavailable, JobNotFound, PayloadTooLarge
from livechat.protocol.types import JobId
from livechat.store.job_rows import JobOutput

log = structlog.get_logger("livechat.jobs")

WRITE_BYTES: Final = 65_536
"""What is gathered before a thread writes it."""
READ_BYTES: Final = 65_536
THREADS_MAX: Final = 4
"""Threads that work on these files at a time."""


class OutputFile:
    """A file that is being made; given by `JobContext.open_output`."""

    def __init__(self, file: BinaryIO, bytes_max: int, limiter: trio.CapacityLimiter) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._limiter = limiter
        self._gathered = bytearray()
        self.size = 0
        """Bytes so far."""

    async def write(self, data: bytes) -> None:
        """Append.

        Raises:
            PayloadTooLarge: the file would be larger than a job's may be.
        """
        self.size += len(data)
        if self.size > self._bytes_max:
            raise PayloadTooLarge(f"output: expected at most {self._bytes_max} bytes")
        self._gathered += data
        if len(self._gathered) >= WRITE_BYTES:
            await self.flush()
        else:
            await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Hand to the system what was gathered."""
        data, self._gathered = bytes(self._gathered), bytearray()
        await trio.to_thread.run_sync(self._file.write, data, limiter=self._limiter)


class Outputs:
    """The files of all jobs.

    Args:
        folder: made with mode 0700 when the first file is.
        bytes_max: of one file.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._limiter = trio.CapacityLimiter(THREADS_MAX)

    @asynccontextmanager
    async def open(self, job_id: JobId) -> AsyncGenerator[OutputFile]:
        """Make a job's file anew; it is whole once the block is left.

        Raises:
            BackendUnavailable: the disk does not take it.
        """
        try:
            file = await trio.to_thread.run_sync(self._create, job_id, limiter=self._limiter)
            try:
                output = OutputFile(file, self._bytes_max, self._limiter)
                yield output
                await output.flush()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(file.close, limiter=self._limiter)
        except OSError as exc:
            log.warning("the file of a job can't be written", job_id=job_id, error=exc.strerror)
            raise BackendUnavailable("the file can't be written") from exc

    def _create(self, job_id: JobId) -> BinaryIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(job_id)
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        return path.open("wb", buffering=0)

    def _path(self, job_id: JobId) -> Path:
        assert "/" not in job_id
        return self._folder / job_id

    async def read(self, job_id: JobId, output: JobOutput) -> AsyncIterator[bytes]:
        """Open a job's file; return what yields its content.

        Raises:
            JobNotFound: it is not here (any more).
        """
        try:
            file = await trio.to_thread.run_sync(self._path(job_id).open, "rb", limiter=self._limiter)
        except OSError as exc:
            log.warning("the file of a job can't be read", job_id=job_id, error=exc.strerror)
            raise JobNotFound("job_id: its file is not here any more") from None
        return self._chunks(file, output.size)

    async def _chunks(self, file: BinaryIO, left: int) -> AsyncGenerator[bytes]:
        with file:
            while left > 0:
                data = await trio.to_thread.run_sync(file.read, min(left, READ_BYTES), limiter=self._limiter)
                if not data:
                    return
                left -= len(data)
                yield data

    async def remove(self, job_ids: Iterable[JobId]) -> None:
        """Remove the files of jobs that have one."""
        for job_id in job_ids:
            try:
                await trio.to_thread.run_sync(self._remove, job_id, limiter=self._limiter)
            except OSError as exc:
                log.warning("the file of a job can't be removed", job_id=job_id, error=exc.strerror)

    def _remove(self, job_id: JobId) -> None:
        self._path(job_id).unlink(missing_ok=True)

"""Owns the bytes of files on a local disk.

It must not hold up the event loop: whatever touches the disk runs in a thread, of which there are few.

    incoming/<file_id>      being written, or of a writer that is gone; its writer holds a lock on it (flock)
    ab/cdef…                complete; the digits are those of the id

A blob is written in `incoming`, synced, and linked to its place; only once its row is stored does its name in
`incoming` go. So that folder names all that a crash can leave behind, and nobody ever has to walk through the
others. A lock ends with its process, however that ends, so what is locked is alive, whoever sweeps.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar, TypeVarTuple, Unpack

import structlog
import trio

from livechat.error import ConfigError
from livechat.files.blobs import BlobReader, BlobWriter, FindKnown
from livechat.files.names import FILE_ID
from livechat.protocol.types import FileId

T = TypeVar("T")
Args = TypeVarTuple("Args")
log = structlog.get_logger("livechat.files")

THREADS_MAX: Final = 16
"""Reads and writes at a time."""
READ_BYTES: Final = 131_072
SWEEP_AT_ONCE: Final = 64
"""Blobs that are locked, asked for and removed together."""
NOT_OURS: Final = frozenset({errno.ENOENT, errno.ELOOP})
"""What opening an incoming blob may end with: its writer was done meanwhile, or somebody put a link there."""
INCOMING: Final = "incoming"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class Run(Protocol):
    """Runs a function in a thread."""

    async def __call__(self, function: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        """Return what it returns, and raise what it raises."""
        ...


class DiskBlobStore:
    """A `BlobStore` in a folder.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._incoming = folder / INCOMING
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        try:
            # Each by itself: those that `parents` makes could be read by others.
            folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self._incoming.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if not os.access(self._incoming, os.W_OK | os.X_OK):
                raise PermissionError(0, "permission denied")
        except OSError as exc:
            raise ConfigError(f"cannot use {folder}: {(exc.strerror or str(exc)).lower()}") from exc

    def path(self, file_id: FileId) -> Path:
        """Return where a complete blob is."""
        assert FILE_ID.fullmatch(file_id), "an id of ours names no other place"
        digits = file_id.removeprefix("file_")
        return self.folder / digits[:2] / digits[2:]

    @asynccontextmanager
    async def create(self, file_id: FileId) -> AsyncGenerator[BlobWriter]:
        """See `BlobStore.create`."""
        incoming = self._incoming / file_id
        descriptor = await self._run(_create, incoming)
        writer = _DiskWriter(self._run, descriptor, incoming, self.path(file_id))
        try:
            yield writer
        finally:
            # Under cancellation too, and that does not take long: nothing is synced.
            with trio.CancelScope(shield=True):
                await self._run(writer.close)

    @asynccontextmanager
    async def open(self, file_id: FileId, start: int, stop: int) -> AsyncGenerator[BlobReader]:
        """See `BlobStore.open`."""
        descriptor = await self._run(os.open, self.path(file_id), os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _DiskReader(self._run, descriptor, start, stop)
        finally:
            os.close(descriptor)

    async def delete(self, file_id: FileId) -> None:
        """See `BlobStore.delete`."""
        await self._run(self._remove, file_id)

    def _remove(self, file_id: FileId) -> None:
        self.path(file_id).unlink(missing_ok=True)
        (self._incoming / file_id).unlink(missing_ok=True)

    async def sweep(self, find_known: FindKnown) -> int:
        """See `BlobStore.sweep`."""
        removed = 0
        names = await self._run(os.listdir, self._incoming)
        ids = [FileId(name) for name in sorted(names) if FILE_ID.fullmatch(name)]
        for start in range(0, len(ids), SWEEP_AT_ONCE):
            removed += await self._sweep_some(ids[start : start + SWEEP_AT_ONCE], find_known)
        return removed

    async def _sweep_some(self, ids: list[FileId], find_known: FindKnown) -> int:
        locks: dict[FileId, int] = {}
        try:
            # Before their rows are looked for: a writer that is alive, and about to store its row, has the lock.
            await self._run(self._lock, ids, locks)
            known = await find_known(tuple(locks)) if locks else set()
            await self._run(self._settle, locks, known)
        finally:
            for descriptor in locks.values():
                os.close(descriptor)
        return len(locks.keys() - known)

    def _lock(self, ids: list[FileId], locks: dict[FileId, int]) -> None:
        """Lock those that no writer has locked; add their descriptors to `locks`."""
        for file_id in ids:
            try:
                descriptor = os.open(self._incoming / file_id, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError as exc:
                if exc.errno not in NOT_OURS:
                    raise
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                locks[file_id] = descriptor

    def _settle(self, locks: dict[FileId, int], known: set[FileId]) -> None:
        for file_id in locks:
            if file_id not in known:
                self.path(file_id).unlink(missing_ok=True)
            # Last: as long as it is there, the blob is found again.
            (self._incoming / file_id).unlink(missing_ok=True)

    async def _run(self, function: Callable[[Unpack[Args]], T], *args: *Args) -> T:
        """Run in a thread; cancelled, it is waited for, as it uses what is closed afterwards."""
        return await trio.to_thread.run_sync(function, *args, limiter=self._limiter)


class _DiskWriter:
    """See `BlobWriter`."""

    def __init__(self, run: Run, descriptor: int, incoming: Path, place: Path) -> None:
        self._run = run
        self._descriptor = descriptor
        self._incoming = incoming
        self._place = place
        self._is_kept = False
        self._is_doubtful = False

    async def write(self, data: bytes) -> None:
        await self._run(self._write, data)

    async def finish(self) -> None:
        await self._run(self._finish)

    def keep(self) -> None:
        self._is_kept = True

    def doubt(self) -> None:
        self._is_doubtful = True

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _finish(self) -> None:
        os.fsync(self._descriptor)
        folder = self._place.parent
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        os.link(self._incoming, self._place)
        # The names too must outlive a power cut: the blob's in its folder, and the folder's.
        _sync(folder)
        _sync(folder.parent)

    def close(self) -> None:
        """Let go of the blob, as was said of it. Never raises: what it cannot remove, a sweep will."""
        try:
            if not self._is_doubtful:
                if not self._is_kept:
                    self._place.unlink(missing_ok=True)
                self._incoming.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("blob not removed", file_id=self._incoming.name, error=exc.strerror)
        finally:
            # Last, as the lock ends with it.
            os.close(self._descriptor)


class _DiskReader:
    """See `BlobReader`."""

    def __init__(self, run: Run, descriptor: int, start: int, stop: int) -> None:
        self._run = run
        self._descriptor = descriptor
        self._position = start
        self._stop = stop

    async def read(self) -> bytes:
        if self._position >= self._stop:
            return b""
        size = min(READ_BYTES, self._stop - self._position)
        data = await self._run(os.pread, self._descriptor, size, self._position)
        if not data:
            raise OSError(f"the blob ends at byte {self._position}, before byte {self._stop}")
        self._position += len(data)
        return data


def _create(incoming: Path) -> int:
    """Make a new file and lock it; return its descriptor."""
    descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except BaseException:
        os.close(descriptor)
        incoming.unlink(missing_ok=True)
        raise
    return descriptor


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Owns the life of files: taking one in, giving it out, removing it, and who may.

It must not know HTTP, nor where bytes are kept (`blobs`) or how rows are (`livechat.store.file_rows`).

    taken in   the bytes first, durably; then the row, which makes the file exist; gone after a time
    attached   by a message of its uploader in its channel, in that message's own transaction; there for good
    removed    the row says so first, so that nobody finds it; then the bytes go, then the row

Whatever is cut short in between is found again: bytes without a row by the blob store's sweep, rows that say gone
by ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, TypeVar

import attrs
import structlog
import trio

from livechat.error import (
    AccessDenied,
    BackendUnavailable,
    ChannelNotFound,
    FileNotFound,
    Forbidden,
    LiveError,
    NotInChannel,
    NotPersisted,
    Overloaded,
    PayloadTooLarge,
)
from livechat.files.blobs import BlobStore, BlobWriter
from livechat.files.body import Body
from livechat.files.intake import Intake
from livechat.files.names import FILE_ID, new_file_id
from livechat.files.settings import FileSettings
from livechat.protocol.patterns import ChannelPatterns, allowed
from livechat.protocol.types import ChannelId, FileId, UserId
from livechat.store import file_rows
from livechat.store.base import Store, perform
from livechat.store.file_rows import FileRow
from livechat.store.operations import CheckMember
from livechat.store.side import Tables, Transact

T = TypeVar("T")
log = structlog.get_logger("livechat.files")

BLOB_TIMEOUT_S: Final = 60.0
"""For each call of the blob store."""
SWEEP_TIMEOUT_S: Final = 600.0
"""For all that a blob store's sweep does; what is left is done the next time."""
HASHING_MAX: Final = 4
"""Threads that hash at a time."""
SWEEP_AT_ONCE: Final = 100
"""Files that one piece of the upkeep is about."""


@attrs.frozen
class Actor:
    """Who wants something of a file."""

    user_id: UserId
    is_admin: bool = False
    """May do all, in every channel."""
    channels: ChannelPatterns | None = None
    """What channels its token is good for; None: all."""


@attrs.define(slots=True)
class FileStatistics:
    """Counters since the server was started."""

    uploading: int = 0
    """Uploads that are under way."""
    taken: int = 0
    """Files that were taken in."""
    bytes_taken: int = 0
    bytes_given: int = 0
    removed: int = 0
    """Files that were removed, by whomever."""


@contextmanager
def _translated(refusal: type[LiveError], doing: str) -> Iterator[None]:
    """Turn what fails a call of the blob store into a refusal, and log it.

    Raises:
        FileNotFound: there is no such blob.
        LiveError: `refusal`.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFound("file: there is no such file") from None
    except (OSError, trio.TooSlowError) as exc:
        reason = exc.strerror or str(exc) if isinstance(exc, OSError) else "it took too long"
        log.warning("files: the blob store failed", doing=doing, reason=reason)
        raise refusal(f"file: it cannot be {doing} for now") from exc


@contextmanager
def _blob_call(refusal: type[LiveError], doing: str) -> Iterator[None]:
    """Do so, and give the call its deadline."""
    with _translated(refusal, doing), trio.fail_after(BLOB_TIMEOUT_S):
        yield


@asynccontextmanager
async def _opened(blob: AbstractAsyncContextManager[T], refusal: type[LiveError], doing: str) -> AsyncGenerator[T]:
    """Do so for entering and for leaving a blob.

    The scope stays open in between, without a deadline: an embedder's blob may hold scopes of its own, which have
    to be left before the one around them.
    """
    with trio.CancelScope(deadline=trio.current_time() + BLOB_TIMEOUT_S) as scope:
        async with AsyncExitStack() as stack:
            with _translated(refusal, doing):
                entered = await stack.enter_async_context(blob)
            scope.deadline = math.inf
            try:
                yield entered
            finally:
                scope.deadline = trio.current_time() + BLOB_TIMEOUT_S
    if scope.cancelled_caught:
        with _translated(refusal, doing):
            raise trio.TooSlowError


class FileService:
    """The files of one server.

    Args:
        now_ms: milliseconds since 1970.
    """

    def __init__(self, store: Store, blobs: BlobStore, settings: FileSettings, now_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.statistics = FileStatistics()
        self._store = store
        self._blobs = blobs
        self._now_ms = now_ms
        self._uploading: Counter[UserId] = Counter()
        self._hashing = trio.CapacityLimiter(HASHING_MAX)

    # --- taking in --------------------------------------------------------------------------------

    async def take(
        self,
        actor: Actor,
        channel_id: ChannelId,
        body: Body,
        pieces: AsyncIterator[bytes],
        approve_name: Callable[[str], None],
        *,
        bytes_least: int = 0,
    ) -> FileRow:
        """Keep a file that comes in pieces; nothing of it stays if it does not come whole.

        Args:
            body: takes the pieces.
            pieces: of the body; what it raises is passed on.
            approve_name: raises `LiveError` for a name that is not to be.
            bytes_least: how large the file is known to be, before any of it was read.

        Raises:
            ChannelNotFound, AccessDenied, NotInChannel: who is no member may not upload.
            Forbidden: nobody may.
            PayloadTooLarge: it is larger than a file may be, or than what the user may have yet.
            Overloaded: too many uploads at a time, or there is no room for more files.
            ProtocolError: the body is not what it must be, or of a type that is not taken.
            NotPersisted, BackendUnavailable, ShuttingDown: the disk or the store refuses.
        """
        if not self.settings.uploads:
            raise Forbidden("file: this server takes no files")
        with self._place(actor.user_id):
            channel_key = await perform(self._store, CheckMember(channel_id, actor.user_id, actor.is_admin))
            if bytes_least > self.settings.file_bytes:
                raise PayloadTooLarge(f"file: expected at most {self.settings.file_bytes} bytes")
            await self._check_room(actor.user_id, bytes_least)
            file_id = new_file_id()
            async with _opened(self._blobs.create(file_id), NotPersisted, "kept") as writer:
                intake = Intake(self.settings, body, partial(_write, writer), approve_name, self._hashing)
                await intake.run(pieces)
                row = FileRow(
                    file_id=file_id,
                    channel_key=channel_key,
                    channel_id=channel_id,
                    uploader_id=actor.user_id,
                    name=intake.name,
                    mime=body.mime,
                    bytes=intake.size,
                    sha256=intake.digest.hexdigest(),
                    created_at=self._now_ms(),
                    expires_at=self._now_ms() + self.settings.unattached_ttl_ms,
                )
                await self._keep(row, writer)
        self.statistics.taken += 1
        self.statistics.bytes_taken += row.bytes
        return row

    @contextmanager
    def _place(self, user_id: UserId) -> Iterator[None]:
        """Take one of the places for uploads while the block runs.

        Raises:
            Overloaded: none is left.
        """
        if self._uploading[user_id] >= self.settings.uploads_per_user:
            raise Overloaded(f"file: expected at most {self.settings.uploads_per_user} uploads at a time")
        if self.statistics.uploading >= self.settings.uploads_max:
            raise Overloaded("file: too many uploads at a time on this server")
        self._uploading[user_id] += 1
        self.statistics.uploading += 1
        try:
            yield
        finally:
            self.statistics.uploading -= 1
            self._uploading[user_id] -= 1
            if not self._uploading[user_id]:
                del self._uploading[user_id]

    async def _check_room(self, user_id: UserId, size: int) -> None:
        """Refuse early what would be refused in the end, before all of it has come."""
        await self._read(
            partial(
                file_rows.check_room,
                uploader_id=user_id,
                size=size,
                user_bytes=self.settings.user_bytes,
                total_bytes=self.settings.total_bytes,
            )
        )

    async def _keep(self, row: FileRow, writer: BlobWriter) -> None:
        """Store the row of a file whose bytes have all come."""
        with _blob_call(NotPersisted, "kept"):
            await writer.finish()
        try:
            # Not to be left halfway, for then nobody would know whether the bytes are to stay. The store answers
            # within its deadline.
            with trio.CancelScope(shield=True):
                await self._write(
                    partial(
                        file_rows.add,
                        row=row,
                        user_bytes=self.settings.user_bytes,
                        total_bytes=self.settings.total_bytes,
                    )
                )
        except NotPersisted as refusal:
            if refusal.action == "RETRY":
                writer.doubt()
            raise
        writer.keep()

    # --- giving out -------------------------------------------------------------------------------

    async def find(self, actor: Actor, file_id: str) -> FileRow:
        """Return a file that the actor may have: a member of the channel it is attached in; before, its uploader.

        Raises:
            FileNotFound: there is none, or it is not for this actor, who is not to know which.
            BackendUnavailable, Overloaded, ShuttingDown: the store does not answer.
        """
        if FILE_ID.fullmatch(file_id) is None:
            raise FileNotFound("file: there is no such file")
        row = await self._read(partial(file_rows.get, file_id=FileId(file_id), now_ms=self._now_ms()))
        is_known = allowed(actor.channels, row.channel_id)
        if not is_known or not (actor.is_admin or await self._may_have(actor.user_id, row)):
            raise FileNotFound("file: there is no such file")
        return row

    async def _may_have(self, user_id: UserId, row: FileRow) -> bool:
        if row.expires_at is not None:
            return row.uploader_id == user_id
        try:
            channel_key = await perform(self._store, CheckMember(row.channel_id, user_id))
        except (ChannelNotFound, AccessDenied, NotInChannel):
            return False
        # A channel that was deleted and created again is another one.
        return channel_key == row.channel_key

    @asynccontextmanager
    async def open(self, row: FileRow, start: int, stop: int) -> AsyncGenerator[Callable[[], Awaitable[bytes]]]:
        """Open the bytes of a file from `start` up to, not including, `stop`.

        Returns:
            What returns the next ones, empty at their end; raises as this does.

        Raises:
            FileNotFound: it was removed meanwhile.
            BackendUnavailable: the bytes cannot be read.
        """
        async with _opened(self._blobs.open(row.file_id, start, stop), BackendUnavailable, "read") as reader:

            async def read() -> bytes:
                with _blob_call(BackendUnavailable, "read"):
                    data = await reader.read()
                self.statistics.bytes_given += len(data)
                return data

            yield read

    # --- removing ---------------------------------------------------------------------------------

    async def delete(self, actor: Actor, file_id: str) -> None:
        """Remove a file: its uploader while no message refers to it; who may do all, at any time.

        Raises:
            FileNotFound: as `find`.
            Forbidden: it is another user's, or a message refers to it.
            NotPersisted, BackendUnavailable, Overloaded, ShuttingDown: the store refuses.
        """
        row = await self.find(actor, file_id)
        if not actor.is_admin and row.uploader_id != actor.user_id:
            raise Forbidden("file: only its uploader may remove it")
        # A message may have come to refer to it since it was found.
        if not await self._write(partial(file_rows.condemn, file_id=row.file_id, even_attached=actor.is_admin)):
            raise Forbidden("file: a message refers to it")
        await self._remove([row.file_id])

    async def _remove(self, file_ids: Sequence[FileId]) -> bool:
        """Remove bytes and rows of files that are gone already; return whether all could be.

        Those that could not be stay gone, and are tried again by `sweep`.
        """
        removed = []
        for file_id in file_ids:
            try:
                with _blob_call(BackendUnavailable, "removed"):
                    await self._blobs.delete(file_id)
            except BackendUnavailable:
                continue
            removed.append(file_id)
        if removed:
            self.statistics.removed += await self._write(partial(file_rows.remove, file_ids=removed))
        return len(removed) == len(file_ids)

    async def run(self) -> None:
        """Remove what is to be removed, now and again and again."""
        while True:
            try:
                await self.sweep()
            except LiveError as refusal:
                log.warning("files: sweep put off", reason=refusal.reason)
            except Exception:
                # A disk, or an embedder's blob store, failed; that is no reason for the server to end.
                log.exception("files: sweep failed")
            await trio.sleep(self.settings.sweep_interval_ms / 1000)

    async def sweep(self) -> None:
        """Remove what a crash left, the files of channels that are gone, and those that no message ever took.

        Raises:
            LiveError, OSError, trio.TooSlowError: the rest is left for the next time.
        """
        with trio.fail_after(SWEEP_TIMEOUT_S):
            orphans = await self._blobs.sweep(self._find_known)
        if orphans:
            log.info("files: removed what was left of uploads", blobs=orphans)
        while await self._write(partial(file_rows.condemn_some, limit=SWEEP_AT_ONCE)):
            pass
        while expired := await self._take_expired():
            if not await self._remove(expired):
                return

    async def _take_expired(self) -> list[FileId]:
        return await self._write(partial(file_rows.take_expired, now_ms=self._now_ms(), limit=SWEEP_AT_ONCE))

    async def _find_known(self, file_ids: Sequence[FileId]) -> set[FileId]:
        return await self._read(partial(file_rows.find_known, file_ids=file_ids))

    # --- the store --------------------------------------------------------------------------------

    async def _read(self, work: Callable[[Tables], T]) -> T:
        return await perform(self._store, Transact(work, writes=False))

    async def _write(self, work: Callable[[Tables], T]) -> T:
        return await perform(self._store, Transact(work))


async def _write(writer: BlobWriter, data: bytes) -> None:
    with _blob_call(NotPersisted, "kept"):
        await writer.write(data)

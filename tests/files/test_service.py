"""The life of a file: taken in whole or not at all, given to whom it is for, removed when nobody needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.error import (
    BackendUnavailable,
    ChannelNotFound,
    ContentRejected,
    FileNotFound,
    Forbidden,
    LiveError,
    NotInChannel,
    NotPersisted,
    Overloaded,
    PayloadTooLarge,
    ProtocolError,
)
from livechat.files.body import Body, RawBody, body_of_untrusted
from livechat.files.intake import GATHER_BYTES
from livechat.files.names import new_file_id
from livechat.files.service import SWEEP_AT_ONCE, Actor, FileService
from livechat.files.settings import FileSettings
from livechat.files.types import TypeRefused
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import Done, Outcome, Store, perform
from livechat.store.file_rows import FileRow
from livechat.store.memory import open_memory_store
from livechat.store.operations import CreateMessage, FileClaim, Operation
from livechat.store.rows import new_message_id
from livechat.store.side import Transact
from tests.support.files import PNG, MemoryBlobStore, pieces
from tests.support.store import NOW_MS, create, delete, in_one_go, join, leave

ANN, BOB, ADMIN = Actor(UserId("ann")), Actor(UserId("bob")), Actor(UserId("root"), is_admin=True)
LOBBY = ChannelId("lobby")


@attrs.define(slots=False)
class Desk:
    """A service, with what is behind it; Ann and Bob are members of its channel."""

    files: FileService
    store: Store
    blobs: MemoryBlobStore
    now_ms: int = NOW_MS
    names: list[str] = attrs.field(factory=list)
    """Names that were to be approved."""

    async def take(
        self,
        data: bytes = b"content",
        actor: Actor = ANN,
        *,
        mime: str = "text/plain",
        name: str = "a.txt",
        **more: Any,
    ) -> FileRow:
        return await self.take_body(RawBody(name, mime), pieces(data), actor, **more)

    async def take_body(
        self,
        body: Body,
        data: AsyncGenerator[bytes],
        actor: Actor = ANN,
        *,
        channel_id: ChannelId = LOBBY,
        approve: Callable[[str], None] | None = None,
        bytes_least: int = 0,
    ) -> FileRow:
        async with aclosing(data) as some:
            return await self.files.take(
                actor, channel_id, body, some, approve or self.names.append, bytes_least=bytes_least
            )

    async def attach(self, row: FileRow) -> None:
        operation = CreateMessage(
            channel_id=row.channel_id,
            author_id=row.uploader_id,
            content="",
            message_type="FILE",
            attachment={},
            mentions=(),
            nonce=None,
            body_digest=b"",
            message_id=new_message_id(),
            now_ms=self.now_ms,
            file=FileClaim(row.file_id, "url", is_certain=True),
        )
        await perform(self.store, operation)

    async def may_have(self, row: FileRow, *actors: Actor) -> list[bool]:
        allowed = []
        for actor in actors:
            try:
                assert (await self.files.find(actor, row.file_id)).file_id == row.file_id
                allowed.append(True)
            except FileNotFound:
                allowed.append(False)
        return allowed

    async def read(self, row: FileRow, start: int = 0, stop: int | None = None) -> bytes:
        data = b""
        async with self.files.open(row, start, row.bytes if stop is None else stop) as read:
            while part := await read():
                data += part
        return data


@asynccontextmanager
async def desk(store: Store | None = None, **settings: Any) -> AsyncGenerator[Desk]:
    blobs = MemoryBlobStore()
    async with open_memory_store() as inner:
        await in_one_go(inner, [create(), join("ann"), join("bob")])
        if isinstance(store, Spoiling):
            store.inner = inner
        made = Desk(None, inner, blobs)  # type: ignore[arg-type]
        made.files = FileService(store or inner, blobs, FileSettings(**settings), lambda: made.now_ms)
        yield made


# --- taking in --------------------------------------------------------------------------------------------


async def test_a_file_is_taken_in_and_given_out() -> None:
    data = PNG + bytes(3 * GATHER_BYTES)
    async with desk() as at:
        row = await at.take(data, mime="image/png", name="C:\\me\\사진.png", bytes_least=len(data))
        assert (row.name, row.mime, row.bytes) == ("사진.png", "image/png", len(data))
        assert row.sha256 == sha256(data).hexdigest()
        assert row.created_at == NOW_MS
        assert at.names == ["사진.png"], "the name that will be seen is the one to approve"
        assert await at.files.find(ANN, row.file_id) == row
        assert await at.read(row) == data
        assert await at.read(row, 5, 5000) == data[5:5000]
        statistics = at.files.statistics
        assert (statistics.taken, statistics.uploading, statistics.bytes_taken) == (1, 0, len(data))
        assert statistics.bytes_given == len(data) + 4995


async def refused(at: Desk, refusal: type[LiveError], match: str | None = None, **upload: Any) -> None:
    """Assert that an upload is refused, and that nothing of it is left."""
    with pytest.raises(refusal, match=match):
        await at.take(**upload)
    assert at.blobs.blobs == {}
    assert at.files.statistics.uploading == 0


async def test_an_empty_file_is_none() -> None:
    async with desk() as at:
        await refused(at, ProtocolError, "expected some bytes", data=b"")


async def test_only_members_upload() -> None:
    async with desk() as at:
        await refused(at, NotInChannel, actor=Actor(UserId("cat")))
        await refused(at, ChannelNotFound, channel_id=ChannelId("nowhere"))
        await at.take(actor=ADMIN)


async def test_a_file_that_is_too_large_is_refused_as_soon_as_that_is_known() -> None:
    async with desk(file_bytes=1000) as at:
        await refused(at, PayloadTooLarge, "at most 1000 bytes", data=b"x" * 1001)
        await refused(at, PayloadTooLarge, "at most 1000 bytes", bytes_least=1001)
        await at.take(b"x" * 1000)


async def test_a_user_has_only_so_much_room() -> None:
    async with desk(user_bytes=10_000, total_bytes=16_000) as at:
        row = await at.take(b"x" * 9_000)
        for upload in ({"data": b"x" * 2_000}, {"bytes_least": 2_000}):
            with pytest.raises(PayloadTooLarge, match="10000 bytes"):
                await at.take(**upload)
        with pytest.raises(Overloaded, match="no room"):
            await at.take(b"x" * 8_000, BOB)
        assert list(at.blobs.blobs) == [row.file_id]


async def test_types_that_are_not_taken_are_refused_before_anything_is_read() -> None:
    asked: list[bytes] = []

    async def asking() -> AsyncGenerator[bytes]:
        asked.append(b"content")
        yield b"content"

    async with desk(types=("image/*",)) as at:
        with pytest.raises(TypeRefused, match="text/html is not taken"):
            await at.take_body(RawBody("a", "text/html"), asking())
        assert not asked
        await refused(at, TypeRefused, "does not begin like image/png", data=b"<script>", mime="image/png")
        await refused(at, TypeRefused, "does not begin like image/png", data=PNG[:7], mime="image/png")
        await refused(at, TypeRefused, "does not begin", data=b"<script>" + bytes(GATHER_BYTES), mime="image/png")
        await at.take(PNG, mime="image/png")


async def test_a_name_that_is_not_approved_is_refused() -> None:
    def refuse(name: str) -> None:
        raise ContentRejected(f"name: {name}")

    async with desk() as at:
        with pytest.raises(ContentRejected, match=r"bad\.txt"):
            await at.take_body(RawBody("x/bad.txt", "text/plain"), pieces(b"x"), approve=refuse)
        assert at.blobs.blobs == {}


async def test_a_form_is_checked_as_soon_as_it_says_what_it_holds() -> None:
    def form(mime: str) -> bytes:
        head = f'--x\r\nContent-Disposition: form-data; filename="a"\r\nContent-Type: {mime}\r\n\r\n'
        return head.encode() + b"content\r\n--x--\r\n"

    async def take(data: bytes) -> FileRow:
        body = body_of_untrusted("multipart/form-data; boundary=x", None, None)
        return await at.take_body(body, pieces(data, 10))

    async with desk() as at:
        row = await take(form("text/plain"))
        assert (row.name, row.mime, row.bytes) == ("a", "text/plain", 7)
        for data, refusal in ((form("text/html"), TypeRefused), (form("text/plain")[:-9], ProtocolError)):
            with pytest.raises(refusal):
                await take(data)
        assert list(at.blobs.blobs) == [row.file_id]


async def test_uploads_are_switched_off() -> None:
    async with desk(uploads=False) as at:
        await refused(at, Forbidden, "takes no files")


async def test_only_so_many_uploads_run_at_a_time() -> None:
    go_on = trio.Event()

    async def slowly() -> AsyncGenerator[bytes]:
        yield b"content"
        await go_on.wait()

    async def take(actor: Actor) -> None:
        await at.take_body(RawBody("a", "text/plain"), slowly(), actor)

    async with desk(uploads_per_user=2, uploads_max=3) as at, trio.open_nursery() as nursery:
        for actor in (ANN, ANN, BOB):
            nursery.start_soon(take, actor)
        await wait_all_tasks_blocked()
        assert at.files.statistics.uploading == 3
        with pytest.raises(Overloaded, match="at most 2 uploads"):
            await at.take()
        with pytest.raises(Overloaded, match="on this server"):
            await at.take(actor=BOB)
        go_on.set()
    assert at.files.statistics.uploading == 0
    assert at.files.statistics.taken == 3


async def test_a_client_that_goes_away_leaves_nothing() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield bytes(GATHER_BYTES)
        raise OSError("connection reset")

    async def endless() -> AsyncGenerator[bytes]:
        yield bytes(GATHER_BYTES)
        await trio.sleep_forever()

    async with desk() as at:
        with pytest.raises(OSError, match="connection reset"):
            await at.take_body(RawBody("a", "text/plain"), broken())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(at.take_body, RawBody("a", "text/plain"), endless())
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert at.blobs.blobs == {}
        assert at.files.statistics.uploading == 0


@pytest.mark.parametrize("call", ["create", "write", "finish"])
async def test_a_full_disk_is_said_and_leaves_nothing(call: str) -> None:
    async with desk() as at:
        at.blobs.failing = {call}
        await refused(at, NotPersisted, "cannot be kept")
        at.blobs.failing = set()
        await at.take()


@pytest.mark.parametrize("call", ["create", "write", "finish"])
async def test_a_blob_store_that_hangs_is_given_up(call: str, autojump_clock: trio.abc.Clock) -> None:
    async with desk() as at:
        at.blobs.hanging = {call}
        await refused(at, NotPersisted, "cannot be kept")
        at.blobs.hanging = set()
        await at.take()


class Spoiling:
    """A store that fails the next change of the tables, in one way or the other."""

    inner: Store

    def __init__(self, *, is_stored: bool) -> None:
        self.is_stored = is_stored

    def submit(self, operation: Operation[Any], done: Done[Any]) -> None:
        if not isinstance(operation, Transact) or not operation.writes:
            self.inner.submit(operation, done)
            return
        if self.is_stored:
            self.inner.submit(operation, lambda _: None)
        done(Outcome(error=NotPersisted("nobody knows", action="RETRY")))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_row_in_doubt_keeps_the_bytes_until_it_is_known(is_stored: bool) -> None:
    async with desk(Spoiling(is_stored=is_stored)) as at:
        with pytest.raises(NotPersisted, match="nobody knows"):
            await at.take()
        (file_id,) = at.blobs.blobs
        at.files = FileService(at.store, at.blobs, FileSettings(), lambda: NOW_MS)
        await at.files.sweep()
        assert list(at.blobs.blobs) == [file_id] * is_stored
        if is_stored:
            assert await at.read(await at.files.find(ANN, file_id)) == b"content"


# --- giving out -------------------------------------------------------------------------------------------


async def test_before_it_is_attached_a_file_is_its_uploaders_alone() -> None:
    async with desk() as at:
        row = await at.take()
        assert await at.may_have(row, ANN, BOB, ADMIN) == [True, False, True]


async def test_attached_it_is_for_the_members_of_its_channel_as_long_as_they_are() -> None:
    cat = Actor(UserId("cat"))
    async with desk() as at:
        row = await at.take()
        await at.attach(row)
        assert await at.may_have(row, ANN, BOB, cat, ADMIN) == [True, True, False, True]
        await in_one_go(at.store, [leave("ann"), join("cat")])
        assert await at.may_have(row, ANN, BOB, cat) == [False, True, True]


async def test_who_is_a_member_of_a_channel_born_again_may_not_have_what_was_before() -> None:
    async with desk() as at:
        row = await at.take()
        await at.attach(row)
        await in_one_go(at.store, [delete(), create(), join("ann"), join("bob")])
        assert await at.may_have(row, ANN, BOB) == [False, False]


async def test_a_token_that_is_not_good_for_the_channel_is_not_for_its_files() -> None:
    async with desk() as at:
        row = await at.take()
        narrow = Actor(ANN.user_id, channels=ChannelPatterns(("other",)))
        fitting = Actor(ANN.user_id, channels=ChannelPatterns(("lob*",)))
        assert await at.may_have(row, narrow, fitting) == [False, True]
        everywhere_but_here = Actor(ADMIN.user_id, is_admin=True, channels=ChannelPatterns(("other",)))
        assert await at.may_have(row, everywhere_but_here) == [False]


@pytest.mark.parametrize("file_id", ["", "x", "../../secret", "file_" + "0" * 40, "file_" + "A" * 40, "file_\0"])
async def test_what_is_no_file_is_not_found(file_id: str) -> None:
    async with desk() as at:
        for actor in (ANN, ADMIN):
            with pytest.raises(FileNotFound, match="there is no such file"):
                await at.files.find(actor, file_id)


async def test_bytes_that_cannot_be_read_are_said_to_be_unavailable() -> None:
    async with desk() as at:
        row = await at.take()
        for call in ("open", "read"):
            at.blobs.failing = {call}
            with pytest.raises(BackendUnavailable, match="cannot be read"):
                await at.read(row)
        at.blobs.failing = set()
        at.blobs.blobs.clear()
        with pytest.raises(FileNotFound):
            await at.read(row)


@pytest.mark.parametrize("call", ["open", "read"])
async def test_reading_from_a_blob_store_that_hangs_is_given_up(call: str, autojump_clock: trio.abc.Clock) -> None:
    async with desk() as at:
        row = await at.take()
        at.blobs.hanging = {call}
        with pytest.raises(BackendUnavailable, match="cannot be read"):
            await at.read(row)
        at.blobs.hanging = {"delete"}
        await at.files.delete(ANN, row.file_id)
        assert await at.may_have(row, ANN) == [False]


# --- removing ---------------------------------------------------------------------------------------------


async def test_its_uploader_removes_a_file_until_it_is_attached() -> None:
    async with desk() as at:
        row = await at.take()
        with pytest.raises(FileNotFound):
            await at.files.delete(BOB, row.file_id)
        await at.files.delete(ANN, row.file_id)
        assert at.blobs.blobs == {}
        with pytest.raises(FileNotFound):
            await at.files.delete(ANN, row.file_id)
        assert at.files.statistics.removed == 1


async def test_an_attached_file_is_removed_by_who_may_do_all() -> None:
    async with desk() as at:
        row = await at.take()
        await at.attach(row)
        with pytest.raises(Forbidden, match="a message refers to it"):
            await at.files.delete(ANN, row.file_id)
        with pytest.raises(Forbidden, match="only its uploader"):
            await at.files.delete(BOB, row.file_id)
        await at.files.delete(ADMIN, row.file_id)
        assert await at.may_have(row, ANN, ADMIN) == [False, False]
        assert at.blobs.blobs == {}


async def test_what_is_removed_frees_its_room() -> None:
    async with desk(user_bytes=10_000) as at:
        row = await at.take(b"x" * 10_000)
        await at.files.delete(ANN, row.file_id)
        await at.take(b"x" * 10_000)


async def test_what_no_message_took_is_swept_and_the_rest_stays() -> None:
    async with desk(unattached_ttl_ms=1000) as at:
        attached, waiting = await at.take(), await at.take()
        await at.attach(attached)
        at.now_ms += 999
        await at.files.sweep()
        assert len(at.blobs.blobs) == 2
        at.now_ms += 1
        assert await at.may_have(waiting, ANN) == [False], "swept or not"
        await at.files.sweep()
        assert list(at.blobs.blobs) == [attached.file_id]


async def test_the_files_of_a_deleted_channel_are_swept() -> None:
    async with desk() as at:
        for _ in range(SWEEP_AT_ONCE + 1):
            at.blobs.blobs[(await at.take()).file_id] = b""
        await at.attach(await at.take())
        await in_one_go(at.store, [delete()])
        await at.files.sweep()
        assert at.blobs.blobs == {}
        assert at.files.statistics.removed == SWEEP_AT_ONCE + 2


async def test_bytes_that_cannot_be_removed_now_are_removed_later() -> None:
    async with desk() as at:
        row = await at.take()
        at.blobs.failing = {"delete"}
        await at.files.delete(ANN, row.file_id)
        assert await at.may_have(row, ANN, ADMIN) == [False, False], "it is gone for everybody all the same"
        await at.files.sweep()
        assert list(at.blobs.blobs) == [row.file_id]
        at.blobs.failing = set()
        await at.files.sweep()
        assert at.blobs.blobs == {}


async def test_the_sweep_goes_on_after_a_failure(autojump_clock: trio.abc.Clock) -> None:
    async with desk(sweep_interval_ms=1000, unattached_ttl_ms=1) as at, trio.open_nursery() as nursery:
        await at.take()
        at.now_ms += 1
        at.blobs.failing = {"sweep"}
        nursery.start_soon(at.files.run)
        await wait_all_tasks_blocked()
        assert len(at.blobs.blobs) == 1
        at.blobs.failing = set()
        await trio.sleep(1.5)
        assert at.blobs.blobs == {}
        await trio.sleep(5)
        assert at.blobs.swept == 6
        nursery.cancel_scope.cancel()


def test_ids_of_files_are_not_those_of_other_things() -> None:
    assert new_file_id().startswith("file_")

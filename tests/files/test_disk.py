"""Blobs on a disk: durable or gone, whatever happens; what a crash leaves is found, what is alive is let be."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from livechat.error import ConfigError
from livechat.files.disk import READ_BYTES, DiskBlobStore
from livechat.files.names import new_file_id
from livechat.protocol.types import FileId
from tests.support.files import blobs_in


async def stored(blobs: DiskBlobStore, data: bytes = b"content") -> FileId:
    file_id = new_file_id()
    async with blobs.create(file_id) as writer:
        await writer.write(data)
        await writer.finish()
        writer.keep()
    return file_id


async def read(blobs: DiskBlobStore, file_id: FileId, start: int, stop: int) -> list[bytes]:
    parts = []
    async with blobs.open(file_id, start, stop) as reader:
        while data := await reader.read():
            parts.append(data)
    return parts


async def none_known(_file_ids: Sequence[FileId]) -> set[FileId]:
    await trio.lowlevel.checkpoint()
    return set()


async def all_known(file_ids: Sequence[FileId]) -> set[FileId]:
    await trio.lowlevel.checkpoint()
    return set(file_ids)


@contextmanager
def file_size_limited(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size: a refusal of the kernel's own, as that of a full disk is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


async def test_what_was_kept_is_read_back_whole_and_in_part(tmp_path: Path) -> None:
    data = os.urandom(2 * READ_BYTES + 5)
    file_id = await stored(DiskBlobStore(tmp_path / "files"), data)
    blobs = DiskBlobStore(tmp_path / "files")
    parts = await read(blobs, file_id, 0, len(data))
    assert b"".join(parts) == data
    assert max(map(len, parts)) == READ_BYTES
    assert await read(blobs, file_id, 5, 9) == [data[5:9]]
    assert await read(blobs, file_id, len(data) - 1, len(data)) == [data[-1:]]
    assert await read(blobs, file_id, 7, 7) == []


async def test_a_blob_lies_under_its_id_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "files"
    blobs = DiskBlobStore(folder)
    file_id = await stored(blobs)
    digits = file_id.removeprefix("file_")
    assert blobs_in(folder) == {f"{digits[:2]}/{digits[2:]}": b"content"}
    path = folder / digits[:2] / digits[2:]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for each in (tmp_path / "data", folder, folder / "incoming", path.parent):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


@pytest.mark.parametrize("file_id", ["", "..", "file_../../../etc/passwd", "file_" + "A" * 40, "file_" + "a" * 39])
def test_an_id_that_is_none_names_no_place(tmp_path: Path, file_id: str) -> None:
    with pytest.raises(AssertionError):
        DiskBlobStore(tmp_path).path(FileId(file_id))


@pytest.mark.parametrize("finished", [False, True])
async def test_what_is_not_kept_leaves_nothing(tmp_path: Path, finished: bool) -> None:
    blobs = DiskBlobStore(tmp_path)

    async def write(failure: Exception | None) -> None:
        async with blobs.create(new_file_id()) as writer:
            await writer.write(b"content")
            if finished:
                await writer.finish()
            if failure is not None:
                raise failure

    with pytest.raises(ZeroDivisionError):
        await write(ZeroDivisionError())
    await write(None)
    assert blobs_in(tmp_path) == {}


async def test_a_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    with trio.CancelScope() as scope:
        async with blobs.create(new_file_id()) as writer:
            await writer.write(b"content")
            scope.cancel()
            await writer.write(b"more")
    assert scope.cancelled_caught
    assert blobs_in(tmp_path) == {}


async def test_a_disk_that_is_full_refuses_and_nothing_stays(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    async with blobs.create(new_file_id()) as writer:
        with file_size_limited(1000):
            await writer.write(b"x" * 900)
            with pytest.raises(OSError, match="too large"):
                await writer.write(b"x" * 900)
    assert blobs_in(tmp_path) == {}


async def test_a_blob_that_is_not_there_is_not_opened(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    with pytest.raises(FileNotFoundError):
        async with blobs.open(new_file_id(), 0, 1):
            pass
    async with blobs.create(file_id := new_file_id()) as writer:
        await writer.write(b"content")
        with pytest.raises(FileNotFoundError):
            async with blobs.open(file_id, 0, 1):
                pass


async def test_a_blob_that_is_shorter_than_it_should_be_says_so(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    file_id = await stored(blobs, b"12345")
    with pytest.raises(OSError, match="ends at byte 5, before byte 9"):
        await read(blobs, file_id, 0, 9)


async def test_a_removed_blob_is_read_to_its_end_by_who_had_opened_it(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    file_id = await stored(blobs)
    async with blobs.open(file_id, 0, 7) as reader:
        await blobs.delete(file_id)
        assert await reader.read() == b"content"
    assert blobs_in(tmp_path) == {}
    await blobs.delete(file_id)


async def test_opened_blobs_do_not_stay_open(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    file_id = await stored(blobs)
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await read(blobs, file_id, 0, 7)
        await blobs.sweep(none_known)
        await stored(blobs)
    assert len(os.listdir("/proc/self/fd")) <= len(before)


# --- what a crash leaves ----------------------------------------------------------------------------------

CRASH = """
import os, sys, trio
from pathlib import Path
from livechat.files.disk import DiskBlobStore

async def main():
    blobs = DiskBlobStore(Path(sys.argv[1]))
    async with blobs.create(sys.argv[2]) as writer:
        await writer.write(b"content")
        if sys.argv[3] == "finished":
            await writer.finish()
        print("ready", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def writing_process(folder: Path, file_id: FileId, progress: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has got so far with a blob, and goes no further."""
    command = [sys.executable, "-c", CRASH, str(folder), file_id, progress]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("progress", ["begun", "finished"])
async def test_what_a_killed_process_was_writing_is_swept(tmp_path: Path, progress: str) -> None:
    blobs = DiskBlobStore(tmp_path)
    stays = await stored(blobs)
    before = blobs_in(tmp_path)
    file_id = new_file_id()
    with writing_process(tmp_path, file_id, progress):
        assert await blobs.sweep(none_known) == 0, "as long as it lives, it is left alone"
        assert len(blobs_in(tmp_path)) == (2 if progress == "begun" else 3)
    assert await blobs.sweep(none_known) == 1
    assert blobs_in(tmp_path) == before
    assert await read(blobs, stays, 0, 7) == [b"content"]


async def test_what_was_finished_and_has_a_row_stays(tmp_path: Path) -> None:
    file_id = new_file_id()
    with writing_process(tmp_path, file_id, "finished"):
        pass
    blobs = DiskBlobStore(tmp_path)
    assert await blobs.sweep(all_known) == 0
    assert await read(blobs, file_id, 0, 7) == [b"content"]
    assert len(blobs_in(tmp_path)) == 1, "its name among the incoming ones is gone"


async def test_what_is_being_written_here_is_left_alone(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    async with blobs.create(file_id := new_file_id()) as writer:
        await writer.write(b"content")
        assert await blobs.sweep(none_known) == 0
        await writer.finish()
        assert await blobs.sweep(none_known) == 0
        writer.keep()
    assert await read(blobs, file_id, 0, 7) == [b"content"]


@pytest.mark.parametrize("has_row", [False, True])
async def test_a_doubtful_blob_stays_until_it_is_known_whether_it_has_a_row(tmp_path: Path, has_row: bool) -> None:
    blobs = DiskBlobStore(tmp_path)
    async with blobs.create(file_id := new_file_id()) as writer:
        await writer.write(b"content")
        await writer.finish()
        writer.doubt()
    assert await read(blobs, file_id, 0, 7) == [b"content"]
    assert await blobs.sweep(all_known if has_row else none_known) == (0 if has_row else 1)
    assert len(blobs_in(tmp_path)) == int(has_row)


async def test_a_sweep_asks_for_many_some_at_a_time(tmp_path: Path) -> None:
    blobs = DiskBlobStore(tmp_path)
    for _ in range(150):
        async with blobs.create(new_file_id()) as writer:
            writer.doubt()
    asked: list[int] = []

    async def half_known(file_ids: Sequence[FileId]) -> set[FileId]:
        await trio.lowlevel.checkpoint()
        asked.append(len(file_ids))
        return set(file_ids[::2])

    (tmp_path / "incoming" / "notes.txt").write_text("not ours")
    assert await blobs.sweep(half_known) == 75
    assert asked == [64, 64, 22]
    assert set(blobs_in(tmp_path)) == {"incoming/notes.txt"}


async def test_a_sweep_that_cannot_ask_removes_nothing(tmp_path: Path) -> None:
    async def fail(_file_ids: Sequence[FileId]) -> set[FileId]:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    blobs = DiskBlobStore(tmp_path)
    async with blobs.create(new_file_id()) as writer:
        writer.doubt()
    with pytest.raises(ZeroDivisionError):
        await blobs.sweep(fail)
    assert len(blobs_in(tmp_path)) == 1
    assert await blobs.sweep(none_known) == 1


async def test_a_link_among_the_incoming_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    blobs = DiskBlobStore(tmp_path / "files")
    (tmp_path / "files" / "incoming" / new_file_id()).symlink_to(secret)
    async with blobs.create(new_file_id()) as writer:
        writer.doubt()
    assert await blobs.sweep(none_known) == 1
    assert secret.read_text() == "mine"


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot use .*files: .*exists"):
        DiskBlobStore(tmp_path / "files")
    with pytest.raises(ConfigError, match="cannot use"):
        DiskBlobStore(tmp_path / "files" / "below")

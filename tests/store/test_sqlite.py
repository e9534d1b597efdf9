"""Opening a SQLite store: the folder, its lock, and databases that can't be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trio

from livechat.error import ConfigError
from livechat.store.base import perform
from livechat.store.sqlite import DATABASE_NAME, LOCK_NAME, open_sqlite_store
from tests.support.store import create, history, in_one_go, join, last_seq


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "livechat-store"]


@contextmanager
def another_process_holding(data_dir: Path) -> Iterator[None]:
    program = (
        "import fcntl, sys; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(data_dir / LOCK_NAME)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.stdin.close()


async def refused_to_open(data_dir: Path) -> str:
    """Return the line with which opening is refused."""
    with pytest.raises(ConfigError) as caught:
        async with open_sqlite_store(data_dir):
            raise AssertionError("must not be opened")
    line = str(caught.value)
    assert "\n" not in line
    return line


async def test_a_missing_folder_is_made_for_the_owner_only(tmp_path: Path) -> None:
    data_dir = tmp_path / "made" / "data % ?#"
    async with open_sqlite_store(data_dir) as store:
        await perform(store, create())
        assert {path.stat().st_mode & 0o777 for path in data_dir.iterdir()} == {0o600}
    assert data_dir.stat().st_mode & 0o777 == 0o700


async def test_a_store_that_was_left_is_one_file_that_can_be_copied(tmp_path: Path) -> None:
    data_dir = tmp_path / "data % ?#"
    async with open_sqlite_store(data_dir) as store:
        await in_one_go(store, [create(), join("ann")])
        assert (await store.fetch(history())).last_seq == 1
    assert {path.name for path in data_dir.iterdir()} == {DATABASE_NAME, LOCK_NAME}
    copy = tmp_path / "copy"
    copy.mkdir()
    (data_dir / DATABASE_NAME).rename(copy / DATABASE_NAME)
    async with open_sqlite_store(copy) as store:
        assert (await store.fetch(history())).last_seq == 1


async def test_two_stores_of_one_process_do_not_meet(tmp_path: Path) -> None:
    async def open_and_use(name: str) -> None:
        async with open_sqlite_store(tmp_path / name) as store:
            await in_one_go(store, [create(), join(name)])
            assert await last_seq(store) == 1

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(open_and_use, f"store{number}")


async def test_a_folder_is_used_by_one_store(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        assert (await refused_to_open(tmp_path)) == f"{tmp_path} is in use by another livechat"
        await perform(store, create())
    async with open_sqlite_store(tmp_path) as store:
        assert await last_seq(store) == 0


async def test_a_folder_in_use_by_another_process_is_refused(tmp_path: Path) -> None:
    with another_process_holding(tmp_path):
        assert "is in use by another livechat" in await refused_to_open(tmp_path)
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, create())


async def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert f"{path} can't be used as the data folder: " in await refused_to_open(path)
    assert f"{path / 'below'} can't be used as the data folder: " in await refused_to_open(path / "below")


def not_a_database(path: Path) -> None:
    path.write_bytes(b"not a database, though long enough to be taken for one" * 100)


def damaged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 2000)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE channel (id INTEGER)")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (not_a_database, "can't be used: file is not a database"),
        (damaged, "can't be used: database disk image is malformed"),
        (a_folder, "can't be used: unable to open database file"),
        (newer, "is at revision '9999', which only a newer livechat knows"),
        (foreign, "can't be used: table channel already exists"),
    ],
)
async def test_a_database_that_cannot_be_used_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, create())
    damage(tmp_path / DATABASE_NAME)

    assert await refused_to_open(tmp_path) == f"{tmp_path / DATABASE_NAME} {reason}"
    assert writer_threads() == []
    # The lock was given back.
    assert reason in await refused_to_open(tmp_path)


async def test_no_thread_outlives_the_store(tmp_path: Path) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, create())
        assert len(writer_threads()) == 1
    with trio.CancelScope() as scope:
        async with open_sqlite_store(tmp_path) as store:
            await perform(store, join())
            scope.cancel()
            await trio.sleep_forever()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_sqlite_store(tmp_path):
            await trio.sleep_forever()
    assert writer_threads() == []


async def test_every_commit_is_synced(tmp_path: Path) -> None:
    settings: set[tuple[str, object]] = set()

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            for name in ("journal_mode", "synchronous"):
                settings.add((name, self.execute(f"PRAGMA {name}").fetchone()[0]))
            super().commit()

    async with open_sqlite_store(tmp_path, connection_factory=Connection) as store:
        await perform(store, create())
    assert settings == {("journal_mode", "wal"), ("synchronous", 2)}

"""Which store a URL opens, and what is missing for it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from livechat.error import ConfigError
from livechat.store.base import perform
from livechat.store.location import MemoryLocation, PostgresLocation, SqliteLocation, locate
from livechat.store.migrate import Migrated
from livechat.store.opening import look_at_store, migrate_store, open_store
from livechat.store.schema import REVISION
from livechat.store.sqlite import Synchronous, open_sqlite_store
from tests.support.postgres import PostgresServer
from tests.support.store import create, last_seq

DATA_DIR = Path("data")
POSTGRES_URL = "postgresql://me@127.0.0.1:1/db"


@pytest.mark.parametrize(
    ("url", "location"),
    [
        (None, SqliteLocation(DATA_DIR / "livechat.db")),
        ("sqlite:///chat.db", SqliteLocation(Path("chat.db"))),
        ("sqlite:///folder/chat.db", SqliteLocation(Path("folder/chat.db"))),
        ("sqlite:////folder/chat.db", SqliteLocation(Path("/folder/chat.db"))),
        ("postgresql://host/database", PostgresLocation("postgresql://host/database")),
        ("postgres://host/database", PostgresLocation("postgres://host/database")),
        ("memory:", MemoryLocation()),
    ],
)
def test_a_url_names_a_place(url: str | None, location: object) -> None:
    assert locate(url, DATA_DIR) == location


async def open_and_create(url: str | None, data_dir: Path, *, synchronous: Synchronous = "full") -> None:
    async with open_store(url, data_dir, timeout_s=5.0, queue_max=100, synchronous=synchronous) as store:
        await perform(store, create())
        assert await last_seq(store) == 0


async def test_without_a_url_it_is_the_database_in_the_data_folder(tmp_path: Path) -> None:
    await open_and_create(None, tmp_path / "data")
    async with open_sqlite_store(tmp_path / "data") as store:
        assert await last_seq(store) == 0


async def test_a_database_may_lie_elsewhere_under_a_name_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "made" / "chat.sqlite"
    await open_and_create(f"sqlite:///{path}", tmp_path / "data")
    assert {file.name for file in path.parent.iterdir()} == {"chat.sqlite", "chat.sqlite.lock"}
    assert not (tmp_path / "data").exists()


async def test_a_database_is_used_by_one_store_by_whatever_name_it_is_called(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'livechat.db'}"
    async with open_sqlite_store(tmp_path):
        for opened in (None, url):
            with pytest.raises(ConfigError, match="is in use by another livechat"):
                await open_and_create(opened, tmp_path)
        with pytest.raises(ConfigError, match="is in use by another livechat"):
            migrate_store(url, tmp_path)
    # Two databases in one folder are two.
    async with open_sqlite_store(tmp_path):
        await open_and_create(f"sqlite:///{tmp_path / 'other.db'}", tmp_path)


async def test_a_memory_store_touches_no_disk(tmp_path: Path) -> None:
    await open_and_create("memory:", tmp_path / "data")
    assert not (tmp_path / "data").exists()


async def test_a_postgres_url_opens_postgres(database_url: str, tmp_path: Path) -> None:
    await open_and_create(database_url, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
async def test_sqlite_syncs_as_it_is_told(tmp_path: Path, synchronous: Synchronous, level: int) -> None:
    levels: list[int] = []

    class Connection(sqlite3.Connection):
        def commit(self) -> None:
            levels.append(self.execute("PRAGMA synchronous").fetchone()[0])
            super().commit()

    async with open_sqlite_store(tmp_path, synchronous=synchronous, connection_factory=Connection) as store:
        await perform(store, create())
    assert set(levels) == {level}


# --- migrations -----------------------------------------------------------------------------------


def test_a_new_sqlite_database_is_made_and_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'chat.db'}"
    assert look_at_store(url, tmp_path) == Migrated(None, REVISION)
    assert list(tmp_path.iterdir()) == []
    assert migrate_store(url, tmp_path) == Migrated(None, REVISION)
    assert migrate_store(url, tmp_path) == look_at_store(url, tmp_path) == Migrated(REVISION, REVISION)


def test_a_postgres_database_is_migrated(postgres: PostgresServer, tmp_path: Path) -> None:
    name = postgres.create_database(empty=True)
    url = postgres.url(name)
    assert look_at_store(url, tmp_path) == migrate_store(url, tmp_path) == Migrated(None, REVISION)
    assert look_at_store(url, tmp_path) == Migrated(REVISION, REVISION)
    postgres.drop_database(name)


def test_in_memory_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    assert look_at_store("memory:", tmp_path) is migrate_store("memory:", tmp_path) is None


def test_a_database_of_a_newer_livechat_is_not_called_behind(tmp_path: Path) -> None:
    migrate_store(None, tmp_path)
    with closing(sqlite3.connect(tmp_path / "livechat.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for function in (look_at_store, migrate_store):
        with pytest.raises(ConfigError, match="is at revision '9999', which only a newer livechat knows"):
            function(None, tmp_path)


# --- PostgreSQL's packages ------------------------------------------------------------------------


def test_they_are_not_imported_unless_they_are_wanted() -> None:
    program = (
        "import sys, livechat.cli.main, livechat.store.opening as opening, pathlib;"
        "opening.open_store('memory:', pathlib.Path(), timeout_s=1, queue_max=1, synchronous='full');"
        "assert not [name for name in sys.modules if name.startswith('psycopg')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_where_they_are_missing_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [name for name in sys.modules if name.startswith("livechat.store.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError) as caught:
        open_store(POSTGRES_URL, tmp_path, timeout_s=1.0, queue_max=1, synchronous="full")
    for function in (look_at_store, migrate_store):
        with pytest.raises(ConfigError, match=r"^store\.url: "):
            function(POSTGRES_URL, tmp_path)
    assert "pip install 'livechat[postgres]'" in str(caught.value)
    assert str(caught.value).isprintable()

"""Owns the choice of a store by its location: opening it, and bringing its database up to date.

It must not know the configuration. PostgreSQL's packages are imported only where they are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

from livechat.error import ConfigError
from livechat.store.base import Store
from livechat.store.location import MemoryLocation, PostgresLocation, locate
from livechat.store.memory import open_memory_store
from livechat.store.migrate import Migrated, check_known
from livechat.store.schema import REVISION
from livechat.store.sqlite import Synchronous, migrate_sqlite, open_sqlite_store, sqlite_revision


def open_store(
    url: str | None, data_dir: Path, *, timeout_s: float, queue_max: int, synchronous: Synchronous
) -> AbstractAsyncContextManager[Store]:
    """Return what opens the store; see `open_sqlite_store`, `open_postgres_store`, `open_memory_store`.

    Args:
        url: see `locate`.
        synchronous: of SQLite.

    Raises:
        ConfigError: the URL is none, or PostgreSQL's packages are missing. Entering it may raise others.
    """
    location = locate(url, data_dir)
    if isinstance(location, MemoryLocation):
        return open_memory_store()
    if isinstance(location, PostgresLocation):
        with _packages_of_postgres():
            from livechat.store.postgres import open_postgres_store
        return open_postgres_store(location.url, timeout_s=timeout_s, queue_max=queue_max)
    path = location.path
    return open_sqlite_store(
        path.parent, name=path.name, timeout_s=timeout_s, queue_max=queue_max, synchronous=synchronous
    )


def migrate_store(url: str | None, data_dir: Path) -> Migrated | None:
    """Bring a database to the newest revision; return what was done, None where there is none. Blocks.

    Raises:
        ConfigError: it can't be done.
    """
    location = locate(url, data_dir)
    if isinstance(location, MemoryLocation):
        return None
    if isinstance(location, PostgresLocation):
        with _packages_of_postgres():
            from livechat.store.postgres_schema import migrate_postgres
        return migrate_postgres(location.url)
    return migrate_sqlite(location.path)


def look_at_store(url: str | None, data_dir: Path) -> Migrated | None:
    """Return what `migrate_store` would do. Blocks.

    Raises:
        ConfigError: the database can't be asked, or only a newer livechat knows it.
    """
    location = locate(url, data_dir)
    if isinstance(location, MemoryLocation):
        return None
    if isinstance(location, PostgresLocation):
        with _packages_of_postgres():
            from livechat.store.postgres_schema import postgres_revision
        revision = postgres_revision(location.url)
    else:
        revision = sqlite_revision(location.path)
    check_known(revision)
    return Migrated(revision, REVISION)


@contextmanager
def _packages_of_postgres() -> Iterator[None]:
    """Say what to install if an import fails.

    Raises:
        ConfigError: it does.
    """
    try:
        yield
    except ImportError as exc:
        reason = "PostgreSQL needs more packages; pip install 'livechat[postgres]'"
        raise ConfigError(f"store.url: {reason} ({exc})") from exc

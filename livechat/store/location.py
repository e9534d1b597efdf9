"""Owns what the setting `store.url` may say.

It must not open anything, nor show a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from livechat.error import ConfigError

SQLITE_NAME: Final = "livechat.db"
"""The database in the data folder, if no URL is given."""

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = ("postgresql://", "postgres://")
_MEMORY: Final = "memory:"


@attrs.frozen
class SqliteLocation:
    """A file."""

    path: Path


@attrs.frozen
class PostgresLocation:
    """A database on a server."""

    url: str = attrs.field(repr=False)


@attrs.frozen
class MemoryLocation:
    """This process, as long as it runs."""


Location = SqliteLocation | PostgresLocation | MemoryLocation


def locate(url: str | None, data_dir: Path) -> Location:
    """Return where a store is.

    Args:
        url: `sqlite:///relative/path`, `sqlite:////absolute/path`, `postgresql://…` as libpq takes it, or
            `memory:`. None: SQLite in the data folder.

    Raises:
        ConfigError: it is none of these.
    """
    if url is None:
        return SqliteLocation(data_dir / SQLITE_NAME)
    if url == _MEMORY:
        return MemoryLocation()
    if url.startswith(_POSTGRES):
        return PostgresLocation(url)
    if url.startswith(_SQLITE) and not url.endswith("/"):
        return SqliteLocation(Path(url.removeprefix(_SQLITE)))
    scheme, colon, _ = url.partition(":")
    got = f"{scheme}:…" if colon and scheme.isalnum() else "something else"
    raise ConfigError(f"store.url: expected sqlite:///path, postgresql://… or memory:, got {got}")


def mask(url: str | None) -> str:
    """Return a representation of a URL that shows no password."""
    if url is None or not ("@" in url or "?" in url):
        return repr(url)
    return repr(f"{url.partition('://')[0]}://***")

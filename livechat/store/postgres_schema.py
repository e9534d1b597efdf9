"""Owns the schema of a PostgreSQL database: whether it is fit for use, and bringing it up to date.

It must not migrate by itself: several nodes may use the database, so when to do it is the operator's decision.
"""

from __future__ import annotations

from typing import Final

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict

from livechat.error import ConfigError
from livechat.store import migrate
from livechat.store import postgres_statements as sql
from livechat.store.migrate import Migrated
from livechat.store.postgres_connection import Address, Connection, one_line
from livechat.store.schema import REVISION

SERVER_VERSION_MIN: Final = 14
"""The oldest that still gets fixes."""
CONNECT_S: Final = 10.0
LOCK_TIMEOUT_MS: Final = 60_000
"""How long a migration waits for another one, or for those who use the tables."""


def check_database(connection: Connection) -> None:
    """Refuse a database that can't be used as it is.

    Raises:
        ConfigError: why not, and what to do.
        psycopg.Error: it can't be asked.
    """
    ((version, encoding, read_only, has_revision),) = connection.run([(sql.DESCRIBE, ())])[0]
    if version // 10_000 < SERVER_VERSION_MIN:
        raise ConfigError(f"is of PostgreSQL {version // 10_000}; {SERVER_VERSION_MIN} or newer is needed")
    if encoding != "UTF8":
        raise ConfigError(f"is encoded in {encoding}; UTF8 is needed")
    if read_only:
        raise ConfigError("is read-only")
    revision = _read_revision(connection) if has_revision else None
    if revision != REVISION:
        migrate.check_known(revision)
        state = "is empty" if revision is None else f"is at revision {revision}, which is too old"
        raise ConfigError(f"{state}: run `livechat migrate`")


def _read_revision(connection: Connection) -> str | None:
    found = connection.run([(sql.SELECT_REVISION, ())])[0]
    return str(found[0][0]) if found else None


def postgres_revision(url: str) -> str | None:
    """Return the revision of a database; None for an empty one. Blocks.

    Raises:
        ConfigError: it can't be asked.
    """
    address = Address(url, CONNECT_S)
    try:
        connection = address.connect()
        try:
            ((_, _, _, has_revision),) = connection.run([(sql.DESCRIBE, ())])[0]
            return _read_revision(connection) if has_revision else None
        finally:
            connection.close()
    except psycopg.Error as exc:
        raise ConfigError(f"{address.name} can't be used: {one_line(exc)}") from exc


def migrate_postgres(url: str) -> Migrated:
    """Bring the schema to the newest revision, all or nothing; several at once wait for each other. Blocks.

    Raises:
        ConfigError: it can't be done.
    """
    address = Address(url, CONNECT_S)
    engine = postgres_engine(url)
    try:
        with engine.begin() as connection:
            return migrate.upgrade(connection)
    except ConfigError as exc:
        raise ConfigError(f"{address.name} {exc}") from exc
    except (psycopg.Error, sa.exc.SQLAlchemyError) as exc:
        cause = getattr(exc, "orig", None) or exc
        raise ConfigError(f"{address.name} can't be migrated: {one_line(cause)}") from exc
    finally:
        engine.dispose()


def postgres_engine(url: str) -> sa.Engine:
    """Return an engine for migrations, which take what time they need but do not wait for locks for ever."""
    given = conninfo_to_dict(url)
    options = f"{given.pop('options', '') or ''} -c statement_timeout=0 -c lock_timeout={LOCK_TIMEOUT_MS}".strip()

    def connect() -> psycopg.Connection[tuple[object, ...]]:
        parameters = {"connect_timeout": int(CONNECT_S), "application_name": "livechat migrate", **given}
        return psycopg.connect(**parameters, options=options, client_encoding="utf8")  # type: ignore[arg-type]

    return sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)

"""Owns the SQLite store: the data folder, its lock, the connection and its transactions.

It must not hold rules (`executor`) nor queries (`sqlite_records`).

Source: https://www.sqlite.org/wal.html; https://www.sqlite.org/rescode.html
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa

from livechat.error import ConfigError
from livechat.store import migrate
from livechat.store.base import Store
from livechat.store.executor import NONCE_TTL_MS, Executor
from livechat.store.group_commit import open_group_commit
from livechat.store.location import SQLITE_NAME
from livechat.store.migrate import Migrated
from livechat.store.operations import Operation
from livechat.store.schema import REVISION
from livechat.store.sqlite_reader import SqliteReader
from livechat.store.sqlite_records import SqliteRecords

DATABASE_NAME: Final = SQLITE_NAME
LOCK_NAME: Final = "livechat.lock"

Synchronous = Literal["full", "normal"]
"""FULL syncs the log at every commit: only then is an acknowledged message still there after a power cut.

NORMAL syncs it now and then: a crash of the process loses nothing, but a power cut or a crash of the system may
lose the last seconds, and then numbers are given out again that clients have seen already.
"""

SQLITE_VERSION_MIN: Final = (3, 35, 0)
"""The first with RETURNING."""

OPEN_WAIT_S: Final = 5.0
"""How long opening waits for somebody else's lock on the database, seconds."""

_PRAGMAS: Final = (
    "PRAGMA wal_autocheckpoint = 4000",  # pages of 4 KiB: fewer syncs of the database under load than at 1000
    "PRAGMA cache_size = -32768",  # KiB
    "PRAGMA busy_timeout = 0",  # `begin` waits with its own deadline
)

# What passes with time, or calls for the operator, whatever the operation was.
_OUTAGES: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


@asynccontextmanager
async def open_sqlite_store(
    data_dir: Path,
    *,
    timeout_s: float = 5.0,
    queue_max: int = 65_536,
    nonce_ttl_ms: int = NONCE_TTL_MS,
    name: str = DATABASE_NAME,
    synchronous: Synchronous = "full",
    connection_factory: type[sqlite3.Connection] = sqlite3.Connection,
) -> AsyncGenerator[Store]:
    """Open the store in `data_dir`, for this process alone, and bring its schema up to date.

    It runs in a thread of its own until the block is left, which finishes everything submitted; see
    `open_group_commit`.

    Args:
        data_dir: made with mode 0700 if it is missing.
        timeout_s: by when an operation is answered, seconds after its `submit`.
        queue_max: operations waiting for a transaction, at most.
        nonce_ttl_ms: for how long a nonce is unique, milliseconds.
        name: of the database in that folder.
        synchronous: see `Synchronous`.
        connection_factory: the class of the writer's connection.

    Raises:
        ConfigError: the folder or the database can't be used, or another livechat uses it.

    Cancellation:
        Opening runs to its end; leaving is shielded and takes at most twice `timeout_s`.
    """
    backend = SqliteBackend(
        data_dir,
        connection_factory=connection_factory,
        nonce_ttl_ms=nonce_ttl_ms,
        name=name,
        synchronous=synchronous,
    )
    reader = SqliteReader(data_dir / name)
    async with open_group_commit(backend, reader, timeout_s=timeout_s, queue_max=queue_max) as store:
        yield store


class SqliteBackend:
    """The `Backend` of a SQLite database; all of it runs in the writer thread."""

    def __init__(
        self,
        data_dir: Path,
        *,
        connection_factory: type[sqlite3.Connection],
        nonce_ttl_ms: int,
        name: str = DATABASE_NAME,
        synchronous: Synchronous = "full",
    ) -> None:
        self._path = data_dir / name
        self._synchronous = synchronous
        self._connection_factory = connection_factory
        self._lock_fd: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._data_version: int | None = None
        self._records = SqliteRecords()
        self._executor = Executor(self._records, nonce_ttl_ms=nonce_ttl_ms)

    # --- opening and closing ----------------------------------------------------------------------

    def open(self) -> None:
        """Lock the data folder, migrate the database and connect.

        Raises:
            ConfigError: one of these can't be done.
        """
        self._lock_fd = _lock_database(self._path)
        with _naming(self._path):
            _make_private(self._path)
            if _revision(self._path) != REVISION:
                _migrate(self._path)
            self._connection = self._connect()

    def close(self) -> None:
        """Close the database and release the folder."""
        if self._connection is not None:
            self._drop_connection(self._connection)
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=OPEN_WAIT_S, isolation_level=None, factory=self._connection_factory
        )
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise ConfigError("is on a file system that SQLite's write-ahead log can't work on")
            connection.execute(f"PRAGMA synchronous = {self._synchronous.upper()}")
            for pragma in _PRAGMAS:
                connection.execute(pragma)
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop_connection(self, connection: sqlite3.Connection) -> None:
        self._connection = None
        self._data_version = None  # a number of this connection, comparable with no other's
        try:
            connection.close()
        except sqlite3.Error:
            pass  # what it had not committed is gone either way

    # --- transactions -----------------------------------------------------------------------------

    def begin(self, *, write: bool, wait_s: float) -> bool:
        """Begin a transaction; see `Backend.begin`."""
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        # Reading needs no lock, so it goes on while somebody else holds the one for writing.
        statement = "BEGIN IMMEDIATE" if write else "BEGIN"
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            if not _begin_waiting(connection, statement, wait_s):
                return False
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._data_version:
            self._records.forget()
            self._data_version = version
        self._records.begin(connection)
        return True

    def prepare(self, operations: Sequence[Operation[Any]]) -> None:
        """Do nothing: a lookup of its own is as cheap here as its share of a query for many."""

    def execute(self, operation: Operation[Any]) -> object:
        """Execute one operation; see `Backend.execute`."""
        return self._executor.execute(operation)

    def flush(self) -> None:
        """Send what was put off to the database; see `Backend.flush`."""
        self._records.flush()

    def commit(self) -> None:
        """Make the transaction durable."""
        assert self._connection is not None
        self._connection.commit()

    def abandon(self) -> None:
        """Do nothing: an embedded database always tells what became of a commit."""

    def rollback(self) -> None:
        """Undo the transaction; see `Backend.rollback`."""
        self._records.forget()
        connection = self._connection
        if connection is None:
            return
        try:
            # After a full disk or an I/O error SQLite may have done so already; then this does nothing.
            connection.rollback()
        except sqlite3.Error:
            # A connection in an unknown state must not be used again; `begin` makes a new one.
            self._drop_connection(connection)

    def is_outage(self, error: Exception) -> bool:
        """Tell a database that can't work from an operation that can't be done."""
        if isinstance(error, sqlite3.Error):
            # The low byte is the primary code, the rest says more (IOERR_FSYNC, BUSY_SNAPSHOT).
            return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _OUTAGES
        return isinstance(error, MemoryError)


def _is_busy(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_BUSY


def _begin_waiting(connection: sqlite3.Connection, statement: str, wait_s: float) -> bool:
    """Begin a transaction as soon as the lock is free; return False after `wait_s` seconds."""
    connection.execute(f"PRAGMA busy_timeout = {max(1, int(wait_s * 1000))}")
    try:
        connection.execute(statement)
    except sqlite3.OperationalError as error:
        if not _is_busy(error):
            raise
        return False
    finally:
        connection.execute("PRAGMA busy_timeout = 0")
    return True


def migrate_sqlite(path: Path) -> Migrated:
    """Bring a database to the newest revision, as opening it would. Blocks.

    Raises:
        ConfigError: it can't be done, or a livechat uses it.
    """
    lock_fd = _lock_database(path)
    try:
        with _naming(path):
            _make_private(path)
            return _migrate(path)
    finally:
        os.close(lock_fd)


def sqlite_revision(path: Path) -> str | None:
    """Return the revision of a database; None for a missing or empty one. Blocks.

    Raises:
        ConfigError: it can't be asked.
    """
    if not path.exists():
        return None
    with _naming(path):
        return _revision(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which database it is what goes wrong.

    Raises:
        ConfigError: something does.
    """
    try:
        yield
    except ConfigError as exc:
        raise ConfigError(f"{path} {exc}") from exc
    except (sqlite3.Error, sa.exc.SQLAlchemyError) as exc:
        cause = getattr(exc, "orig", None) or exc
        raise ConfigError(f"{path} can't be used: {cause}") from exc


def _lock_database(path: Path) -> int:
    """Make the data folder if needed and take the lock; return the file descriptor that holds it.

    Raises:
        ConfigError: that can't be done.
    """
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        wanted = ".".join(map(str, SQLITE_VERSION_MIN))
        raise ConfigError(f"SQLite {sqlite3.sqlite_version} is too old: {wanted} is needed")
    data_dir = path.parent
    lock = path.with_suffix(".lock") if path.suffix == ".db" else path.with_name(f"{path.name}.lock")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileExistsError as exc:
        raise ConfigError(f"{data_dir} can't be used as the data folder: not a folder") from exc
    except OSError as exc:
        raise ConfigError(f"{data_dir} can't be used as the data folder: {exc.strerror}") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(fd)
        raise ConfigError(f"{data_dir} is in use by another livechat") from exc
    return fd


def _make_private(path: Path) -> None:
    """Make an empty database that only its owner reads; SQLite gives its log the same mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as exc:
        raise ConfigError(f"{path} can't be used: {exc.strerror}") from exc


def _revision(path: Path) -> str | None:
    """Return the revision of a database; None for an empty one.

    Alembic would tell as well, but importing and asking it takes longer than all the rest of opening.
    """
    with closing(sqlite3.connect(path, timeout=OPEN_WAIT_S)) as connection:
        query = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        if connection.execute(query).fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row is not None else None


def _migrate(path: Path) -> Migrated:
    """Bring the schema to the newest revision, all or nothing."""
    engine = sqlite_engine(path)
    try:
        with engine.begin() as connection:
            return migrate.upgrade(connection)
    finally:
        engine.dispose()


def sqlite_engine(path: Path) -> sa.Engine:
    """Return an engine whose transactions take in changes of the schema too."""
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        poolclass=sa.NullPool,
        connect_args={"timeout": OPEN_WAIT_S},
    )

    # The driver of its own begins no transaction before DDL, so a migration could stop half-way.
    @sa.event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine

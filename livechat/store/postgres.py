"""Owns the PostgreSQL store: its writing connection, the transactions on it, and what became of a lost COMMIT.

It must not hold rules (`executor`) nor queries (`postgres_records`).

A COMMIT whose answer never came took place or did not. So every transaction that writes also writes its number
into this writer's own row. On a new connection that row is locked, which waits until the lost transaction has
ended, whichever way, and then tells. Nothing is guessed from transaction ids, which a crash or a failover may give
out again.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg

from livechat.error import ConfigError
from livechat.store import postgres_connection as postgres
from livechat.store import postgres_rows as rows
from livechat.store import postgres_statements as sql
from livechat.store.base import Store
from livechat.store.executor import NONCE_TTL_MS, Executor
from livechat.store.group_commit import open_group_commit
from livechat.store.handover import outage_error
from livechat.store.lookups import lookups_of
from livechat.store.operations import Operation
from livechat.store.postgres_connection import Address, Connection
from livechat.store.postgres_reader import PostgresReader
from livechat.store.postgres_records import PostgresRecords
from livechat.store.postgres_schema import check_database
from livechat.store.writer import TransactionLost

GRACE_S: Final = 1.0
"""How much longer than the server's own timeouts a transaction is waited for."""
FIND_OUT_EVERY_S: Final = 0.2
"""Between two attempts to find out what became of a commit."""


@asynccontextmanager
async def open_postgres_store(
    url: str,
    *,
    timeout_s: float = 5.0,
    queue_max: int = 65_536,
    nonce_ttl_ms: int = NONCE_TTL_MS,
) -> AsyncGenerator[Store]:
    """Open the store in a PostgreSQL database, which others may use at the same time.

    It runs in a thread of its own until the block is left, which finishes everything submitted; see
    `open_group_commit`. The database must stand at the newest revision (`livechat migrate`).

    Args:
        url: as libpq takes it (`postgresql://user:password@host:port/database?option=value`).
        timeout_s: by when an operation is answered, seconds after its `submit`.
        queue_max: operations waiting for a transaction, at most.
        nonce_ttl_ms: for how long a nonce is unique, milliseconds.

    Raises:
        ConfigError: the database can't be reached or used, or is at another revision.

    Cancellation:
        Opening runs to its end; leaving is shielded and takes at most twice `timeout_s`.
    """
    address = Address(url, timeout_s)
    backend = PostgresBackend(address, timeout_s=timeout_s, nonce_ttl_ms=nonce_ttl_ms)
    reader = PostgresReader(address, timeout_s=timeout_s)
    async with open_group_commit(backend, reader, timeout_s=timeout_s, queue_max=queue_max) as store:
        yield store


class PostgresBackend:
    """The `Backend` of a PostgreSQL database; all of it runs in the writer thread, but for `abandon`."""

    def __init__(self, address: Address, *, timeout_s: float, nonce_ttl_ms: int) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._is_proven = False  # the connection has done a transaction
        self._writer_id = f"writer_{secrets.token_hex(12)}"
        self._batch = 0
        self._abandoned = threading.Event()
        self._unstorable: set[int] = set()  # the `id` of each such operation in the batch that was prepared
        self._records = PostgresRecords()
        self._executor = Executor(self._records, nonce_ttl_ms=nonce_ttl_ms)

    # --- opening and closing ----------------------------------------------------------------------

    def open(self) -> None:
        """Connect, and check that the database is fit for use.

        Raises:
            ConfigError: it is not, or can't be reached.
        """
        try:
            connection = self._address.connect()
            try:
                check_database(connection)
            finally:
                connection.close()
            self._connection = self._connect()
        except ConfigError as exc:
            raise ConfigError(f"{self._address.name} {exc}") from exc
        except psycopg.Error as exc:
            raise ConfigError(f"{self._address.name} can't be used: {postgres.one_line(exc)}") from exc

    def close(self) -> None:
        """Close the connection."""
        connection = self._connection
        if connection is None:
            return
        connection.deadline = time.monotonic() + GRACE_S
        try:
            connection.execute(sql.REMOVE_WRITER, (self._writer_id,))
        except psycopg.Error:
            pass  # then the row stays, as after a kill: some bytes that nobody looks at
        self._drop_connection(connection)

    def _connect(self) -> Connection:
        """Connect, and see to the row of this writer."""
        connection = self._address.connect()
        try:
            connection.deadline = time.monotonic() + self._timeout_s + GRACE_S
            connection.execute(sql.ADD_WRITER, (self._writer_id,))
        except BaseException:
            connection.close()
            raise
        self._is_proven = False
        return connection

    def _drop_connection(self, connection: Connection) -> None:
        self._connection = None
        connection.close()

    # --- transactions -----------------------------------------------------------------------------

    def begin(self, *, write: bool, wait_s: float) -> bool:
        """Begin a transaction; its locks are waited for by `prepare`. See `Backend.begin`."""
        if self._connection is None:
            self._connection = self._connect()
        self._connection.deadline = time.monotonic() + self._timeout_s + GRACE_S
        self._connection.begin(sql.BEGIN_WRITE if write else sql.BEGIN_READ)
        self._records.begin(self._connection, write=write)
        return True

    def prepare(self, operations: Sequence[Operation[Any]]) -> None:
        """Lock and fetch what these operations will need; see `Backend.prepare`."""
        # Found out by the database they would undo the whole batch.
        self._unstorable = {id(operation) for operation in operations if not rows.is_storable(operation)}
        if self._unstorable:
            operations = [operation for operation in operations if id(operation) not in self._unstorable]
        try:
            self._records.prefetch(lookups_of(operations))
        except psycopg.Error as error:
            self._give_way(error)
            raise

    def execute(self, operation: Operation[Any]) -> object:
        """Execute one operation; see `Backend.execute`."""
        if id(operation) in self._unstorable:
            raise outage_error(operation, "PostgreSQL can't hold a text with NUL or half a surrogate pair")
        try:
            return self._executor.execute(operation)
        except psycopg.Error as error:
            self._give_way(error)
            raise

    def flush(self) -> None:
        """Send what was put off to the database, and the mark of this transaction; see `Backend.flush`."""
        assert self._connection is not None
        statements = self._records.take_changes()
        if not self._records.has_written:
            return
        self._batch += 1
        mark = (sql.MARK_BATCH, (self._batch, self._writer_id))
        try:
            marked = self._connection.run([*statements, mark])[-1]
        except psycopg.Error as error:
            self._give_way(error)
            raise
        if not marked:
            # Somebody has removed the row, without which a commit could not be proved.
            self._drop_connection(self._connection)
            raise TransactionLost

    def commit(self) -> None:
        """Make the transaction durable; see `Backend.commit`."""
        connection = self._connection
        assert connection is not None
        if not connection.has_begun:
            return
        connection.deadline = time.monotonic() + self._timeout_s
        try:
            done = connection.execute(sql.COMMIT, prepare=False).statusmessage
            assert done == "COMMIT"  # of a transaction that has failed it would be ROLLBACK
        except psycopg.Error:
            if not connection.closed:
                raise  # the server has refused it
            self._drop_connection(connection)
            if self._records.has_written and not self._has_committed():
                raise
        self._is_proven = True

    def _has_committed(self) -> bool:
        """Find out whether the newest batch was committed; it takes as long as it takes.

        Raises:
            psycopg.Error: it could not be found out by the time of `abandon`.
        """
        while True:
            try:
                connection = self._connection = self._connect()
                connection.begin(sql.BEGIN_WRITE)
                (found,) = connection.run([(sql.SELECT_LAST_BATCH, (self._writer_id,))])
                connection.rollback_quickly()
            except psycopg.Error:
                if self._connection is not None:
                    self._drop_connection(self._connection)
                if self._abandoned.wait(FIND_OUT_EVERY_S):
                    raise
            else:
                return found == [(self._batch,)]

    def abandon(self) -> None:
        """Stop looking for the outcome of a commit; see `Backend.abandon`."""
        self._abandoned.set()

    def rollback(self) -> None:
        """Undo the transaction; see `Backend.rollback`."""
        self._records.forget()
        connection = self._connection
        if connection is None:
            return
        connection.rollback_quickly()
        if connection.closed:
            # `begin` makes a new one.
            self._drop_connection(connection)

    def _give_way(self, error: psycopg.Error) -> None:
        """Tell a transaction that had bad luck from one that can't be done.

        A connection may have died of old age or with its server while nobody used it; on a new one it is tried
        again. If that dies too, it is an outage.

        Raises:
            TransactionLost: it may be tried again.
        """
        connection = self._connection
        assert connection is not None
        has_died = connection.closed and time.monotonic() < connection.deadline
        if postgres.is_lost(error) or (has_died and self._is_proven):
            raise TransactionLost from error

    def is_outage(self, error: Exception) -> bool:
        """Tell a database that can't work from an operation that can't be done."""
        return postgres.is_outage(error)

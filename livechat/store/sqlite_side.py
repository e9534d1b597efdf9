"""Owns how the tables beside chat are worked on in SQLite, on disk or in memory.

It must not begin or end a transaction of the database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from livechat.store.handover import outage_error
from livechat.store.schema import METADATA
from livechat.store.side import Rows, Tables, Transact, savepoint

T = TypeVar("T")


class SqliteSide:
    """Runs work on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._tables = Tables(sqlite.dialect(paramstyle="named"), self._run)

    def transact(self, operation: Transact[T]) -> T:
        """Do the work of an operation.

        Raises:
            NotPersisted: SQLite refused a value or a constraint.
        """
        if not operation.writes:
            return operation.work(self._tables)
        try:
            with savepoint(self.connection.execute):
                return operation.work(self._tables)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
            raise outage_error(operation, "the database refused the values") from error

    def _run(self, statement: str, parameters: Mapping[str, Any]) -> Rows:
        cursor = self.connection.execute(statement, parameters)
        return Rows(cursor.fetchall() if cursor.description else (), cursor.rowcount)


def open_memory_side() -> SqliteSide:
    """Open the tables in memory, in whatever thread; they are gone with the result."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    dialect = sqlite.dialect()
    for table in METADATA.sorted_tables:
        connection.execute(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
    return SqliteSide(connection)

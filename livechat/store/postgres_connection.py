"""Owns a connection to PostgreSQL on which nothing waits for ever, and what its errors mean.

It must not hold queries of the store.

    who watches            what                                         after
    server                 a statement, or its wait for a lock          statement_timeout, lock_timeout
    server                 a client that is silent in a transaction     idle_in_transaction_session_timeout
    client, `deadline`     a server that is silent, its host alive      what the caller sets
    client's kernel        a host that is silent                        keepalives, tcp_user_timeout

Source: https://www.postgresql.org/docs/current/runtime-config-client.html;
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from typing import Any, Final, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from livechat.error import ConfigError

R = TypeVar("R")

Row = tuple[Any, ...]
Statement = tuple[str, Sequence[object]]
"""SQL with `%s` for each parameter, and those."""

WAIT_INTERVAL_S: Final = 0.1
"""How often a wait looks at the clock."""
ROLLBACK_S: Final = 1.0
"""For how long a connection may take to give up a transaction before it is given up itself."""

# Every query of the store finds its rows by an index. A plan made while a table was small, and kept since then,
# would read all of it; and estimates made large by `enable_seqscan` would have it compiled first.
_PLANNER: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}

# What passes with time, or calls for the operator, whatever the operation was: by code, or by its class.
_OUTAGES: Final = frozenset({"25006", "42501", "42703", "42P01", "XX001", "XX002"})
_OUTAGE_CLASSES: Final = frozenset({"08", "28", "3D", "53", "57", "58"})
# Deadlock, serialization failure, lock_timeout, statement_timeout: this time somebody else was in the way.
_LOST: Final = frozenset({"40001", "40P01", "55P03", "57014"})


class Connection(psycopg.Connection[Row]):
    """A connection in autocommit mode; one thread at a time."""

    deadline: float = math.inf
    """By when what is waited for must be there, monotonic seconds; past it the connection is closed."""
    _begin: Statement | None = None

    def begin(self, statement: str) -> None:
        """Begin a transaction together with whatever `run` executes next."""
        self._begin = (statement, ())

    @property
    def has_begun(self) -> bool:
        """Whether anything was sent since `begin`."""
        return self._begin is None

    def start(self) -> None:
        """Begin the transaction by itself, before what is executed outside of `run`."""
        if self._begin is not None:
            self.run([])

    def run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Execute statements one after another, in one round trip; return the rows of each.

        Raises:
            psycopg.Error: one of them failed, and those after it were not executed.
        """
        if self._begin is not None:
            statements = [self._begin, *statements]
            self._begin = None
            return self.run(statements)[1:]
        # For one statement the pipeline would cost more than it saves.
        cursors = self._run_pipelined(statements) if len(statements) > 1 else [self.execute(*statements[0])]
        return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

    def _run_pipelined(self, statements: Sequence[Statement]) -> list[psycopg.Cursor[Row]]:
        failure: psycopg.Error | None = None
        cursors: list[psycopg.Cursor[Row]] = []
        try:
            with self.pipeline():
                try:
                    cursors = [self.execute(*statement) for statement in statements]
                except psycopg.Error as error:
                    # Outside, the pipeline would log what becomes of the statements after the one that failed.
                    failure = error
        except psycopg.Error as error:
            failure = failure or error
        if failure is not None:
            raise failure
        return cursors

    def rollback_quickly(self) -> None:
        """End the transaction, or else the connection. Never raises."""
        if self.closed or not self.has_begun:
            self._begin = None
            return
        self.deadline = time.monotonic() + ROLLBACK_S
        try:
            self.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def wait(self, gen: Generator[Any, Any, R], *args: Any, **kwargs: Any) -> R:
        """Wait as psycopg does, but until the deadline only."""
        return super().wait(self._until_deadline(gen), WAIT_INTERVAL_S)

    def _until_deadline(self, gen: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > self.deadline:
                    # Whatever comes of it now, nobody would know what it belongs to.
                    self.close()
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as stop:
            result: R = stop.value
            return result


class Address:
    """Where a database is, and how to connect to it."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Take a URL of libpq's.

        Raises:
            ConfigError: it is none. The reason does not show it, for it may hold a password.
        """
        try:
            given = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
        except (psycopg.Error, UnicodeError):
            raise ConfigError("store.url: libpq can't read this PostgreSQL URL") from None
        timeout_ms = max(1, math.ceil(timeout_s * 1000))
        settings = {
            "statement_timeout": timeout_ms,
            "lock_timeout": timeout_ms,
            # Longer, or the connection could go while its own transaction is about to be committed.
            "idle_in_transaction_session_timeout": 2 * timeout_ms,
            **_PLANNER,
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._timeout_s = timeout_s
        self._parameters: dict[str, Any] = {
            "application_name": "livechat",
            "connect_timeout": str(max(2, math.ceil(timeout_s))),  # less would be taken for 2 s
            "keepalives_idle": "10",
            "keepalives_interval": "5",
            "keepalives_count": "3",
            "tcp_user_timeout": str(timeout_ms),
            **given,
            "client_encoding": "utf8",
            "options": f"{given.get('options', '')} {options}".strip(),
        }
        host = given.get("host") or given.get("hostaddr") or "this machine"
        port = f":{given['port']}" if "port" in given else ""
        name = given.get("dbname") or given.get("user") or "of this user"
        self.name = f"the database {name} on {host}{port}"
        """For messages; without user and password."""

    def connect(self) -> Connection:
        """Connect, within `timeout_s` (but no less than 2 s) for each host of the URL.

        Raises:
            psycopg.Error: it can't be done.
        """
        connection = Connection.connect(**self._parameters, autocommit=True, prepare_threshold=0)
        try:
            connection.deadline = time.monotonic() + self._timeout_s
            # An operator may have traded durability for speed; what is acknowledged here must be on disk.
            connection.execute(
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'"
            )
        except BaseException:
            connection.close()
            raise
        return connection


def is_outage(error: Exception) -> bool:
    """Tell a database that can't work now from an operation that can't be done."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, MemoryError)
    if error.sqlstate is None:
        # Raised by the client: what is no outage is a parameter that does not fit.
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate in _OUTAGES or error.sqlstate[:2] in _OUTAGE_CLASSES


def is_lost(error: psycopg.Error) -> bool:
    """Tell whether the transaction only had to give way, and may be done again."""
    return error.sqlstate in _LOST


def one_line(error: Exception) -> str:
    """Return what an error says, for a terminal."""
    return " ".join(str(error).split()) or type(error).__name__

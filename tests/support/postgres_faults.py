"""What tests of PostgreSQL's failures ask for: how a store answered, what was stored, and connections to end."""

from __future__ import annotations

from typing import Any

import trio

from livechat.store.base import Outcome, Store
from livechat.store.rows import Stored
from tests.support.postgres import PostgresServer
from tests.support.server import wait_until
from tests.support.store import in_one_go, message


def codes(outcomes: list[Outcome[Any]]) -> list[int]:
    return [outcome.error.code if outcome.error else 0 for outcome in outcomes]


def actions(outcomes: list[Outcome[Any]]) -> list[str | None]:
    return [outcome.error.action if outcome.error else None for outcome in outcomes]


async def until_healed(store: Store) -> Stored:
    """Send until a message is stored, and return where; until then every one must be refused for sure."""
    with trio.fail_after(30):
        while True:
            (outcome,) = await in_one_go(store, [message("ann")])
            if outcome.error is None:
                return outcome.unwrap()
            assert (outcome.error.code, outcome.error.action) == (3005, "ROLLBACK")


def stored_seqs(server: PostgresServer, database: str) -> list[int]:
    with server.connect(database) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM message ORDER BY seq").fetchall()]


WAITS_FOR_LOCK = "wait_event_type = 'Lock'"
"""A condition on `pg_stat_activity`."""
OTHERS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"


def terminate(server: PostgresServer, database: str, condition: str = "true") -> int:
    """End the connections to a database that a condition on `pg_stat_activity` names; return how many."""
    with server.connect("postgres") as connection:
        query = f"SELECT pg_terminate_backend(pid, 10000) {OTHERS} AND {condition}"
        return len(connection.execute(query, (database,)).fetchall())


async def wait_for_connection(server: PostgresServer, database: str, condition: str) -> None:
    """Wait until there is a connection to a database that a condition on `pg_stat_activity` names."""
    query = f"SELECT 1 {OTHERS} AND {condition}"
    with server.connect("postgres") as connection:
        await wait_until(lambda: connection.execute(query, (database,)).fetchall())

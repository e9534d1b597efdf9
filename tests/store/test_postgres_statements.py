"""No statement of the PostgreSQL store looks through a whole table, even if planned while all were empty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from livechat.store import postgres_statements as sql
from livechat.store.postgres_connection import Address, Connection
from tests.support.postgres import PostgresServer

STATEMENTS = {
    name: statement
    for name, statement in vars(sql).items()
    if isinstance(statement, str)
    and re.match(r"(SELECT|INSERT|UPDATE|DELETE|WITH)\b.*\b(FROM|INTO|UPDATE)\b", statement)
}
SMALL = {"SELECT_PRUNABLE", "SELECT_REVISION"}
"""Those of tables that never have more than some rows."""
WHOLE_KEY = {
    "SELECT_MEMBERS": "pk_member",
    "SELECT_CHANNELS_AND_MEMBERS": "pk_member",
    "SELECT_GLANCE": "pk_member",
    "DELETE_MEMBERS": "pk_member",
    "SELECT_BANS": "pk_ban",
    "DELETE_BANS": "pk_ban",
    "SELECT_ORDINALS": "pk_message",
    "SELECT_RANGES": "pk_message",
    "DELETE_MENTIONS": "pk_mention",
    "SELECT_NONCES": "uq_nonce_author_id",
}
"""Statements that find rows of one channel, and the index by which they must find each of them."""
COLUMNS = {"pk_member": 2, "pk_ban": 2, "pk_message": 2, "pk_mention": 3, "uq_nonce_author_id": 3}


@pytest.fixture(scope="module")
def connection(postgres: PostgresServer) -> Iterator[Connection]:
    name = postgres.create_database()
    connection = Address(postgres.url(name), 5.0).connect()
    # The plan that is kept, and not one for the values at hand.
    connection.execute("SET plan_cache_mode = force_generic_plan")
    yield connection
    connection.close()
    postgres.drop_database(name)


def plan_of(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Return the nodes of a statement's plan."""
    text, count = STATEMENTS[name], STATEMENTS[name].count("%s")
    for number in range(1, count + 1):
        text = text.replace("%s", f"${number}", 1)
    connection.execute(f"PREPARE plan_of_{name} AS {text}")
    arguments = f"({', '.join(['NULL'] * count)})" if count else ""
    ((explained,),) = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE plan_of_{name}{arguments}").fetchall()
    connection.execute(f"DEALLOCATE plan_of_{name}")
    return list(nodes(explained[0]["Plan"]))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_the_statements_are_found() -> None:
    assert len(STATEMENTS) > 40
    assert set(WHOLE_KEY) | SMALL <= set(STATEMENTS)


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - SMALL))
def test_rows_are_found_by_an_index(connection: Connection, name: str) -> None:
    for node in plan_of(connection, name):
        assert node["Node Type"] not in ("Seq Scan", "Hash Join", "Merge Join"), node
        assert "Join Filter" not in node, node


@pytest.mark.parametrize(("name", "index"), WHOLE_KEY.items())
def test_rows_of_a_channel_are_found_by_the_whole_key(connection: Connection, name: str, index: str) -> None:
    found = [node for node in plan_of(connection, name) if node.get("Index Name") == index]
    assert found
    for node in found:
        assert node["Index Cond"].count(" AND ") >= COLUMNS[index] - 1, node

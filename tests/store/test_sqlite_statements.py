"""How SQLite finds what the statements ask for: by key or index, never by looking through a whole table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from livechat.store import sqlite_statements as sql
from livechat.store.schema import METADATA
from livechat.store.sqlite import DATABASE_NAME, open_sqlite_store
from tests.support.store_sqlite import Rival

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE")
STATEMENTS = {
    f"{name}[{place}]": text
    for name, value in vars(sql).items()
    for place, text in enumerate(value if isinstance(value, tuple) else (value,))
    if isinstance(text, str) and text.startswith(VERBS)
}

# What looks through a table all the same: for one row, for a chunk of the oldest, and once when the server starts.
SCANS = {
    "SELECT_PRUNABLE[0]": "prunable",
    "PRUNE_NONCES[0]": "nonce",
    "SELECT_TRANSIENT[0]": "member",
}

# By which of its columns each of these must find its rows, and in which table.
KEYS = {
    # MarkRead, and the position of who sends
    "SELECT_ORDINAL[0]": "message (channel_key=? AND seq=?)",
    "DELETE_MENTIONS[0]": "mention (channel_key=? AND user_id=? AND seq<?)",
    "COUNT_MENTIONS[0]": "mention (channel_key=? AND user_id=?)",
    # history and ranges
    "HISTORY_BEFORE[0]": "message (channel_key=? AND seq<?)",
    "HISTORY_AFTER[0]": "message (channel_key=? AND seq>?)",
    "HISTORY_HAS_BEFORE[0]": "message (channel_key=? AND seq<?)",
    "SELECT_GLANCE[0]": "channel (channel_id=?) member (channel_key=? AND user_id=?)",
    "SELECT_RANGES[0]": "channel (channel_id=?) message (channel_key=? AND seq>? AND seq<?)",
    # memberships
    "SELECT_MEMBERSHIPS[0]": "member (user_id=?) channel (rowid=?) message (channel_key=? AND seq=?)",
    "SELECT_MEMBERSHIPS_PLAIN[0]": "member (user_id=?) channel (rowid=?)",
    "SELECT_MEMBER[0]": "member (channel_key=? AND user_id=?)",
    "SELECT_MEMBERS_PAGE[0]": "member (channel_key=? AND user_id>?)",
    "DELETE_MEMBERS[0]": "member (channel_key=? AND user_id=?)",
    "SELECT_BAN[0]": "ban (channel_key=? AND user_id=?)",
    # channels
    "SELECT_CHANNEL[0]": "channel (channel_id=?)",
    "SELECT_VISIBLE[0]": "channel (channel_id>?) member (channel_key=? AND user_id=?)",
    "UPDATE_COUNTERS[0]": "channel (rowid=?)",
    # announcements, users and nonces
    "SELECT_ANNOUNCEMENTS[0]": "announcement (created_at>?)",
    "SELECT_USER[0]": "user_state (user_id=?)",
    "SELECT_NONCE[0]": "nonce (author_id=? AND channel_id=? AND nonce=?)",
}


@pytest.fixture
async def database(tmp_path: Path) -> Rival:
    async with open_sqlite_store(tmp_path):
        pass
    assert (tmp_path / DATABASE_NAME).exists()
    return Rival(tmp_path)


def plan(database: Rival, statement: str) -> Iterator[str]:
    """Yield the steps in which SQLite would execute a statement."""
    numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    parameters = [None] * (max(numbers) if numbers else statement.count("?"))
    for *_, step in database.query(f"EXPLAIN QUERY PLAN {statement}", *parameters):
        yield step


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_looks_through_a_table(database: Rival, name: str) -> None:
    with closing(database):
        scanned = [
            match[1]
            for step in plan(database, STATEMENTS[name])
            if (match := re.match(r"SCAN (?:TABLE )?(\w+)", step))
        ]
    assert [table for table in scanned if table in METADATA.tables] == ([SCANS[name]] if name in SCANS else [])


@pytest.mark.parametrize("name", KEYS)
async def test_a_statement_finds_its_rows_by_the_whole_key(database: Rival, name: str) -> None:
    with closing(database):
        steps = list(plan(database, STATEMENTS[name]))
    found = [
        match.groups() for step in steps if (match := re.match(r"SEARCH (?:TABLE )?(\w+) USING .*(\(.*\))", step))
    ]
    assert " ".join(f"{table} {columns}" for table, columns in found) == KEYS[name]


async def test_pages_are_not_sorted(database: Rival) -> None:
    """Sorting reads all there is before the first row."""
    with closing(database):
        for name in ("HISTORY_BEFORE", "HISTORY_AFTER", "SELECT_MEMBERS_PAGE", "SELECT_VISIBLE", "SELECT_RANGES"):
            assert not [step for step in plan(database, STATEMENTS[f"{name}[0]"]) if "TEMP B-TREE" in step]


async def test_ranges_are_the_outer_loop(database: Rival) -> None:
    with closing(database):
        tables = re.findall(r"(?:SCAN|SEARCH) (?:TABLE )?(\w+)", " ".join(plan(database, sql.SELECT_RANGES)))
    assert tables == ["wanted", "channel", "message", "found"]

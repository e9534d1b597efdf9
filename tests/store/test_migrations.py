"""The migrations lead exactly to the schema, and back."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

from livechat.store import migrate
from livechat.store.base import perform
from livechat.store.schema import METADATA, REVISION
from livechat.store.sqlite import DATABASE_NAME, open_sqlite_store, sqlite_engine
from tests.support.store import (
    announce,
    change_settings,
    create,
    history,
    in_one_go,
    join,
    last_seq,
    mark_read,
    message,
    remove_member,
    state_of,
)
from tests.support.store_sqlite import Rival


def definitions(path: Path) -> set[str]:
    """Return what the database says about its tables, whatever the order of columns and constraints."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%'"
        ).fetchall()
    return {f"{kind} {name} {sorted((sql or '').replace(',', ' ').split())}" for kind, name, sql in rows}


def test_migrations_and_schema_agree(tmp_path: Path) -> None:
    migrated, created = sqlite_engine(tmp_path / "migrated.db"), sqlite_engine(tmp_path / "created.db")
    with migrated.begin() as connection:
        migrate.upgrade(connection)
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == REVISION
        assert compare_metadata(context, METADATA) == []
    with created.begin() as connection:
        METADATA.create_all(connection)
    assert definitions(tmp_path / "migrated.db") == definitions(tmp_path / "created.db")


def test_downgrade_leaves_nothing_and_upgrade_works_again(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "a.db")
    for _ in range(2):
        with engine.begin() as connection:
            migrate.upgrade(connection)
        assert set(sa.inspect(engine).get_table_names()) == {*METADATA.tables, "alembic_version"}
        with engine.begin() as connection:
            migrate.downgrade(connection, "base")
        assert sa.inspect(engine).get_table_names() == ["alembic_version"]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path / "a.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE nonce (id INTEGER)")
    with pytest.raises(sa.exc.OperationalError), engine.begin() as connection:
        migrate.upgrade(connection)
    assert sa.inspect(engine).get_table_names() == ["nonce"]


async def test_opening_is_silent_and_leaves_logging_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, create())
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / DATABASE_NAME).exists()


# --- from 0001 to 0002 ----------------------------------------------------------------------------

# What each channel's entries are, in the order of their seq, which begins after that of an earlier life:
# S a SYSTEM message, the others messages.
ENTRIES = {1: ("lobby", 0, "STTSSTFIS"), 2: ("a", 4, "TSTT"), 3: ("b", 0, "SSS"), 4: ("empty", 7, "")}
ORDINALS = {1: [0, 1, 2, 2, 2, 3, 4, 5, 5], 2: [1, 1, 2, 3], 3: [0, 0, 0]}
TYPES = {"S": "SYSTEM", "T": "TEXT", "F": "FILE", "I": "IMAGE"}


def upgrade_to(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "livechat.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def make_first_version(path: Path) -> None:
    """Make a database at revision 0001: ann and bob in every channel, and a deleted one not yet pruned."""
    with sqlite_engine(path).begin() as connection:
        upgrade_to(connection, "0001")
        for key, (channel_id, before, kinds) in ENTRIES.items():
            last_seq = before + len(kinds)
            ordinal = len(kinds) - kinds.count("S")
            connection.exec_driver_sql(
                "INSERT INTO channel VALUES (?, ?, ?, 'conference', 1, 10, 0, NULL, NULL, 'owner', 1, ?, ?, 2)",
                (key, channel_id, channel_id, last_seq, ordinal),
            )
            for user_id in ("ann", "bob"):
                connection.exec_driver_sql(
                    "INSERT INTO member VALUES (?, ?, 'member', 1, ?, 0, 3)", (key, user_id, before)
                )
            add_entries(connection, key, before, kinds)
        add_entries(connection, 5, 0, "STT")
        connection.exec_driver_sql("INSERT INTO prunable VALUES (5)")
        connection.exec_driver_sql("INSERT INTO former_channel VALUES ('gone', 3)")
        connection.exec_driver_sql(
            "INSERT INTO nonce VALUES (1, 'bob', 'lobby', 'n1', '68656c6c6f', 'm3', 3, 1700000000000)"
        )


def add_entries(connection: sa.Connection, key: int, before: int, kinds: str) -> None:
    for seq, kind in enumerate(kinds, before + 1):
        system = '{"event":"join","user_id":"bob"}' if kind == "S" else None
        connection.exec_driver_sql(
            "INSERT INTO message VALUES (?, ?, ?, 'bob', ?, 'hello', NULL, NULL, NULL, 1, ?)",
            (key, seq, f"m{seq}", TYPES[kind], system),
        )


def ordinals(path: Path) -> dict[int, list[int]]:
    """Return the ordinals of the living channels' messages."""
    found: dict[int, list[int]] = {}
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT channel_key, ordinal FROM message WHERE channel_key < 5 ORDER BY channel_key, seq"
        for key, ordinal in connection.execute(query):
            found.setdefault(key, []).append(ordinal)
    return found


async def test_messages_of_the_first_version_are_numbered(tmp_path: Path) -> None:
    make_first_version(tmp_path / DATABASE_NAME)
    async with open_sqlite_store(tmp_path) as store:
        rival = Rival(tmp_path)
        assert ordinals(tmp_path / DATABASE_NAME) == ORDINALS
        # The last of each is what the channel had counted.
        counted = rival.query("SELECT channel_key, last_ordinal FROM channel WHERE channel_key < 4")
        assert dict(counted) == {key: numbers[-1] for key, numbers in ORDINALS.items()}
        rival.close()

        for channel_id, seq, unread in (("lobby", 4, 3), ("lobby", 6, 2), ("a", 5, 2), ("a", 8, 0), ("b", 2, 0)):
            assert (await perform(store, mark_read("ann", seq, channel_id))).unread == unread
        stored = await perform(store, message("bob", channel_id="a", mentions=("ann",)))
        assert stored.seq == 9
        state = await state_of(store, "ann", "a")
        assert (state.unread, state.member.mention_count) == (1, 1)


async def test_what_the_first_version_knew_is_still_known(tmp_path: Path) -> None:
    make_first_version(tmp_path / DATABASE_NAME)
    async with open_sqlite_store(tmp_path) as store:
        page = await store.fetch(history("ann", "lobby"))
        assert [(entry.seq, entry.message_type) for entry in page.messages] == [
            (seq, TYPES[kind]) for seq, kind in enumerate(ENTRIES[1][2], 1)
        ]
        state = await state_of(store, "ann", "lobby")
        # Which messages had mentioned whom was not kept one by one, so these counts begin anew.
        assert (state.unread, state.member.mention_count, state.member.role) == (5, 0, "member")
        assert (await perform(store, message("bob", nonce="n1"))).seq == 3
        await perform(store, create("gone"))
        assert await last_seq(store, "gone") == 3


async def test_a_downgrade_keeps_what_the_first_version_knows(tmp_path: Path) -> None:
    path = tmp_path / DATABASE_NAME
    async with open_sqlite_store(tmp_path) as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), message("bob", mentions=("ann",))])
        await in_one_go(store, [message("bob"), announce(), change_settings(a=1), remove_member("eve", ban=True)])
    numbered = ordinals(path)

    with sqlite_engine(path).begin() as connection:
        migrate.downgrade(connection, "0001")
    first = sqlite_engine(tmp_path / "first.db")
    with first.begin() as connection:
        upgrade_to(connection, "0001")
    assert definitions(path) == definitions(tmp_path / "first.db")

    async with open_sqlite_store(tmp_path) as store:
        assert ordinals(path) == numbered == {1: [0, 0, 1, 2]}
        state = await state_of(store, "ann")
        assert (state.unread, state.member.mention_count, state.channel.last_seq) == (2, 0, 4)
        assert (await perform(store, join("eve"))).created
        assert (await perform(store, mark_read("ann", 3))).unread == 1

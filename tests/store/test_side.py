"""Work on the tables beside chat: the same in every store, in order with the rest, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from livechat.error import Forbidden, NotPersisted
from livechat.store.base import perform
from livechat.store.operations import Operation
from livechat.store.schema import ANNOUNCEMENT
from livechat.store.side import Tables, Transact
from tests.support.store import OpenStore, create, in_one_go, join, message

# Any table would do: chat's own statements for it are not used here.
INSERT = sa.insert(ANNOUNCEMENT).values(
    announcement_id=sa.bindparam("id"), title=sa.bindparam("the_title"), body="", severity="info", created_at=1
)
SELECT = sa.select(ANNOUNCEMENT.c.announcement_id, ANNOUNCEMENT.c.title).order_by(ANNOUNCEMENT.c.announcement_id)


def add(name: str, title: str = "t") -> Callable[[Tables], int]:
    return lambda tables: tables.execute(INSERT, {"id": name, "the_title": title}).rowcount


def rows(tables: Tables) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in tables.execute(SELECT).all()]


def read() -> Transact[list[tuple[str, str]]]:
    return Transact(rows, writes=False)


async def test_what_was_written_is_read(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await perform(store, Transact(add("a"))) == 1
        assert await perform(store, Transact(add("b", "나쁜말"))) == 1
        assert await perform(store, read()) == [("a", "t"), ("b", "나쁜말")]


async def test_it_is_still_there_in_the_next_life(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, Transact(add("a")))
    async with open_store() as store:
        assert await perform(store, read()) == [("a", "t")]


async def test_it_shares_a_batch_with_chat(open_store: OpenStore) -> None:
    operations: list[Operation[Any]] = [
        create(),
        Transact(add("a")),
        join("ann"),
        read(),
        message("ann"),
        Transact(add("b")),
        read(),
    ]
    async with open_store() as store:
        outcomes = [outcome.unwrap() for outcome in await in_one_go(store, operations)]
    assert outcomes[3] == [("a", "t")]
    assert outcomes[6] == [("a", "t"), ("b", "t")]


async def test_a_refusal_undoes_what_was_written_before_it_and_nothing_else(open_store: OpenStore) -> None:
    def refuse(tables: Tables) -> int:
        add("b")(tables)
        raise Forbidden("not you")

    async with open_store() as store:
        operations: list[Operation[Any]] = [Transact(add("a")), Transact(refuse), create(), read()]
        outcomes = await in_one_go(store, operations)
        assert isinstance(outcomes[1].error, Forbidden)
        assert outcomes[2].error is None
        assert outcomes[3].value == [("a", "t")]


@pytest.mark.parametrize(
    "bad", [add("a"), add("b", "half \ud800"), lambda tables: add("b")(tables) + add("b")(tables)]
)
async def test_what_the_database_refuses_costs_nobody_else(
    open_store: OpenStore, bad: Callable[[Tables], int]
) -> None:
    async with open_store() as store:
        operations: list[Operation[Any]] = [Transact(add("a")), Transact(bad), Transact(add("c")), read()]
        outcomes = await in_one_go(store, operations)
        assert isinstance(outcomes[1].error, NotPersisted)
        assert outcomes[1].error.action == "ROLLBACK"
        assert outcomes[3].value == [("a", "t"), ("c", "t")]


async def test_lists_of_values_and_statements_without_parameters(open_store: OpenStore) -> None:
    def work(tables: Tables) -> list[str]:
        for name in ("a", "b", "c"):
            add(name)(tables)
        removed = tables.execute(sa.delete(ANNOUNCEMENT).where(ANNOUNCEMENT.c.announcement_id.in_(["a", "c"])))
        assert removed.rowcount == 2
        updated = tables.execute(
            sa.update(ANNOUNCEMENT)
            .values(title="new")
            .returning(ANNOUNCEMENT.c.announcement_id, ANNOUNCEMENT.c.title)
        )
        first = tables.execute(SELECT.limit(1)).first()
        assert first is not None
        assert tables.execute(SELECT.where(ANNOUNCEMENT.c.title == "none")).first() is None
        return [*updated.all()[0], *first]

    async with open_store() as store:
        assert await perform(store, Transact(work)) == ["b", "new", "b", "new"]


async def test_a_conflict_may_be_settled(open_store: OpenStore) -> None:
    """By the construct of either dialect: both understand it."""
    statement = insert(ANNOUNCEMENT).values(
        announcement_id="a", title="new", body="", severity="info", created_at=1
    )
    updating = statement.on_conflict_do_update(
        index_elements=[ANNOUNCEMENT.c.announcement_id], set_={"title": statement.excluded.title}
    )

    def work(tables: Tables) -> tuple[int, int, list[tuple[str, str]]]:
        add("a")(tables)
        ignored = tables.execute(statement.on_conflict_do_nothing()).rowcount
        return ignored, tables.execute(updating).rowcount, rows(tables)

    async with open_store() as store:
        assert await perform(store, Transact(work)) == (0, 1, [("a", "new")])

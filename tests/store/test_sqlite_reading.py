"""Queries of a SQLite store whose writer or readers stand still, or whose database can't be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from livechat.error import BackendUnavailable
from livechat.store.base import Store, perform
from livechat.store.group_commit import READERS_MAX
from livechat.store.queries import GetHistory, Query
from livechat.store.rows import History
from livechat.store.sqlite import DATABASE_NAME, open_sqlite_store
from tests.support.store import (
    Answers,
    announce,
    announcements,
    create,
    history,
    in_one_go,
    join,
    message,
    query_refusal,
    ranges,
)
from tests.support.store_sqlite import Gate, Rival, SlowReading

EVERY_QUERY = [history(), ranges(("lobby", 0, 99)), announcements()]


async def fill(store: Store) -> None:
    """Make a lobby with three entries, and an announcement."""
    await in_one_go(store, [create(), join("ann"), message("ann"), message("ann"), announce()])


def open_files(data_dir: Path) -> list[str]:
    """Return the names of the files in the folder that this process has open."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.readlink()
        except FileNotFoundError:
            continue  # the one that listed the folder
        if target.is_relative_to(data_dir):
            names.append(target.name)
    return names


# --- beside the writer ----------------------------------------------------------------------------


async def test_queries_are_answered_while_a_commit_stands_still(tmp_path: Path) -> None:
    gate = Gate()
    written = Answers()
    async with open_sqlite_store(tmp_path, connection_factory=gate.connection_factory) as store:
        await fill(store)
        gate.arm()
        store.submit(message("ann"), written)
        store.submit(message("ann"), written)
        await gate.wait_reached()
        assert (await store.fetch(history())).last_seq == 3
        assert len(await store.fetch(ranges(("lobby", 0, 99)))) == 3
        assert len(await store.fetch(announcements())) == 1
        assert await query_refusal(store, history("stranger")) == 2004
        assert written.outcomes == []

        gate.release()
        await written.wait_count(2)
        assert (await store.fetch(history())).last_seq == 5


@pytest.mark.parametrize("query", [history(), history(after=0)])
async def test_a_query_that_stands_still_holds_up_no_writer_and_shows_one_state(
    tmp_path: Path, query: GetHistory
) -> None:
    slow = SlowReading()
    pages: list[History] = []

    async def look(store: Store) -> None:
        pages.append(await store.fetch(query))

    async with slow.open_store(tmp_path) as store, trio.open_nursery() as nursery:
        await fill(store)
        slow.arm()
        nursery.start_soon(look, store)
        await slow.wait_standing()
        for seq in (4, 5):
            assert (await perform(store, message("ann"))).seq == seq
        # Nor does it hold up queries of other things.
        assert len(await store.fetch(announcements())) == 1
        assert pages == []
        slow.release()
    (page,) = pages
    assert [entry.seq for entry in page.messages] == [1, 2, 3]
    assert (page.last_seq, page.has_before, page.has_after) == (3, False, False)


async def test_many_queries_at_once_are_all_answered(tmp_path: Path) -> None:
    found: list[int] = []

    async def look(store: Store) -> None:
        found.append((await store.fetch(history())).last_seq)

    async with open_sqlite_store(tmp_path) as store:
        await fill(store)
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(look, store)
        # A connection for each that reads, not for each that asks.
        assert open_files(tmp_path).count(DATABASE_NAME) <= 1 + READERS_MAX
    assert found == [3] * 100


# --- deadlines and cancellation -------------------------------------------------------------------


async def test_a_query_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    slow = SlowReading()
    async with slow.open_store(tmp_path, timeout_s=0.2) as store:
        await fill(store)
        slow.arm()
        assert await query_refusal(store, history()) == 9003
        assert store.statistics().failures == 1
        slow.release()
        assert (await store.fetch(history())).last_seq == 3


async def test_a_query_that_finds_all_readers_busy_waits_until_its_deadline(tmp_path: Path) -> None:
    slow = SlowReading()
    codes: list[int] = []

    async def look(store: Store) -> None:
        codes.append(await query_refusal(store, history()))

    async with slow.open_store(tmp_path, timeout_s=0.2) as store:
        await fill(store)
        slow.arm()
        async with trio.open_nursery() as nursery:
            for _ in range(READERS_MAX):
                nursery.start_soon(look, store)
            await slow.wait_standing(READERS_MAX)
        # They have been answered, but their threads are not back.
        assert await query_refusal(store, announcements()) == 9003
        slow.release()
        assert len(await store.fetch(announcements())) == 1
    assert codes == [9003] * READERS_MAX


async def test_cancellation_ends_the_waiting_for_a_query_at_once(tmp_path: Path) -> None:
    slow = SlowReading()
    async with slow.open_store(tmp_path) as store:
        await fill(store)
        slow.arm()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.fetch, history())
            await slow.wait_standing()
            nursery.cancel_scope.cancel()
        # Nobody has let it go by now, and it is not in the way of others.
        assert len(await store.fetch(announcements())) == 1
        slow.release()
        assert (await store.fetch(history())).last_seq == 3
        assert store.statistics().failures == 0


async def test_leaving_the_store_waits_for_no_query_and_leaves_no_file_open(tmp_path: Path) -> None:
    slow = SlowReading()
    pages: list[History] = []
    answered = trio.Event()

    async def look(store: Store) -> None:
        pages.append(await store.fetch(history()))
        answered.set()

    async with trio.open_nursery() as nursery:
        async with slow.open_store(tmp_path) as store:
            await fill(store)
            slow.arm()
            nursery.start_soon(look, store)
            await slow.wait_standing()
        assert not answered.is_set()
        assert open_files(tmp_path) != []
        slow.release()
        await answered.wait()
    assert pages[0].last_seq == 3
    assert open_files(tmp_path) == []


# --- a database that can't be read ----------------------------------------------------------------


@pytest.mark.parametrize("query", EVERY_QUERY)
async def test_a_query_of_what_is_gone_says_so_and_heals(tmp_path: Path, query: Query[Any]) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await fill(store)
        rival = Rival(tmp_path)
        before = await store.fetch(query)
        for table in ("message", "announcement"):
            rival.query(f"ALTER TABLE {table} RENAME TO {table}_away")
        with pytest.raises(BackendUnavailable) as caught:
            await store.fetch(query)
        assert caught.value.reason == "the store can't be read"
        assert store.statistics().failures == 1

        for table in ("message", "announcement"):
            rival.query(f"ALTER TABLE {table}_away RENAME TO {table}")
        rival.close()
        assert await store.fetch(query) == before


@pytest.mark.parametrize(
    "make",
    [
        partial(history, "\ud800"),
        partial(history, channel_id="\ud800"),
        partial(history, before=2**63),
        partial(history, limit=2**63),
        partial(ranges, ("\ud800", 0, 9)),
        partial(announcements, 2**63),
    ],
)
async def test_a_query_that_cannot_be_asked_fails_alone(tmp_path: Path, make: Callable[[], Query[Any]]) -> None:
    async with open_sqlite_store(tmp_path) as store:
        await fill(store)
        assert await query_refusal(store, make()) == 9003
        assert (await store.fetch(history())).last_seq == 3
        assert (await perform(store, message("ann"))).seq == 4

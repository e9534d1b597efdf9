"""Queries: history, ranges and announcements, on every store."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from livechat.error import ShuttingDown
from livechat.store.base import Outcome, Store, perform
from livechat.store.queries import Query
from livechat.store.rows import MessageRow, Stored
from tests.support.store import (
    NOW_MS,
    OpenStore,
    add_member,
    announce,
    announcements,
    create,
    delete,
    history,
    in_one_go,
    join,
    leave,
    message,
    query_refusal,
    ranges,
    remove_member,
    update,
)


async def fill(store: Store, channel_id: str = "lobby", count: int = 6) -> None:
    """Make a channel whose entries are ann's join, numbered 1, and her messages, 2 to `count`."""
    await in_one_go(store, [create(channel_id), join("ann", channel_id)])
    await in_one_go(store, [message("ann", str(seq), channel_id) for seq in range(2, count + 1)])


def seqs(messages: tuple[MessageRow, ...]) -> list[int]:
    return [entry.seq for entry in messages]


# --- history --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "limit", "found", "has_before", "has_after"),
    [
        # neither: the newest
        (None, None, 20, [1, 2, 3, 4, 5, 6], False, False),
        (None, None, 6, [1, 2, 3, 4, 5, 6], False, False),
        (None, None, 5, [2, 3, 4, 5, 6], True, False),
        (None, None, 1, [6], True, False),
        # the newest before
        (7, None, 2, [5, 6], True, False),
        (99, None, 2, [5, 6], True, False),
        (6, None, 2, [4, 5], True, True),
        (3, None, 2, [1, 2], False, True),
        (2, None, 2, [1], False, True),
        (1, None, 2, [], False, True),
        (0, None, 2, [], False, True),
        # the oldest after
        (None, 0, 2, [1, 2], False, True),
        (None, 1, 2, [2, 3], True, True),
        (None, 4, 2, [5, 6], True, False),
        (None, 5, 2, [6], True, False),
        (None, 6, 2, [], True, False),
        (None, 99, 2, [], True, False),
        (None, 0, 6, [1, 2, 3, 4, 5, 6], False, False),
    ],
)
async def test_a_page_of_history_tells_what_lies_on_either_side(
    open_store: OpenStore,
    before: int | None,
    after: int | None,
    limit: int,
    found: list[int],
    has_before: bool,
    has_after: bool,
) -> None:
    async with open_store() as store:
        await fill(store)
        page = await store.fetch(history(before=before, after=after, limit=limit))
    assert seqs(page.messages) == found
    assert (page.has_before, page.has_after, page.last_seq) == (has_before, has_after, 6)


async def test_history_can_be_walked_both_ways(open_store: OpenStore) -> None:
    async with open_store() as store:
        await fill(store, count=25)
        down: list[int] = []
        page = await store.fetch(history(limit=4))
        down += reversed(seqs(page.messages))
        while page.has_before:
            page = await store.fetch(history(before=down[-1], limit=4))
            down += reversed(seqs(page.messages))
        up: list[int] = []
        page = await store.fetch(history(after=0, limit=4))
        up += seqs(page.messages)
        while page.has_after:
            page = await store.fetch(history(after=up[-1], limit=4))
            up += seqs(page.messages)
    assert up == down[::-1] == list(range(1, 26))


async def test_history_returns_messages_as_they_were_sent_and_system_ones_too(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), add_member("bob")])
        operation = message(
            "ann", "tab\t \ud7ff🎉", mentions=("bob",), nonce="n1", attachment={"name": "a\nb", "bytes": 1}
        )
        sent = await perform(store, operation)
        left = await perform(store, leave("bob", cause="kick"))
    async with open_store() as store:
        page = await store.fetch(history())
        ranged = await store.fetch(ranges(("lobby", 0, 99)))
    assert page.messages[2:] == (sent.message, left.message)
    assert [entry.system and entry.system["event"] for entry in page.messages] == ["join", "join", None, "leave"]
    assert ranged == page.messages


async def test_history_of_a_channel_without_entries_is_empty(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        page = await store.fetch(history("root", admin=True))
        assert (page.messages, page.has_before, page.has_after, page.last_seq) == ((), False, False, 0)


async def test_history_shows_nothing_of_a_channel_that_was_deleted(open_store: OpenStore) -> None:
    async with open_store() as store:
        await fill(store)
        await perform(store, delete())
        assert await query_refusal(store, history()) == 2000
        assert await store.fetch(ranges(("lobby", 0, 99))) == ()
        await perform(store, create())
        for query in (history(admin=True), history(before=3, admin=True), history(after=3, admin=True)):
            page = await store.fetch(query)
            assert (page.messages, page.has_before, page.has_after, page.last_seq) == ((), False, False, 6)
        await perform(store, join("ann"))

        page = await store.fetch(history())
        assert (seqs(page.messages), page.has_before, page.last_seq) == ([7], False, 7)
        assert seqs(await store.fetch(ranges(("lobby", 0, 99)))) == [7]
        older = await store.fetch(history(before=3))
        assert (older.messages, older.has_before, older.has_after) == ((), False, True)
        newer = await store.fetch(history(after=3))
        assert (seqs(newer.messages), newer.has_before, newer.has_after) == ([7], False, False)


async def test_history_is_read_by_members_and_admins(open_store: OpenStore) -> None:
    async with open_store() as store:
        assert await query_refusal(store, history()) == 2000
        await fill(store)
        for user_id in ("eve", "owner"):
            assert await query_refusal(store, history(user_id)) == 2004
            assert len((await store.fetch(history(user_id, admin=True))).messages) == 6
        await perform(store, update(private=True))
        for user_id in ("eve", "owner"):
            assert await query_refusal(store, history(user_id)) == 2002
            assert len((await store.fetch(history(user_id, admin=True))).messages) == 6
        assert len((await store.fetch(history("ann"))).messages) == 6
        await perform(store, remove_member("ann"))
        assert await query_refusal(store, history("ann")) == 2002


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "before", "found"),
    [
        (0, 7, [1, 2, 3, 4, 5, 6]),
        (0, 99, [1, 2, 3, 4, 5, 6]),
        (2, 5, [3, 4]),
        (2, 4, [3]),
        (2, 3, []),
        (4, 2, []),
        (6, 99, []),
        (0, 2**63 - 1, [1, 2, 3, 4, 5, 6]),
    ],
)
async def test_a_range_is_what_lies_strictly_between(
    open_store: OpenStore, after: int, before: int, found: list[int]
) -> None:
    async with open_store() as store:
        await fill(store)
        assert seqs(await store.fetch(ranges(("lobby", after, before)))) == found


async def test_many_ranges_come_in_their_order_whatever_the_channels_are_called(open_store: OpenStore) -> None:
    # Neither the order of the ids nor that of creation.
    names = [f"c{number * 7 % 40}" for number in range(40)]
    async with open_store() as store:
        for name in sorted(names):
            await fill(store, name, count=3)
        wanted = [(name, 1, 99) for name in names]
        found = await store.fetch(ranges(*wanted[:20], ("gone", 0, 99), *wanted[20:]))
        assert [(entry.channel_id, entry.seq) for entry in found] == [
            (name, seq) for name in names for seq in (2, 3)
        ]
        assert await store.fetch(ranges()) == ()


async def test_ranges_stop_at_the_limit_and_can_be_asked_for_again(open_store: OpenStore) -> None:
    async with open_store() as store:
        await fill(store, "z", count=5)
        await fill(store, "a", count=5)
        first = await store.fetch(ranges(("z", 1, 6), ("a", 1, 6), limit=6))
        assert [(entry.channel_id, entry.seq) for entry in first] == [
            *(("z", seq) for seq in (2, 3, 4, 5)),
            *(("a", seq) for seq in (2, 3)),
        ]
        rest = await store.fetch(ranges(("a", 3, 6), limit=6))
        assert [(entry.channel_id, entry.seq) for entry in rest] == [("a", 4), ("a", 5)]


@pytest.mark.parametrize(
    ("bytes_max", "found"),
    [(99, [1]), (100, [1, 2]), (199, [1, 2]), (200, [1, 2, 3]), (299, [1, 2, 3]), (300, [1, 2, 3, 4])],
)
async def test_ranges_stop_where_the_content_would_be_too_much(
    open_store: OpenStore, bytes_max: int, found: list[int]
) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        await in_one_go(store, [message("ann", content) for content in ("x" * 100, "é" * 50, "🎉" * 25)])
        assert seqs(await store.fetch(ranges(("lobby", 0, 99), bytes_max=bytes_max))) == found


async def test_a_message_that_is_too_much_by_itself_comes_alone(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        await in_one_go(store, [message("ann", "x" * 100) for _ in range(3)])
        assert seqs(await store.fetch(ranges(("lobby", 1, 99), bytes_max=10))) == [2]


# --- announcements --------------------------------------------------------------------------------


async def test_announcements_since_a_time_come_in_order_until_they_expire(open_store: OpenStore) -> None:
    async with open_store() as store:
        made = [
            await perform(store, announce(title, created_at=NOW_MS + created, expires_at=expires))
            for title, created, expires in (
                ("late", 30, None),
                ("early", 10, NOW_MS + 40),
                ("middle", 20, NOW_MS + 50),
            )
        ]
    late, early, middle = made
    async with open_store() as store:

        async def found(since: int, now: int, limit: int = 100) -> tuple[object, ...]:
            return await store.fetch(announcements(NOW_MS + since, now_ms=NOW_MS + now, limit=limit))

        assert await found(0, 30) == (early, middle, late)
        assert await found(10, 30) == (early, middle, late)
        assert await found(11, 30) == (middle, late)
        assert await found(0, 39) == (early, middle, late)
        assert await found(0, 40) == (middle, late)
        assert await found(0, 50) == (late,)
        assert await found(31, 31) == ()
        # The newest, but still in order.
        assert await found(0, 30, limit=2) == (middle, late)


# --- queries beside operations --------------------------------------------------------------------


async def test_a_query_sees_all_that_was_answered_before(open_store: OpenStore) -> None:
    async def send(store: Store, user_id: str) -> None:
        for _ in range(20):
            stored = await perform(store, message(user_id))
            page = await store.fetch(history(user_id, limit=100))
            assert page.last_seq >= stored.seq
            assert stored.message in page.messages
            # One state of the database, whatever is written meanwhile.
            assert seqs(page.messages) == list(range(page.messages[0].seq, page.last_seq + 1))
            assert seqs(await store.fetch(ranges(("lobby", stored.seq - 1, stored.seq + 1)))) == [stored.seq]

    users = [f"u{number}" for number in range(8)]
    async with open_store() as store:
        await perform(store, create())
        await in_one_go(store, [join(user_id) for user_id in users])
        async with trio.open_nursery() as nursery:
            for user_id in users:
                nursery.start_soon(send, store, user_id)


async def test_a_query_asked_by_whom_an_answer_reaches_sees_what_it_tells(open_store: OpenStore) -> None:
    seen: list[bool] = []

    async with open_store() as store, trio.open_nursery() as nursery:
        await in_one_go(store, [create(), join("ann")])

        async def look(outcome: Outcome[Stored]) -> None:
            stored = outcome.unwrap()
            seen.append(stored.message in (await store.fetch(history())).messages)

        for _ in range(3):
            store.submit(message("ann"), lambda outcome: nursery.start_soon(look, outcome))
        await perform(store, message("ann"))
    assert seen == [True, True, True]


@pytest.mark.parametrize("query", [history(), ranges(("lobby", 0, 9)), announcements()])
async def test_a_store_that_was_left_answers_no_query(open_store: OpenStore, query: Query[Any]) -> None:
    async with open_store() as store:
        await fill(store)
        await store.fetch(query)
    with pytest.raises(ShuttingDown):
        await store.fetch(query)


async def test_a_cancelled_query_leaves_the_store_as_it_was(open_store: OpenStore) -> None:
    async with open_store() as store:
        await fill(store)
        for _ in range(20):
            with trio.CancelScope() as scope:
                scope.cancel()
                await store.fetch(history())
            assert scope.cancelled_caught
        assert (await store.fetch(history())).last_seq == 6
        assert store.statistics().failures == 0

"""What only the store in memory does: it answers at once, in order, and forgets."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import trio

from livechat.error import LiveError, ShuttingDown
from livechat.protocol.types import ChannelId, UserId
from livechat.store import memory
from livechat.store.base import Outcome, perform
from livechat.store.memory import open_memory_store
from livechat.store.memory_records import MemoryRecords
from livechat.store.operations import GetChannel, ListMembers, Operation
from livechat.store.queries import GetHistory
from livechat.store.rows import Stored
from tests.support.store import NOW_MS, create, delete, in_one_go, join, last_seq, message, refusal

GET_KEPT = GetChannel(ChannelId("kept"), UserId("ann"))


async def test_an_operation_is_answered_before_submit_returns() -> None:
    outcomes: list[Outcome[Any]] = []
    async with open_memory_store() as store:
        for operation in (create(), join("ann"), message("ann")):
            store.submit(operation, outcomes.append)
    assert [outcome.error for outcome in outcomes] == [None, None, None]


async def test_what_a_callback_submits_is_answered_right_after_it_and_never_within() -> None:
    said: list[str] = []

    def answered(name: str) -> Any:
        def done(outcome: Outcome[Stored]) -> None:
            said.append(f"{name} begins")
            if name == "first":
                store.submit(message("ann"), answered("second"))
                store.submit(message("ann"), answered("third"))
            if name == "second":
                store.submit(message("ann"), answered("fourth"))
            said.append(f"{name} ends with {outcome.unwrap().seq}")

        return done

    async with open_memory_store() as store:
        await in_one_go(store, [create(), join("ann")])
        store.submit(message("ann"), answered("first"))
        said.append("submit returns")
        assert store.statistics().queue_depth == 0
    assert said == [
        "first begins",
        "first ends with 2",
        "second begins",
        "second ends with 3",
        "third begins",
        "third ends with 4",
        "fourth begins",
        "fourth ends with 5",
        "submit returns",
    ]


async def test_a_store_that_is_opened_again_is_empty() -> None:
    async with open_memory_store() as store:
        await perform(store, create())
    async with open_memory_store() as store:
        assert await refusal(store, join("ann")) == 2000


async def test_a_closed_store_takes_nothing() -> None:
    async with open_memory_store() as store:
        await in_one_go(store, [create(), join("ann")])
    with pytest.raises(ShuttingDown):
        store.submit(message("ann"), lambda outcome: None)
    with pytest.raises(ShuttingDown):
        await store.fetch(GetHistory(ChannelId("lobby"), UserId("ann")))


class Unknown(Operation[None]):
    """An operation that has no rule."""


class UnknownRead(Unknown):
    """One that only reads."""

    writes: ClassVar[bool] = False


async def test_an_operation_that_cannot_be_done_fails_alone() -> None:
    outcomes: list[Outcome[Any]] = []
    async with open_memory_store() as store:
        for operation in (create(), Unknown(), UnknownRead(), join("ann"), message("ann")):
            store.submit(operation, outcomes.append)
        assert [outcome.error.code if outcome.error else 0 for outcome in outcomes] == [0, 3005, 9003, 0, 0]
        assert outcomes[1].error is not None
        assert outcomes[1].error.action == "ROLLBACK"
        assert store.statistics().failures == 2
        assert await last_seq(store) == 2


async def test_a_query_lets_others_run_and_answers_from_what_is_there() -> None:
    async with open_memory_store() as store:
        await in_one_go(store, [create(), join("ann"), message("ann")])
        with trio.testing.assert_checkpoints():
            history = await store.fetch(GetHistory(ChannelId("lobby"), UserId("ann")))
        assert [each.seq for each in history.messages] == [1, 2]
        with trio.testing.assert_checkpoints(), pytest.raises(LiveError) as caught:
            await store.fetch(GetHistory(ChannelId("lobby"), UserId("eve")))
        assert caught.value.code == 2004


async def test_a_deleted_channel_is_removed_in_chunks_as_operations_come() -> None:
    records = MemoryRecords()
    async with open_memory_store(records=records) as store:
        await in_one_go(store, [create(), create("kept"), join("ann"), join("ann", "kept")])
        await in_one_go(store, [message("ann") for _ in range(2500)])
        life = records.lives[ChannelId("lobby")]
        before = store.statistics().operations
        await perform(store, delete())
        left = [len(life.messages)]
        while left[-1]:
            await perform(store, GET_KEPT)
            left.append(len(life.messages))
        assert left == [1501, 501, 0]
        assert store.statistics().operations - before == 6  # the deletion, two reads, three chunks
        assert await last_seq(store, "kept") == 1


async def test_expired_nonces_are_removed_now_and_then() -> None:
    records = MemoryRecords()
    count = 3 * memory.PRUNE_EVERY_MESSAGES
    async with open_memory_store(records=records, nonce_ttl_ms=500) as store:
        await in_one_go(store, [create(), join("ann")])
        await in_one_go(store, [message("ann", nonce=f"n{each}", now_ms=NOW_MS + each) for each in range(count)])
        assert records.nonce((UserId("ann"), ChannelId("lobby"), "n0")) is None
        assert records.nonce((UserId("ann"), ChannelId("lobby"), f"n{count - 1}")) is not None
        repeated = message("ann", nonce=f"n{count - 1}", now_ms=NOW_MS + count)
        assert (await perform(store, repeated)).duplicate


async def test_members_come_in_pages_in_binary_order() -> None:
    async with open_memory_store() as store:
        await in_one_go(store, [create(), *[join(user_id) for user_id in ("b", "é", "Z", "a")]])
        found: list[str] = []
        after = None
        while True:
            page = await perform(store, ListMembers(ChannelId("lobby"), UserId("a"), False, after, 3))
            found += [member.user_id for member in page.members]
            after = page.next
            if after is None:
                break
        assert found == ["Z", "a", "b", "é"]

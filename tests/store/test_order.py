"""The log: one order, no holes, answers in commit order, on every store."""

from __future__ import annotations

import random

import pytest
import trio

from livechat.error import ShuttingDown
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import Outcome, Store, perform
from livechat.store.operations import GetChannel
from livechat.store.rows import Stored, UserView
from tests.support.store import OpenStore, create, in_one_go, join, last_seq, leave, load, message, state_of


async def test_seq_has_no_hole_with_many_senders_and_refusals_between(open_store: OpenStore) -> None:
    seqs: dict[str, list[int]] = {"a": [], "b": []}
    choose = random.Random(1)

    async def send(store: Store, user_id: str) -> None:
        for turn in range(40):
            channel_id = choose.choice("ab")
            stored = await perform(store, message(user_id, str(turn), channel_id, nonce=f"{user_id}-{turn}"))
            seqs[channel_id].append(stored.seq)
            outcomes = await in_one_go(
                store,
                [
                    message(user_id, "other", channel_id, nonce=f"{user_id}-{turn}"),
                    message("stranger", "x", channel_id),
                ],
            )
            assert [outcome.error.code if outcome.error else 0 for outcome in outcomes] == [3003, 3002]

    users = [f"u{number}" for number in range(25)]
    async with open_store() as store:
        await in_one_go(store, [create("a"), create("b")])
        await in_one_go(store, [join(user_id, channel_id) for user_id in users for channel_id in "ab"])
        async with trio.open_nursery() as nursery:
            for user_id in users:
                nursery.start_soon(send, store, user_id)

    async with open_store() as store:
        for channel_id, given in seqs.items():
            assert sorted(given) == list(range(26, 26 + len(given)))
            assert await last_seq(store, channel_id) == 25 + len(given)
    assert sum(map(len, seqs.values())) == 1000


async def test_seq_goes_on_after_a_restart(open_store: OpenStore) -> None:
    for start in (1, 4, 7):
        async with open_store() as store:
            if start == 1:
                await perform(store, create())
            outcomes = await in_one_go(store, [join("ann"), message("ann"), leave("ann")])
            assert all(outcome.error is None for outcome in outcomes)
            assert await last_seq(store) == start + 2


async def test_answers_come_in_the_order_of_submission(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        outcomes = await in_one_go(store, [message("ann", str(number)) for number in range(5000)])
        results = [outcome.unwrap() for outcome in outcomes]
        assert [result.seq for result in results] == list(range(2, 5002))
        assert [result.message.content for result in results if result.message] == [str(n) for n in range(5000)]


async def test_operations_submitted_meanwhile_share_a_commit(open_durable_store: OpenStore) -> None:
    async with open_durable_store() as store:
        await in_one_go(store, [create(), join("ann")])
        before = store.statistics()
        await in_one_go(store, [message("ann") for _ in range(1000)])
        after = store.statistics()
        # The first goes alone, all others gather while it is committed.
        assert after.batches - before.batches == 2
        assert after.operations - before.operations == 1000
        assert after.failures == after.queue_depth == after.callback_failures == 0
        assert after.commit_latency_max_s >= after.commit_latency_last_s > 0


async def test_a_read_sees_all_that_was_submitted_before_and_nothing_after(open_store: OpenStore) -> None:
    answers: dict[str, object] = {}
    answered = trio.Event()

    def keep(name: str, outcome: Outcome[UserView]) -> None:
        answers[name] = [(state.channel.last_seq, state.unread) for state in outcome.unwrap().states]
        if len(answers) == 3:
            answered.set()

    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        for name in ("first", "second", "third"):
            store.submit(message("ann"), lambda outcome: None)
            store.submit(load("bob"), lambda outcome, name=name: keep(name, outcome))  # type: ignore[misc]
        await answered.wait()
    assert answers == {"first": [(3, 1)], "second": [(4, 2)], "third": [(5, 3)]}


async def test_a_callback_may_submit(open_store: OpenStore) -> None:
    stored: list[int] = []
    finished = trio.Event()
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])

        def send_next(outcome: Outcome[Stored]) -> None:
            stored.append(outcome.unwrap().seq)
            if len(stored) < 5:
                store.submit(message("ann"), send_next)
            else:
                finished.set()

        store.submit(message("ann"), send_next)
        await finished.wait()
    assert stored == [2, 3, 4, 5, 6]


async def test_a_callback_that_fails_costs_the_others_nothing(open_store: OpenStore) -> None:
    def fail(outcome: Outcome[Stored]) -> None:
        raise ZeroDivisionError

    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        store.submit(message("ann"), fail)
        store.submit(message("ann"), fail)
        assert (await perform(store, message("ann"))).seq == 4
        assert store.statistics().callback_failures == 2


async def test_leaving_the_store_finishes_what_was_submitted_and_takes_no_more(open_store: OpenStore) -> None:
    outcomes: list[Outcome[Stored]] = []
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        for _ in range(100):
            store.submit(message("ann"), outcomes.append)
    assert [outcome.unwrap().seq for outcome in outcomes] == list(range(2, 102))
    with pytest.raises(ShuttingDown):
        store.submit(message("ann"), outcomes.append)
    async with open_store() as store:
        assert await last_seq(store) == 101


async def test_cancellation_finishes_what_was_submitted(open_store: OpenStore) -> None:
    outcomes: list[Outcome[Stored]] = []
    with trio.CancelScope() as scope:
        async with open_store() as store:
            await in_one_go(store, [create(), join("ann")])
            for _ in range(10):
                store.submit(message("ann"), outcomes.append)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert [outcome.unwrap().seq for outcome in outcomes] == list(range(2, 12))
    async with open_store() as store:
        assert (await state_of(store, "ann")).channel.last_seq == 11


async def test_what_the_block_raises_comes_out_as_it_is(open_store: OpenStore) -> None:
    async def fail() -> None:
        async with open_store() as store:
            await perform(store, create())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_a_cancelled_wait_leaves_the_operation_to_the_store(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        with trio.CancelScope() as scope:
            scope.cancel()
            await perform(store, join("ann"))
        view = await perform(store, GetChannel(ChannelId("lobby"), UserId("ann")))
        assert view.member is not None

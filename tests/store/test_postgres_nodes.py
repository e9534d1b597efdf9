"""Two stores on one PostgreSQL database at once, as two nodes would have them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from livechat.protocol.types import ChannelId, MessageId, UserId
from livechat.store.base import Outcome, Store, perform
from livechat.store.operations import (
    AddMember,
    ChangeSettings,
    GetChannel,
    LoadUser,
    MarkRead,
    TransientMembers,
)
from livechat.store.postgres import open_postgres_store
from livechat.store.queries import GetHistory
from livechat.store.rows import Joined, Stored
from tests.support.store import NOW_MS, create, delete, in_one_go, join, last_seq, leave, message, refusal, update

SENDERS = 8
"""On each node."""
TURNS = 25


@asynccontextmanager
async def two_nodes(url: str) -> AsyncGenerator[tuple[Store, Store]]:
    async with open_postgres_store(url, timeout_s=30.0) as one, open_postgres_store(url, timeout_s=30.0) as other:
        yield one, other
        assert one.statistics().failures == other.statistics().failures == 0


async def on_both(nodes: Sequence[Store], operations: Sequence[Any]) -> list[list[Outcome[Any]]]:
    """Submit the same operations to both nodes at the same time; return what each answers."""
    answers: list[list[Outcome[Any]]] = [[], []]

    async def submit(number: int) -> None:
        answers[number] = await in_one_go(nodes[number], operations)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, 0)
        nursery.start_soon(submit, 1)
    return answers


async def test_senders_on_two_nodes_share_one_sequence(database_url: str) -> None:
    seqs: dict[str, list[int]] = {"a": [], "b": []}
    choose = random.Random(1)

    async def send(store: Store, user_id: str) -> None:
        own: dict[str, int] = {"a": 0, "b": 0}
        for turn in range(TURNS):
            channel_id = choose.choice("ab")
            # Locks are taken in one order, whatever the order of the operations.
            both = [
                message(user_id, f"{turn}", each, nonce=f"{user_id}-{turn}") for each in choose.sample("ab", 2)
            ]
            for outcome in await in_one_go(store, both):
                stored = outcome.unwrap()
                assert not stored.duplicate
                assert stored.seq > own[stored.channel_id]
                own[stored.channel_id] = stored.seq
                seqs[stored.channel_id].append(stored.seq)
            mark = await perform(store, MarkRead(ChannelId(channel_id), UserId(user_id), own[channel_id]))
            assert mark.unread >= 0

    users = [f"u{number}" for number in range(2 * SENDERS)]
    async with two_nodes(database_url) as nodes:
        await in_one_go(nodes[0], [create("a"), create("b")])
        await in_one_go(nodes[1], [join(user_id, channel_id) for user_id in users for channel_id in "ab"])
        async with trio.open_nursery() as nursery:
            for number, user_id in enumerate(users):
                nursery.start_soon(send, nodes[number % 2], user_id)
        first, last = len(users) + 1, len(users) * (TURNS + 1)
        for channel_id, given in seqs.items():
            assert sorted(given) == list(range(first, last + 1))
            for store in nodes:
                assert await last_seq(store, channel_id) == last
                page = await store.fetch(GetHistory(ChannelId(channel_id), UserId("u0"), limit=last))
                assert [each.seq for each in page.messages] == list(range(1, last + 1))


async def test_a_nonce_is_stored_once_whichever_node_it_comes_to(database_url: str) -> None:
    async with two_nodes(database_url) as nodes:
        await in_one_go(nodes[0], [create(), join("ann")])
        for turn in range(TURNS):
            messages = [message("ann", nonce=f"{turn}-{number}") for number in range(5)]
            one, other = await on_both(nodes, messages)
            pairs = [(first.unwrap(), second.unwrap()) for first, second in zip(one, other, strict=True)]
            assert [first.seq for first, _ in pairs] == [second.seq for _, second in pairs]
            assert all(first.duplicate != second.duplicate for first, second in pairs)
        assert await last_seq(nodes[1]) == 1 + 5 * TURNS
        assert await refusal(nodes[1], message("ann", "another body", nonce="0-0")) == 3003


async def test_a_channel_is_created_by_one_node_only(database_url: str) -> None:
    async with two_nodes(database_url) as nodes:
        for turn in range(TURNS):
            operations = [create(f"c{turn}-{number}") for number in range(4)]
            answers = await on_both(nodes, operations)
            for one, other in zip(*answers, strict=True):
                codes = sorted(outcome.error.code if outcome.error else 0 for outcome in (one, other))
                assert codes == [0, 2005]


async def test_a_channel_takes_no_more_than_its_capacity_on_two_nodes(database_url: str) -> None:
    async with two_nodes(database_url) as nodes:
        for turn in range(5):
            channel_id = f"c{turn}"
            await perform(nodes[0], create(channel_id, capacity=5))
            joins: list[list[Outcome[Joined]]] = [[], []]

            async def fill(number: int, channel_id: str = channel_id, joins: Any = joins) -> None:
                operations = [join(f"u{number}-{each}", channel_id) for each in range(5)]
                joins[number] = await in_one_go(nodes[number], operations)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fill, 0)
                nursery.start_soon(fill, 1)
            outcomes = joins[0] + joins[1]
            assert (
                sorted(outcome.error.code if outcome.error else 0 for outcome in outcomes) == [0] * 5 + [2001] * 5
            )
            assert await last_seq(nodes[1], channel_id) == 5


async def test_no_number_is_given_twice_though_channels_are_deleted_and_made_again(database_url: str) -> None:
    acknowledged: list[int] = []
    finished = trio.Event()

    async def renew(store: Store) -> None:
        for _ in range(TURNS):
            # The first goes alone and the others together, so the other node never finds the channel missing.
            outcomes = await in_one_go(store, [TransientMembers(), delete(admin=True), create(), join("ann")])
            joined = outcomes[3].unwrap()
            assert isinstance(joined, Joined)
            assert joined.message is not None
            acknowledged.append(joined.message.seq)
        finished.set()

    async def send(store: Store) -> None:
        while not finished.is_set():
            stored = await perform(store, message("ann"))
            acknowledged.append(stored.seq)

    async with two_nodes(database_url) as nodes:
        await in_one_go(nodes[0], [create(), join("ann")])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(renew, nodes[0])
            for _ in range(3):
                nursery.start_soon(send, nodes[1])
    assert sorted(acknowledged) == list(range(2, len(acknowledged) + 2))
    assert len(acknowledged) > TURNS


async def test_settings_changed_on_two_nodes_are_merged(database_url: str) -> None:
    async with two_nodes(database_url) as nodes:

        async def change(number: int) -> None:
            for turn in range(TURNS):
                await perform(nodes[number], ChangeSettings(UserId("ann"), {f"key{number}-{turn}": turn}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, 0)
            nursery.start_soon(change, 1)
        view = await perform(nodes[0], LoadUser(UserId("ann"), NOW_MS))
        assert len(view.user.settings) == 2 * TURNS


async def test_what_one_node_changes_the_other_sees_at_once(database_url: str) -> None:
    lobby, ann, bob = ChannelId("lobby"), UserId("ann"), UserId("bob")
    async with two_nodes(database_url) as (one, other):
        await in_one_go(one, [create(), join("ann"), join("bob")])
        assert (await perform(other, message("ann"))).seq == 3
        assert await refusal(other, update(actor_id="ann", capacity=9)) == 1007
        await perform(one, AddMember(lobby, UserId("owner"), False, ann, "moderator", NOW_MS, MessageId("m")))
        assert (await perform(other, update(actor_id="ann", private=True))).private
        view = await perform(one, GetChannel(lobby, bob))
        assert view.channel.private
        assert view.last_message is not None
        assert view.last_message.seq == 3
        await perform(one, leave("bob"))
        assert await refusal(other, message("bob")) == 2002
        await perform(other, delete())
        assert await refusal(one, message("ann")) == 2000
        assert (await perform(one, create())).last_seq == 4


async def test_a_node_that_opens_meanwhile_finds_all(database_url: str) -> None:
    stored: list[Stored] = []
    async with two_nodes(database_url) as nodes:
        await in_one_go(nodes[0], [create(), join("ann")])
        for _ in range(5):
            stored.append(await perform(nodes[0], message("ann")))
            async with open_postgres_store(database_url) as third:
                stored.append(await perform(third, message("ann")))
    assert [each.seq for each in stored] == list(range(2, 12))

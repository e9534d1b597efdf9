"""Read positions, unread messages and mentions, on every store."""

from __future__ import annotations

from typing import Any

import pytest

from livechat.store.base import perform
from livechat.store.operations import Operation
from livechat.store.rows import ReadMark
from tests.support.store import (
    OpenStore,
    add_member,
    create,
    delete,
    in_one_go,
    join,
    leave,
    list_members,
    load,
    mark_read,
    message,
    read_states,
    refusal,
    remove_member,
    state_of,
)

# The sequence of most tests here: ann and bob join (1, 2), bob writes (3), eve joins (4), bob writes (5),
# eve leaves (6), bob writes (7).
STORY = [
    create(),
    join("ann"),
    join("bob"),
    message("bob"),
    join("eve"),
    message("bob"),
    leave("eve"),
    message("bob"),
]


@pytest.mark.parametrize(("seq", "unread"), [(2, 3), (3, 2), (4, 2), (5, 1), (6, 1), (7, 0)])
async def test_unread_counts_the_messages_after_the_position(open_store: OpenStore, seq: int, unread: int) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        assert (await state_of(store, "ann")).unread == 3
        mark = await perform(store, mark_read("ann", seq))

        assert mark.moved
        assert (mark.member.read_seq, mark.unread, mark.channel.last_seq) == (seq, unread, 7)
    async with open_store() as store:
        state = await state_of(store, "ann")
        assert (state.member, state.unread) == (mark.member, unread)
        assert (await state_of(store, "bob")).unread == 0


async def test_a_position_counts_the_same_whether_its_message_is_stored_or_about_to_be(
    open_durable_store: OpenStore,
) -> None:
    async with open_durable_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), message("bob")])
        before = store.statistics().batches
        outcomes = await in_one_go(
            store,
            [
                join("cat"),
                message("bob"),
                mark_read("ann", 3),
                message("bob"),
                mark_read("ann", 5),
                message("bob"),
                mark_read("ann", 7),
            ],
        )
        marks = [outcome.value for outcome in outcomes if isinstance(outcome.value, ReadMark)]
        assert [(mark.unread, mark.channel.last_seq) for mark in marks] == [(1, 5), (1, 6), (0, 7)]
        # The first was committed alone and the others together, so no position was looked up too early.
        assert store.statistics().batches - before == 2


async def test_a_position_only_moves_forward(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        there = await perform(store, mark_read("ann", 5))
        for seq in (5, 4, 1, 0):
            again = await perform(store, mark_read("ann", seq))
            assert not again.moved
            assert (again.member, again.unread) == (there.member, 1)
        # One's own message is further than that.
        await perform(store, message("ann"))
        behind = await perform(store, mark_read("ann", 7))
        assert (behind.moved, behind.member.read_seq, behind.unread) == (False, 8, 0)


async def test_nobody_has_read_what_is_not_there_yet(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        for seq in (8, 2**63 - 1):
            assert await refusal(store, mark_read("ann", seq)) == 1004
        assert (await state_of(store, "ann")).member.read_seq == 1
        # In one batch a position may follow the message.
        outcomes = await in_one_go(store, [mark_read("ann", 8), message("bob"), mark_read("ann", 8)])
        assert [outcome.error.code if outcome.error else 0 for outcome in outcomes] == [1004, 0, 0]


async def test_reading_tells_nobody_else(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        mark = await perform(store, mark_read("ann", 7))
        assert mark.channel.last_seq == 7
        assert (await state_of(store, "bob")).channel == mark.channel


async def test_positions_start_anew_with_membership(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        await in_one_go(store, [leave("ann"), message("bob"), join("ann"), message("bob")])
        state = await state_of(store, "ann")
        assert (state.member.read_seq, state.unread) == (10, 1)


async def test_positions_are_right_in_a_channel_created_again(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [*STORY, delete(), create(), join("ann"), join("bob")])
        assert await refusal(store, mark_read("ann", 10)) == 1004
        await in_one_go(store, [message("bob"), message("bob")])
        assert (await perform(store, mark_read("ann", 7))).moved is False
        assert (await perform(store, mark_read("ann", 10))).unread == 1


async def test_the_message_of_an_admin_who_is_no_member_moves_no_position(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, STORY)
        stored = await perform(store, message("root", mentions=("ann",), admin=True))
        assert (stored.seq, stored.mentioned) == (8, ("ann",))
        state = await state_of(store, "ann")
        assert (state.unread, state.member.mention_count) == (4, 1)
        assert (await perform(store, load("root"))).states == ()


# --- mentions -------------------------------------------------------------------------------------


async def test_mentions_are_counted_down_as_they_are_read(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        for mentions in (("ann",), (), ("ann", "bob", "ann"), ("ann",)):  # 3, 4, 5, 6
            await perform(store, message("bob", mentions=mentions))
        assert (await state_of(store, "ann")).member.mention_count == 3
        for seq, left in ((2, 3), (3, 2), (4, 2), (5, 1), (4, 1)):
            assert (await perform(store, mark_read("ann", seq))).member.mention_count == left
    async with open_store() as store:
        assert (await state_of(store, "ann")).member.mention_count == 1
        assert (await perform(store, mark_read("ann", 6))).member.mention_count == 0


async def test_mentions_made_and_read_in_one_batch(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        outcomes = await in_one_go(
            store,
            [
                message("bob", mentions=("ann",)),
                message("bob", mentions=("ann",)),
                mark_read("ann", 3),
                message("bob", mentions=("ann",)),
                message("ann"),
                message("bob", mentions=("ann",)),
            ],
        )
        assert [outcome.error for outcome in outcomes] == [None] * 6
    async with open_store() as store:
        assert (await state_of(store, "ann")).member.mention_count == 1
        assert (await state_of(store, "ann")).unread == 1


async def test_a_message_tells_whom_it_mentions_of_the_other_members(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), join("eve")])
        mentions = ("stranger", "eve", "bob", "ann", "eve")
        stored = await perform(store, message("bob", mentions=mentions, nonce="n1"))
        assert stored.mentioned == ("eve", "ann")
        assert stored.message is not None
        assert stored.message.mentions == mentions
        again = await perform(store, message("bob", mentions=mentions, nonce="n1"))
        assert (again.duplicate, again.mentioned) == (True, ())
        assert (await state_of(store, "ann")).member.mention_count == 1


@pytest.mark.parametrize("how", ["leaves", "is removed", "sees the channel deleted"])
async def test_mentions_end_with_the_membership(open_store: OpenStore, how: str) -> None:
    ends: dict[str, list[Operation[Any]]] = {
        "leaves": [leave("ann")],
        "is removed": [remove_member("ann")],
        "sees the channel deleted": [delete(), create(), join("bob")],
    }
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), message("bob", mentions=("ann",))])
        await in_one_go(store, [*ends[how], add_member("ann")])
        stored = await perform(store, message("bob", mentions=("ann",)))
        await perform(store, message("bob"))
        state = await state_of(store, "ann")
        assert (state.member.mention_count, state.unread) == (1, 2)
        assert (await perform(store, mark_read("ann", stored.seq))).member.mention_count == 0


async def test_a_role_given_leaves_position_and_mentions_alone(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [*STORY, message("bob", mentions=("ann",))])
        await perform(store, mark_read("ann", 3))
        await perform(store, add_member("ann", role="moderator"))
        page = await perform(store, list_members("ann", limit=1))
        assert (page.members[0].read_seq, page.members[0].mention_count) == (3, 1)
        assert (await state_of(store, "ann")).unread == 3


# --- the states of many channels ------------------------------------------------------------------


async def test_the_states_of_all_or_some_channels_are_read_in_order(open_store: OpenStore) -> None:
    async with open_store() as store:
        for channel_id in ("b", "a", "é", "not-mine"):
            await in_one_go(store, [create(channel_id), join("bob", channel_id)])
        await in_one_go(store, [join("ann", channel_id) for channel_id in ("é", "b", "a")])
        await perform(store, message("bob", "hi", "a", mentions=("ann",)))

        every = await perform(store, read_states("ann"))
        assert [state.channel.channel_id for state in every] == ["a", "b", "é"]
        assert [(state.unread, state.member.mention_count) for state in every] == [(1, 1), (0, 0), (0, 0)]
        assert {state.last_message for state in every} == {None}

        some = await perform(store, read_states("ann", ["é", "not-mine", "a", "gone", "a"]))
        assert some == (every[0], every[2])
        assert await perform(store, read_states("ann", [])) == ()
        assert await perform(store, read_states("stranger")) == ()

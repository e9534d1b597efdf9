"""Messages, nonces and read positions, on every store."""

from __future__ import annotations

import pytest

from livechat.error import EmptyMessage
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import perform
from livechat.store.operations import GetChannel
from tests.support.store import (
    DAY_MS,
    NOW_MS,
    OpenStore,
    create,
    delete,
    in_one_go,
    join,
    last_seq,
    leave,
    message,
    refusal,
    state_of,
)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("content", ["hello", "", "line\nbreak \"'\\ \\u0000", "\x01\x7f 🎉 ￿", "007"])
async def test_a_message_comes_back_as_it_was_sent(open_store: OpenStore, content: str, copies: int) -> None:
    operations = [
        message("ann", content, nonce=f"n{copy}", mentions=("bob", "nobody"), attachment={"name": content})
        for copy in range(copies)
    ]
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        stored = [outcome.unwrap() for outcome in await in_one_go(store, operations)]
    async with open_store() as store:
        kept = (await state_of(store, "ann")).last_message
        viewed = (await perform(store, GetChannel(ChannelId("lobby"), UserId("ann")))).last_message
        repeated = [outcome.unwrap() for outcome in await in_one_go(store, operations)]

    sent = stored[-1].message
    assert sent is not None
    assert kept == viewed == sent
    assert (sent.content, sent.mentions, sent.attachment) == (content, ("bob", "nobody"), {"name": content})
    assert (sent.message_id, sent.seq, sent.timestamp) == (operations[-1].message_id, 2 + copies, NOW_MS)
    assert all(result.duplicate for result in repeated)
    assert [result.seq for result in repeated] == [result.seq for result in stored]


async def test_a_message_without_extras_comes_back_without(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        stored = await perform(store, message("ann"))
        assert stored.message == (await state_of(store, "ann")).last_message
        assert stored.message is not None
        assert (stored.message.attachment, stored.message.mentions, stored.message.nonce) == (None, (), None)
        assert not stored.duplicate


async def test_only_members_may_send(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        assert await refusal(store, message("ann")) == 3002
        assert await refusal(store, message("owner")) == 3002


async def test_a_nonce_returns_its_first_result(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        first = await perform(store, message("ann", nonce="n1"))
        again = await perform(store, message("ann", nonce="n1", now_ms=NOW_MS + 5))
    async with open_store() as store:
        restarted = await perform(store, message("ann", nonce="n1", now_ms=NOW_MS + 9))
        assert await last_seq(store) == 2

    for repeated in (again, restarted):
        assert repeated.duplicate
        assert repeated.message is None
        assert (repeated.message_id, repeated.seq, repeated.timestamp) == (first.message_id, 2, NOW_MS)


async def test_a_nonce_within_one_batch_is_stored_once(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        outcomes = await in_one_go(store, [message("ann", nonce="n1") for _ in range(3)])
        results = [outcome.unwrap() for outcome in outcomes]
        assert [result.duplicate for result in results] == [False, True, True]
        assert {result.seq for result in results} == {3}
        assert await last_seq(store) == 3


async def test_a_nonce_with_another_body_is_a_conflict(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        await perform(store, message("ann", "one", nonce="n1"))
        assert await refusal(store, message("ann", "two", nonce="n1")) == 3003
        assert await last_seq(store) == 2


async def test_a_nonce_belongs_to_one_author_and_channel(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), create("other"), join("ann"), join("bob"), join("ann", "other")])
        for operation in (message("ann"), message("bob"), message("ann", channel_id="other")):
            same_nonce = message(operation.author_id, "x", operation.channel_id, nonce="n1")
            assert not (await perform(store, same_nonce)).duplicate


async def test_a_nonce_counts_as_new_after_24_hours(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        await perform(store, message("ann", nonce="n1"))
        last = await perform(store, message("ann", nonce="n1", now_ms=NOW_MS + DAY_MS - 1))
        anew = await perform(store, message("ann", "other", nonce="n1", now_ms=NOW_MS + DAY_MS))
        again = await perform(store, message("ann", "other", nonce="n1", now_ms=NOW_MS + DAY_MS + 1))

    assert last.duplicate
    assert not anew.duplicate
    assert anew.seq == 3
    assert again.duplicate
    assert again.seq == 3


async def test_a_nonce_is_looked_up_before_everything_else(open_store: OpenStore) -> None:
    problem = EmptyMessage("content must not be empty")
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann")])
        assert await refusal(store, message("ann", nonce="n1", problem=problem)) == 3000
        await perform(store, message("ann", nonce="n1"))
        assert (await perform(store, message("ann", nonce="n1", problem=problem))).duplicate
        assert await refusal(store, message("ann", "new", nonce="n1", problem=problem)) == 3003
        await perform(store, leave("ann"))
        assert (await perform(store, message("ann", nonce="n1"))).duplicate
        await perform(store, delete())
        assert (await perform(store, message("ann", nonce="n1"))).duplicate
        assert await refusal(store, message("ann", nonce="n2", problem=problem)) == 3000
        assert await refusal(store, message("ann", nonce="n2")) == 2000


async def test_a_refused_message_leaves_its_nonce_unused(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        assert await refusal(store, message("ann", nonce="n1")) == 3002
        await perform(store, join("ann"))
        assert not (await perform(store, message("ann", "other", nonce="n1"))).duplicate


async def test_unread_counts_messages_by_others_after_the_own_last_one(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("bob")])
        await perform(store, message("bob"))
        await perform(store, join("ann"))
        assert (await state_of(store, "ann")).unread == 0
        await in_one_go(store, [message("bob"), join("eve"), message("bob"), leave("eve")])
        assert (await state_of(store, "ann")).unread == 2
        assert (await state_of(store, "bob")).unread == 0
        await perform(store, message("ann"))
    async with open_store() as store:
        ann, bob = await state_of(store, "ann"), await state_of(store, "bob")
        assert (ann.unread, ann.member.read_seq) == (0, ann.channel.last_seq)
        assert bob.unread == 1


async def test_mentions_count_for_members_until_they_send(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob")])
        await perform(store, message("bob", mentions=("ann", "ann", "bob", "stranger")))
        await perform(store, message("bob", mentions=("ann",)))
    async with open_store() as store:
        assert (await state_of(store, "ann")).member.mention_count == 2
        assert (await state_of(store, "bob")).member.mention_count == 0
        await perform(store, message("ann"))
        assert (await state_of(store, "ann")).member.mention_count == 0

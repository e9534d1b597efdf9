"""Channels and members, on every store."""

from __future__ import annotations

import pytest

from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import perform
from livechat.store.operations import GetChannel, ListChannels, TransientMembers
from tests.support.store import (
    NOW_MS,
    OpenStore,
    add_member,
    create,
    delete,
    get,
    history,
    in_one_go,
    join,
    last_seq,
    leave,
    list_members,
    load,
    mark_read,
    message,
    query_refusal,
    refusal,
    remove_member,
    state_of,
    update,
)


async def test_a_channel_is_kept_as_it_was_created(open_store: OpenStore) -> None:
    operation = create(mode="ptt", durable=False, capacity=7, private=True, max_speakers=2, freq="446.00625")
    async with open_store() as store:
        row = await perform(store, operation)
    async with open_store() as store:
        view = await perform(store, GetChannel(ChannelId("lobby"), UserId("owner")))

    assert view.channel == row
    assert view.member is None
    assert view.last_message is None
    assert (row.channel_name, row.mode, row.durable, row.capacity) == ("The lobby", "ptt", False, 7)
    assert (row.private, row.max_speakers, row.freq, row.owner_id) == (True, 2, "446.00625", "owner")
    assert (row.created_at, row.last_seq, row.last_ordinal, row.member_count) == (NOW_MS, 0, 0, 0)


async def test_a_channel_id_is_given_once(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        assert await refusal(store, create(owner_id="other")) == 2005


async def test_settings_that_are_given_change_and_the_others_stay(open_store: OpenStore) -> None:
    async with open_store() as store:
        before = await perform(store, create())
        named = await perform(store, update(channel_name="New"))
        rest = await perform(store, update(capacity=5, private=True, max_speakers=3))
    async with open_store() as store:
        kept = (await perform(store, GetChannel(ChannelId("lobby"), UserId("owner")))).channel

    assert (named.channel_name, named.capacity) == ("New", before.capacity)
    assert kept == rest
    assert (rest.channel_name, rest.capacity, rest.private, rest.max_speakers) == ("New", 5, True, 3)


async def test_only_the_owner_and_admins_change_and_delete(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        await perform(store, join("ann"))
        for actor_id in ("ann", "stranger"):
            assert await refusal(store, update(actor_id=actor_id)) == 1007
            assert await refusal(store, delete(actor_id=actor_id)) == 1007
        assert (await perform(store, update(actor_id="root", admin=True, capacity=9))).capacity == 9
        await perform(store, delete(actor_id="root", admin=True))


async def test_a_private_channel_shuts_out_who_is_neither_member_nor_owner(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        await perform(store, join("ann"))
        await perform(store, update(private=True))

        for operation in (
            join("eve"),
            leave("eve"),
            message("eve"),
            update(actor_id="eve"),
            delete(actor_id="eve"),
            GetChannel(ChannelId("lobby"), UserId("eve")),
        ):
            assert await refusal(store, operation) == 2002
        assert await refusal(store, message("owner")) == 2002
        assert await refusal(store, leave("owner")) == 2002

        assert await refusal(store, update(actor_id="ann")) == 1007
        assert not (await perform(store, join("ann"))).created
        assert (await perform(store, join("owner"))).created
        assert (await perform(store, message("ann"))).seq == 3


async def test_every_operation_on_an_unknown_channel_is_refused(open_store: OpenStore) -> None:
    async with open_store() as store:
        for operation in (
            update(),
            delete(admin=True),
            join(),
            leave(),
            message(),
            message(admin=True),
            mark_read(),
            add_member(admin=True),
            remove_member(admin=True),
            remove_member(admin=True, ban=True),
            list_members(admin=True),
            get(admin=True),
        ):
            assert await refusal(store, operation) == 2000
        assert await query_refusal(store, history(admin=True)) == 2000


async def test_joining_writes_one_entry_and_joining_again_none(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        first = await perform(store, join("ann"))
        again = await perform(store, join("ann", now_ms=NOW_MS + 1))

        assert first.created
        assert first.message is not None
        assert (first.message.seq, first.message.message_type) == (1, "SYSTEM")
        assert first.message.system == {"event": "join", "user_id": "ann"}
        assert (first.member.role, first.member.joined_at, first.member.read_seq) == ("member", NOW_MS, 1)
        assert (first.channel.last_seq, first.channel.last_ordinal, first.channel.member_count) == (1, 0, 1)
        assert not again.created
        assert again.message is None
        assert again.member == first.member
        assert again.channel == first.channel
        state = await state_of(store, "ann")
        assert (state.last_message, state.unread) == (first.message, 0)


async def test_the_owner_is_a_member_only_by_joining_and_then_has_that_role(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        assert (await perform(store, load("owner"))).states == ()
        assert (await perform(store, join("owner"))).member.role == "owner"


async def test_a_full_channel_takes_nobody_but_lets_its_members_in(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create(capacity=2))
        outcomes = await in_one_go(store, [join("ann"), join("bob"), join("eve"), join("ann")])
        assert [outcome.error.code if outcome.error else 0 for outcome in outcomes] == [0, 0, 2001, 0]
        assert await last_seq(store) == 2
        await perform(store, leave("bob"))
        assert (await perform(store, join("eve"))).created


async def test_leaving_writes_one_entry_and_ends_the_membership(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        await perform(store, join("ann"))
        left = await perform(store, leave("ann", cause="kick"))

        assert (left.message.seq, left.message.author_id) == (2, "ann")
        assert left.message.system == {"event": "leave", "user_id": "ann", "cause": "kick"}
        assert (left.channel.last_seq, left.channel.member_count) == (2, 0)
        assert await refusal(store, leave("ann")) == 2004
        assert await refusal(store, message("ann")) == 3002
        assert (await perform(store, load("ann"))).states == ()
        assert await last_seq(store) == 2


async def test_leaving_and_joining_in_one_batch_makes_a_new_membership(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        await perform(store, join("ann"))
        operations = [leave("ann"), join("ann", now_ms=NOW_MS + 5), leave("ann"), join("ann", now_ms=NOW_MS + 9)]
        await in_one_go(store, operations)
    async with open_store() as store:
        state = await state_of(store, "ann")
        assert (state.member.joined_at, state.member.read_seq, state.channel.member_count) == (NOW_MS + 9, 5, 1)


async def test_deleting_returns_the_members_and_takes_everything_away(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        await in_one_go(store, [join("bob"), join("ann"), message("ann")])
        deleted = await perform(store, delete())

        assert deleted.channel.last_seq == 3
        assert deleted.members == ("ann", "bob")
        assert (await perform(store, load("ann"))).states == ()
        assert await refusal(store, delete()) == 2000
        assert (await perform(store, ListChannels(UserId("ann")))).channels == ()


async def test_a_channel_created_again_goes_on_after_its_last_seq(open_store: OpenStore) -> None:
    async with open_store() as store:
        for seq in (0, 2, 4):
            row = await perform(store, create(owner_id=f"owner{seq}"))
            assert (row.last_seq, row.last_ordinal, row.member_count) == (seq, 0, 0)
            view = await perform(store, GetChannel(ChannelId("lobby"), UserId("ann")))
            assert view.last_message is None
            await perform(store, join("ann"))
            await perform(store, message("ann"))
            await perform(store, delete(actor_id=f"owner{seq}"))
    async with open_store() as store:
        outcomes = await in_one_go(store, [create(), delete(), create()])
        assert outcomes[2].error is None
        assert await last_seq(store) == 6


async def test_a_user_loads_all_own_channels_in_order(open_store: OpenStore) -> None:
    async with open_store() as store:
        for channel_id in ("b", "a", "Z", "é", "other"):
            await perform(store, create(channel_id))
            await perform(store, join("bob", channel_id))
        for channel_id in ("b", "a", "Z", "é"):
            await perform(store, join("ann", channel_id))
        sent = await perform(store, message("bob", "hi", "a"))
        states = (await perform(store, load("ann"))).states

        assert [state.channel.channel_id for state in states] == ["Z", "a", "b", "é"]
        assert [state.unread for state in states] == [0, 1, 0, 0]
        assert states[1].last_message == sent.message


async def test_the_list_of_channels_comes_in_pages_and_hides_private_ones(open_store: OpenStore) -> None:
    async with open_store() as store:
        for channel_id in ("d", "b", "a", "C"):
            await perform(store, create(channel_id))
        await perform(store, create("secret-member", owner_id="bob"))
        await perform(store, join("ann", "secret-member"))
        await perform(store, update("secret-member", actor_id="bob", private=True))
        await perform(store, create("secret-own", owner_id="ann", private=True))
        await perform(store, create("secret-other", owner_id="bob", private=True))

        found: list[str] = []
        after: ChannelId | None = None
        while True:
            page = await perform(store, ListChannels(UserId("ann"), after, 2))
            assert len(page.channels) <= 2
            found += [row.channel_id for row in page.channels]
            if page.next is None:
                break
            after = page.next
        assert found == ["C", "a", "b", "d", "secret-member", "secret-own"]


@pytest.mark.parametrize(("limit", "following"), [(2, "b"), (3, None), (4, None)])
async def test_a_page_tells_whether_it_is_the_last(
    open_store: OpenStore, limit: int, following: str | None
) -> None:
    async with open_store() as store:
        await in_one_go(store, [create("a"), create("b"), create("c")])
        assert (await perform(store, ListChannels(UserId("ann"), None, limit))).next == following


async def test_the_members_of_transient_channels_are_found(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create("keep"), create("two", durable=False), create("one", durable=False)])
        await in_one_go(store, [join("bob", "one"), join("ann", "one"), join("ann", "two"), join("ann", "keep")])
    async with open_store() as store:
        found = await perform(store, TransientMembers())
        assert found == (("one", "ann"), ("one", "bob"), ("two", "ann"))

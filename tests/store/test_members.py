"""Members added, removed, banned and listed by others, on every store."""

from __future__ import annotations

import pytest

from livechat.store.base import perform
from tests.support.store import (
    NOW_MS,
    OpenStore,
    add_member,
    create,
    delete,
    get,
    in_one_go,
    join,
    last_seq,
    leave,
    list_channels,
    list_members,
    load,
    message,
    refusal,
    remove_member,
    state_of,
    update,
)


async def roles(open_store: OpenStore) -> list[tuple[str, str]]:
    """Return the members of the lobby as a store opened anew knows them."""
    async with open_store() as store:
        page = await perform(store, list_members("owner"))
    return [(member.user_id, member.role) for member in page.members]


# --- added ----------------------------------------------------------------------------------------


async def test_adding_makes_a_member_and_tells_by_whom(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(private=True), join("owner"), message("owner")])
        added = await perform(store, add_member("ann", now_ms=NOW_MS + 7))

        assert added.message is not None
        assert (added.message.seq, added.message.author_id, added.message.message_type) == (3, "ann", "SYSTEM")
        assert added.message.system == {"event": "join", "user_id": "ann", "actor_id": "owner"}
        assert (added.member.user_id, added.member.role, added.member.joined_at) == ("ann", "member", NOW_MS + 7)
        # Who is added has read what came before, as who joins.
        assert (added.member.read_seq, added.member.read_ordinal) == (3, 1)
        assert (added.channel.last_seq, added.channel.member_count) == (3, 2)
        assert (await state_of(store, "ann")).last_message == added.message
        assert (await perform(store, message("ann"))).seq == 4


async def test_a_moderator_is_made_by_adding_or_of_a_member(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("bob"), message("bob")])
        new = await perform(store, add_member("ann", role="moderator"))
        promoted = await perform(store, add_member("bob", role="moderator"))
        assert new.member.role == promoted.member.role == "moderator"
        assert new.message is not None
        # A role is no entry of the sequence, and nobody has read anything by it.
        assert promoted.message is None
        assert (promoted.channel.last_seq, promoted.member.read_seq) == (3, 2)
    assert await roles(open_store) == [("ann", "moderator"), ("bob", "moderator")]

    async with open_store() as store:
        demoted = await perform(store, add_member("ann", role="member"))
        assert demoted.member.role == "member"
        assert await last_seq(store) == 3
    assert await roles(open_store) == [("ann", "member"), ("bob", "moderator")]


async def test_adding_who_is_a_member_with_that_role_is_refused(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(capacity=2), join("ann"), add_member("bob", role="moderator")])
        # This comes before the question of room.
        for operation in (
            add_member("ann"),
            add_member("ann", role="member"),
            add_member("bob"),
            add_member("bob", role="moderator"),
        ):
            assert await refusal(store, operation) == 2003
        assert await last_seq(store) == 2


async def test_adding_needs_room_and_giving_a_role_none(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(capacity=1), join("ann")])
        assert await refusal(store, add_member("bob")) == 2001
        assert (await perform(store, add_member("ann", role="moderator"))).member.role == "moderator"
        await perform(store, leave("ann"))
        assert (await perform(store, add_member("bob"))).message is not None


async def test_a_role_ends_with_the_membership(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), add_member("ann", role="moderator"), leave("ann"), join("ann")])
        assert (await state_of(store, "ann")).member.role == "member"
        assert await refusal(store, update(actor_id="ann")) == 1007


# --- removed --------------------------------------------------------------------------------------


async def test_removing_ends_a_membership_and_tells_by_whom(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), add_member("bob", role="moderator")])
        removed = await perform(store, remove_member("ann", actor_id="bob"))

        assert removed.message is not None
        assert (removed.message.seq, removed.message.author_id) == (3, "ann")
        assert removed.message.system == {
            "event": "leave",
            "user_id": "ann",
            "actor_id": "bob",
            "cause": "remove",
        }
        assert (removed.channel.last_seq, removed.channel.member_count) == (3, 1)
        assert (await perform(store, load("ann"))).states == ()
        assert await refusal(store, message("ann")) == 3002
        assert await refusal(store, remove_member("ann")) == 2004
        assert (await perform(store, join("ann"))).created


async def test_the_owner_is_never_removed_nor_banned(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), add_member("bob", role="moderator")])
        for _ in ("absent", "present"):
            for ban in (False, True):
                for actor_id in ("owner", "bob"):
                    assert await refusal(store, remove_member("owner", actor_id=actor_id, ban=ban)) == 1007
                assert await refusal(store, remove_member("owner", actor_id="root", ban=ban, admin=True)) == 1007
            await perform(store, join("owner"))
        assert await last_seq(store) == 2


# --- banned ---------------------------------------------------------------------------------------


async def test_a_ban_of_a_member_ends_the_membership_and_keeps_it_out(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), create("other"), join("ann"), join("ann", "other")])
        banned = await perform(store, remove_member("ann", ban=True))
        assert banned.message is not None
        assert banned.message.system == {"event": "leave", "user_id": "ann", "actor_id": "owner", "cause": "ban"}
        assert (banned.channel.last_seq, banned.channel.member_count) == (2, 0)
    async with open_store() as store:
        assert await refusal(store, join("ann")) == 1007
        assert await last_seq(store) == 2
        # Of this channel only, and of this user.
        assert (await perform(store, message("ann", channel_id="other"))).seq == 2
        assert (await perform(store, join("bob"))).created
        # It is no secret that the channel is there.
        assert (await perform(store, get("ann"))).member is None
        assert [row.channel_id for row in (await perform(store, list_channels("ann"))).channels] == [
            "lobby",
            "other",
        ]


async def test_a_stranger_is_banned_without_a_trace_in_the_sequence(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("bob")])
        for _ in range(2):
            banned = await perform(store, remove_member("ann", ban=True))
            assert banned.message is None
            assert (banned.channel.last_seq, banned.channel.member_count) == (1, 1)
    async with open_store() as store:
        assert await refusal(store, join("ann")) == 1007


@pytest.mark.parametrize("admin", [False, True])
async def test_a_ban_is_lifted_by_adding_and_by_an_admin_who_joins(open_store: OpenStore, admin: bool) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), remove_member("ann", ban=True)])
        await perform(store, join("ann", admin=True) if admin else add_member("ann"))
        await perform(store, leave("ann"))
    async with open_store() as store:
        assert (await perform(store, join("ann"))).created


async def test_a_ban_outlives_a_refused_addition(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(capacity=1), join("bob"), remove_member("ann", ban=True)])
        assert await refusal(store, add_member("ann")) == 2001
        await perform(store, leave("bob"))
        assert await refusal(store, join("ann")) == 1007


async def test_a_ban_ends_with_the_channel(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), remove_member("ann", ban=True), delete(), create()])
        assert (await perform(store, join("ann"))).created


async def test_memberships_that_change_in_one_batch_end_as_the_last_change_says(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        outcomes = await in_one_go(
            store,
            [
                join("ann"),
                remove_member("ann", ban=True),
                join("ann"),
                add_member("ann", role="moderator"),
                remove_member("ann"),
                join("ann"),
                add_member("bob"),
                remove_member("bob"),
            ],
        )
        codes = [outcome.error.code if outcome.error else 0 for outcome in outcomes]
        assert codes == [0, 0, 1007, 0, 0, 0, 0, 0]
        assert await last_seq(store) == 7
    assert await roles(open_store) == [("ann", "member")]


# --- listed ---------------------------------------------------------------------------------------


async def test_members_are_listed_in_pages_with_their_roles(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), create("other"), join("zoe", "other")])
        await in_one_go(store, [join(user_id) for user_id in ("b", "a", "Z", "é", "owner")])
        await perform(store, add_member("m", role="moderator"))
        found: list[tuple[str, str]] = []
        after: str | None = None
        while True:
            page = await perform(store, list_members("a", after=after, limit=2))
            assert len(page.members) <= 2
            found += [(member.user_id, member.role) for member in page.members]
            if page.next is None:
                break
            after = page.next
    assert found == [
        ("Z", "member"),
        ("a", "member"),
        ("b", "member"),
        ("m", "moderator"),
        ("owner", "owner"),
        ("é", "member"),
    ]


@pytest.mark.parametrize(("limit", "following"), [(1, "ann"), (2, "bob"), (3, None), (4, None)])
async def test_a_page_of_members_tells_whether_it_is_the_last(
    open_store: OpenStore, limit: int, following: str | None
) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("eve"), join("ann"), join("bob")])
        assert (await perform(store, list_members("ann", limit=limit))).next == following


async def test_a_listed_member_is_the_membership_as_it_stands(open_store: OpenStore) -> None:
    async with open_store() as store:
        await in_one_go(store, [create(), join("ann"), join("bob"), message("bob", mentions=("ann",))])
        page = await perform(store, list_members("ann", limit=1))
        assert page.members == ((await state_of(store, "ann")).member,)
        assert page.members[0].mention_count == 1


async def test_the_owner_lists_an_empty_channel(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, create())
        page = await perform(store, list_members("owner"))
        assert (page.members, page.next) == ((), None)

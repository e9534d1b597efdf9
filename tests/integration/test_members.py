"""Members, roles and bans over real connections: who changes them, who is told, and what it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import livechat
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_ADD,
    MEMBER_LIST,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    UPDATE,
    Client,
    identified,
)
from tests.support.server import counted, running_server

BOB = {"channel_id": "x", "user_id": "bob"}


@asynccontextmanager
async def owner_and_bob(
    data_dir: Path, **channel: object
) -> AsyncGenerator[tuple[livechat.Server, Client, Client]]:
    """Alice, who owns the channel `x` and is in it (seq 1), and Bob, who is not."""
    async with (
        running_server(data_dir) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x", **channel})
        await alice.ack(JOIN, {"channel_id": "x"})
        yield server, alice, bob


async def test_who_is_added_is_a_member_and_is_invited(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as bob_too:
        await alice.send(MEMBER_ADD, BOB, id=1)
        # The one that asked hears the event as well, after its ACK.
        assert (await alice.expect(ACK))["data"] == {"channel_id": "x", "user_id": "bob", "role": "member"}
        joined = {
            "event": "join",
            "channel_id": "x",
            "member": {"user_id": "bob", "ssrc": None},
            "seq": 2,
            "actor_id": "alice",
        }
        assert await alice.expect(CHANNEL_EVENT) == joined
        for client in (bob, bob_too):
            assert await client.expect(CHANNEL_EVENT) == joined
            assert await client.expect(NOTIFICATION) == {"kind": "invite", "channel_id": "x", "user_id": "alice"}
        # All sessions of a member are subscribed; a JOIN of its own is still possible.
        await alice.say("x", "welcome")
        assert (await bob.expect(MESSAGE_EVENT))["seq"] == (await bob_too.expect(MESSAGE_EVENT))["seq"] == 3
        assert (await bob.ack(JOIN, {"channel_id": "x", "ssrc": 5}))["media"]["ssrc"] == 5
        assert (await alice.refused(MEMBER_ADD, BOB))["code"] == 2003


async def test_who_is_added_while_away_finds_the_channel_at_login(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, _):
        await alice.ack(MEMBER_ADD, {"channel_id": "x", "user_id": "carol", "role": "moderator"})
        event = await alice.expect(CHANNEL_EVENT)
        assert (event["event"], event["role"]) == ("join", "moderator")
        async with identified(server, "carol") as carol:
            (state,) = carol.ready["channels"]
            assert (state["role"], state["last_seq"], state["read_seq"], state["unread"]) == ("moderator", 2, 2, 0)


async def test_the_removed_hears_its_own_leave_as_the_last_event_of_the_channel(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as bob_too:
        await bob.ack(JOIN, {"channel_id": "x", "ssrc": 9})
        for client in (alice, bob_too):
            await client.expect(CHANNEL_EVENT)
        # All at once, so that what comes after the removal is on its way before it was answered.
        await alice.send(MEMBER_REMOVE, BOB, id=1)
        for number in range(20):
            await alice.send(MESSAGE, {"channel_id": "x", "content": f"{number}"})
        assert (await alice.expect(ACK))["data"] == BOB
        left = {
            "event": "leave",
            "channel_id": "x",
            "member": {"user_id": "bob", "ssrc": 9},
            "seq": 3,
            "actor_id": "alice",
            "cause": "remove",
        }
        assert await alice.expect(CHANNEL_EVENT) == left
        for client in (bob, bob_too):
            assert await client.expect(CHANNEL_EVENT) == left
        for number in range(20):
            assert (await alice.expect(MESSAGE_EVENT))["seq"] == 4 + number
        for client in (bob, bob_too):
            await client.expect_silence()
        assert counted(server)["peers"] == 0
        assert (await alice.refused(MEMBER_REMOVE, BOB))["code"] == 2004
        # Without a ban one may come back.
        assert (await bob.ack(JOIN, {"channel_id": "x"}))["last_seq"] == 24


async def test_a_role_is_given_and_taken_by_the_owner_and_told_to_all(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, bob), identified(server, "carol") as carol:
        for client in (bob, carol):
            await client.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        await alice.expect(CHANNEL_EVENT)
        await bob.expect(CHANNEL_EVENT)
        for role in ("moderator", "member"):
            assert await alice.ack(MEMBER_ADD, {**BOB, "role": role}) == {**BOB, "role": role}
            for client in (alice, bob, carol):
                assert await client.expect(CHANNEL_EVENT) == {
                    "event": "update",
                    "channel_id": "x",
                    "member": {"user_id": "bob", "ssrc": None},
                    "actor_id": "alice",
                    "role": role,
                }
            assert (await bob.ack(INFO, {"channel_id": "x"}))["role"] == role
        assert (await alice.refused(MEMBER_ADD, {**BOB, "role": "member"}))["code"] == 2003
        assert (await alice.refused(MEMBER_ADD, {**BOB, "role": "owner"}))["code"] == 1004
        # Giving a role writes nothing into the channel's sequence.
        assert (await alice.say("x", "next"))["seq"] == 4


async def test_a_ban_ends_the_membership_and_keeps_it_ended_until_it_is_lifted(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (_, alice, bob):
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        assert await alice.ack(MEMBER_REMOVE, {**BOB, "ban": True}) == BOB
        for client in (alice, bob):
            event = await client.expect(CHANNEL_EVENT)
            assert (event["event"], event["cause"], event["actor_id"]) == ("leave", "ban", "alice")
        for fields in ({}, {"ssrc": 4}):
            assert (await bob.refused(JOIN, {"channel_id": "x", **fields}))["code"] == 1007
        # The channel is public: it is known, but not to be taken part in.
        assert (await bob.ack(INFO, {"channel_id": "x"}))["role"] is None
        assert (await bob.refused(MESSAGE, {"channel_id": "x", "content": "hi"}))["code"] == 3002
        await alice.ack(MEMBER_ADD, BOB)
        assert (await bob.expect(CHANNEL_EVENT))["event"] == "join"
        await bob.expect(NOTIFICATION)
        await bob.ack(LEAVE, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})


async def test_who_is_no_member_can_be_banned_and_nobody_is_told(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (_, alice, bob):
        for _ in range(2):
            assert await alice.ack(MEMBER_REMOVE, {**BOB, "ban": True}) == BOB
        assert (await bob.refused(JOIN, {"channel_id": "x"}))["code"] == 1007
        await alice.expect_silence()
        await bob.expect_silence()
        # A ban is the channel's: a new one of the same name knows nothing of it.
        await alice.ack(DELETE, {"channel_id": "x"})
        await alice.ack(CREATE, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})


async def test_bans_and_roles_survive_a_restart(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (_, alice, _):
        await alice.ack(MEMBER_REMOVE, {**BOB, "ban": True})
        await alice.ack(MEMBER_ADD, {"channel_id": "x", "user_id": "carol", "role": "moderator"})
    async with (
        running_server(tmp_path) as server,
        identified(server, "bob") as bob,
        identified(server, "carol") as carol,
    ):
        assert (await bob.refused(JOIN, {"channel_id": "x"}))["code"] == 1007
        assert carol.ready["channels"][0]["role"] == "moderator"
        await carol.ack(UPDATE, {"channel_id": "x", "channel_name": "Carol's"})


async def test_moderators_moderate_plain_members_only(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, bob), identified(server, "carol") as carol:
        await alice.ack(MEMBER_ADD, {**BOB, "role": "moderator"})
        await alice.ack(MEMBER_ADD, {"channel_id": "x", "user_id": "carol", "role": "moderator"})
        await alice.ack(MEMBER_ADD, {"channel_id": "x", "user_id": "dan"})
        for user_id in ("alice", "carol"):
            refused = await bob.refused(MEMBER_REMOVE, {"channel_id": "x", "user_id": user_id})
            assert refused["code"] == 1007
        assert (await alice.refused(MEMBER_REMOVE, {"channel_id": "x", "user_id": "alice"}))["code"] == 1007
        await bob.ack(MEMBER_REMOVE, {"channel_id": "x", "user_id": "dan"})
        await bob.ack(MEMBER_ADD, {"channel_id": "x", "user_id": "dan"})
        for role in ("moderator", "member"):
            add = {"channel_id": "x", "user_id": "erin", "role": "moderator"}
            change = {"channel_id": "x", "user_id": "carol", "role": "member"}
            assert (await bob.refused(MEMBER_ADD, add if role == "moderator" else change))["code"] == 1007
        # A channel's owner may do so also from outside, which takes nothing from the owner's rights.
        await alice.ack(LEAVE, {"channel_id": "x"})
        await alice.ack(MEMBER_REMOVE, {"channel_id": "x", "user_id": "carol"})
        assert (await carol.refused(UPDATE, {"channel_id": "x"}))["code"] == 1007


async def test_the_list_of_members_has_pages(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (_, alice, bob):
        for name in ("carol", "dan", "erin"):
            await alice.ack(MEMBER_ADD, {"channel_id": "x", "user_id": name})
        await alice.ack(MEMBER_ADD, {**BOB, "role": "moderator"})
        seen: list[tuple[str, str]] = []
        after: dict[str, str] = {}
        while True:
            page = await bob.ack(MEMBER_LIST, {"channel_id": "x", "limit": 2, **after})
            assert page["channel_id"] == "x"
            assert len(page["members"]) <= 2
            assert all(member["joined_at"] > 0 for member in page["members"])
            seen += [(member["user_id"], member["role"]) for member in page["members"]]
            if "next" not in page:
                break
            after = {"after": page["next"]}
        assert seen == [
            ("alice", "owner"),
            ("bob", "moderator"),
            ("carol", "member"),
            ("dan", "member"),
            ("erin", "member"),
        ]
        for limit in (0, 201):
            assert (await bob.refused(MEMBER_LIST, {"channel_id": "x", "limit": limit}))["code"] == 1004


async def test_a_full_channel_takes_nobody_in_but_bans(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path, capacity=1) as (_, alice, bob):
        assert (await alice.refused(MEMBER_ADD, BOB))["code"] == 2001
        await alice.ack(MEMBER_REMOVE, {**BOB, "ban": True})
        await alice.ack(UPDATE, {"channel_id": "x", "capacity": 2})
        assert (await bob.refused(JOIN, {"channel_id": "x"}))["code"] == 1007


async def test_a_private_channel_opens_to_who_is_added_and_closes_to_who_is_removed(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path, private=True) as (_, alice, bob):
        for op in (JOIN, INFO, LEAVE, MEMBER_LIST, UPDATE, DELETE):
            assert (await bob.refused(op, {"channel_id": "x"}))["code"] == 2002
        for op in (MEMBER_ADD, MEMBER_REMOVE):
            assert (await bob.refused(op, BOB))["code"] == 2002
        await alice.ack(MEMBER_ADD, BOB)
        await bob.expect(CHANNEL_EVENT)
        await bob.expect(NOTIFICATION)
        await bob.ack(JOIN, {"channel_id": "x"})
        assert [row["channel_id"] for row in (await bob.ack(LIST))["channels"]] == ["x"]
        await alice.ack(MEMBER_REMOVE, BOB)
        assert (await bob.expect(CHANNEL_EVENT))["event"] == "leave"
        assert (await bob.ack(LIST))["channels"] == []
        assert (await bob.refused(JOIN, {"channel_id": "x"}))["code"] == 2002


async def test_a_channel_that_becomes_private_keeps_its_members_and_hides_from_others(tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (server, alice, bob), identified(server, "carol") as carol:
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.ack(UPDATE, {"channel_id": "x", "private": True})
        event = await bob.expect(CHANNEL_EVENT)
        assert (event["event"], event["channel"]["private"]) == ("update", True)
        assert (await carol.refused(JOIN, {"channel_id": "x"}))["code"] == 2002
        await bob.say("x", "still here")


@pytest.mark.parametrize("op", [MEMBER_ADD, MEMBER_REMOVE])
async def test_who_is_meant_must_be_said(op: int, tmp_path: Path) -> None:
    async with owner_and_bob(tmp_path) as (_, alice, _):
        for d in ({"channel_id": "x"}, {"channel_id": "x", "user_id": "no spaces"}, {"user_id": "bob"}):
            assert (await alice.refused(op, d))["code"] == 1004
        assert (await alice.refused(op, {"channel_id": "none", "user_id": "bob"}))["code"] == 2000

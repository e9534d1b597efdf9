"""TYPING, FOCUS, SUBSCRIBE and UNSUBSCRIBE over real connections, and SETTINGS_SET beside them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livechat
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    ERROR,
    FOCUS,
    JOIN,
    LEAVE,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    SETTINGS_EVENT,
    SETTINGS_SET,
    SUBSCRIBE,
    TYPING,
    TYPING_EVENT,
    UNREAD_EVENT,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    Packet,
    identified,
)
from tests.support.server import running_server, wait_until

X = {"channel_id": "x"}
Y = {"channel_id": "y"}


@asynccontextmanager
async def alice_and_bob(data_dir: Path) -> AsyncGenerator[tuple[livechat.Server, Client, Client]]:
    """Both are in the channels `x` and `y`, whose last seq is 2."""
    async with (
        running_server(data_dir) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        for channel in (X, Y):
            await alice.ack(CREATE, channel)
            await alice.ack(JOIN, channel)
            await bob.ack(JOIN, channel)
            await alice.expect(CHANNEL_EVENT)
        yield server, alice, bob


# --- TYPING and FOCUS --------------------------------------------------------------------------------------


async def test_typing_is_heard_by_those_who_look_at_the_channel_but_not_by_who_types(tmp_path: Path) -> None:
    async with (
        alice_and_bob(tmp_path) as (server, alice, bob),
        identified(server, "bob") as bob_too,
        identified(server, "bob") as bob_away,
    ):
        for client in (alice, bob, bob_too):
            assert await client.ack(FOCUS, X) == X
        for typing in (True, False):
            await bob.send(TYPING, {**X, "typing": typing})
            for client in (alice, bob_too):
                event = {"channel_id": "x", "user_id": "bob", "typing": typing}
                assert await client.expect(TYPING_EVENT) == event
        # It is stored nowhere, and acknowledged only where it carries an id.
        assert await bob.ack(TYPING, {**X, "typing": True}, id=1) == X
        await bob.expect_silence()
        await bob_away.expect_silence()
        assert (await alice.say("x", "next"))["seq"] == 3


async def test_one_channel_is_looked_at_at_a_time(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        for focus, heard in ((X, ["x"]), (Y, ["y"]), ({"channel_id": None}, []), (None, []), (Y, ["y"])):
            assert await alice.ack(FOCUS, focus) == (focus or {"channel_id": None})
            for channel in (X, Y):
                await bob.ack(TYPING, {**channel, "typing": True}, id=1)
            for channel_id in heard:
                assert (await alice.expect(TYPING_EVENT))["channel_id"] == channel_id
            await alice.expect_silence()


@pytest.mark.parametrize("op", [LEAVE, DELETE, MEMBER_REMOVE])
async def test_who_is_no_member_any_more_looks_nowhere(op: int, tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as bob_too:
        await bob.ack(FOCUS, X)
        if op == LEAVE:
            await bob_too.ack(LEAVE, X)
        elif op == DELETE:
            await alice.ack(DELETE, X)
            await alice.ack(CREATE, X)
            await alice.ack(JOIN, X)
        else:
            await alice.ack(MEMBER_REMOVE, {**X, "user_id": "bob"})
        assert (await bob.expect(CHANNEL_EVENT))["event"] in ("leave", "delete")
        await bob_too.ack(JOIN, X)
        assert (await bob.expect(CHANNEL_EVENT))["event"] == "join"
        await alice.ack(TYPING, {**X, "typing": True}, id=1)
        await bob.expect_silence()


async def test_an_error_is_sent_also_where_success_would_be_silent(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        await bob.ack(LEAVE, X)
        assert (await alice.expect(CHANNEL_EVENT))["event"] == "leave"
        await bob.send(TYPING, {**X, "typing": True})
        error = await bob.expect(ERROR)
        assert (error["op"], error["code"]) == (TYPING, 2004)
        assert (await bob.refused(TYPING, {**X, "typing": 1}))["code"] == 1004
        assert (await bob.refused(TYPING, X))["code"] == 1004


# --- SUBSCRIBE and UNSUBSCRIBE -----------------------------------------------------------------------------


async def test_an_unsubscribed_session_hears_no_event_of_the_room_and_others_are_as_before(tmp_path: Path) -> None:
    async with (
        alice_and_bob(tmp_path) as (server, alice, bob),
        identified(server, "bob") as bob_too,
        identified(server, "carol") as carol,
    ):
        for _ in range(2):
            assert await bob.ack(UNSUBSCRIBE, X) == X
        await carol.ack(JOIN, {**X, "ssrc": 3})
        await alice.ack(UPDATE, {**X, "channel_name": "new"})
        await carol.ack(LEAVE, X)
        await alice.say("x", "five")
        await alice.say("y", "three")
        heard = [await bob_too.receive() for _ in range(5)]
        assert [packet["op"] for packet in heard] == [*[CHANNEL_EVENT] * 3, *[MESSAGE_EVENT] * 2]
        # But what was said is counted, and other channels are heard.
        counted_and_heard = [await bob.receive(), await bob.receive()]
        assert {(packet["op"], packet["d"]["channel_id"]) for packet in counted_and_heard} == {
            (UNREAD_EVENT, "x"),
            (MESSAGE_EVENT, "y"),
        }
        await bob.expect_silence()
        # It is a member all the same.
        assert (await bob.say("x", "six"))["seq"] == 6


async def test_subscribing_again_is_without_a_seam(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        await bob.ack(UNSUBSCRIBE, X)
        for number in range(200):
            await alice.send(MESSAGE, {**X, "content": f"{number}"})
            if number == 100:
                await bob.send(SUBSCRIBE, X, id="subscribe")
        last = 0
        while last < 202:
            packet = await bob.receive()
            if packet.get("id") == "subscribe":
                last = packet["d"]["data"]["last_seq"]
                assert packet["d"]["data"] == {"channel_id": "x", "last_seq": last}
            elif packet["op"] == MESSAGE_EVENT:
                last += 1
                assert packet["d"]["seq"] == last
        assert await bob.ack(SUBSCRIBE, X) == {"channel_id": "x", "last_seq": 202}


async def test_a_join_subscribes_as_well_and_so_does_joining_again(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as bob_too:
        # This one has not joined itself, so its JOIN is fine.
        await bob_too.ack(UNSUBSCRIBE, X)
        assert (await bob_too.ack(JOIN, X))["last_seq"] == 2
        await alice.say("x", "three")
        assert (await bob_too.expect(MESSAGE_EVENT))["seq"] == 3
        await bob_too.ack(UNSUBSCRIBE, X)
        await bob.ack(LEAVE, X)
        await bob.ack(JOIN, X)
        await alice.say("x", "six")
        assert [(await bob_too.expect(CHANNEL_EVENT))["event"] for _ in range(2)] == ["leave", "join"]
        assert (await bob_too.expect(MESSAGE_EVENT))["seq"] == 6


async def test_an_unsubscribed_session_learns_that_its_membership_or_the_channel_has_ended(tmp_path: Path) -> None:
    async with (
        alice_and_bob(tmp_path) as (server, alice, bob),
        identified(server, "carol") as carol,
    ):
        await carol.ack(JOIN, X)
        await bob.expect(CHANNEL_EVENT)
        for client, channel in ((bob, X), (bob, Y), (carol, X)):
            await client.ack(UNSUBSCRIBE, channel)
        await alice.ack(MEMBER_REMOVE, {**X, "user_id": "bob"})
        left = await bob.expect(CHANNEL_EVENT)
        assert (left["event"], left["channel_id"], left["actor_id"]) == ("leave", "x", "alice")
        await alice.ack(DELETE, Y)
        deleted = await bob.expect(CHANNEL_EVENT)
        assert (deleted["event"], deleted["channel_id"]) == ("delete", "y")
        # Others' leaving is still nothing to her.
        await carol.expect_silence()


async def test_a_new_session_hears_all_channels_whatever_another_one_unsubscribed(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob):
        await bob.ack(UNSUBSCRIBE, X)
        async with identified(server, "bob") as fresh:
            await alice.say("x", "three")
            assert (await fresh.expect(MESSAGE_EVENT))["seq"] == 3


# --- SETTINGS_SET ------------------------------------------------------------------------------------------


async def test_settings_are_merged_stored_and_told_to_ones_other_sessions(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "alice", binary=True) as alice_too,
        identified(server, "bob") as bob,
    ):
        assert alice.ready["settings"] == {}
        first = {"theme": "dark", "size": 3, "nested": {"목록": [1, 2.5, None, True]}}
        assert await alice.ack(SETTINGS_SET, {"settings": first}) == {"settings": first}
        assert await alice_too.expect(SETTINGS_EVENT) == {"settings": first}
        changed = {"theme": "light", "size": None, "more": ""}
        merged = {"theme": "light", "nested": first["nested"], "more": ""}
        assert await alice_too.ack(SETTINGS_SET, {"settings": changed}) == {"settings": merged}
        assert await alice.expect(SETTINGS_EVENT) == {"settings": merged}
        assert await alice.ack(SETTINGS_SET, {"settings": {}}) == {"settings": merged}
        assert await alice_too.expect(SETTINGS_EVENT) == {"settings": merged}
        await bob.expect_silence()
    async with running_server(tmp_path) as server:
        for user_id, expected in (("alice", merged), ("bob", {})):
            async with identified(server, user_id) as client:
                assert client.ready["settings"] == expected


async def test_settings_are_bounded_in_all(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(SETTINGS_SET, {"settings": {"a": "x" * 9000}})
        assert (await alice.refused(SETTINGS_SET, {"settings": {"b": "x" * 9000}}))["code"] == 1005
        assert (await alice.refused(SETTINGS_SET, {"settings": {"b": "x" * 17_000}}))["code"] == 1004
        # What was refused has changed nothing; what makes room is taken.
        settings = {"a": None, "b": "x" * 9000}
        assert await alice.ack(SETTINGS_SET, {"settings": settings}) == {"settings": {"b": "x" * 9000}}


@pytest.mark.parametrize(
    "d",
    [None, {}, {"settings": []}, {"settings": "x"}, {"settings": {"a": float("inf")}}, {"settings": {"a": "\0"}}],
    ids=str,
)
async def test_what_settings_cannot_be(d: Any, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice", binary=True) as alice:
        assert (await alice.refused(SETTINGS_SET, d))["code"] == 1004
        await alice.expect_silence()


# --- order -------------------------------------------------------------------------------------------------


async def test_pipelined_requests_find_what_those_before_them_did(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        script: list[tuple[int, Packet, int]] = [
            (SUBSCRIBE, X, 2000),
            (CREATE, X, 0),
            (SUBSCRIBE, X, 2004),
            (JOIN, X, 0),
            (FOCUS, X, 0),
            (UNSUBSCRIBE, X, 0),
            (SUBSCRIBE, X, 0),
            (TYPING, {**X, "typing": True}, 0),
            (MESSAGE, {**X, "content": "two"}, 0),
            (LEAVE, X, 0),
            (TYPING, {**X, "typing": False}, 2004),
            (FOCUS, X, 2004),
            (JOIN, X, 0),
            (SUBSCRIBE, X, 0),
            (DELETE, X, 0),
            (SUBSCRIBE, X, 2000),
        ]
        for number, (op, d, _) in enumerate(script):
            await alice.send(op, d, id=number)
        answered: list[int] = []
        while len(answered) < len(script):
            packet = await alice.receive()
            if packet["op"] in (ACK, ERROR):
                assert packet["id"] == len(answered)
                answered.append(packet["d"].get("code", 0))
        assert answered == [code for *_, code in script]
        await wait_until(lambda: server.statistics()["gateway"]["channels"] == 0)

"""Read positions, unread counts and mentions over real connections: how they move and who is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livechat
from livechat.handlers import unread
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    FOCUS,
    INFO,
    JOIN,
    LEAVE,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    READ,
    READ_EVENT,
    SUBSCRIBE,
    UNREAD_EVENT,
    UNSUBSCRIBE,
    Client,
    Packet,
    identified,
)
from tests.support.server import running_server, wait_until

X = {"channel_id": "x"}


@pytest.fixture
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have counts told ten times as often."""
    monkeypatch.setattr(unread, "UNREAD_INTERVAL_S", unread.UNREAD_INTERVAL_S / 10)


@asynccontextmanager
async def alice_and_bob(
    data_dir: Path, **overrides: Any
) -> AsyncGenerator[tuple[livechat.Server, Client, Client]]:
    """Both are in the channel `x`, whose last seq is 2."""
    async with (
        running_server(data_dir, **overrides) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, X)
        await alice.ack(JOIN, X)
        await bob.ack(JOIN, X)
        await alice.expect(CHANNEL_EVENT)
        yield server, alice, bob


async def state_of(server: livechat.Server, user_id: str) -> Packet:
    """Return what READY tells a user of the channel, less the message."""
    async with identified(server, user_id) as client:
        (state,) = client.ready["channels"]
        return {name: state[name] for name in ("read_seq", "unread", "mention_count", "last_seq")}


async def test_reading_moves_the_position_forward_and_tells_ones_other_sessions(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as bob_too:
        for number in range(5):
            await alice.say("x", f"{number}")
            for client in (bob, bob_too):
                await client.expect(MESSAGE_EVENT)
        assert await bob.ack(READ, {**X, "seq": 5}) == {"channel_id": "x", "read_seq": 5, "unread": 2}
        told = {"channel_id": "x", "unread": 2, "read_seq": 5, "last_seq": 7}
        assert await bob_too.expect(UNREAD_EVENT) == told
        assert await state_of(server, "bob") == {"read_seq": 5, "unread": 2, "mention_count": 0, "last_seq": 7}
        # Backward, or to the same place, nothing moves and nobody hears.
        for seq in (5, 3, 0):
            assert await bob.ack(READ, {**X, "seq": seq}) == {"channel_id": "x", "read_seq": 5, "unread": 2}
        assert (await bob.ack(READ, {**X, "seq": 7}))["unread"] == 0
        assert (await bob_too.expect(UNREAD_EVENT))["unread"] == 0
        await bob.expect_silence()
        await bob_too.expect_silence()
        for _ in range(5):
            await alice.expect(MESSAGE_EVENT)
        await alice.expect_silence()


async def test_reading_past_the_end_is_refused(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, _, bob):
        for seq in (3, 2**63 - 1):
            refused = await bob.refused(READ, {**X, "seq": seq})
            assert (refused["code"], refused["reason"].split(":")[0]) == (1004, "seq")
        assert (await bob.ack(READ, {**X, "seq": 2}))["read_seq"] == 2
        for d in ({}, X, {**X, "seq": -1}, {**X, "seq": "2"}):
            assert (await bob.refused(READ, d))["code"] == 1004


async def test_sending_moves_the_own_position_and_joins_do_not_count(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob), identified(server, "carol") as carol:
        await alice.say("x", "three")
        assert (await state_of(server, "bob"))["unread"] == 1
        await carol.ack(JOIN, X)
        await carol.ack(LEAVE, X)
        assert await state_of(server, "bob") == {"read_seq": 2, "unread": 1, "mention_count": 0, "last_seq": 5}
        await bob.say("x", "six")
        assert await state_of(server, "bob") == {"read_seq": 6, "unread": 0, "mention_count": 0, "last_seq": 6}
        assert (await state_of(server, "alice"))["unread"] == 1
        # A new member's position starts at its own join.
        await carol.ack(JOIN, X)
        assert await state_of(server, "carol") == {"read_seq": 7, "unread": 0, "mention_count": 0, "last_seq": 7}


async def test_a_mention_notifies_the_members_it_names_once_and_is_counted_until_read(tmp_path: Path) -> None:
    async with (
        alice_and_bob(tmp_path) as (server, alice, bob),
        identified(server, "bob") as bob_too,
        identified(server, "stranger") as stranger,
    ):
        await bob_too.ack(UNSUBSCRIBE, X)
        mentions = ["bob", "stranger", "alice", "bob", "nobody"]
        stored = await alice.say("x", "y" * 150, mentions=mentions)
        notification = {
            "kind": "mention",
            "channel_id": "x",
            "message_id": stored["message_id"],
            "seq": 3,
            "user_id": "alice",
            "preview": "y" * 100,
        }
        assert (await bob.expect(MESSAGE_EVENT))["mentions"] == mentions
        assert await bob.expect(NOTIFICATION) == notification
        # It is told wherever the user looks.
        assert await bob_too.expect(NOTIFICATION) == notification
        await alice.expect(MESSAGE_EVENT)
        await alice.expect_silence()
        await stranger.expect_silence()
        await alice.say("x", "again", mentions=["bob"])
        assert (await state_of(server, "bob"))["mention_count"] == 2
        assert (await bob.ack(INFO, X))["mention_count"] == 2
        await bob.ack(READ, {**X, "seq": 3})
        assert (await state_of(server, "bob"))["mention_count"] == 1
        # Answering reads as well.
        await bob.say("x", "yes?")
        assert (await state_of(server, "bob"))["mention_count"] == 0


async def test_a_repeated_nonce_notifies_nobody_again(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob):
        for duplicate in (False, True):
            stored = await alice.say("x", "hi", mentions=["bob"], nonce="n")
            assert stored["duplicate"] == duplicate
        await bob.expect(MESSAGE_EVENT)
        await bob.expect(NOTIFICATION)
        await bob.expect_silence()
        assert (await state_of(server, "bob"))["mention_count"] == 1


async def test_who_looks_at_a_channel_hears_how_far_others_have_read(tmp_path: Path) -> None:
    async with (
        alice_and_bob(tmp_path) as (server, alice, bob),
        identified(server, "alice") as alice_away,
        identified(server, "bob") as bob_too,
    ):
        await alice.ack(FOCUS, X)
        await bob.ack(FOCUS, X)
        await bob_too.ack(FOCUS, X)
        await alice.say("x", "three")
        for client in (alice, alice_away, bob, bob_too):
            await client.expect(MESSAGE_EVENT)
        await bob.ack(READ, {**X, "seq": 3})
        event = await alice.expect(READ_EVENT)
        assert event.pop("timestamp") > 1_600_000_000_000
        assert event == {"channel_id": "x", "user_id": "bob", "seq": 3}
        # The reader's other session, which looks there as well, hears both; the one that read only its ACK.
        assert (await bob_too.expect(UNREAD_EVENT))["unread"] == 0
        assert (await bob_too.expect(READ_EVENT))["user_id"] == "bob"
        await bob.expect_silence()
        await alice_away.expect_silence()
        await alice.ack(FOCUS, {"channel_id": None})
        await alice.say("x", "four")
        await alice.expect(MESSAGE_EVENT)
        await bob.expect(MESSAGE_EVENT)
        await bob.ack(READ, {**X, "seq": 4})
        await alice.expect_silence()


async def test_an_unsubscribed_session_is_told_counts_instead_of_messages(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        await bob.ack(UNSUBSCRIBE, X)
        await alice.say("x", "three")
        event = await bob.expect(UNREAD_EVENT)
        assert event == {"channel_id": "x", "unread": 1, "read_seq": 2, "last_seq": 3}


async def test_an_unsubscribed_session_is_told_the_last_count_and_few_of_those_before(tmp_path: Path) -> None:
    """At most one a second: of a burst that takes no second, the first and the last."""
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        await bob.ack(UNSUBSCRIBE, X)
        for number in range(100):
            await alice.send(MESSAGE, {**X, "content": f"{number}"})
        for _ in range(100):
            await alice.expect(MESSAGE_EVENT)
        told = [await bob.expect(UNREAD_EVENT)]
        while told[-1]["unread"] < 100:
            told.append(await bob.expect(UNREAD_EVENT))
        assert told[-1] == {"channel_id": "x", "unread": 100, "read_seq": 2, "last_seq": 102}
        assert len(told) < 10
        assert [event["unread"] for event in told] == sorted({event["unread"] for event in told})


@pytest.mark.usefixtures("short_interval")
async def test_counts_of_several_channels_are_told_together(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        names = [f"c{number}" for number in range(5)]
        for name in names:
            await alice.ack(CREATE, {"channel_id": name})
            for client in (alice, bob):
                await client.ack(JOIN, {"channel_id": name})
            await bob.ack(UNSUBSCRIBE, {"channel_id": name})
        for name in names:
            await alice.say(name, "hi")
        told: dict[str, Packet] = {}
        while told.keys() != set(names):
            event = await bob.expect(UNREAD_EVENT)
            told[event["channel_id"]] = event
        assert {event["unread"] for event in told.values()} == {1}


@pytest.mark.usefixtures("short_interval")
async def test_what_the_user_says_elsewhere_clears_the_count_of_an_unsubscribed_session(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob), identified(server, "bob") as phone:
        await phone.ack(UNSUBSCRIBE, X)
        await alice.say("x", "three")
        assert (await phone.expect(UNREAD_EVENT))["unread"] == 1
        await bob.say("x", "four")
        assert await phone.expect(UNREAD_EVENT) == {"channel_id": "x", "unread": 0, "read_seq": 4, "last_seq": 4}


@pytest.mark.usefixtures("short_interval")
async def test_who_subscribes_again_or_leaves_is_told_no_count_that_was_due(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (server, alice, bob):
        await bob.ack(UNSUBSCRIBE, X)
        await alice.say("x", "three")
        await bob.expect(UNREAD_EVENT)
        # The next count is due in a while; by then the session hears the channel again, or has left it.
        await alice.say("x", "four")
        assert (await bob.ack(SUBSCRIBE, X))["last_seq"] == 4
        await alice.say("x", "five")
        assert (await bob.expect(MESSAGE_EVENT))["seq"] == 5
        await bob.ack(UNSUBSCRIBE, X)
        await alice.say("x", "six")
        await bob.ack(LEAVE, X)
        await wait_until(lambda: not any(session.unread_due for session in server._node.users))
        await bob.expect_silence()


async def test_reading_and_sending_pipelined_keep_their_order(tmp_path: Path) -> None:
    async with alice_and_bob(tmp_path) as (_, alice, bob):
        await alice.say("x", "three")
        await bob.expect(MESSAGE_EVENT)
        await bob.send(READ, {**X, "seq": 3}, id=1)
        await bob.send(MESSAGE, {**X, "content": "four"}, id=2)
        await bob.send(READ, {**X, "seq": 4}, id=3)
        replies: list[Packet] = []
        while len(replies) < 3:
            packet = await bob.receive()
            if packet["op"] == ACK:
                replies.append(packet)
        assert [reply["id"] for reply in replies] == [1, 2, 3]
        assert [reply["d"]["data"].get("read_seq") for reply in replies] == [3, None, 4]

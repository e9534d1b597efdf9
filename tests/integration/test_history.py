"""HISTORY and SYNC over real connections: pages, ranges, holes, and a client that is far behind."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import livechat
from livechat.store.base import perform
from livechat.store.sqlite import open_sqlite_store
from tests.support import store as store_support
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    JOIN,
    LEAVE,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    SYNC,
    Client,
    Packet,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.raw import TEXT, masked
from tests.support.resume import StuckClient, queued_frames, seqs, stuck_client
from tests.support.server import counted, running_server, wait_until


async def fill(client: Client, channel_id: str, messages: int, *, batch: int = 500) -> None:
    """Send so many messages, and read them."""
    for sent in range(0, messages, batch):
        count = min(batch, messages - sent)
        for number in range(sent, sent + count):
            await client.send(MESSAGE, {"channel_id": channel_id, "content": f"{number}"})
        for _ in range(count):
            await client.expect(MESSAGE_EVENT)


@asynccontextmanager
async def alice_in(
    data_dir: Path, *channel_ids: str, **overrides: Any
) -> AsyncGenerator[tuple[livechat.Server, Client]]:
    """Alice, who has made these channels and is in them: the last seq of each is 1."""
    async with running_server(data_dir, **overrides) as server, identified(server, "alice") as alice:
        for channel_id in channel_ids:
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id})
        yield server, alice


async def synced(client: Client, **channels: Any) -> tuple[list[Packet], dict[str, Packet]]:
    """SYNC; return the events before the ACK, and its channels."""
    await client.send(SYNC, {"channels": channels}, id="sync")
    before = []
    while (packet := await client.receive()).get("id") != "sync":
        before.append(packet)
    assert packet["op"] == ACK, packet
    return before, packet["d"]["data"]["channels"]


# --- HISTORY -----------------------------------------------------------------------------------------------


async def test_history_shows_messages_as_they_were_told_with_those_of_the_system(tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (server, alice), identified(server, "bob") as bob:
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        attachment = {"url": "/f/1", "name": "a.png", "bytes": 3, "mime": "image/png"}
        fields = {"message_type": "IMAGE", "attachment": attachment, "mentions": ["bob"], "nonce": "n"}
        await alice.say("x", "안녕", **fields)
        told = await bob.expect(MESSAGE_EVENT)
        await bob.ack(LEAVE, {"channel_id": "x"})
        page = await alice.ack(HISTORY, {"channel_id": "x"})
        assert {name: page[name] for name in page if name != "messages"} == {
            "channel_id": "x",
            "has_before": False,
            "has_after": False,
            "last_seq": 4,
        }
        joined, bob_joined, message, left = page["messages"]
        assert message == told
        assert [entry["seq"] for entry in page["messages"]] == [1, 2, 3, 4]
        assert [entry["system"] for entry in (joined, bob_joined, left)] == [
            {"event": "join", "user_id": "alice"},
            {"event": "join", "user_id": "bob"},
            {"event": "leave", "user_id": "bob"},
        ]
        assert {entry["message_type"] for entry in (joined, bob_joined, left)} == {"SYSTEM"}


@pytest.mark.parametrize(
    ("fields", "first", "last", "has_before", "has_after"),
    [
        ({}, 12, 31, True, False),
        ({"limit": 5}, 27, 31, True, False),
        ({"limit": 100}, 1, 31, False, False),
        ({"before_seq": 12}, 1, 11, False, True),
        ({"before_seq": 22, "limit": 10}, 12, 21, True, True),
        ({"before_seq": 1000, "limit": 1}, 31, 31, True, False),
        ({"before_seq": 1}, 0, -1, False, True),
        ({"before_seq": 0}, 0, -1, False, True),
        ({"after_seq": 0, "limit": 3}, 1, 3, False, True),
        ({"after_seq": 28}, 29, 31, True, False),
        ({"after_seq": 31}, 0, -1, True, False),
        ({"after_seq": 1000}, 0, -1, True, False),
    ],
)
async def test_a_page_of_history(
    fields: Packet, first: int, last: int, has_before: bool, has_after: bool, tmp_path: Path
) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        await fill(alice, "x", 30)
        page = await alice.ack(HISTORY, {"channel_id": "x", **fields})
        assert [message["seq"] for message in page["messages"]] == list(range(first, last + 1))
        assert (page["has_before"], page["has_after"], page["last_seq"]) == (has_before, has_after, 31)


async def test_history_is_walked_both_ways_without_holes_or_doubles(tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        await fill(alice, "x", 95)
        back: list[int] = []
        before: Packet = {}
        while True:
            page = await alice.ack(HISTORY, {"channel_id": "x", "limit": 10, **before})
            back = [message["seq"] for message in page["messages"]] + back
            if not page["has_before"]:
                break
            before = {"before_seq": page["messages"][0]["seq"]}
        forth: list[int] = []
        after = 0
        while True:
            page = await alice.ack(HISTORY, {"channel_id": "x", "limit": 10, "after_seq": after})
            forth += [message["seq"] for message in page["messages"]]
            if not page["has_after"]:
                break
            after = forth[-1]
        assert back == forth == list(range(1, 97))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"before_seq": 3, "after_seq": 1}, "after_seq"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"before_seq": -1}, "before_seq"),
        ({"after_seq": 2**63}, "after_seq"),
        ({"after_seq": "1"}, "after_seq"),
    ],
)
async def test_what_a_page_can_not_be(fields: Packet, field: str, tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        refused = await alice.refused(HISTORY, {"channel_id": "x", **fields})
        assert (refused["code"], refused["reason"].split(":")[0]) == (1004, field)


async def test_a_channel_made_again_has_a_history_of_its_own(tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        await fill(alice, "x", 5)
        await alice.ack(DELETE, {"channel_id": "x"})
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        page = await alice.ack(HISTORY, {"channel_id": "x"})
        assert [message["seq"] for message in page["messages"]] == [7]
        assert (page["has_before"], page["last_seq"]) == (False, 7)


# --- SYNC --------------------------------------------------------------------------------------------------


async def test_sync_replays_what_lies_strictly_between(tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x", "y", "z") as (_, alice):
        for channel_id in ("x", "y", "z"):
            await fill(alice, channel_id, 9)
        before, done = await synced(
            alice, x={"after": 2, "before": 6}, y={"after": 7}, z={"after": 10}, w={"after": 0}
        )
        assert seqs(before, "x") == [3, 4, 5]
        assert seqs(before, "y") == [8, 9, 10]
        assert len(before) == 6
        assert done == {
            "x": {"replayed": 3, "last_seq": 10, "recovered": True},
            "y": {"replayed": 3, "last_seq": 10, "recovered": True},
            "z": {"replayed": 0, "last_seq": 10, "recovered": True},
            "w": {"replayed": 0, "last_seq": 0, "recovered": False},
        }


@pytest.mark.parametrize(
    ("wanted", "replayed", "recovered"),
    [
        ({"after": 0}, 10, True),
        ({"after": 3, "before": 4}, 0, True),
        ({"after": 3, "before": 3}, 0, True),
        ({"after": 8, "before": 1000}, 2, True),
        ({"after": 11}, 0, False),
        ({"after": 1000, "before": 1001}, 0, False),
    ],
)
async def test_a_range_of_sync(wanted: Packet, replayed: int, recovered: bool, tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        await fill(alice, "x", 9)
        before, done = await synced(alice, x=wanted)
        assert (len(before), done["x"]) == (
            replayed,
            {"replayed": replayed, "last_seq": 10, "recovered": recovered},
        )


async def test_sync_of_nothing_and_of_too_much(tmp_path: Path) -> None:
    async with alice_in(tmp_path, "x") as (_, alice):
        assert await synced(alice) == ([], {})
        wrong: list[Packet] = [{"x": {}}, {"x": {"after": -1}}, {"x": 5}, {"no spaces": {"after": 1}}]
        for channels in wrong:
            assert (await alice.refused(SYNC, {"channels": channels}))["code"] == 1004
        assert (await alice.refused(SYNC, {}))["code"] == 1004


async def test_sync_says_what_it_cannot_replay(tmp_path: Path) -> None:
    """What a deletion took is a hole for who stands before it."""
    async with alice_in(tmp_path, "x") as (_, alice):
        await fill(alice, "x", 5)
        await alice.ack(DELETE, {"channel_id": "x"})
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        before, done = await synced(alice, x={"after": 3})
        assert seqs(before, "x") == [7]
        assert done["x"] == {"replayed": 1, "last_seq": 7, "recovered": False}
        before, done = await synced(alice, x={"after": 6})
        assert done["x"]["recovered"] is True


async def test_many_channels_are_synced_at_once(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(450)]
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for name in names:
            await alice.send(CREATE, {"channel_id": name})
            await alice.send(JOIN, {"channel_id": name})
            await alice.send(MESSAGE, {"channel_id": name, "content": name})
        for _ in range(3 * len(names)):
            await alice.receive()
        before, done = await synced(alice, **{name: {"after": 0} for name in names})
        assert [packet["d"]["channel_id"] for packet in before] == [name for name in names for _ in range(2)]
        assert all(seqs(before, name) == [1, 2] for name in names)
        assert {each["recovered"] for each in done.values()} == {True}


async def test_live_events_go_on_during_a_sync(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await fill(alice, "x", 9)
        door.close_for_queries()
        await alice.send(SYNC, {"channels": {"x": {"after": 8}}}, id="sync")
        await wait_until(lambda: door.fetches_waiting == 1)
        # Neither what is said meanwhile nor other requests wait for it.
        assert (await alice.say("x", "live"))["seq"] == 11
        assert (await alice.expect(MESSAGE_EVENT))["seq"] == 11
        assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        door.open()
        # What was asked for ends where the channel stood then.
        assert [(await alice.expect(MESSAGE_EVENT))["seq"] for _ in range(2)] == [9, 10]
        assert (await alice.expect(ACK))["data"]["channels"]["x"] == {
            "replayed": 2,
            "last_seq": 11,
            "recovered": True,
        }


async def test_a_membership_that_is_lost_during_a_sync_ends_the_replay(tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path) as (server, door),
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        door.close_for_queries()
        await bob.send(SYNC, {"channels": {"x": {"after": 0}}}, id="sync")
        await wait_until(lambda: door.fetches_waiting == 1)
        await alice.ack(MEMBER_REMOVE, {"channel_id": "x", "user_id": "bob"})
        door.open()
        assert (await bob.expect(CHANNEL_EVENT))["event"] == "leave"
        assert (await bob.expect(ACK))["data"]["channels"]["x"] == {
            "replayed": 0,
            "last_seq": 0,
            "recovered": False,
        }


async def test_a_store_that_cannot_be_read_is_said_and_the_connection_stays(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        door.is_unreadable = True
        for op, d in ((HISTORY, {"channel_id": "x"}), (SYNC, {"channels": {"x": {"after": 0}}})):
            refused = await alice.refused(op, d, id=1)
            assert (refused["code"], refused["op"], refused["retryable"]) == (9003, op, True)
        door.is_unreadable = False
        assert (await synced(alice, x={"after": 0}))[1]["x"]["replayed"] == 1


async def test_a_slow_reader_far_behind_is_neither_closed_nor_in_anybodys_way(tmp_path: Path) -> None:
    """20,000 messages behind, with an egress that holds 64: they wait in the store, not in memory."""
    behind = 20_000
    async with open_sqlite_store(tmp_path) as store:
        await perform(store, store_support.create("x"))
        await perform(store, store_support.join("bob", "x"))
        messages = [store_support.message("bob", "x" * 50, "x") for _ in range(behind - 1)]
        await store_support.in_one_go(store, messages)
    gateway = {"egress_frames": 64, "egress_bytes": 65_536}
    async with (
        running_server(tmp_path, gateway=gateway) as server,
        identified(server, "carol") as carol,
        stuck_client(server, "bob") as bob,
    ):
        await bob.raw.send(masked(TEXT, json.dumps({"op": SYNC, "d": {"channels": {"x": {"after": 0}}}}).encode()))
        await wait_until(lambda: queued_frames(server, bob.session_id) > 10)
        # While it reads nothing, others are served and nothing is piled up for it.
        for number in range(20):
            await carol.ack(CREATE, {"channel_id": f"c{number}"})
        assert queued_frames(server, bob.session_id) <= 64
        for seq in range(1, behind + 1):
            assert (await next_packet(bob))["d"]["seq"] == seq
            if seq % 4000 == 0:
                assert (await carol.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        done = (await next_packet(bob))["d"]["data"]["channels"]["x"]
        assert done == {"replayed": behind, "last_seq": behind, "recovered": True}
        assert counted(server)["connections"] == 2


async def next_packet(client: StuckClient) -> Packet:
    frame = await client.raw.frame()
    assert frame is not None
    packet: Packet = json.loads(frame[1])
    return packet


async def test_a_client_that_reads_nothing_of_a_replay_is_closed_in_the_end(tmp_path: Path) -> None:
    gateway = {"egress_frames": 64, "egress_bytes": 65_536, "stall_timeout_ms": 100}
    async with running_server(tmp_path, gateway=gateway) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        for _ in range(40):
            for _ in range(50):
                await alice.send(MESSAGE, {"channel_id": "x", "content": "x" * 2000})
            for _ in range(50):
                await alice.expect(MESSAGE_EVENT)
        async with stuck_client(server, "alice") as stuck:
            await stuck.raw.send(
                masked(TEXT, json.dumps({"op": SYNC, "d": {"channels": {"x": {"after": 0}}}}).encode())
            )
            await wait_until(lambda: counted(server)["sessions_parked"] == 1)
            # A close frame comes if no frame was sent in part only.
            assert await stuck.read_to_the_end() in (4001, None)

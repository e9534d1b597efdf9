"""How RESUME replays: from where the old connection stood, beside what goes on, and what happens if it fails."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

import livechat
from livechat.handlers.replay import PAGE_MESSAGES
from livechat.handlers.resume import HOLD_BELOW
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_ACK,
    JOIN,
    LEAVE,
    LIST,
    MESSAGE,
    MESSAGE_EVENT,
    RESUME,
    UPDATE,
    Client,
    Packet,
    connected,
    identified,
)
from tests.support.faulty_store import StoreDoor, server_with_door
from tests.support.raw import TEXT, masked, raw_connected
from tests.support.resume import (
    StuckClient,
    drop,
    park,
    queued_frames,
    resume_on,
    resumed,
    seqs,
    stuck_client,
    talk_until,
    until_resumed,
)
from tests.support.server import SECRET, counted, running_server, wait_until


@asynccontextmanager
async def stuck_bob(data_dir: Path, **gateway: int) -> AsyncGenerator[tuple[livechat.Server, Client, StuckClient]]:
    """Alice and Bob in the lobby; Bob has stopped to read, and frames wait in the server for him."""
    async with (
        running_server(data_dir, gateway={"egress_bytes": 262_144, **gateway}) as server,
        identified(server, "alice") as alice,
        stuck_client(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as other:
            await other.ack(JOIN, {"channel_id": "lobby"})
        await alice.expect(CHANNEL_EVENT)
        yield server, alice, bob


async def test_what_a_slow_consumer_was_not_sent_is_replayed_without_a_cursor(tmp_path: Path) -> None:
    async with stuck_bob(tmp_path) as (server, alice, bob):
        last = await talk_until(alice, "lobby", lambda: counted(server)["sessions_parked"] == 1)
        assert await bob.read_to_the_end() == 4001
        before, done = await resume_on(server, bob.session_id)
        assert seqs(before, "lobby") == list(range(bob.last_heard["lobby"] + 1, last + 1))
        assert done["channels"]["lobby"]["recovered"] is True


async def test_what_a_displaced_connection_was_not_sent_is_replayed_without_a_cursor(tmp_path: Path) -> None:
    async with stuck_bob(tmp_path) as (server, alice, bob):
        last = await talk_until(alice, "lobby", lambda: queued_frames(server, bob.session_id) > 10)
        before, done = await resume_on(server, bob.session_id)
        # Where a frame had been sent in part the stream is cut off there, and no close frame can follow.
        assert await bob.read_to_the_end() in (4505, None)
        assert seqs(before, "lobby") == list(range(bob.last_heard["lobby"] + 1, last + 1))
        assert done["channels"]["lobby"]["recovered"] is True


async def test_what_a_connection_was_not_sent_that_is_being_closed_is_replayed_by_the_next_one_only(
    tmp_path: Path,
) -> None:
    async with stuck_bob(tmp_path, close_timeout_ms=60_000) as (server, alice, bob):
        last = await talk_until(alice, "lobby", lambda: queued_frames(server, bob.session_id) > 10)
        # Invalid text: the server closes, and still has to send what waits.
        await bob.raw.send(b"\x81\x82\x00\x00\x00\x00\xff\xff")
        await wait_until(lambda: counted(server)["sessions_parked"] == 1)
        before, _ = await resume_on(server, bob.session_id)
        assert await bob.read_to_the_end() is None
        assert seqs(before, "lobby") == list(range(bob.last_heard["lobby"] + 1, last + 1))


async def test_the_own_leave_is_replayed_if_the_old_connection_was_not_sent_it(tmp_path: Path) -> None:
    async with stuck_bob(tmp_path) as (server, alice, bob):
        last = await talk_until(alice, "lobby", lambda: queued_frames(server, bob.session_id) > 10)
        async with identified(server, "bob") as other:
            await other.ack(LEAVE, {"channel_id": "lobby"})
            await alice.say("lobby", "between")
            before, done = await resume_on(server, bob.session_id)
            assert before[-1]["d"]["event"] == "leave"
            assert done["channels"] == {}
            await bob.read_to_the_end()
            assert seqs(before, "lobby") == list(range(bob.last_heard["lobby"] + 1, last + 2))


async def test_an_update_is_told_again_if_the_old_connection_was_not_sent_it(tmp_path: Path) -> None:
    async with stuck_bob(tmp_path) as (server, alice, bob):
        await talk_until(alice, "lobby", lambda: queued_frames(server, bob.session_id) > 10)
        await alice.ack(UPDATE, {"channel_id": "lobby", "channel_name": "Renamed"})
        await server.announce("News")
        before, done = await resume_on(server, bob.session_id)
        assert before[-1]["d"]["channel"]["channel_name"] == "Renamed"
        assert [news["title"] for news in done["announcements"]] == ["News"]


async def test_a_cursor_of_the_client_counts_more_than_what_the_server_believes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        for number in range(5):
            await alice.say("lobby", f"{number}")
        session_id = await park(server, alice)
        for cursor, expected in ((6, []), (5, [6]), (0, [1, 2, 3, 4, 5, 6]), (3, [4, 5, 6])):
            before, done = await resume_on(server, session_id, channels={"lobby": cursor})
            assert seqs(before, "lobby") == expected
            lobby = done["channels"]["lobby"]
            assert (lobby["replayed"], lobby["recovered"]) == (len(expected), True)


async def test_what_is_sent_again_by_a_cursor_leaves_out_what_was_said_after_the_own_leave(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "bob") as bob, identified(server, "bob") as other:
            await bob.ack(JOIN, {"channel_id": "lobby"})
            await alice.say("lobby", "three")
            await other.ack(LEAVE, {"channel_id": "lobby"})
            await alice.say("lobby", "between")
            await other.ack(JOIN, {"channel_id": "lobby"})
            await alice.say("lobby", "seven")
            # All of it was sent to this connection, and some of it may not have arrived.
            session_id = await park(server, bob)
        before, done = await resume_on(server, session_id, channels={"lobby": 2})
        assert seqs(before, "lobby") == [3, 4, 6, 7]
        assert (done["channels"]["lobby"]["replayed"], done["channels"]["lobby"]["recovered"]) == (4, True)
        before, _ = await resume_on(server, session_id, channels={"lobby": 6})
        assert seqs(before, "lobby") == [7]


async def test_a_cursor_ahead_of_the_channel_is_not_recovered_and_goes_on_from_its_end(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        session_id = await park(server, alice)
        async with connected(server) as alice:
            before, done = await resumed(alice, session_id, channels={"lobby": 1000, "none": 3})
            assert before == []
            assert (done["channels"]["lobby"]["last_seq"], done["channels"]["lobby"]["recovered"]) == (1, False)
            assert done["channels"]["none"] == {
                "replayed": 0,
                "last_seq": 0,
                "read_seq": 0,
                "unread": 0,
                "recovered": False,
                "active_members": [],
            }
            await alice.say("lobby", "next")
            assert (await alice.expect(MESSAGE_EVENT))["seq"] == 2


async def test_a_foreign_channel_among_the_cursors_tells_nothing(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "secret", "private": True})
        await alice.ack(JOIN, {"channel_id": "secret"})
        await alice.say("secret", "psst")
        async with identified(server, "bob") as bob:
            session_id = await park(server, bob)
        before, done = await resume_on(server, session_id, channels={"secret": 0, "none": 0})
        assert before == []
        assert done["channels"]["secret"] == done["channels"]["none"]


async def test_many_channels_are_replayed_each_from_its_own_cursor(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(500)]
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for name in names:
            await alice.send(CREATE, {"channel_id": name})
            await alice.send(JOIN, {"channel_id": name})
        for _ in range(2 * len(names)):
            await alice.expect(ACK)
        session_id = await park(server, alice)
        async with identified(server, "alice") as other:
            for number, name in enumerate(names):
                for _ in range(number % 4):
                    await other.send(MESSAGE, {"channel_id": name, "content": "x"})
            for _ in range(sum(number % 4 for number in range(len(names)))):
                await other.expect(MESSAGE_EVENT)
        cursors = dict.fromkeys(names[::2], 1) | dict.fromkeys(names[1::2], 0)
        before, done = await resume_on(server, session_id, channels=cursors)
        for number, name in enumerate(names):
            assert seqs(before, name) == list(range(cursors[name] + 1, number % 4 + 2))
            channel = done["channels"][name]
            assert channel["recovered"] is True
            assert (channel["replayed"], channel["last_seq"]) == (number % 4 + number % 2, number % 4 + 1)


@attrs.define
class Absence:
    """Alice in the lobby, and a parked session of hers that has missed messages there."""

    server: livechat.Server
    door: StoreDoor
    alice: Client
    session_id: str

    @property
    def resume(self) -> Packet:
        return {"session_id": self.session_id, "token": SECRET}


@asynccontextmanager
async def long_absence(data_dir: Path, messages: int, **overrides: Any) -> AsyncGenerator[Absence]:
    """The lobby's last seq is `messages` + 1, and the session has missed all from 2 on."""
    async with server_with_door(data_dir, **overrides) as (server, door), identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "lobby"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        async with identified(server, "alice") as other:
            session_id = await park(server, other)
        for sent in range(0, messages, 500):
            batch = min(500, messages - sent)
            for _ in range(batch):
                await alice.send(MESSAGE, {"channel_id": "lobby", "content": "x"})
            for _ in range(batch):
                await alice.expect(MESSAGE_EVENT)
        yield Absence(server, door, alice, session_id)


async def test_during_a_long_replay_heartbeats_are_answered_and_requests_wait(tmp_path: Path) -> None:
    async with long_absence(tmp_path, 1000) as absence, connected(absence.server) as again:
        absence.door.close_for_queries()
        await again.send(RESUME, absence.resume)
        await again.send(MESSAGE, {"channel_id": "lobby", "content": "behind"}, id="behind")
        await again.send(LIST, None, id="list")
        assert (await again.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        absence.door.open()
        before, _ = await until_resumed(again)
        assert seqs(before, "lobby") == list(range(2, 1002))
        assert len(before) == 1000
        replies = [await again.receive() for _ in range(3)]
        assert {reply.get("id") for reply in replies} == {"behind", "list", None}
        assert [reply["d"]["seq"] for reply in replies if reply["op"] == MESSAGE_EVENT] == [1002]


async def test_the_newer_of_two_racing_resumes_gets_the_session(tmp_path: Path) -> None:
    async with (
        long_absence(tmp_path, 3000) as absence,
        connected(absence.server) as first,
        connected(absence.server) as second,
    ):
        for client in (first, second):
            await client.send(RESUME, {**absence.resume, "channels": {"lobby": 1}})
        before, done = await until_resumed(second)
        assert await first.closed() == 4505
        assert seqs(before, "lobby") == list(range(2, 3002))
        assert done["channels"]["lobby"]["recovered"] is True
        assert counted(absence.server)["sessions"] == 2
        await second.say("lobby", "mine now")


@pytest.mark.parametrize("missed", [2000, HOLD_BELOW], ids=["chase", "hold"])
async def test_a_replay_under_way_is_taken_over_without_a_hole_or_a_double(missed: int, tmp_path: Path) -> None:
    """The first connection reads nothing; the second one is told from where that one stood."""
    gateway = {"egress_bytes": 65_536}
    async with (
        long_absence(tmp_path, 2000, gateway=gateway) as absence,
        raw_connected(absence.server, receive_buffer=4096) as raw,
    ):
        first = StuckClient(raw, absence.session_id)
        await raw.frame()
        request = {**absence.resume, "channels": {"lobby": 2001 - missed}}
        absence.door.close_for_queries()
        await raw.send(masked(TEXT, json.dumps({"op": RESUME, "d": request}).encode()))
        await wait_until(lambda: absence.door.fetches_waiting == 1)
        if missed == HOLD_BELOW:
            # It is live for the hubs, and what is said is held back for it.
            await absence.alice.say("lobby", "held")
        async with connected(absence.server) as second:
            await second.send(RESUME, absence.resume)
            await wait_until(lambda: absence.door.fetches_waiting == 1)
            absence.door.open()
            before, done = await until_resumed(second)
            assert await first.read_to_the_end() in (4505, None)
            start = first.last_heard.get("lobby", 2001 - missed)
            assert seqs(before, "lobby") == list(range(start + 1, done["channels"]["lobby"]["last_seq"] + 1))
            assert done["channels"]["lobby"]["recovered"] is True


@pytest.mark.parametrize("cursor", [501 - HOLD_BELOW, 1], ids=["hold", "chase"])
@pytest.mark.parametrize("same_connection", [True, False])
async def test_a_store_that_cannot_be_read_leaves_the_session_to_be_resumed(
    cursor: int, same_connection: bool, tmp_path: Path
) -> None:
    async with long_absence(tmp_path, 500) as absence, connected(absence.server) as first:
        await absence.alice.ack(UPDATE, {"channel_id": "lobby", "channel_name": "Renamed"})
        await absence.server.announce("News")
        absence.door.is_unreadable = True
        reply = await first.request(RESUME, {**absence.resume, "channels": {"lobby": cursor}})
        assert (reply["op"], reply["d"]["code"], reply["d"]["retryable"]) == (ERROR, 9003, True)
        assert counted(absence.server)["sessions_parked"] == 1
        absence.door.is_unreadable = False
        async with connected(absence.server) as second:
            again = first if same_connection else second
            before, done = await resumed(again, absence.session_id)
            assert seqs(before, "lobby") == list(range(cursor + 1, 502))
            # What was missed beside messages is not lost either.
            assert before[-1]["d"]["channel"]["channel_name"] == "Renamed"
            assert [news["title"] for news in done["announcements"]] == ["News"]
            assert done["channels"]["lobby"]["recovered"] is True
            await again.say("lobby", "back")


async def test_what_a_failed_resume_has_told_is_not_told_again(tmp_path: Path) -> None:
    """The store goes away between two pages; the client goes on where it stands."""
    async with long_absence(tmp_path, 2 * PAGE_MESSAGES + 10) as absence, connected(absence.server) as again:
        absence.door.queries_left = 1
        await again.send(RESUME, absence.resume)
        told = [await again.receive() for _ in range(PAGE_MESSAGES)]
        assert seqs(told, "lobby") == list(range(2, PAGE_MESSAGES + 2))
        assert (await again.expect(ERROR))["code"] == 9003
        absence.door.queries_left, absence.door.is_unreadable = None, False
        before, _ = await resumed(again, absence.session_id)
        assert seqs(before, "lobby") == list(range(PAGE_MESSAGES + 2, 2 * PAGE_MESSAGES + 12))


async def test_after_a_failed_resume_the_end_of_its_connection_does_not_touch_the_session(tmp_path: Path) -> None:
    async with long_absence(tmp_path, 500) as absence, connected(absence.server) as second:
        async with connected(absence.server) as first:
            absence.door.is_unreadable = True
            assert (await first.request(RESUME, absence.resume))["op"] == ERROR
            absence.door.is_unreadable = False
            await resumed(second, absence.session_id)
        await wait_until(lambda: counted(absence.server)["connections"] == 2)
        assert counted(absence.server)["sessions_parked"] == 0
        await absence.alice.say("lobby", "heard")
        assert (await second.expect(MESSAGE_EVENT))["seq"] == 502


async def test_events_without_a_seq_that_come_during_a_failed_resume_are_not_lost(tmp_path: Path) -> None:
    async with long_absence(tmp_path, 10) as absence, connected(absence.server) as first:
        absence.door.close_for_queries()
        await first.send(RESUME, absence.resume)
        await wait_until(lambda: absence.door.fetches_waiting == 1)
        await absence.alice.ack(UPDATE, {"channel_id": "lobby", "channel_name": "Renamed"})
        await absence.alice.say("lobby", "held")
        await drop(first)
        await wait_until(lambda: counted(absence.server)["sessions_parked"] == 1)
        absence.door.open()
        before, _ = await resume_on(absence.server, absence.session_id)
        assert seqs(before, "lobby") == list(range(2, 13))
        assert before[-1]["d"]["channel"]["channel_name"] == "Renamed"


async def test_a_client_too_slow_for_what_is_held_back_is_closed_and_told_it_later(tmp_path: Path) -> None:
    chat = livechat.ChatLimits(held_packets=20)
    async with long_absence(tmp_path, 10, chat=chat) as absence:
        async with connected(absence.server) as first:
            absence.door.close_for_queries()
            await first.send(RESUME, absence.resume)
            await wait_until(lambda: absence.door.fetches_waiting == 1)
            for _ in range(25):
                await absence.alice.say("lobby", "held")
            assert await first.closed() == 4001
        absence.door.open()
        before, done = await resume_on(absence.server, absence.session_id)
        assert seqs(before, "lobby") == list(range(2, 37))
        assert done["channels"]["lobby"]["recovered"] is True

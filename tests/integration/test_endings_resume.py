"""A connection that ends in the middle of a RESUME, at whatever stage, leaves the hubs clean and loses nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

import livechat
from livechat.handlers.resume import HOLD_BELOW
from livechat.hub.users import Session, SessionState
from livechat.protocol.types import SessionId
from livechat.store.operations import ReadStates
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    FOCUS,
    IDENTIFY,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    READY,
    RESUME,
    SUBSCRIBE,
    TYPING,
    TYPING_EVENT,
    UNSUBSCRIBE,
    Client,
    connected,
    identified,
)
from tests.support.faulty_store import StoreDoor, server_with_door
from tests.support.hubs import is_nowhere, places_of
from tests.support.resume import drop, park, resumed, seqs, until_resumed
from tests.support.server import SECRET, counted, wait_until
from tests.support.session_storage import FaultySessionStorage

MISSED = {"storage": 3, "chase": 2 * HOLD_BELOW, "hold": HOLD_BELOW, "announcements": 0, "states": 3}
"""Stages of a RESUME, by what it waits for, and how many messages the session has missed then."""


@attrs.define
class Stage:
    """Alice, who watches; and Bob, whose session is being resumed by a connection that waits."""

    server: livechat.Server
    door: StoreDoor
    storage: FaultySessionStorage
    alice: Client
    session: Session
    resuming: Client
    last_seq: int

    def go_on(self) -> None:
        """Let everything go on that waits."""
        self.storage.hangs = False
        self.door.open()


async def stand_still(stage: Stage, name: str) -> None:
    """Begin a RESUME and have it wait at a stage."""
    door, storage = stage.door, stage.storage
    if name == "storage":
        storage.hangs = True
    elif name == "states":
        door.close_for(ReadStates)
    else:
        door.close_for_queries()
    request = {"session_id": stage.session.session_id, "token": SECRET}
    await stage.resuming.send(RESUME, request)
    if name == "storage":
        await wait_until(lambda: "take_over" in dict(storage.calls))
        return
    if name == "states":
        # What was missed comes before that.
        for _ in range(MISSED[name]):
            await stage.resuming.expect(MESSAGE_EVENT)
    await wait_until(lambda: door.fetches_waiting + door.operations_waiting == 1)
    expected = SessionState.PARKED if name == "chase" else SessionState.LIVE
    assert stage.session.state is expected


@asynccontextmanager
async def set_stage(data_dir: Path, name: str, **overrides: object) -> AsyncGenerator[Stage]:
    """Bob is in `lobby`, which he looks at, in `hall`, which he does not hear, and has a voice in `lobby`."""
    async with server_with_door(data_dir, **overrides) as (server, door), identified(server, "alice") as alice:
        for channel_id in ("lobby", "hall"):
            await alice.ack(CREATE, {"channel_id": channel_id})
            await alice.ack(JOIN, {"channel_id": channel_id})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "lobby", "ssrc": 5})
            await bob.ack(JOIN, {"channel_id": "hall"})
            await bob.ack(FOCUS, {"channel_id": "lobby"})
            await bob.ack(UNSUBSCRIBE, {"channel_id": "hall"})
            session_id = await park(server, bob)
        for _ in range(2):
            await alice.expect(CHANNEL_EVENT)
        for _ in range(MISSED[name]):
            await alice.send(MESSAGE, {"channel_id": "lobby", "content": "missed"})
        for _ in range(MISSED[name]):
            await alice.expect(MESSAGE_EVENT)
        session = server._node.users.get(SessionId(session_id))
        assert session is not None
        storage = FaultySessionStorage()
        server._node.sessions = storage
        async with connected(server) as resuming:
            stage = Stage(server, door, storage, alice, session, resuming, 2 + MISSED[name])
            await stand_still(stage, name)
            yield stage
            stage.go_on()


@pytest.mark.parametrize("name", MISSED)
async def test_a_connection_that_is_lost_parks_the_session_as_it_was(name: str, tmp_path: Path) -> None:
    async with set_stage(tmp_path, name) as stage:
        server, session = stage.server, stage.session
        await drop(stage.resuming)
        await wait_until(lambda: counted(server)["connections"] == 1)
        assert (session.state, session.outlet, session.claim) == (SessionState.PARKED, None, None)
        assert places_of(server, "bob") == []
        assert counted(server)["peers"] == 1
        # Said while nobody heard.
        await stage.alice.say("lobby", "late")
        stage.go_on()
        async with connected(server) as again:
            before, done = await resumed(again, session.session_id, channels={"lobby": 2})
            assert seqs(before, "lobby") == list(range(3, stage.last_seq + 2))
            assert done["channels"]["lobby"]["recovered"] is True
            assert [member["user_id"] for member in done["channels"]["lobby"]["active_members"]] == [
                "alice",
                "bob",
            ]
            # It looks and listens as before.
            await stage.alice.say("hall", "unheard")
            await stage.alice.ack(TYPING, {"channel_id": "lobby", "typing": True}, id=1)
            packet = await again.receive()
            while packet["op"] != TYPING_EVENT:
                assert packet["op"] != MESSAGE_EVENT
                packet = await again.receive()
            assert (await again.ack(SUBSCRIBE, {"channel_id": "hall"}))["last_seq"] == 3


@pytest.mark.parametrize("name", MISSED)
async def test_without_a_cursor_nothing_is_told_twice_either(name: str, tmp_path: Path) -> None:
    """A connection that was told something and then lost: what it has read is not told to the next one."""
    async with set_stage(tmp_path, name) as stage:
        read = MISSED[name] if name == "states" else 0
        await drop(stage.resuming)
        await wait_until(lambda: counted(stage.server)["connections"] == 1)
        stage.go_on()
        async with connected(stage.server) as again:
            before, _ = await resumed(again, stage.session.session_id)
            assert seqs(before, "lobby") == list(range(3 + read, stage.last_seq + 1))


async def end_by_the_window(stage: Stage) -> None:
    # Only now, as the stage takes its time to be set: what is parked from here on does not stay so for long.
    stage.server._node.resume_window_s = 0.05
    await drop(stage.resuming)


async def end_for_another_session(stage: Stage) -> None:
    """As many sessions as allowed: the parked one, which is being resumed, makes room."""
    if stage.session.outlet is not None:
        # Not parked any more, so it makes room for nobody.
        await drop(stage.resuming)
        await wait_until(lambda: stage.session.outlet is None)
    async with connected(stage.server) as newcomer:
        reply = await newcomer.request(IDENTIFY, {"token": SECRET, "user_id": "bob"})
        assert reply["op"] == READY
        assert is_nowhere(stage.server, stage.session)


ENDINGS = [
    (name, end)
    for name in MISSED
    for end in (end_by_the_window, end_for_another_session)
    # Nobody has laid a hand on the session yet, so its window goes on as before.
    if (name, end) != ("storage", end_by_the_window)
]


@pytest.mark.parametrize(("name", "end"), ENDINGS)
async def test_a_session_that_ends_while_it_is_resumed_is_nowhere(
    name: str, end: Callable[[Stage], Awaitable[None]], tmp_path: Path
) -> None:
    async with set_stage(tmp_path, name, chat=livechat.ChatLimits(sessions_per_user=1)) as stage:
        await end(stage)
        await wait_until(lambda: is_nowhere(stage.server, stage.session))
        stage.go_on()
        await drop(stage.resuming)
        event = await stage.alice.expect(CHANNEL_EVENT)
        assert (event["event"], event["member"]["user_id"]) == ("voice_leave", "bob")
        only_alice = {"connections": 1, "sessions": 1, "sessions_parked": 0, "channels": 2, "subscriptions": 2}
        await wait_until(lambda: counted(stage.server) == {**only_alice, "peers": 0})


async def test_a_window_that_is_over_does_not_end_a_session_that_is_being_resumed(tmp_path: Path) -> None:
    async with server_with_door(tmp_path, gateway={"resume_window_ms": 300}) as (server, door):
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "lobby"})
            await alice.ack(JOIN, {"channel_id": "lobby"})
            for _ in range(2 * HOLD_BELOW):
                await alice.send(MESSAGE, {"channel_id": "lobby", "content": "x"})
            for _ in range(2 * HOLD_BELOW):
                await alice.expect(MESSAGE_EVENT)
            session = server._node.users.get(alice.ready["session_id"])
            assert session is not None
            await park(server, alice)
        async with connected(server) as again:
            door.close_for_queries()
            request = {"session_id": session.session_id, "token": SECRET, "channels": {"lobby": 0}}
            await again.send(RESUME, request)
            await wait_until(lambda: door.fetches_waiting == 1)
            over_at = trio.current_time() + 0.35
            await wait_until(lambda: trio.current_time() > over_at)
            door.open()
            before, _ = await until_resumed(again)
            assert len(before) == 2 * HOLD_BELOW + 1


@pytest.mark.parametrize("name", MISSED)
async def test_a_newer_resume_takes_over_and_the_older_connection_is_told(name: str, tmp_path: Path) -> None:
    async with set_stage(tmp_path, name) as stage, connected(stage.server) as newer:
        if name == "storage":
            stage.go_on()
        await newer.send(
            RESUME, {"session_id": stage.session.session_id, "token": SECRET, "channels": {"lobby": 2}}
        )
        assert await stage.resuming.closed() == 4505
        stage.go_on()
        before, _ = await until_resumed(newer)
        assert seqs(before, "lobby") == list(range(3, stage.last_seq + 1))
        await newer.say("lobby", "mine")
        assert counted(stage.server)["sessions"] == 2
        assert places_of(stage.server, "bob") == ["subscribers lobby", "focused lobby", "unsubscribed hall"]


@pytest.mark.parametrize("name", MISSED)
async def test_a_server_that_stops_ends_it_all(name: str, tmp_path: Path) -> None:
    async with set_stage(tmp_path, name) as stage:
        server, session = stage.server, stage.session
        stage.door.open()
    assert is_nowhere(server, session)
    assert set(counted(server).values()) == {0}

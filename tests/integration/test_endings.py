"""Whatever way a connection ends, one cleanup takes it out of every hub and parks or ends its session."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import livechat
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    FOCUS,
    HEARTBEAT,
    JOIN,
    MEMBER_ADD,
    MESSAGE,
    MESSAGE_EVENT,
    RECONNECT,
    UNSUBSCRIBE,
    Client,
    identified,
)
from tests.support.hubs import is_nowhere, places_of
from tests.support.raw import BINARY, CLOSE, TEXT, RawClient, close_payload, masked, raw_connected
from tests.support.resume import park
from tests.support.server import SECRET, counted, running_server, wait_until

WINDOW_MS = 400
"""The resume window: long enough to look at a parked session, short enough to see it end."""


@attrs.define
class Stage:
    """A server in a task of its own, and the two clients of the test."""

    server: livechat.Server
    victim: RawClient
    witness: Client
    scope: trio.CancelScope
    """Cancels the server."""
    leave: trio.Event
    """Has the server's block left."""


async def close_normally(stage: Stage) -> int | None:
    await stage.victim.send(masked(CLOSE, close_payload(1000)))
    return await stage.victim.closed()


async def go_away(stage: Stage) -> int | None:
    await stage.victim.send(masked(CLOSE, close_payload(1001)))
    return await stage.victim.closed()


async def close_without_status(stage: Stage) -> int | None:
    await stage.victim.send(masked(CLOSE, b""))
    return await stage.victim.closed()


async def close_with_own_code(stage: Stage) -> int | None:
    await stage.victim.send(masked(CLOSE, close_payload(3000)))
    return await stage.victim.closed()


async def reset(stage: Stage) -> int | None:
    stage.victim.reset()
    return None


async def end_of_stream(stage: Stage) -> int | None:
    await stage.victim.stream.send_eof()
    return await stage.victim.closed()


async def invalid_utf8(stage: Stage) -> int | None:
    await stage.victim.send(masked(TEXT, b"\xff\xfe"))
    return await stage.victim.closed()


async def unmasked_frame(stage: Stage) -> int | None:
    await stage.victim.send(masked(TEXT, b"{}", mask=False))
    return await stage.victim.closed()


async def reserved_bits(stage: Stage) -> int | None:
    await stage.victim.send(masked(TEXT | 0x40, b"{}"))
    return await stage.victim.closed()


async def unknown_frame(stage: Stage) -> int | None:
    await stage.victim.send(masked(0x83, b"{}"))
    return await stage.victim.closed()


async def stray_continuation(stage: Stage) -> int | None:
    await stage.victim.send(masked(0x80, b"{}"))
    return await stage.victim.closed()


async def oversized_message(stage: Stage) -> int | None:
    await stage.victim.send(masked(BINARY, bytes(200_000)))
    return await stage.victim.closed()


async def packet_abuse(stage: Stage) -> int | None:
    await stage.victim.send(masked(TEXT, b"not json") * 20)
    return await stage.victim.closed()


async def slow_consumer(stage: Stage) -> int | None:
    big = {"channel_id": "room", "content": "x" * 2000}
    while counted(stage.server)["sessions_parked"] == 0:
        for _ in range(50):
            await stage.witness.send(MESSAGE, big)
        for _ in range(50):
            await stage.witness.expect(MESSAGE_EVENT)
    return await stage.victim.closed()


async def zombie(stage: Stage) -> int | None:
    while counted(stage.server)["sessions_parked"] == 0:
        await stage.witness.send(HEARTBEAT)
        await trio.sleep(0.02)
    return await stage.victim.closed()


async def drip(stage: Stage) -> int | None:
    """Send a long frame byte by byte: bytes without a complete frame are no sign of life."""
    frame = masked(TEXT, bytes(50_000))
    for index in range(len(frame)):
        if counted(stage.server)["sessions_parked"]:
            break
        await stage.victim.send(frame[index : index + 1])
        await stage.witness.send(HEARTBEAT)
        await trio.sleep(0.02)
    return await stage.victim.closed()


async def cancellation(stage: Stage) -> int | None:
    stage.scope.cancel()
    return await stage.victim.closed()


async def shutdown(stage: Stage) -> int | None:
    stage.leave.set()
    return await stage.victim.closed()


SHORT_OF_HEARTBEATS = (zombie, drip)
"""Endings for which the server wants heartbeats often."""

ENDS_THE_SERVER = (cancellation, shutdown)

Ending = Callable[[Stage], Awaitable[int | None]]

ENDINGS: list[tuple[Ending, int | None, bool]] = [
    # what happens, the close frame's code that the client gets, whether the session can be resumed
    (close_normally, 1000, False),
    (go_away, 1001, False),
    (close_without_status, 1005, True),
    (close_with_own_code, 3000, True),
    (reset, None, True),
    (end_of_stream, None, True),
    (invalid_utf8, 1007, True),
    (unmasked_frame, 1002, True),
    (reserved_bits, 1002, True),
    (unknown_frame, 1002, True),
    (stray_continuation, 1002, True),
    (oversized_message, 1009, True),
    (packet_abuse, 4503, False),
    (slow_consumer, 4001, True),
    (zombie, 4002, True),
    (drip, 4002, True),
    (cancellation, 4003, False),
    (shutdown, 4003, False),
]


IN_THE_ROOM = {
    "connections": 2,
    "sessions": 2,
    "sessions_parked": 0,
    "channels": 2,
    "subscriptions": 2,
    "peers": 1,
}
IN_PLACES = ["focused room", "subscribers room", "unsubscribed hall"]
WITNESS_ALONE = {
    **IN_THE_ROOM,
    "connections": 1,
    "sessions": 1,
    "channels": 1,
    "subscriptions": 1,
    "peers": 0,
}


@asynccontextmanager
async def set_stage(data_dir: Path, end: Ending) -> AsyncGenerator[Stage]:
    """A witness and a victim with voice, both in a channel that is not durable."""
    gateway = {
        "resume_window_ms": WINDOW_MS,
        "frame_bytes": 100_000,
        "egress_bytes": 65_536,
        "heartbeat_interval_ms": 200 if end in SHORT_OF_HEARTBEATS else 30_000,
    }
    scope, leave = trio.CancelScope(), trio.Event()

    async def serve(task_status: trio.TaskStatus[livechat.Server]) -> None:
        with scope:
            async with running_server(data_dir, gateway=gateway) as server:
                task_status.started(server)
                await leave.wait()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        small = 4096 if end is slow_consumer else None
        async with (
            identified(server, "witness") as witness,
            raw_connected(server, f"?token={SECRET}&user_id=victim", receive_buffer=small) as victim,
        ):
            await witness.ack(CREATE, {"channel_id": "room", "freq": 101.5})
            await witness.ack(JOIN, {"channel_id": "room"})
            join = {"op": JOIN, "d": {"channel_id": "room", "ssrc": 7}}
            await victim.send(masked(TEXT, json.dumps(join).encode()))
            joined = await witness.expect(CHANNEL_EVENT)
            assert joined["event"] == "join"
            assert joined["member"] == {"user_id": "victim", "ssrc": 7}
            # It looks at the room, and does not listen to another channel of its user.
            await witness.ack(CREATE, {"channel_id": "hall"})
            await witness.ack(MEMBER_ADD, {"channel_id": "hall", "user_id": "victim"})
            for op, channel_id in ((FOCUS, "room"), (UNSUBSCRIBE, "hall")):
                packet = {"op": op, "d": {"channel_id": channel_id}}
                await victim.send(masked(TEXT, json.dumps(packet).encode()))
            await wait_until(lambda: sorted(places_of(server, "victim")) == IN_PLACES)
            yield Stage(server, victim, witness, scope, leave)
            leave.set()


@pytest.mark.parametrize(("end", "code", "resumable"), ENDINGS, ids=lambda value: getattr(value, "__name__", None))
async def test_every_ending_leaves_the_hubs_clean(
    end: Ending, code: int | None, resumable: bool, tmp_path: Path
) -> None:
    async with set_stage(tmp_path, end) as stage:
        server, witness = stage.server, stage.witness
        assert counted(server) == IN_THE_ROOM
        assert await end(stage) == code
        if end in ENDS_THE_SERVER:
            assert await witness.closed() == code
            await wait_until(lambda: set(counted(server).values()) == {0})
            return
        if resumable:
            await wait_until(lambda: counted(server)["sessions_parked"] == 1)
            # Parked: out of the channel's subscribers at once; session, membership and voice live on.
            assert places_of(server, "victim") == []
            assert counted(server)["subscriptions"] == 1
            assert counted(server)["peers"] == 1
        stage.victim.stream.socket.close()
        async with trio.open_nursery() as nursery:
            if end in SHORT_OF_HEARTBEATS:
                nursery.start_soon(beat, witness)
            await wait_until(lambda: counted(server) == WITNESS_ALONE)
            nursery.cancel_scope.cancel()
        assert places_of(server, "victim") == []
        # The channel is not durable, so the membership ended with the session: one event tells of both.
        event = await next_event(witness)
        assert (event["event"], event["cause"]) == ("leave", "disconnect")
        assert event["member"] == {"user_id": "victim", "ssrc": 7}


async def test_an_exception_of_the_block_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with running_server(tmp_path):
            raise KeyError("mine")


async def test_leaving_the_block_drains_and_closes_those_that_stay(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        leave = trio.Event()

        async def serve(task_status: trio.TaskStatus[livechat.Server]) -> None:
            async with running_server(tmp_path, gateway={"drain_ms": 300}) as server:
                task_status.started(server)
                await leave.wait()

        server = await nursery.start(serve)
        async with identified(server, "stays") as stays, identified(server, "goes") as goes:
            leave.set()
            asked = await goes.expect(RECONNECT)
            assert 0 <= asked["delay_ms"] <= 300
            await goes.ws.aclose()
            assert (await stays.expect(RECONNECT))["reason"]
            # Until the window is over who stays is served as before.
            await stays.ack(CREATE, {"channel_id": "late"})
            assert await stays.closed() == 4003
    assert counted(server)["connections"] == 0
    assert counted(server)["sessions"] == 0


async def test_sessions_of_one_user_end_one_by_one(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "witness") as witness:
        await witness.ack(CREATE, {"channel_id": "room", "freq": 1})
        await witness.ack(JOIN, {"channel_id": "room"})
        async with identified(server, "twin") as first:
            await first.ack(JOIN, {"channel_id": "room"})
            assert (await witness.expect(CHANNEL_EVENT))["event"] == "join"
            async with identified(server, "twin") as second:
                assert second.ready["channels"][0]["channel_id"] == "room"
                assert counted(server)["subscriptions"] == 3
            await wait_until(lambda: counted(server)["sessions"] == 2)
            await witness.expect_silence()
        left = await witness.expect(CHANNEL_EVENT)
        assert (left["event"], left["member"]["user_id"]) == ("leave", "twin")


async def test_a_transient_membership_ends_at_the_next_start_after_a_crash(tmp_path: Path) -> None:
    # Leaving the block by an exception is as near to a crash as one process can come: nothing is resumed.
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "radio", "freq": 1})
        await alice.ack(CREATE, {"channel_id": "lasting"})
        await alice.ack(JOIN, {"channel_id": "radio"})
        await alice.ack(JOIN, {"channel_id": "lasting"})
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        assert [channel["channel_id"] for channel in alice.ready["channels"]] == ["lasting"]
        assert (await alice.ack(JOIN, {"channel_id": "radio"}))["last_seq"] == 3


async def next_event(client: Client) -> dict[str, Any]:
    """Return the next CHANNEL_EVENT, past the heartbeat acks."""
    while True:
        packet = await client.receive()
        if packet["op"] == CHANNEL_EVENT:
            event: dict[str, Any] = packet["d"]
            return event


async def beat(client: Client) -> None:
    """Send heartbeats, where the server wants them often."""
    while True:
        await client.send(HEARTBEAT)
        await trio.sleep(0.05)


async def test_the_oldest_parked_session_makes_room_and_is_nowhere(tmp_path: Path) -> None:
    chat = livechat.ChatLimits(sessions_per_user=3)
    async with running_server(tmp_path, chat=chat) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        parked = []
        for _ in range(2):
            async with identified(server, "alice") as other:
                await other.ack(FOCUS, {"channel_id": "x"})
                session = server._node.users.get(other.ready["session_id"])
                assert session is not None
                parked.append(session)
                await park(server, other)
        async with identified(server, "alice"):
            assert [is_nowhere(server, session) for session in parked] == [True, False]
            assert counted(server)["sessions"] == 3
            assert places_of(server, "alice") == ["subscribers x", "subscribers x"]
            await alice.say("x", "still here")

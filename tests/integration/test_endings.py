"""Whatever way a connection ends, one cleanup takes it out of every hub and parks or ends its session."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    HEARTBEAT,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    RECONNECT,
    Client,
    identified,
)
from tests.support.raw import BINARY, CLOSE, TEXT, RawClient, close_payload, masked, raw_connected
from tests.support.server import SECRET, counted, running_server, wait_until

WINDOW_MS = 400
"""The resume window: long enough to look at a parked session, short enough to see it end."""


async def close_normally(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(CLOSE, close_payload(1000)))
    return await victim.closed()


async def go_away(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(CLOSE, close_payload(1001)))
    return await victim.closed()


async def close_without_status(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(CLOSE, b""))
    return await victim.closed()


async def close_with_own_code(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(CLOSE, close_payload(3000)))
    return await victim.closed()


async def reset(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    victim.reset()
    return None


async def end_of_stream(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.stream.send_eof()
    return await victim.closed()


async def invalid_utf8(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(TEXT, b"\xff\xfe"))
    return await victim.closed()


async def unmasked_frame(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(TEXT, b"{}", mask=False))
    return await victim.closed()


async def reserved_bits(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(TEXT | 0x40, b"{}"))
    return await victim.closed()


async def unknown_frame(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(0x83, b"{}"))
    return await victim.closed()


async def stray_continuation(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(0x80, b"{}"))
    return await victim.closed()


async def oversized_message(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(BINARY, bytes(200_000)))
    return await victim.closed()


async def packet_abuse(victim: RawClient, _witness: Client, _server: livechat.Server) -> int | None:
    await victim.send(masked(TEXT, b"not json") * 20)
    return await victim.closed()


async def slow_consumer(victim: RawClient, witness: Client, server: livechat.Server) -> int | None:
    big = {"channel_id": "room", "content": "x" * 2000}
    while counted(server)["sessions_parked"] == 0:
        for _ in range(50):
            await witness.send(MESSAGE, big)
        for _ in range(50):
            await witness.expect(MESSAGE_EVENT)
    return await victim.closed()


async def zombie(victim: RawClient, witness: Client, server: livechat.Server) -> int | None:
    while counted(server)["sessions_parked"] == 0:
        await witness.send(HEARTBEAT)
        await trio.sleep(0.02)
    return await victim.closed()


Ending = Callable[[RawClient, Client, livechat.Server], Awaitable[int | None]]

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
]


@pytest.mark.parametrize(("end", "code", "resumable"), ENDINGS, ids=lambda value: getattr(value, "__name__", None))
async def test_every_ending_leaves_the_hubs_clean(
    end: Ending, code: int | None, resumable: bool, tmp_path: Path
) -> None:
    gateway = {
        "resume_window_ms": WINDOW_MS,
        "frame_bytes": 100_000,
        "egress_bytes": 65_536,
        # Only the zombie's own test is to be short of heartbeats.
        "heartbeat_interval_ms": 200 if end is zombie else 30_000,
    }
    async with running_server(tmp_path, gateway=gateway) as server, identified(server, "witness") as witness:
        await witness.ack(CREATE, {"channel_id": "room", "freq": 101.5})
        await witness.ack(JOIN, {"channel_id": "room"})
        small = 4096 if end is slow_consumer else None
        async with raw_connected(server, f"?token={SECRET}&user_id=victim", receive_buffer=small) as victim:
            await victim.send(
                masked(TEXT, json.dumps({"op": JOIN, "d": {"channel_id": "room", "ssrc": 7}}).encode())
            )
            joined = await witness.expect(CHANNEL_EVENT)
            assert joined["event"] == "join"
            assert joined["member"] == {"user_id": "victim", "ssrc": 7}
            assert counted(server) == {
                "connections": 2,
                "sessions": 2,
                "sessions_parked": 0,
                "channels": 1,
                "subscriptions": 2,
                "peers": 1,
            }

            seen = await end(victim, witness, server)

        assert seen == code
        if resumable:
            await wait_until(lambda: counted(server)["sessions_parked"] == 1)
            # Parked: out of the channel's subscribers at once; session, membership and voice live on.
            assert counted(server)["subscriptions"] == 1
            assert counted(server)["peers"] == 1
        await wait_until(lambda: counted(server)["connections"] == 1)
        async with trio.open_nursery() as nursery:
            if end is zombie:
                nursery.start_soon(beat, witness)
            await wait_until(lambda: counted(server)["sessions"] == 1)
            nursery.cancel_scope.cancel()
        assert counted(server) == {
            "connections": 1,
            "sessions": 1,
            "sessions_parked": 0,
            "channels": 1,
            "subscriptions": 1,
            "peers": 0,
        }
        # The channel is not durable, so the membership ended with the session; voice first.
        events = [await next_event(witness) for _ in range(2)]
        assert [event["event"] for event in events] == ["voice_leave", "leave"]
        assert all(event["member"]["user_id"] == "victim" for event in events)
        assert events[0]["member"]["ssrc"] == 7


async def test_cancelling_the_server_closes_everything_and_says_so(tmp_path: Path) -> None:
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[livechat.Server]) -> None:
        with scope:
            async with running_server(tmp_path) as server:
                task_status.started(server)
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with identified(server, "alice") as alice:
            await alice.ack(CREATE, {"channel_id": "room"})
            await alice.ack(JOIN, {"channel_id": "room", "ssrc": 7})
            scope.cancel()
            assert await alice.closed() == 4003
    assert set(counted(server).values()) == {0}


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

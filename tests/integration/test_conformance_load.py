"""Large, many and slow messages at the echo: Autobahn's 9 and 10, limits, and clients that do not read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import livechat
from livechat.gateway import echo
from livechat.gateway.echo import ECHO_PATH
from tests.support.conformance import (
    CONTINUATION,
    FIN,
    GOODBYE,
    Case,
    Frame,
    binary,
    conversation,
    echoing,
    ping,
    text,
)
from tests.support.hostile import send_as_far_as_taken
from tests.support.raw import BINARY, CLOSE, TEXT, masked, raw_connected
from tests.support.server import counted, running_server, wait_until

MIB = 1 << 20
CLOSED = (CLOSE, (1000).to_bytes(2, "big"))


def fragments(first: int, payload: bytes, size: int) -> bytes:
    """Build one message in frames of at most `size` octets."""
    frames = []
    for start in range(0, len(payload), size):
        fin = FIN if start + size >= len(payload) else 0
        frames.append(masked(fin | (CONTINUATION if start else first), payload[start : start + size]))
    return b"".join(frames)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        pytest.param(text(b"*" * (MIB)), [(TEXT, b"*" * MIB)], id="9.1.3"),
        pytest.param(text("ö".encode() * (2 * MIB)), [(TEXT, "ö".encode() * (2 * MIB))], id="9.1.4"),
        pytest.param(binary(bytes(16 * MIB)), [(BINARY, bytes(16 * MIB))], id="9.2.6"),
        pytest.param(fragments(TEXT & 0x0F, b"*" * MIB, 64), [(TEXT, b"*" * MIB)], id="9.3.1"),
        pytest.param(fragments(BINARY & 0x0F, bytes(4 * MIB), 4096), [(BINARY, bytes(4 * MIB))], id="9.4.4"),
        pytest.param(fragments(TEXT & 0x0F, b"*" * 65_536, 1300), [(TEXT, b"*" * 65_536)], id="10.1.1"),
        pytest.param(text(b"*" * 64) * 1000, [(TEXT, b"*" * 64)] * 1000, id="9.7.3"),
        pytest.param(binary(b"*" * 256) * 1000, [(BINARY, b"*" * 256)] * 1000, id="9.8.4"),
    ],
)
async def test_large_and_many_messages_are_echoed(said: bytes, answered: Sequence[Frame], tmp_path: Path) -> None:
    async with echoing(tmp_path) as server:
        frames = await conversation(server, ECHO_PATH, Case("", said), len(said) + len(GOODBYE))
    assert frames == [*answered, CLOSED]


async def test_a_message_in_small_pieces_of_tcp_is_echoed(tmp_path: Path) -> None:
    """Autobahn's 9.5: one frame, in chops of TCP; the smallest there are 64 octets."""
    payload = b"*" * 131_072
    async with echoing(tmp_path) as server:
        for said in (text(payload), text(payload[:60_000]), fragments(TEXT & 0x0F, payload, 1300)):
            (message, end) = await conversation(server, ECHO_PATH, Case("", said), 64)
            assert message[0] == TEXT
            assert end == CLOSED


@pytest.mark.parametrize("first", [TEXT, BINARY])
async def test_what_is_larger_than_the_largest_is_refused_before_it_has_come(first: int, tmp_path: Path) -> None:
    head = bytes((first, 0x80 | 127)) + (echo.MESSAGE_BYTES_MAX + 1).to_bytes(8, "big") + bytes(4)
    in_fragments = masked(first & 0x0F, b"x") + bytes((0x80,)) + head[1:]
    async with echoing(tmp_path) as server:
        for said in (head, in_fragments, masked(first & 0x0F, b"x") + masked(0, b"x" * 65_536) + b"\0" + head[1:]):
            async with raw_connected(server, path=ECHO_PATH) as client:
                await client.send(said)
                assert await client.closed() == 1009


async def test_the_gateway_refuses_by_its_own_limits(tmp_path: Path) -> None:
    """Its `frame_bytes`, or less before the client has shown who it is; over all the fragments of a message."""
    async with running_server(tmp_path, gateway={"message_bytes": 1000}) as server:
        for said in (binary(bytes(2001)), fragments(BINARY & 0x0F, bytes(2001), 100), text(b"*" * 70_000)):
            async with raw_connected(server) as client:
                await client.send(said)
                assert await client.closed() == 1009
        async with raw_connected(server) as client:
            await client.send(masked(0x02, b"") + masked(CONTINUATION, b"") * 5000)
            assert await client.closed() == 4503


# --- clients that do not read ----------------------------------------------------------------------------


@pytest.mark.parametrize("said", [ping(b"*" * 125), binary(bytes(65_536))], ids=["pings", "messages"])
async def test_who_does_not_read_is_not_read_from(said: bytes, tmp_path: Path) -> None:
    async with (
        echoing(tmp_path) as server,
        raw_connected(server, path=ECHO_PATH, receive_buffer=4096) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(send_as_far_as_taken, client.stream, said * (64 * MIB // len(said))))
        await wait_until(lambda: len(server._front.echoes) == 1)
        (served,) = server._front.echoes
        await wait_until(lambda: served._egress.is_crowded)
        await wait_all_tasks_blocked(0.005)
        assert served._egress.is_crowded
        assert served._egress.queued_bytes <= echo.EGRESS_LIMITS.bytes_max // 4 + 2 * MIB
        # Once it reads, it is read from again.
        for _ in range(1000):
            frame = await client.frame()
            assert frame is not None
            assert len(frame[1]) in (125, 65_536)
        nursery.cancel_scope.cancel()
        client.reset()


async def test_who_reads_nothing_for_long_is_closed(tmp_path: Path) -> None:
    limits = {"debug_echo": True, "stall_timeout_ms": 100, "close_timeout_ms": 100}
    async with (
        running_server(tmp_path, gateway=limits) as server,
        raw_connected(server, path=ECHO_PATH, receive_buffer=4096) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(partial(send_as_far_as_taken, client.stream, ping(b"*" * 125) * 300_000))
        await wait_until(lambda: len(server._front.echoes) == 1)
        await wait_until(lambda: not server._front.echoes)
        nursery.cancel_scope.cancel()


# --- the endpoint ----------------------------------------------------------------------------------------


async def test_there_is_no_echo_unless_it_was_asked_for(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        with pytest.raises(AssertionError):
            async with raw_connected(server, path=ECHO_PATH):
                pass


async def test_the_echo_has_no_session_and_ends_with_the_server(tmp_path: Path) -> None:
    is_served = trio.Event()

    async def be_there(server: livechat.Server) -> None:
        headers = "Sec-WebSocket-Protocol: livechat.v1.json\r\n"
        async with raw_connected(server, path=ECHO_PATH, headers=headers) as client:
            assert b"sec-websocket-protocol" not in client.head.lower()
            await client.send(text(b"x"))
            assert await client.frame() == (TEXT, b"x")
            assert counted(server)["sessions"] == 0
            is_served.set()
            assert await client.closed() == 1001

    async with trio.open_nursery() as nursery, running_server(tmp_path, gateway={"debug_echo": True}) as server:
        nursery.start_soon(be_there, server)
        await is_served.wait()


async def test_who_sends_nothing_at_all_is_closed(tmp_path: Path) -> None:
    limits = {"debug_echo": True, "heartbeat_interval_ms": 50}
    async with running_server(tmp_path, gateway=limits) as server, raw_connected(server, path=ECHO_PATH) as client:
        assert await client.closed() == 4002

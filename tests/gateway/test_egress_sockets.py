from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.budget import EgressLimits, EgressPool
from livechat.gateway.egress import EgressQueue
from livechat.gateway.transport import PlainTransport, SocketOptions, Transport
from livechat.protocol.frames import CLOSE_HEAD, serialize_close
from tests.support.egress import frame
from tests.support.raw import masked
from tests.support.sockets import tcp_pair, transport_and_client
from tests.support.transport import UNLIMITED, split_frames


class Owner:
    """Runs the writer of a queue."""

    def __init__(self, transport: Transport, nursery: trio.Nursery) -> None:
        self.queue = EgressQueue(transport, EgressPool(EgressLimits(UNLIMITED, UNLIMITED)), self)
        self._nursery = nursery

    def start_writer(self) -> None:
        """Start it."""
        self._nursery.start_soon(self.queue.write_loop)

    def overflow(self) -> None:
        """Do nothing."""


def over(transport: Transport, nursery: trio.Nursery) -> EgressQueue:
    return Owner(transport, nursery).queue


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_the_last_frame_leaves_whole_with_none_after_it(tls: bool, nursery: trio.Nursery) -> None:
    """TLS takes a frame whole and keeps what the socket has no room for; the client must not wait for that."""
    async with transport_and_client(tls=tls, buffer_bytes=8192) as (transport, client):
        queue = over(transport, nursery)
        sizes = [3000] * 100 + [60_000]
        for number, size in enumerate(sizes):
            queue.push(frame(number, size))
        total = len(b"".join(frame(number, size) for number, size in enumerate(sizes)))
        received = b""
        with trio.fail_after(5):
            while len(received) < total:
                received += await client.receive_some(4096)
        assert len(split_frames(received)) == len(sizes)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_frame_sent_at_once_leaves_whole_as_well(tls: bool, nursery: trio.Nursery) -> None:
    async with transport_and_client(tls=tls, buffer_bytes=8192) as (transport, client):
        queue = over(transport, nursery)
        await wait_all_tasks_blocked()
        queue.push(frame(1, 500_000))
        received = b""
        with trio.fail_after(5):
            while len(received) < len(frame(1, 500_000)):
                received += await client.receive_some(4096)
        assert len(split_frames(received)) == 1
        nursery.cancel_scope.cancel()


async def test_a_peer_that_takes_nothing_for_too_long_ends_the_writer() -> None:
    accepted, connected = tcp_pair(buffer_bytes=8192)
    with connected:
        with trio.fail_after(20):
            async with trio.open_nursery() as writers:
                queue = over(PlainTransport(accepted, SocketOptions(user_timeout_ms=50)), writers)
                queue.push(frame(1, 1_000_000))
        assert queue.broken
        queue.abort()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_reset_ends_the_writer(tls: bool) -> None:
    async with transport_and_client(tls=tls, buffer_bytes=8192) as (transport, client):
        with trio.fail_after(5):
            async with trio.open_nursery() as writers:
                queue = over(transport, writers)
                queue.push(frame(1, 1_000_000))
                await wait_all_tasks_blocked(0.005)
                assert writers.child_tasks
                # With bytes unread a close is a reset.
                await trio.aclose_forcefully(client)
        assert queue.broken


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_peer_that_is_still_sending_gets_the_close_frame(tls: bool, nursery: trio.Nursery) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        queue = over(transport, nursery)
        await client.send_all(masked(0x82, b"x" * 5000))
        await wait_all_tasks_blocked(0.005)
        queue.push_close(4003, "server is shutting down")
        nursery.start_soon(queue.finish)
        await wait_all_tasks_blocked(0.005)
        assert not queue.broken
        received = b""
        with trio.fail_after(5):
            while data := await client.receive_some():
                received += data
        assert split_frames(received) == [(CLOSE_HEAD, serialize_close(4003, "server is shutting down")[2:])]
        await client.aclose()

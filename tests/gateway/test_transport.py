from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.transport import (
    RECEIVE_BYTES,
    UNSENT_BYTES_MAX,
    USER_TIMEOUT_MS_MAX,
    PlainTransport,
    SocketOptions,
    TlsTransport,
    Transport,
    send_all,
)
from tests.support.sockets import Client, tcp_pair, tls_contexts, transport_and_client

SMALL = 8192
"""Asked for as the size of socket buffers, so that little data fills them."""

either = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


async def receive_exactly(receive: Callable[[], Awaitable[bytes | bytearray]], size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await receive()
        assert data, "the stream ended early"
        received += data
    return bytes(received)


async def fill(transport: Transport) -> bytes:
    """Send until nothing more goes without waiting; return what was taken."""
    taken = b""
    piece = noise(5000)
    while sent := transport.send_nowait(piece):
        taken += piece[:sent]
    return taken


async def cancelled_once_blocked(operation: Callable[[], Awaitable[object]]) -> bool:
    """Start an operation, cancel it as soon as it waits; tell whether it had to wait."""
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await operation()

        nursery.start_soon(run)
        await wait_all_tasks_blocked(0.005)
        waited = bool(nursery.child_tasks)
        nursery.cancel_scope.cancel()
    return waited


@either
async def test_bytes_go_both_ways(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        assert transport.is_tls is tls
        assert (transport.local_host, transport.peer_host) == ("127.0.0.1", "127.0.0.1")
        assert transport.send_nowait(b"hello") == 5
        assert await client.receive_some() == b"hello"
        assert await transport.send(b"again") == 5
        await transport.flush()
        assert await client.receive_some() == b"again"
        await client.send_all(b"answer")
        assert await transport.receive() == b"answer"


@either
async def test_a_payload_far_beyond_the_buffers_reaches_a_slow_reader_whole(tls: bool) -> None:
    data = noise(4_000_000)
    async with (
        transport_and_client(tls=tls, buffer_bytes=SMALL) as (transport, client),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send_all, transport, data)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        assert await receive_exactly(client.receive_some, len(data)) == data


@either
async def test_a_full_socket_takes_nothing_without_waiting(tls: bool) -> None:
    async with transport_and_client(tls=tls, buffer_bytes=SMALL) as (transport, client):
        taken = await fill(transport)
        assert transport.send_nowait(b"x") == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, transport, b"last")
            assert await receive_exactly(client.receive_some, len(taken) + 4) == taken + b"last"


@either
async def test_a_cancelled_send_took_nothing_and_tears_nothing(tls: bool) -> None:
    async with transport_and_client(tls=tls, buffer_bytes=SMALL) as (transport, client):
        expected = await fill(transport)
        received = b""
        waits = 0
        for attempt in range(30):
            refused = b"never sent %d" % attempt
            taken: list[int] = []

            async def send(refused: bytes = refused, taken: list[int] = taken) -> None:
                taken.append(await transport.send(refused))

            waits += await cancelled_once_blocked(send)
            # The system may have found some room since it was full.
            expected += refused[: sum(taken)]
            received += await client.receive_some(3000)
            expected += await fill(transport)
        assert waits > 20
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all, transport, b"last")
            received += await receive_exactly(client.receive_some, len(expected) + 4 - len(received))
        assert received == expected + b"last"


async def test_a_cancelled_flush_of_tls_tears_no_record() -> None:
    async with transport_and_client(tls=True, buffer_bytes=SMALL) as (transport, client):
        expected = await fill(transport)
        received = b""
        waits = 0
        for _ in range(30):
            waits += await cancelled_once_blocked(transport.flush)
            received += await client.receive_some(3000)
            expected += await fill(transport)
        assert waits > 20
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.flush)
            received += await receive_exactly(client.receive_some, len(expected) - len(received))
        assert received == expected


@either
async def test_a_cancelled_receive_loses_nothing(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        assert await cancelled_once_blocked(transport.receive)
        await client.send_all(b"hello")
        assert await transport.receive() == b"hello"
        await client.send_all(b"x" * 10)
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.receive()
        assert scope.cancelled_caught
        assert await receive_exactly(transport.receive, 10) == b"x" * 10


@either
async def test_reader_and_writer_at_once_under_load_exchange_identical_bytes(tls: bool) -> None:
    upload, download = noise(1_500_000), noise(1_600_000)

    async def client_sends(client: Client) -> None:
        for start in range(0, len(upload), 30_011):
            await client.send_all(upload[start : start + 30_011])

    async def server_sends(transport: Transport) -> None:
        for start in range(0, len(download), 9_973):
            await send_all(transport, download[start : start + 9_973])

    received: dict[str, bytes] = {}

    async def collect(side: str, receive: Callable[[], Awaitable[bytes | bytearray]], size: int) -> None:
        received[side] = await receive_exactly(receive, size)

    async with (
        transport_and_client(tls=tls, buffer_bytes=SMALL) as (transport, client),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client_sends, client)
        nursery.start_soon(server_sends, transport)
        nursery.start_soon(collect, "server", transport.receive, len(upload))
        nursery.start_soon(collect, "client", client.receive_some, len(download))
    assert received["server"] == upload
    assert received["client"] == download


@either
async def test_one_receive_is_bounded(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client), trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, noise(500_000))
        left = 500_000
        while left:
            data = await transport.receive()
            assert 0 < len(data) <= RECEIVE_BYTES
            left -= len(data)


# --- the ends ----------------------------------------------------------------------------------------------


async def heard(transport: Transport, client: Client) -> None:
    """Have the client read something: TLS session tickets left unread would turn its close into a reset."""
    transport.send_nowait(b"hello")
    assert await client.receive_some() == b"hello"


@either
async def test_the_peers_end_of_stream_is_empty_bytes_again_and_again(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        await heard(transport, client)
        await client.send_all(b"bye")
        await client.aclose()
        assert [await transport.receive() for _ in range(3)] == [b"bye", b"", b""]


@either
async def test_after_our_end_of_stream_the_peer_can_still_be_heard(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        transport.send_nowait(b"last words")
        transport.send_eof()
        transport.send_eof()
        assert await client.receive_some() == b"last words"
        assert await client.receive_some() == b""
        # Over TLS nobody reads it any more; it only shows that the peer has not ended its side.
        stream = client.transport_stream if isinstance(client, trio.SSLStream) else client
        await stream.send_all(b"bye")
        assert await transport.receive() == b"bye"
        await stream.send_eof()
        assert [await transport.receive() for _ in range(2)] == [b"", b""]


async def test_a_peer_that_closes_tcp_without_closing_tls_has_ended_its_stream() -> None:
    async with transport_and_client(tls=True) as (transport, client):
        assert isinstance(client, trio.SSLStream)
        await heard(transport, client)
        await client.send_all(b"bye")
        await client.transport_stream.aclose()
        assert [await transport.receive() for _ in range(2)] == [b"bye", b""]


@either
async def test_a_reset_is_an_oserror_for_reader_and_writer(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        stream = client.transport_stream if isinstance(client, trio.SSLStream) else client
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
        with pytest.raises(OSError, match=r".") as caught:
            await transport.receive()
        assert not isinstance(caught.value, TimeoutError)
        with pytest.raises(OSError, match=r"."):
            transport.send_nowait(b"x")


@either
async def test_after_abort_nothing_works_and_nothing_hangs(tls: bool) -> None:
    async with transport_and_client(tls=tls) as (transport, client):
        transport.abort()
        transport.abort()
        transport.send_eof()
        with pytest.raises((OSError, trio.ClosedResourceError)):
            transport.send_nowait(b"x")
        with pytest.raises((OSError, trio.ClosedResourceError)):
            await transport.send(b"x")
        with pytest.raises((OSError, trio.ClosedResourceError)):
            await transport.receive()
        assert await client.receive_some() == b""


@either
async def test_abort_wakes_reader_and_writer(tls: bool) -> None:
    woken: list[str] = []

    async def blocked(name: str, operation: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises((OSError, trio.ClosedResourceError)):
            await operation()
        woken.append(name)

    async with transport_and_client(tls=tls, buffer_bytes=SMALL) as (transport, _client):
        await fill(transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(blocked, "writer", lambda: transport.send(b"x"))
            nursery.start_soon(blocked, "reader", transport.receive)
            await wait_all_tasks_blocked()
            transport.abort()
    assert sorted(woken) == ["reader", "writer"]


# --- the TLS handshake -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 600,
        b"\x16\x03\x01\x00\x05hello",
        b"\x80\x2e\x01\x00\x02",
        noise(3000),
    ],
)
async def test_a_peer_that_speaks_no_tls_is_an_oserror_and_no_hang(data: bytes) -> None:
    accepted, connected = tcp_pair()
    transport = TlsTransport(PlainTransport(accepted), tls_contexts()[0])
    with connected:
        connected.sendall(data)
        connected.shutdown(socket.SHUT_WR)
        with trio.fail_after(10), pytest.raises(ssl.SSLError):
            await transport.handshake()
        transport.abort()


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_peer_that_leaves_during_the_handshake_is_an_oserror(data: bytes) -> None:
    accepted, connected = tcp_pair()
    transport = TlsTransport(PlainTransport(accepted), tls_contexts()[0])
    connected.sendall(data)
    connected.close()
    with trio.fail_after(10), pytest.raises(OSError, match=r"."):
        await transport.handshake()
    transport.abort()


async def test_a_client_that_does_not_trust_us_fails_the_handshake_on_both_sides() -> None:
    accepted, connected = tcp_pair()
    transport = TlsTransport(PlainTransport(accepted), tls_contexts()[0])
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
    client = trio.SSLStream(stream, ssl.create_default_context(), server_hostname="127.0.0.1")

    async def connect() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await client.do_handshake()
        await stream.aclose()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            with pytest.raises(ssl.SSLError):
                await transport.handshake()
    transport.abort()


async def test_a_handshake_may_be_cancelled() -> None:
    accepted, connected = tcp_pair()
    transport = TlsTransport(PlainTransport(accepted), tls_contexts()[0])
    with connected:
        assert await cancelled_once_blocked(transport.handshake)
        transport.abort()


async def test_small_frames_are_not_delayed_to_be_joined() -> None:
    accepted, connected = tcp_pair()
    with connected:
        transport = PlainTransport(accepted)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.abort()


# --- the socket's options --------------------------------------------------------------------------------


@either
async def test_the_options_of_the_socket_are_set(tls: bool) -> None:
    accepted, connected = tcp_pair()
    options = SocketOptions(user_timeout_ms=45_000, unsent_bytes_max=20_000)
    with accepted, connected:
        if tls:
            TlsTransport(PlainTransport(accepted, options), tls_contexts()[0])
        else:
            PlainTransport(accepted, options)
        names = (socket.TCP_NODELAY, socket.TCP_USER_TIMEOUT, socket.TCP_NOTSENT_LOWAT)
        assert [accepted.getsockopt(socket.IPPROTO_TCP, name) for name in names] == [1, 45_000, 20_000]


@pytest.mark.parametrize(("asked_ms", "set_ms"), [(0, 0), (1, 1), (1 << 40, USER_TIMEOUT_MS_MAX)])
def test_the_time_for_a_dead_peer_is_left_to_the_system_or_as_long_as_it_can_be(
    asked_ms: int, set_ms: int
) -> None:
    accepted, connected = tcp_pair()
    with accepted, connected:
        SocketOptions(asked_ms).apply(accepted)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == set_ms


async def test_where_a_platform_lacks_the_options_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    monkeypatch.delattr(socket, "TCP_NOTSENT_LOWAT")
    accepted, connected = tcp_pair()
    with accepted, connected:
        transport = PlainTransport(accepted, SocketOptions(45_000))
        assert transport.send_nowait(b"hello") == 5


@either
async def test_little_waits_in_the_system_for_a_peer_that_takes_nothing(tls: bool) -> None:
    """Of what the system would keep by itself, some megabytes, there is nothing; the peer's own buffer remains."""
    async with transport_and_client(tls=tls) as (transport, client):
        # The buffer of the peer cannot be known but by asking it.
        stream = client if isinstance(client, trio.SocketStream) else client.transport_stream
        buffered = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        taken = 0
        while sent := transport.send_nowait(b"x" * 1000):
            taken += sent
        assert taken <= buffered + 3 * UNSENT_BYTES_MAX


async def test_a_peer_that_takes_nothing_for_too_long_is_given_up_by_the_system() -> None:
    accepted, connected = tcp_pair(buffer_bytes=SMALL)
    transport = PlainTransport(accepted, SocketOptions(user_timeout_ms=50))
    with connected:
        with trio.fail_after(20), pytest.raises(TimeoutError):
            await send_all(transport, noise(1_000_000))
        transport.abort()

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from livechat.error import ConfigError
from livechat.gateway.head import HEAD_BYTES_MAX, RequestHead
from livechat.gateway.listener import OVERLOAD_PAUSE_S, Doorkeeper, Listener, addresses, bind, listen
from livechat.gateway.transport import Transport, send_all
from livechat.protocol.types import Address
from livechat.telemetry.counters import Counters
from tests.support.sockets import tls_contexts

DEADLINE_S = 20.0
"""Bounds every wait of a test: it is only reached when something is broken."""


@contextmanager
def bound(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = bind(host, port)
    listen(sockets)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


# --- binding -----------------------------------------------------------------------------------------------


def test_any_port_is_one_port_on_every_address_of_a_name() -> None:
    with bound("localhost") as sockets:
        found = addresses(sockets)
        assert len({port for _, port in found}) == 1
        assert found[0][1] > 0
        assert {host for host, _ in found} <= {"127.0.0.1", "::1"}
        assert len(set(found)) == len(found)
        for host, port in found:
            socket.create_connection((host, port)).close()


def test_an_ip_literal_is_bound_as_it_is() -> None:
    with bound("127.0.0.1") as sockets:
        ((host, port),) = addresses(sockets)
        assert host == "127.0.0.1"
        assert not sockets[0].getblocking()
    with bound("127.0.0.1", port) as sockets:
        assert addresses(sockets) == ((host, port),)


def test_every_address_of_ipv6_hears_ipv4_as_well() -> None:
    with bound("::") as sockets:
        ((_, port),) = addresses(sockets)
        for host in ("::1", "127.0.0.1"):
            socket.create_connection((host, port)).close()


def test_nobody_is_let_in_before_it_listens() -> None:
    sockets = bind("127.0.0.1", 0)
    try:
        address = addresses(sockets)[0]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        listen(sockets)
        socket.create_connection(address).close()
    finally:
        for sock in sockets:
            sock.close()


def test_a_port_that_is_taken_is_the_operators_mistake() -> None:
    with bound("127.0.0.1") as sockets:
        port = addresses(sockets)[0][1]
        with pytest.raises(ConfigError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{port} (TCP): address already in use"


@pytest.fixture
def name_of_two_addresses(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a name that means 127.0.0.1 and 127.0.0.2; resolvers differ in what `localhost` means."""
    resolve = socket.getaddrinfo

    def resolve_both(host: str, *arguments: Any, **options: Any) -> list[Any]:
        if host != "two.test":
            return list(resolve(host, *arguments, **options))
        return [info for one in ("127.0.0.1", "127.0.0.2") for info in resolve(one, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve_both)
    return "two.test"


def test_a_name_of_several_addresses_is_bound_on_all_of_them_at_one_port(name_of_two_addresses: str) -> None:
    with bound(name_of_two_addresses) as sockets:
        (first, port), (second, same_port) = addresses(sockets)
        assert (first, second, port) == ("127.0.0.1", "127.0.0.2", same_port)


def test_a_port_taken_on_one_address_of_a_name_leaves_the_others_free(name_of_two_addresses: str) -> None:
    with bound("127.0.0.2") as taken:
        port = addresses(taken)[0][1]
        with pytest.raises(ConfigError, match=r"address already in use$"):
            bind(name_of_two_addresses, port)
        with bound("127.0.0.1", port) as free:
            assert addresses(free) == (("127.0.0.1", port),)


@pytest.mark.parametrize(
    "host", ["nowhere.invalid", "256.1.1.1", "192.0.2.1", "::g", "a" * 64 + ".example", "two words", "ü" * 70]
)
def test_a_host_that_means_nothing_here_is_the_operators_mistake(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind(host, 0)
    text = str(caught.value)
    assert text.startswith(f"cannot listen on {host}:0 (TCP): ")
    assert text.isprintable()


# --- accepting ---------------------------------------------------------------------------------------------


class Served:
    """Notes every head and answers `served`; with `keep` a connection stays until it is released."""

    def __init__(self, *, keep: bool = False) -> None:
        self.heads: list[tuple[RequestHead | None, bytes]] = []
        self.first = trio.Event()
        self._keep = keep
        self.release = trio.Semaphore(0)

    async def __call__(self, transport: Transport, head: RequestHead | None, received: bytes) -> None:
        self.heads.append((head, received))
        self.first.set()
        await send_all(transport, b"served")
        if self._keep:
            await self.release.acquire()


@asynccontextmanager
async def listening(
    served: Served,
    *,
    tls: ssl.SSLContext | None = None,
    head_timeout_s: float = DEADLINE_S,
    connections_max: int = 100,
    doorkeeper: Doorkeeper | None = None,
    counters: Counters | None = None,
) -> AsyncGenerator[tuple[Listener, Address]]:
    sockets = bind("127.0.0.1", 0)
    listen(sockets)
    listener = Listener(
        sockets,
        served,
        tls=None if tls is None else lambda: tls,
        head_timeout_s=head_timeout_s,
        connections_max=connections_max,
        doorkeeper=doorkeeper,
        counters=counters,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, nursery)
        yield listener, addresses(sockets)[0]
        nursery.cancel_scope.cancel()
    assert all(sock.fileno() == -1 for sock in sockets)


async def answer(stream: trio.abc.ReceiveStream) -> bytes:
    """Return all that comes up to the end of the stream; a reset ends it as well."""
    received = b""
    with trio.fail_after(DEADLINE_S):
        try:
            while data := await stream.receive_some(65536):
                received += data
        except trio.BrokenResourceError:
            pass
    return received


HEAD = b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_head_is_handed_over_with_what_came_along() -> None:
    served = Served()
    async with listening(served) as (listener, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(HEAD + b"and more")
        assert await answer(stream) == b"served"
        assert listener.accepted == 1
    ((head, received),) = served.heads
    assert head is not None
    assert (head.method, head.target, received) == ("GET", "/ws", HEAD + b"and more")


async def test_a_head_may_come_byte_by_byte() -> None:
    served = Served()
    async with listening(served) as (_, address), await trio.open_tcp_stream(*address) as stream:
        for byte in HEAD:
            await stream.send_all(bytes((byte,)))
        assert await answer(stream) == b"served"
    ((head, received),) = served.heads
    assert (head is not None, received) == (True, HEAD)


async def test_an_oversized_head_is_handed_over_as_none_without_reading_on() -> None:
    served = Served(keep=True)
    async with listening(served) as (_, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nX: " + b"x" * 7 * HEAD_BYTES_MAX)
        with trio.fail_after(DEADLINE_S):
            assert await stream.receive_some() == b"served"
    ((head, received),) = served.heads
    assert head is None
    assert HEAD_BYTES_MAX < len(received) < 6 * HEAD_BYTES_MAX


@pytest.mark.parametrize("garbage", [b"\x00" * 50 + b"\r\n\r\n", b"\x16\x03\x01\x02\x00", b"hello"])
async def test_garbage_is_handed_over_as_no_head(garbage: bytes) -> None:
    served = Served()
    async with listening(served) as (_, address), await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(garbage)
        await stream.send_eof()
        assert await answer(stream) == b"served"
    assert served.heads == [(None, garbage)]


async def test_who_connects_and_leaves_is_not_served() -> None:
    served = Served()
    async with listening(served) as (listener, address):
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_eof()
            assert await answer(stream) == b""
        assert listener.accepted == 1
    assert served.heads == []


@pytest.mark.parametrize("said", [b"", b"GET /ws HTTP/1.1\r\n", HEAD[:-1]])
async def test_who_does_not_finish_a_head_in_time_is_cut(said: bytes) -> None:
    served = Served()
    async with (
        listening(served, head_timeout_s=0.02) as (_, address),
        await trio.open_tcp_stream(*address) as stream,
    ):
        await stream.send_all(said)
        assert await answer(stream) == b""
    assert served.heads == []


async def test_no_more_connections_than_allowed_are_served_and_the_next_one_waits_for_room() -> None:
    served = Served(keep=True)
    async with listening(served, connections_max=2) as (listener, address):
        streams = [await trio.open_tcp_stream(*address) for _ in range(4)]
        for stream in streams:
            await stream.send_all(HEAD)
        await wait_all_tasks_blocked(0.01)
        assert (listener.accepted, len(served.heads)) == (2, 2)
        for ended in (1, 2):
            served.release.release()
            with trio.fail_after(DEADLINE_S):
                assert await streams[1 + ended].receive_some() == b"served"
            assert listener.accepted == 2 + ended
        for stream in streams:
            await stream.aclose()


async def test_a_silent_connection_gives_its_place_up() -> None:
    served = Served()
    async with (
        listening(served, head_timeout_s=0.02, connections_max=1) as (_, address),
        await trio.open_tcp_stream(*address),
        await trio.open_tcp_stream(*address) as second,
    ):
        await second.send_all(HEAD)
        assert await answer(second) == b"served"


async def test_over_tls_the_head_is_what_was_encrypted() -> None:
    served = Served()
    server_context, client_context = tls_contexts()
    async with listening(served, tls=server_context) as (_, address):
        stream = await trio.open_ssl_over_tcp_stream(*address, ssl_context=client_context, https_compatible=True)
        await stream.send_all(HEAD)
        assert await answer(stream) == b"served"
        await stream.aclose()
    assert served.heads[0][1] == HEAD


@pytest.mark.parametrize("said", [HEAD, b"", b"\x16\x03\x01"])
async def test_who_speaks_no_tls_on_a_tls_port_is_cut_and_gives_its_place_up(said: bytes) -> None:
    served = Served()
    server_context, client_context = tls_contexts()
    counters = Counters()
    async with listening(
        served, tls=server_context, head_timeout_s=0.05, connections_max=1, counters=counters
    ) as (_, address):
        async with await trio.open_tcp_stream(*address) as plain:
            await plain.send_all(said)
            assert b"served" not in await answer(plain)
        assert counters.refused["tls"] == 1
        stream = await trio.open_ssl_over_tcp_stream(*address, ssl_context=client_context, https_compatible=True)
        await stream.send_all(HEAD)
        assert await answer(stream) == b"served"
        await stream.aclose()
    assert len(served.heads) == 1


async def test_cancelled_it_stops_accepting_and_those_it_accepted_go_on() -> None:
    served = Served(keep=True)
    sockets = bind("127.0.0.1", 0)
    listen(sockets)
    address = addresses(sockets)[0]
    listener = Listener(sockets, served, tls=None, head_timeout_s=DEADLINE_S, connections_max=10)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(listener.run, connections)
            stream = await trio.open_tcp_stream(*address)
            await stream.send_all(HEAD)
            assert await stream.receive_some() == b"served"
            accepting.cancel_scope.cancel()
        assert [sock.fileno() for sock in sockets] == [-1]
        with pytest.raises(OSError, match=r"."):
            await trio.open_tcp_stream(*address)
        assert len(connections.child_tasks) == 1
        served.release.release()
        assert await answer(stream) == b""
        await stream.aclose()


class Accepts(trio.abc.Instrument):
    """Notes how many a listener accepts in each round of the event loop."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.counts: list[int] = []
        self._before = 0

    def before_io_wait(self, _timeout: float) -> None:
        assert self.listener is not None
        self.counts.append(self.listener.accepted - self._before)
        self._before = self.listener.accepted


async def test_a_crowd_that_is_there_already_is_accepted_one_by_one_in_each_round() -> None:
    async def serve(transport: Transport, _head: RequestHead | None, _received: bytes) -> None:
        transport.abort()

    crowd, accepts = 50, Accepts()
    with bound("127.0.0.1") as sockets:
        address = sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(crowd)]
        accepts.listener = Listener(sockets, serve, tls=None, head_timeout_s=DEADLINE_S, connections_max=crowd)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                trio.lowlevel.add_instrument(accepts)
                nursery.start_soon(accepts.listener.run, nursery)
                while accepts.listener.accepted < crowd:
                    await trio.lowlevel.checkpoint()
                trio.lowlevel.remove_instrument(accepts)
                nursery.cancel_scope.cancel()
        for client in clients:
            client.close()
    assert sum(accepts.counts) >= crowd - 1
    assert max(accepts.counts) == 1


class ExhaustedSocket(socket.socket):
    """A listening socket of a process that has no file descriptor left for the first connections."""

    refusals = 3

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


async def test_out_of_file_descriptors_it_pauses_and_goes_on(autojump_clock: MockClock) -> None:
    served = Served()
    sock = ExhaustedSocket()
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    listener = Listener([sock], served, tls=None, head_timeout_s=1000.0, connections_max=10)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            address = sock.getsockname()
            started = trio.current_time()
            nursery.start_soon(listener.run, nursery)
            # Through the standard library: nothing of this client must wait on the clock that jumps.
            with socket.create_connection(address) as client:
                client.sendall(HEAD)
                await served.first.wait()
            assert trio.current_time() - started >= 3 * OVERLOAD_PAUSE_S
            nursery.cancel_scope.cancel()
    # Said once, not ten times a second.
    assert [entry["event"] for entry in logs] == ["cannot accept"]
    assert listener.accepted == 1

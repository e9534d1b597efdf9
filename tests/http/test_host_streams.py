"""The host and what takes long: uploads, downloads and streams without an end."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio
import trio.testing
from starlette.responses import StreamingResponse
from structlog.testing import capture_logs

from livechat.gateway.head import HEAD_BYTES_MAX
from livechat.http import host
from livechat.http.host import limit_body
from tests.support.http import DEADLINE_S, exchange, read_response, serving, split_responses

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


async def count(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = b"%d" % size
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def post(size: int) -> bytes:
    return b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size


# --- many small pieces ----------------------------------------------------------------------------------


class Pieces:
    """Reads a body, or leaves it to the host, and counts how often others got their turn meanwhile."""

    def __init__(self, is_read: bool) -> None:
        self.turns = 0
        self._is_read = is_read

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while self._is_read and (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def count(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.turns += 1


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_body_of_very_many_chunks_leaves_others_their_turn(is_read: bool) -> None:
    chunks = 10_000
    pieces = Pieces(is_read)
    data = (
        b"POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * chunks
        + b"0\r\n\r\n"
    )
    transport = Wire()
    transport.feed(b"")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pieces.count)
        await host.HttpHost(pieces, host.HttpLimits(chunks, DEADLINE_S)).serve(transport, data)
        nursery.cancel_scope.cancel()
    assert transport.sent.startswith(b"HTTP/1.1 200")
    assert pieces.turns >= chunks // host.EVENTS_AT_ONCE


# --- the client is gone ------------------------------------------------------------------------------------


class Endless:
    """Sends server-sent events for ever, slowly enough that writing alone never notices who has gone."""

    def __init__(self) -> None:
        self.ended = trio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def events() -> Any:
            try:
                yield b"data: first\n\n"
                await trio.sleep_forever()
            finally:
                self.ended.set()

        await StreamingResponse(events(), media_type="text/event-stream")(scope, receive, send)


async def read_first(stream: trio.SocketStream) -> None:
    received = b""
    while b"data: first" not in received:
        received += await stream.receive_some(65536)


@pytest.mark.parametrize("way", ["closes", "ends its side", "resets"])
async def test_a_stream_ends_when_its_client_is_gone(way: str) -> None:
    endless = Endless()
    with capture_logs() as logs, trio.fail_after(DEADLINE_S):
        async with serving(endless) as address, await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(GET)
            await read_first(stream)
            if way == "resets":
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if way == "ends its side":
                await stream.send_eof()
            else:
                await stream.aclose()
            await endless.ended.wait()
    assert logs == []


async def test_what_a_client_sends_during_a_stream_neither_ends_it_nor_is_lost() -> None:
    proceed = trio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def parts() -> Any:
            yield b"first"
            await proceed.wait()
            yield b"last"

        await StreamingResponse(parts())(scope, receive, send)

    async with serving(application) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(GET)
        received = b""
        with trio.fail_after(DEADLINE_S):
            while b"first" not in received:
                received += await stream.receive_some(65536)
            await stream.send_all(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            proceed.set()
            while chunk := await stream.receive_some(65536):
                received += chunk
    assert [response.body for response in split_responses(received)] == [b"firstlast", b"firstlast"]


async def test_who_sends_on_and_on_during_a_stream_is_not_read_on_and_on() -> None:
    endless, transport = Endless(), Wire()
    for _ in range(10):
        transport.feed(b"x" * HEAD_BYTES_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.HttpHost(endless, host.HttpLimits(1000, 5.0)).serve, transport, GET)
        await trio.testing.wait_all_tasks_blocked()
        assert transport.unread == 8
        assert not endless.ended.is_set()
        nursery.cancel_scope.cancel()


# --- long bodies -------------------------------------------------------------------------------------------


async def test_a_request_may_have_another_limit_than_the_host() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        limit_body(scope, 5000 if scope["path"] == "/upload" else 10)
        await count(scope, receive, send)

    async with serving(application, body_bytes=1000) as address:
        for path, size, status in (
            ("/upload", 5000, 200),
            ("/upload", 5001, 413),
            ("/p", 10, 200),
            ("/p", 11, 413),
        ):
            request = post(size).replace(b"/p ", path.encode() + b" ") + b"x" * size
            (response,) = split_responses(await exchange(address, request))
            assert response.status == status, (path, size)
        # The next request on a connection has the limit of the host again.
        raw = await exchange(address, post(10).replace(b"/p ", b"/upload ") + b"x" * 10 + post(10) + b"x" * 10)
        assert [response.body for response in split_responses(raw)] == [b"10", b"10"]


def test_another_host_has_no_limit_to_set() -> None:
    limit_body({"type": "http"}, 10)


async def test_an_upload_may_take_longer_than_the_wait_for_a_body_as_long_as_it_comes(
    autojump_clock: Any,
) -> None:
    connection = await _upload(rate=host.BODY_RATE_MIN * 2, total=host.BODY_RATE_MIN * 100)
    assert connection == (200, b"%d" % (host.BODY_RATE_MIN * 100))


async def test_an_upload_that_trickles_is_cut(autojump_clock: Any) -> None:
    assert await _upload(rate=host.BODY_RATE_MIN // 4, total=host.BODY_RATE_MIN * 100) == (408, b"")


async def _upload(rate: int, total: int) -> tuple[int, bytes] | None:
    """Upload so many bytes a second to a host that waits 5 s for a body; return the answer, if there is one."""
    transport = Wire()
    server = host.HttpHost(count, host.HttpLimits(total, 5.0))

    async def feed() -> None:
        for _ in range(total // rate):
            await trio.sleep(1)
            transport.feed(b"x" * rate)
        transport.feed(b"")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed)
        await server.serve(transport, post(total))
        nursery.cancel_scope.cancel()
    if not transport.sent:
        return None
    (response,) = split_responses(bytes(transport.sent))
    return response.status, response.body


async def test_a_long_response_to_a_slow_client_goes_on_as_long_as_it_is_read(autojump_clock: Any) -> None:
    body = b"x" * (host.SEND_BYTES * 20)

    async def application(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    # It takes one part in two thirds of the time that a client may read nothing.
    transport = Wire(pause_s=host.SEND_TIMEOUT_S * 2 / 3)
    transport.feed(b"")
    await host.HttpHost(application, host.HttpLimits(1000, 5.0)).serve(transport, GET)
    (response,) = split_responses(bytes(transport.sent))
    assert response.body == body
    # Who takes nothing for longer than that is cut.
    transport = Wire(pause_s=host.SEND_TIMEOUT_S * 1.5)
    transport.feed(b"")
    await host.HttpHost(application, host.HttpLimits(1000, 5.0)).serve(transport, GET)
    assert len(transport.sent) < len(body)


class Wire:
    """A transport whose peer sends and reads by the test's clock."""

    local_host = peer_host = "127.0.0.1"
    is_tls = False
    socket = None
    unsent_bytes = 0
    withheld_bytes = 0

    def __init__(self, pause_s: float = 0.0) -> None:
        self.sent = bytearray()
        self._pause_s = pause_s
        self._feed, self._incoming = trio.open_memory_channel[bytes](1000)

    @property
    def unread(self) -> int:
        """How many of the pieces that were fed were not received."""
        return self._incoming.statistics().current_buffer_used

    def feed(self, data: bytes) -> None:
        """Send to the host; nothing: the end."""
        if data:
            self._feed.send_nowait(data)
        else:
            self._feed.close()

    def send_nowait(self, data: bytes) -> int:
        """Take nothing without waiting."""
        return 0

    async def send(self, data: bytes) -> int:
        """Take all, after the pause."""
        await trio.sleep(self._pause_s)
        self.sent += data
        return len(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    async def flush(self) -> None:
        """Do nothing: what was taken has arrived."""
        await trio.lowlevel.checkpoint()

    async def receive(self) -> bytes:
        """Return what was fed."""
        try:
            return await self._incoming.receive()
        except trio.EndOfChannel:
            return b""

    def send_eof(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


# --- what the host says itself -----------------------------------------------------------------------------


async def test_every_response_is_named_and_dated() -> None:
    async with serving(count) as address:
        assert (await exchange(address, GET)).startswith(b"HTTP/1.1 200 OK\r\n")
    async with serving(count, body_bytes=10) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(post(1) + b"x")
        assert (await read_response(stream)).headers["date"].endswith(" GMT")
        await stream.send_all(post(100) + b"x" * 100)
        refused = await read_response(stream)
        assert refused.status == 413
        assert refused.headers["date"].endswith(" GMT")


async def test_what_the_host_refuses_is_described_as_it_was_told_to() -> None:
    def describe(status: int) -> tuple[str, bytes]:
        return "text/plain", b"refused with %d" % status

    async with serving(count, body_bytes=10, describe=describe) as address:
        (response,) = split_responses(await exchange(address, b"no http\r\n\r\n"))
        assert (response.status, response.body) == (400, b"refused with 400")
        assert response.headers["content-type"] == "text/plain"
        head = post(100).replace(b"POST", b"HEAD") + b"x" * 100
        (response,) = split_responses(await exchange(address, head), bodies=False)
        assert (response.status, response.headers["content-length"]) == (413, "16")

"""A host of a test's own application on a real port, and raw HTTP exchanges with it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from livechat.gateway.head import RequestHead
from livechat.gateway.listener import Listener, addresses, bind, listen
from livechat.gateway.transport import Transport
from livechat.http.host import Application, Describe, HttpHost, HttpLimits
from livechat.protocol.types import Address

DEADLINE_S = 20.0
"""Bounds every wait of a test: it is only reached when something is broken."""


@attrs.frozen
class Response:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


@asynccontextmanager
async def serving(
    application: Application,
    *,
    body_bytes: int = 1_000_000,
    idle_s: float = DEADLINE_S,
    describe: Describe | None = None,
) -> AsyncGenerator[Address]:
    """Serve an application on a free loopback port."""
    host = HttpHost(application, HttpLimits(body_bytes, idle_s), *(() if describe is None else (describe,)))
    async with serving_host(host) as address:
        yield address


@asynccontextmanager
async def serving_host(host: HttpHost) -> AsyncGenerator[Address]:
    """Let a host serve on a free loopback port."""

    async def serve_head(transport: Transport, _head: RequestHead | None, received: bytes) -> None:
        await host.serve(transport, received)

    sockets = bind("127.0.0.1", 0)
    listen(sockets)
    listener = Listener(sockets, serve_head, tls=None, head_timeout_s=DEADLINE_S, connections_max=100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, nursery)
        yield addresses(sockets)[0]
        nursery.cancel_scope.cancel()


async def exchange(address: Address, data: bytes, *, eof: bool = True) -> bytes:
    """Send bytes as they are and return all that comes back up to the end of the stream.

    Args:
        eof: end our own stream after the data; else the server has to end its own.
    """
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(data)
            if eof:
                await stream.send_eof()
            received = b""
            while chunk := await stream.receive_some(65536):
                received += chunk
            return received


async def read_response(stream: trio.abc.ReceiveStream) -> Response:
    """Return the next response on a connection that stays open; its length must be stated."""
    received = b""
    with trio.fail_after(DEADLINE_S):
        while True:
            data = await stream.receive_some(65536)
            assert data, "the connection ended"
            received += data
            head, end, body = received.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            if end and len(body) >= int(length or 0):
                (response,) = split_responses(received)
                return response


def split_responses(received: bytes, *, bodies: bool = True) -> list[Response]:
    """Cut what came back into responses; it must end where one ends.

    Args:
        bodies: false for answers to HEAD, whose content-length is that of the body they lack.
    """
    responses = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, f"no whole response: {head!r}"
        line, *fields = head.decode().split("\r\n")
        version, status, *_ = line.split(" ")
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
        body = b""
        if headers.get("transfer-encoding") == "chunked" and bodies:
            while size := int(received.partition(b"\r\n")[0], 16):
                start = received.index(b"\r\n") + 2
                body += received[start : start + size]
                received = received[start + size + 2 :]
            received = received.removeprefix(b"0\r\n\r\n")
        elif bodies and status != "100":
            size = int(headers.get("content-length", 0))
            assert len(received) >= size, "the body is cut short"
            body, received = received[:size], received[size:]
        responses.append(Response(int(status), headers, body))
    return responses

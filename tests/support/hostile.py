"""A real server under attack, plain or TLS: raw bytes in, what came back out; and whether it is none the worse."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import trio
import trustme
from structlog.testing import capture_logs

import livechat
from tests.support.http import Response, split_responses
from tests.support.server import DEADLINE_S, SECRET, running_server, wait_until

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
CREDENTIALS = f"X-User-Id: alice\r\nAuthorization: Bearer {SECRET}\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = f"POST /api/v1/channels/nowhere/messages HTTP/1.1\r\nHost: x\r\n{CREDENTIALS}"
"""The beginning of a request whose body is read: a user asks, and the endpoint takes JSON."""


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@attrs.frozen
class Target:
    """The server, and how to reach it."""

    server: livechat.Server
    tls: ssl.SSLContext | None

    async def connect(self) -> Stream:
        """Open a connection; over TLS, with the handshake done."""
        host, port = self.server.addresses.tcp[0]
        with trio.fail_after(DEADLINE_S):
            tcp = await trio.open_tcp_stream(host, port)
            if self.tls is None:
                return tcp
            stream = trio.SSLStream(tcp, self.tls, server_hostname=host, https_compatible=True)
            await stream.do_handshake()
            return stream

    async def exchange(self, data: bytes, *, eof: bool = False) -> bytes:
        """Send bytes and return all that comes back up to the end.

        Args:
            eof: end our side of the TCP connection after them, over TLS without another word.
        """
        stream = await self.connect()
        try:
            with trio.fail_after(DEADLINE_S):
                await send_as_far_as_taken(stream, data)
                if eof:
                    await end(stream)
                return await rest(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def responses(self, data: bytes, *, eof: bool = False) -> list[Response]:
        """Return what comes back as responses; the connection must have ended after one."""
        return split_responses(await self.exchange(data, eof=eof))

    async def upgrades(self, head: bytes) -> int:
        """Send the head of an upgrade; return the status of what comes first."""
        stream = await self.connect()
        try:
            received = b""
            with trio.fail_after(DEADLINE_S):
                await stream.send_all(head)
                while b"\r\n\r\n" not in received:
                    data = await stream.receive_some(65536)
                    assert data, f"the connection ended: {received!r}"
                    received += data
            return int(received.split(b" ", 2)[1])
        finally:
            await trio.aclose_forcefully(stream)


async def send_as_far_as_taken(stream: Stream, data: bytes) -> None:
    """Send bytes to a server that may have ended the connection before it took them all."""
    try:
        await stream.send_all(data)
    except trio.BrokenResourceError:
        pass


async def end(stream: Stream) -> None:
    """End our side of the TCP connection."""
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        await tcp.send_eof()
    except trio.BrokenResourceError:
        pass


async def rest(stream: Stream) -> bytes:
    """Return what comes up to the end of the stream; a reset ends it as well."""
    received = b""
    try:
        while data := await stream.receive_some(65536):
            received += data
    except trio.BrokenResourceError:
        pass
    return received


@asynccontextmanager
async def attacked(
    data_dir: Path, *, tls: bool, gateway: dict[str, Any] | None = None, **overrides: Any
) -> AsyncGenerator[Target]:
    """Run a server; once the block is left it must be up, hold no connection and have logged no error."""
    context = None
    if tls:
        context = ssl.create_default_context()
        _authority().configure_trust(context)
        overrides |= _certificate(data_dir)
    with capture_logs() as logs:
        async with running_server(data_dir, gateway=gateway or {}, **overrides) as server:
            target = Target(server, context)
            yield target
            (alive,) = await target.responses(GET, eof=True)
            assert alive.status == 200
            await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)
            assert server.statistics()["gateway"]["sessions"] == 0
    wrong = [entry for entry in logs if "exc_info" in entry or entry["log_level"] in ("error", "critical")]
    assert wrong == []


def _certificate(folder: Path) -> dict[str, Path]:
    certificate = _authority().issue_cert("127.0.0.1")
    key, chain = folder / "hostile-key.pem", folder / "hostile-cert.pem"
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return {"tls_key": key, "tls_cert": chain}

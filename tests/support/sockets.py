"""Connected loopback sockets, and both ends of a connection as a server and a client see them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache

import trio
import trustme

from livechat.gateway.transport import PlainTransport, TlsTransport, Transport

Client = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def tcp_pair(*, buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Return (accepted, connected), two ends of a TCP connection over loopback.

    Args:
        buffer_bytes: asked for as the size of both ends' buffers; None: the operating system's choice.
    """
    with socket.socket() as listening:
        accepted_size = connected_size = buffer_bytes
        connected = socket.socket()
        for sock, size in ((listening, accepted_size), (connected, connected_size)):
            if size is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        connected.connect(listening.getsockname())
        return listening.accept()[0], connected


_authority = cache(trustme.CA)


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return (server, client) contexts that trust each other."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options |= ssl.OP_NO_RENEGOTIATION
    _authority().issue_cert("127.0.0.1", "localhost").configure_cert(server)
    return server, trusting_context()


def trusting_context() -> ssl.SSLContext:
    """Return one more client's context that trusts that server."""
    client = ssl.create_default_context()
    _authority().configure_trust(client)
    return client


@asynccontextmanager
async def transport_and_client(
    *, tls: bool, buffer_bytes: int | None = None
) -> AsyncGenerator[tuple[Transport, Client]]:
    """Connect a transport of ours, TLS handshake done, with a client made of Trio's own streams."""
    accepted, connected = tcp_pair(buffer_bytes=buffer_bytes)
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(connected))
    transport: Transport
    client: Client
    if tls:
        server_context, client_context = tls_contexts()
        transport = TlsTransport(PlainTransport(accepted), server_context)
        client = trio.SSLStream(stream, client_context, server_hostname="127.0.0.1", https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.handshake)
            nursery.start_soon(client.do_handshake)
    else:
        transport, client = PlainTransport(accepted), stream
    try:
        yield transport, client
    finally:
        transport.abort()
        await trio.aclose_forcefully(client)

"""A TCP relay on loopback that can cut its connections, or refuse them, as a bad network does."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import trio

PIECE_BYTES = 65_536


class LossyRelay:
    """Relays every connection to another port.

    Args:
        target: where to, as (host, port); may be changed.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.connected = 0
        """Connections so far."""
        self.refuses = False
        """Whether new connections are reset at once."""
        self.host, self.port = "127.0.0.1", 0
        self._streams: set[trio.SocketStream] = set()

    @property
    def url(self) -> str:
        """The WebSocket URL of what lies behind."""
        return f"ws://{self.host}:{self.port}/ws"

    async def cut(self) -> None:
        """Reset every connection, in both directions; what is under way is lost."""
        for stream in list(self._streams):
            if stream.socket.fileno() < 0:
                continue  # it ended while another one was closed
            # Lingering for no time at all sends a reset instead of an orderly end.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(stream)

    async def serve(self, near: trio.SocketStream) -> None:
        """Relay one connection until either end is over."""
        if self.refuses:
            await trio.aclose_forcefully(near)
            return
        self.connected += 1
        far = await trio.open_tcp_stream(*self.target)
        self._streams |= {near, far}
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_copy, near, far, nursery.cancel_scope)
                nursery.start_soon(_copy, far, near, nursery.cancel_scope)
        finally:
            self._streams -= {near, far}
            for stream in (near, far):
                await trio.aclose_forcefully(stream)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        while data := await source.receive_some(PIECE_BYTES):
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()


@asynccontextmanager
async def lossy_relay(url: str) -> AsyncGenerator[LossyRelay]:
    """Relay to the server at `url` while the block runs."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    relay = LossyRelay((parts.hostname, parts.port))
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, relay.serve, 0, host=relay.host))
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()

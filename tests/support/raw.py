"""A WebSocket client that sends bytes as told, for what no library would send."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

import livechat
from tests.support.server import DEADLINE_S

TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


def masked(first: int, payload: bytes, *, mask: bool = True) -> bytes:
    """Build a client frame; `first` is FIN, RSV and opcode."""
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    pad = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return head + key + (int.from_bytes(payload, "big") ^ pad).to_bytes(size, "big")


def close_payload(code: int) -> bytes:
    """Build the payload of a close frame."""
    return struct.pack("!H", code)


class RawClient:
    """A connected stream after the WebSocket handshake."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.head = b""
        """The server's answer to the handshake."""
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send_all(data)

    async def frame(self) -> tuple[int, bytes] | None:
        """Return the next frame as (first byte, payload); None at the end of the stream or after a reset."""
        head = await self._take(2)
        if head is None:
            return None
        size = head[1]
        if size >= 126:
            extended = await self._take(2 if size == 126 else 8)
            if extended is None:
                return None
            size = int.from_bytes(extended, "big")
        payload = await self._take(size)
        return None if payload is None else (head[0], payload)

    async def closed(self) -> int | None:
        """Read to the end of the stream; return the code of the close frame, if there was one."""
        code = None
        while (frame := await self.frame()) is not None:
            assert code is None, "a frame after the close frame"
            if frame[0] == CLOSE:
                code = int.from_bytes(frame[1][:2], "big") if frame[1] else 1005
        return code

    def reset(self) -> None:
        """End the TCP connection with RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def _take(self, size: int) -> bytes | None:
        with trio.fail_after(DEADLINE_S):
            while len(self._received) < size:
                try:
                    data = await self.stream.receive_some(65536)
                except trio.BrokenResourceError:
                    return None
                if not data:
                    return None
                self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


@asynccontextmanager
async def raw_connected(
    server: livechat.Server,
    query: str = "",
    *,
    path: str = "/ws",
    headers: str = "",
    receive_buffer: int | None = None,
) -> AsyncGenerator[RawClient]:
    """Connect and do the handshake; the frames that follow are not read."""
    host, port = server.addresses.tcp[0]
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect((host, port))
    stream = trio.SocketStream(sock)
    try:
        await stream.send_all(
            f"GET {path}{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        client = RawClient(stream)
        while not client.head.endswith(b"\r\n\r\n"):
            byte = await client._take(1)
            assert byte is not None
            client.head += byte
        assert client.head.startswith(b"HTTP/1.1 101")
        yield client
    finally:
        stream.socket.close()

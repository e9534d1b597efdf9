"""Owns one WebSocket connection: dialling, the handshake, packets as frames.

It must not know what packets mean.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream

from livechat.client.settings import ClientSettings
from livechat.client.stream import GatheringStream
from livechat.error import PayloadTooLarge
from livechat.protocol.codec import CODECS, JSON, MSGPACK, Codec, Packet, decode_untrusted
from livechat.protocol.opcodes import Op

MESSAGES_BUFFERED: Final = 64
"""Messages that trio-websocket reads ahead: each one handed over is a task switch, and these share it."""
MASKED: Final = "***"
SECRETS: Final = frozenset({"token", "client_key", "server_key"})
"""Fields whose values a debug hook is not shown."""

BYTES_OPS: Final = frozenset({Op.MEDIA_CHUNK})
"""Requests with bytes in them, which JSON can't carry: always msgpack, in a binary frame."""

Direction = Literal["in", "out"]
OnPacket = Callable[[Direction, dict[str, Any]], None]
"""Sees every packet, secrets masked; it must not change or keep it."""


@attrs.frozen
class Target:
    """Where a gateway is."""

    host: str
    port: int
    path: str = attrs.field(repr=False)
    """With the query, which may hold a token."""
    is_tls: bool

    @classmethod
    def parse(cls, url: str) -> Target:
        """Take a URL apart.

        Raises:
            ValueError: it is not ws://… or wss://… with a host.
        """
        # What follows a question mark may hold a token.
        problem = f"url: expected ws://host… or wss://host…, got {url.partition('?')[0]!r}"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise ValueError(problem) from exc
        if parts.scheme not in ("ws", "wss") or not host:
            raise ValueError(problem)
        is_tls = parts.scheme == "wss"
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(host, port or (443 if is_tls else 80), path, is_tls)

    @property
    def host_header(self) -> str:
        """What the Host header says (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


Dial = Callable[[Target, "ssl.SSLContext | None"], Awaitable[trio.abc.Stream]]
"""Opens the byte stream to a gateway; raises OSError or trio.BrokenResourceError if it can't."""


async def dial(target: Target, tls: ssl.SSLContext | None) -> trio.abc.Stream:
    """Connect by TCP, and TLS where the URL says so."""
    if not target.is_tls:
        return await trio.open_tcp_stream(target.host, target.port)
    stream = await trio.open_ssl_over_tcp_stream(
        target.host, target.port, ssl_context=tls or ssl.create_default_context(), https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


class Link:
    """An open connection. Make it with `open_link`.

    Args:
        ws: the connection.
        stream: what lies beneath it.
        on_packet: see `OnPacket`.
    """

    def __init__(self, ws: WebSocketConnection, stream: GatheringStream, on_packet: OnPacket | None) -> None:
        self._ws = ws
        self._stream = stream
        self._codec: Codec = CODECS.get(ws.subprotocol or "", JSON)
        self._on_packet = on_packet

    async def send(self, packet: dict[str, Any], bytes_max: int | None) -> None:
        """Send one packet.

        Args:
            bytes_max: how large it may be, if the server has told.

        Raises:
            PayloadTooLarge: it is larger; it was not sent.
            ConnectionClosed: the connection has ended.
        """
        codec = MSGPACK if packet["op"] in BYTES_OPS else self._codec
        body = codec.encode(packet)
        if bytes_max is not None and len(body) > bytes_max:
            raise PayloadTooLarge(f"packet: expected at most {bytes_max} bytes, got {len(body)}")
        if self._on_packet is not None:
            self._on_packet("out", masked(packet))
        await self._ws.send_message(body if codec.binary else body.decode())

    def burst(self) -> AbstractContextManager[None]:
        """See `GatheringStream.burst`."""
        return self._stream.burst()

    async def receive(self) -> Packet:
        """Return the next packet.

        Raises:
            ProtocolError: it is none.
            ConnectionClosed: the connection has ended.
        """
        packet = decode_untrusted(await self._ws.get_message())
        if self._on_packet is not None:
            seen = {"op": packet.op, "d": packet.d} | ({} if packet.id is None else {"id": packet.id})
            self._on_packet("in", masked(seen))
        return packet

    async def close(self, code: int) -> None:
        """Send a close frame and wait for the server's."""
        await self._ws.aclose(code)
        await self._stream.flush()


async def open_link(
    nursery: trio.Nursery,
    stream: GatheringStream,
    target: Target,
    settings: ClientSettings,
    on_packet: OnPacket | None,
) -> Link:
    """Shake hands with the server.

    Args:
        nursery: runs trio-websocket's reader; ConnectionRejected comes out of it.

    Raises:
        EOFError: the server ended the connection instead.
    """
    nursery.start_soon(stream.write_loop)
    with stream.handshake:
        ws = await wrap_client_stream(
            nursery,
            # It takes any stream, as it says; its annotation names two.
            cast("trio.SocketStream", stream),
            target.host_header,
            target.path,
            subprotocols=[f"livechat.v1.{settings.codec}"],
            message_queue_size=MESSAGES_BUFFERED,
            max_message_size=settings.frame_bytes_max,
            receive_buffer_size=65536,
        )
        return Link(ws, stream, on_packet)
    raise EOFError("the server closed the connection during the handshake")


def masked(value: Any) -> Any:
    """Return plain values with every secret in them replaced."""
    if isinstance(value, dict):
        return {name: MASKED if name in SECRETS else masked(each) for name, each in value.items()}
    if isinstance(value, list):
        return [masked(each) for each in value]
    return value


def local_host(stream: trio.abc.Stream) -> str | None:
    """Return our own IP address on a connection, None where it has none."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return None
    host: str = stream.socket.getsockname()[0]
    return host

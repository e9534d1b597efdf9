"""Owns the seam to trio-websocket after the handshake: the stream that it is given when there is a frame for it.

It must not hold logic of its own; it is all that trio-websocket sees of a connection.

    trio-websocket ──send_all───► EgressQueue ──► socket     pongs, close: whole frames, among ours
                   ◄─receive_some─ Ingress    ◄── socket

`upgrade` has let go of the trio-websocket that answered the client. The one that reads frames is made with the
first frame that is for it, as most clients send none before they close. To it the connection begins with an
upgrade that asks for nothing. Its answer to that goes nowhere; from there on it does what it would had it been
there from the start, as neither a subprotocol nor an extension is its business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, cast

import trio
from trio_websocket import WebSocketConnection, wrap_server_stream

from livechat.gateway.egress import EgressQueue
from livechat.gateway.ingress import Ingress
from livechat.protocol.opcodes import CloseCode

UPGRADE: Final = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""The upgrade with which the connection begins for trio-websocket (RFC 6455, section 4.1)."""
MESSAGES_BUFFERED: Final = 2
"""Messages that trio-websocket reads ahead of us."""
RECEIVE_BYTES: Final = 65_536
CODES_UNKNOWN_TO_WSPROTO: Final = (1014,)
"""Registered since: "Bad Gateway" (IANA's WebSocket close code registry)."""


class StreamOwner(Protocol):
    """Whose stream it is: the connection."""

    def before_push(self) -> None:
        """See to it that what comes before trio-websocket's own frames is queued."""
        ...

    def ended(self) -> None:
        """Note that trio-websocket has ended the connection."""
        ...


class GatewayStream(trio.abc.Stream):
    """The stream given to trio-websocket.

    Args:
        data: the first bytes that are for it, from the ingress.
    """

    def __init__(self, ingress: Ingress, egress: EgressQueue, owner: StreamOwner, data: bytes) -> None:
        self._ingress = ingress
        self._egress = egress
        self._owner = owner
        self._data = data
        """What is to be read before the ingress is asked again."""
        self._is_upgraded = False
        """trio-websocket has read the upgrade."""
        self._is_answered = False
        """It has answered that."""
        self._ready = trio.Event()
        """It may have the data."""
        self._ws: WebSocketConnection | None = None

    async def serve(self, nursery: trio.Nursery, *, message_bytes_max: int) -> None:
        """Have trio-websocket read until the WebSocket ends.

        Args:
            nursery: where it is set up. What lasts runs in the task that calls.
            message_bytes_max: the largest message.
        """
        reader = Reader()
        nursery.start_soon(self._set_up, reader, message_bytes_max)
        read = await reader.given()
        del reader
        await read()

    async def _set_up(self, reader: Reader, message_bytes_max: int) -> None:
        request = await wrap_server_stream(
            cast("trio.Nursery", reader),
            self,
            message_queue_size=MESSAGES_BUFFERED,
            max_message_size=message_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )
        self._ws = await request.accept()
        self._ready.set()

    async def get_message(self) -> str | bytes:
        """Return the next message that trio-websocket has read.

        Raises:
            trio_websocket.ConnectionClosed: the WebSocket has ended.
        """
        assert self._ws is not None
        return await self._ws.get_message()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue trio-websocket's pong or close: always whole frames, so they keep their order."""
        await trio.lowlevel.checkpoint()
        if not self._is_answered:
            # It goes nowhere: the client has got its answer.
            self._is_answered = True
        elif data:
            self._owner.before_push()
            self._egress.push_control(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Sending never blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes from the client; empty at the end of the stream."""
        if not self._is_upgraded:
            await trio.lowlevel.checkpoint()
            self._is_upgraded = True
            return UPGRADE
        if self._data:
            await self._ready.wait()
            data, self._data = self._data, b""
            return data
        return await self._ingress.receive()

    async def aclose(self) -> None:
        """Only tell: the connection still has to flush the queue, and closes it by itself."""
        self._ingress.refused()
        self._owner.ended()
        await trio.lowlevel.checkpoint()

    def let_go(self) -> None:
        """Let go of the owner and of trio-websocket, which holds on to this: the connection is over."""
        del self._owner
        self._ws = None

    def ending(self) -> tuple[int, bool]:
        """Return how trio-websocket came to close the connection.

        Returns:
            The code, and whether the peer closed; if so the answer to its close frame is in the queue. If not,
            trio-websocket would drop a connection over its bad frames without having sent a close frame.
        """
        closed = None if self._ws is None else self._ws.closed
        code = CloseCode.ABNORMAL if closed is None else closed.code
        if code == CloseCode.PROTOCOL_VIOLATION and not self._egress.close_sent:
            code = self._answer_unknown(code)
        return code, self._egress.close_sent or code == CloseCode.ABNORMAL

    def _answer_unknown(self, code: int) -> int:
        """Answer a close frame that wsproto refuses because it is older than its code; return the code."""
        payload = self._ingress.close_payload or b""
        unknown = int.from_bytes(payload[:2], "big")
        if unknown not in CODES_UNKNOWN_TO_WSPROTO:
            return code
        try:
            reason = payload[2:].decode()
        except UnicodeDecodeError:
            return CloseCode.INVALID_TEXT
        self._owner.before_push()
        self._egress.push_close(unknown, reason)
        return unknown


class Reader:
    """Stands for the nursery that trio-websocket starts its reader in: it runs in the task of the connection.

    A task and the nursery's wait for it would cost each connection some three kilobytes.
    """

    __slots__ = ("_given", "_read")

    def __init__(self) -> None:
        self._given = trio.Event()
        self._read: Callable[[], Awaitable[None]] | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        """Take the reader; see `trio.Nursery.start_soon`."""
        self._read = read
        self._given.set()

    async def given(self) -> Callable[[], Awaitable[None]]:
        """Wait for the reader."""
        await self._given.wait()
        assert self._read is not None
        return self._read

"""Owns the seam to trio-websocket: the stream that it is given, which is our ingress and our egress queue.

It must not hold logic of its own; it is all that trio-websocket sees of a connection.

    trio-websocket ──send_all───► EgressQueue ──► socket     handshake, pongs, close: whole frames, among ours
                   ◄─receive_some─ Ingress    ◄── socket
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from trio_websocket import WebSocketConnection, WebSocketRequest, wrap_server_stream

from livechat.gateway.egress import EgressQueue
from livechat.gateway.ingress import Ingress
from livechat.protocol.opcodes import CloseCode

MESSAGES_BUFFERED: Final = 2
"""Messages that trio-websocket reads ahead of us."""
RECEIVE_BYTES: Final = 65_536
CODES_UNKNOWN_TO_WSPROTO: Final = (1014,)
"""Registered since: "Bad Gateway" (IANA's WebSocket close code registry)."""


class GatewayStream(trio.abc.Stream):
    """The stream given to trio-websocket.

    Args:
        before_push: called before trio-websocket's own frames are queued.
        on_close: called when trio-websocket has ended the connection.
    """

    def __init__(
        self,
        ingress: Ingress,
        egress: EgressQueue,
        *,
        before_push: Callable[[], None],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_close = on_close
        self._before_push = before_push
        self._ingress = ingress
        self._egress = egress
        self.handshake = trio.CancelScope()
        """Cancelled when trio-websocket closes the stream, which before the handshake means that it refused it."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue trio-websocket's handshake, pong or close: always whole frames, so they keep their order."""
        await trio.lowlevel.checkpoint()
        self._ingress.upgraded()
        if data:
            self._before_push()
            self._egress.push_control(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Sending never blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes from the client; empty at the end of the stream."""
        try:
            return await self._ingress.receive()
        except OSError as exc:
            self._egress.fail()
            raise trio.BrokenResourceError("the connection failed") from exc

    async def aclose(self) -> None:
        """Only end the handshake: the connection still has to flush the queue, and closes it by itself."""
        self.handshake.cancel()
        self._ingress.refused()
        self._on_close()
        await trio.lowlevel.checkpoint()

    def ending(self, ws: WebSocketConnection) -> tuple[int, bool]:
        """Return how trio-websocket came to close the connection.

        Returns:
            The code, and whether the peer closed; if so the answer to its close frame is in the queue. If not,
            trio-websocket would drop a connection over its bad frames without having sent a close frame.
        """
        code = CloseCode.ABNORMAL if ws.closed is None else ws.closed.code
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
        self._before_push()
        self._egress.push_close(unknown, reason)
        return unknown


async def accept_request(
    request: WebSocketRequest, ingress: Ingress, *, subprotocol: str | None, extension: str | None
) -> WebSocketConnection:
    """Answer the client's handshake.

    Args:
        extension: what was agreed on, for Sec-WebSocket-Extensions. trio-websocket and wsproto need not know: the
            ingress inflates what comes, and what goes out is not theirs.
    """
    if extension is None:
        return await request.accept(subprotocol=subprotocol)
    ingress.inflate()
    header = (b"Sec-WebSocket-Extensions", extension.encode("ascii"))
    return await request.accept(subprotocol=subprotocol, extra_headers=[header])


async def take_request(
    nursery: trio.Nursery,
    stream: GatewayStream,
    *,
    message_bytes_max: int,
    messages_buffered: int = MESSAGES_BUFFERED,
) -> WebSocketRequest | None:
    """Wait for the client's handshake.

    Args:
        nursery: where trio-websocket reads from then on.
        message_bytes_max: the largest message.
        messages_buffered: messages that trio-websocket reads ahead of us.

    Returns:
        What there is to accept; None: trio-websocket has refused it, and closed the stream.
    """
    with stream.handshake:
        return await wrap_server_stream(
            nursery,
            stream,
            message_queue_size=messages_buffered,
            max_message_size=message_bytes_max,
            receive_buffer_size=RECEIVE_BYTES,
        )
    return None


class Reader:
    """Stands for the nursery that trio-websocket starts its reader in: it runs in the task of the connection.

    A task and the nursery's wait for it would cost each connection some three kilobytes.
    """

    __slots__ = ("_given", "_read")

    def __init__(self) -> None:
        self._given: trio.Event | None = trio.Event()
        self._read: Callable[[], Awaitable[None]] | None = None

    def start_soon(self, read: Callable[[], Awaitable[None]]) -> None:
        """Take the reader; see `trio.Nursery.start_soon`."""
        assert self._given is not None
        self._read = read
        self._given.set()

    async def given(self) -> Callable[[], Awaitable[None]]:
        """Wait for the reader, and hand it over."""
        assert self._given is not None
        await self._given.wait()
        assert self._read is not None
        read, self._read, self._given = self._read, None, None
        return read

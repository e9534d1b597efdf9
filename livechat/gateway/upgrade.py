"""Owns the opening handshake, which trio-websocket does: the stream that it is given for that, and what it says.

It must not decide whom to let in, nor know what comes after the handshake.

    head ──receive_some──► trio-websocket ──send_all──► EgressQueue      the answer; then the stream is at its end

So all that trio-websocket has built for the handshake goes with it; for what it is needed later, `stream` has it
build again. Kept by every connection it would be the largest part of what an idle one holds, some nine kilobytes.
"""

from __future__ import annotations

from typing import Final

import trio
from trio_websocket import WebSocketRequest, wrap_server_stream

from livechat.gateway.egress import EgressQueue

MESSAGES_BUFFERED: Final = 1
"""There will be none; trio-websocket wants a number."""


class UpgradeStream(trio.abc.Stream):
    """The stream given to trio-websocket for the handshake.

    Args:
        head: of the upgrade.
    """

    def __init__(self, head: bytes, egress: EgressQueue) -> None:
        self._head = head
        self._egress = egress
        self._over = trio.Event()
        self._scope = trio.CancelScope()
        """Cancelled when trio-websocket closes the stream, which means that it has refused the upgrade."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue the answer."""
        await trio.lowlevel.checkpoint()
        if data:
            self._egress.push_control(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Sending never blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the head, and nothing more once it was answered."""
        await trio.lowlevel.checkpoint()
        head, self._head = self._head, b""
        if not head:
            await self._over.wait()
        return head

    async def aclose(self) -> None:
        """Only end the handshake: the connection still has to flush the queue, and closes it by itself."""
        self._scope.cancel()
        self._over.set()
        await trio.lowlevel.checkpoint()

    async def take_request(self, nursery: trio.Nursery) -> WebSocketRequest | None:
        """Return what there is to accept; None: trio-websocket has refused it, and closed the stream.

        Args:
            nursery: where trio-websocket reads until the handshake is over.
        """
        with self._scope:
            return await wrap_server_stream(nursery, self, message_queue_size=MESSAGES_BUFFERED)
        return None

    async def accept(self, request: WebSocketRequest, subprotocol: str | None, extension: str | None) -> None:
        """Answer the upgrade, and let trio-websocket go.

        Args:
            extension: what was agreed on, for Sec-WebSocket-Extensions. trio-websocket and wsproto need not know:
                the ingress inflates what comes, and what goes out is not theirs.
        """
        headers = [] if extension is None else [(b"Sec-WebSocket-Extensions", extension.encode("ascii"))]
        await request.accept(subprotocol=subprotocol, extra_headers=headers)
        self._over.set()

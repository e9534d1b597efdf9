"""A protocol client for tests on an implementation of WebSocket that is not the server's (`websockets`).

Whatever it reads is held against the description of the gateway.
"""

from __future__ import annotations

import json
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgpack
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect
from websockets.typing import Subprotocol

import livechat
from tests.support.schema import assert_sent
from tests.support.server import DEADLINE_S, SECRET

Packet = dict[str, Any]

SEGMENT_BYTES = 536
"""Of connections that are to have small buffers; what every host must take (RFC 9293, section 3.7.1)."""

HEARTBEAT, HEARTBEAT_ACK, IDENTIFY, READY, RESUME, RECONNECT, INVALID_SESSION = 1, 2, 3, 4, 5, 7, 9
CREATE, JOIN, LEAVE, UPDATE, DELETE, LIST, INFO, MESSAGE = 10, 11, 12, 13, 14, 15, 16, 20
HISTORY, SYNC, READ, TYPING, FOCUS, SUBSCRIBE, UNSUBSCRIBE, PRESENCE_UPDATE = range(21, 29)
CHUNK, CHUNK_EVENT = 29, 109
FLOOR_REQUEST, FLOOR_RELEASE, FLOOR_PING = 30, 31, 32
MEMBER_ADD, MEMBER_REMOVE, MEMBER_LIST, SETTINGS_SET = range(33, 37)
RESUMED = 6
CHANNEL_EVENT, MESSAGE_EVENT, READ_EVENT, PRESENCE_EVENT, TYPING_EVENT, UNREAD_EVENT = range(100, 106)
NOTIFICATION, ANNOUNCEMENT, SETTINGS_EVENT, SPEAKING = 106, 107, 108, 121
FLOOR_GRANTED, FLOOR_DENY, FLOOR_TAKEN, FLOOR_IDLE, FLOOR_REVOKE = range(110, 115)
FLOOR_QUEUE_POS_INFO, FLOOR_PONG = 115, 116
MEDIA_UPDATE = 118
ACK, ERROR = 200, 201


class Client:
    """One connection. Replies and events are read in the order in which they came."""

    def __init__(self, ws: ClientConnection, *, binary: bool) -> None:
        self.ws = ws
        self.binary = binary
        self.hello: Packet = {}
        self.ready: Packet = {}
        self.hears_presence = False
        """Whether PRESENCE_EVENTs are read; most tests are about something else."""
        self._events: deque[Packet] = deque()
        """Read while waiting for a reply, and not yet asked for."""

    async def send(self, op: int, d: Any = None, **envelope: Any) -> None:
        """Send one packet."""
        packet = {"op": op, "d": d, **envelope}
        await self.ws.send(msgpack.packb(packet) if self.binary else json.dumps(packet))

    async def send_bytes(self, op: int, d: Any, **envelope: Any) -> None:
        """Send one packet as msgpack, in a binary frame, whatever the subprotocol."""
        await self.ws.send(msgpack.packb({"op": op, "d": d, **envelope}))

    async def receive(self) -> Packet:
        """Return the next packet, whatever it is."""
        if self._events:
            return self._events.popleft()
        return await self._read()

    async def _read(self) -> Packet:
        with trio.fail_after(DEADLINE_S):
            while True:
                frame = await self.ws.recv()
                packet: Packet = msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)
                assert_sent(packet)
                if packet["op"] != PRESENCE_EVENT or self.hears_presence:
                    return packet

    async def expect(self, op: int) -> Any:
        """Return the payload of the next packet, which must have this op."""
        packet = await self.receive()
        assert packet["op"] == op, packet
        return packet["d"]

    async def request(self, op: int, d: Any = None, **envelope: Any) -> Packet:
        """Send one packet and return its reply; events that come before it are kept."""
        await self.send(op, d, **envelope)
        while True:
            packet = await self._read()
            if packet["op"] < 100 or packet["op"] >= 200:
                return packet
            self._events.append(packet)

    async def ack(self, op: int, d: Any = None, **envelope: Any) -> Any:
        """Send a request that must succeed; return its ACK's data."""
        reply = await self.request(op, d, **envelope)
        assert reply["op"] == ACK, reply
        assert reply["d"]["op"] == op
        return reply["d"]["data"]

    async def refused(self, op: int, d: Any = None, **envelope: Any) -> Any:
        """Send a request that must be refused; return the ERROR's payload."""
        reply = await self.request(op, d, **envelope)
        assert reply["op"] == ERROR, reply
        return reply["d"]

    async def say(self, channel_id: str, content: str, **fields: Any) -> Any:
        """Send a message; return its ACK's data."""
        return await self.ack(MESSAGE, {"channel_id": channel_id, "content": content, **fields}, id="say")

    async def expect_silence(self) -> None:
        """Assert that nothing was sent to us up to now."""
        await self.send(HEARTBEAT)
        packet = await self.receive()
        assert packet["op"] == HEARTBEAT_ACK, packet

    async def closed(self) -> int:
        """Wait for the server to close; return the code. What came before is dropped."""
        with trio.fail_after(DEADLINE_S):
            try:
                while True:
                    await self.ws.recv()
            except ConnectionClosed as exc:
                return exc.rcvd.code if exc.rcvd is not None else 1006


@asynccontextmanager
async def connected(
    server: livechat.Server | str,
    *,
    binary: bool = False,
    query: str = "",
    tls: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
    frames_ahead: int | None = None,
    receive_buffer: int | None = None,
) -> AsyncGenerator[Client]:
    """Connect and read HELLO.

    Args:
        frames_ahead: about how many frames are read before they are asked for; None: all that come.
        receive_buffer: how many bytes the kernel may receive before we read them; None: its own choice.
    """
    url = server if isinstance(server, str) else server.url
    subprotocols = [Subprotocol("livechat.v1.msgpack")] if binary else None
    stream = None
    if receive_buffer is not None:
        address = urlsplit(url)
        assert address.hostname is not None
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
        # The server's send buffer is as large as so many segments; those of loopback are huge.
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_MAXSEG, SEGMENT_BYTES)
        await sock.connect((address.hostname, address.port))
        stream = trio.SocketStream(sock)
    async with connect(
        url + query,
        subprotocols=subprotocols,
        ssl=tls,
        compression=None,
        additional_headers=headers,
        max_size=None,
        max_queue=frames_ahead,
        open_timeout=DEADLINE_S,
        ping_interval=None,
        close_timeout=2,
        stream=stream,
    ) as ws:
        client = Client(ws, binary=binary)
        client.hello = await client.expect(0)
        yield client


@asynccontextmanager
async def identified(
    server: livechat.Server | str, user_id: str, *, token: str = SECRET, **options: Any
) -> AsyncGenerator[Client]:
    """Connect and IDENTIFY; `ready` holds the answer."""
    async with connected(server, **options) as client:
        reply = await client.request(IDENTIFY, {"token": token, "user_id": user_id})
        assert reply["op"] == READY, reply
        client.ready = reply["d"]
        yield client

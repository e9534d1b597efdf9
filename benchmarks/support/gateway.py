"""Owns a WebSocket client that is lean enough to measure with: a socket, a frame parser, requests and replies.

It must not be taken for a general client: it trusts the server, and knows only what this one sends (RFC 6455:
unmasked frames, whole messages, no extensions).
"""

from __future__ import annotations

import itertools
import json
import math
import os
import socket
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import trio

from benchmarks.support.arrivals import Drain
from benchmarks.support.frames import payload_at

HEARTBEAT, READY, CHANNEL_CREATE, CHANNEL_JOIN, CHANNEL_INFO, MESSAGE_CREATE = 1, 4, 10, 11, 16, 20
ACK, ERROR = 200, 201
HEARTBEAT_INTERVAL_S: Final = 20.0
"""Less than what the server asks for (30 s by default)."""
REPLY_TIMEOUT_S: Final = 30.0

_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA
_FINAL, _MASKED = 0x80, 0x80

OnMessage = Callable[[bytes, int], bool]
"""Takes a text message and the time it was read at; returns whether that was all to be done with it."""


class ConnectionLost(Exception):
    """The server closed a connection, or would not open it."""


class Refused(Exception):
    """The server answered ERROR."""


class GatewayClient:
    """One user's connection. All of it but `connect` and `request` is synchronous, for the sake of speed."""

    def __init__(self, drain: Drain, user_id: str, on_message: OnMessage | None = None) -> None:
        self.user_id = user_id
        self.refused: list[str] = []
        """Errors that answer nothing that is being waited for."""
        self._drain = drain
        self._on_message = on_message
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._rest = b""
        self._ids = itertools.count(1)
        self._replies: dict[int, tuple[trio.Event, list[dict[str, Any]]]] = {}
        self._ready = trio.Event()

    @property
    def own_host(self) -> str:
        """Our own address on the connection."""
        host: str = self._socket.getsockname()[0]
        return host

    async def connect(self, url: str, token: str) -> None:
        """Connect, identified by the upgrade itself, and wait for READY.

        Raises:
            ConnectionLost: the server refused.
        """
        parts = urlsplit(url)
        assert parts.hostname is not None
        target = f"{parts.path}?user_id={quote(self.user_id)}&token={quote(token, safe='')}"
        head = (
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with trio.fail_after(REPLY_TIMEOUT_S):
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))
            await stream.socket.connect((parts.hostname, parts.port))
            await stream.send_all(head.encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = await stream.receive_some()
                if not part:
                    raise ConnectionLost(f"{self.user_id}: closed during the handshake")
                answer += part
            answer_head, _, first = answer.partition(b"\r\n\r\n")
            if b" 101 " not in answer_head.split(b"\r\n")[0]:
                raise ConnectionLost(f"{self.user_id}: {answer_head.decode('latin-1').splitlines()[0]}")
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._feed(first, 0)
            self._drain.add(self._socket, self._on_data)
            await self._ready.wait()

    async def request(self, op: int, d: dict[str, Any]) -> Any:
        """Send a request and return its ACK's data.

        Raises:
            Refused: the answer was ERROR.
        """
        request_id = next(self._ids)
        answered, replies = self._replies[request_id] = trio.Event(), []
        await self.send(frame(json.dumps({"op": op, "d": d, "id": request_id}).encode()))
        with trio.fail_after(REPLY_TIMEOUT_S):
            await answered.wait()
        reply = replies[0]
        if reply["op"] == ERROR:
            raise Refused(f"{self.user_id}: op {op}: {reply['d']['code']} {reply['d']['reason']}")
        return reply["d"]["data"]

    async def send(self, data: bytes) -> None:
        """Send a frame made by `frame`; waits only while the system's buffer is full."""
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        while sent < len(data):
            await trio.lowlevel.wait_writable(self._socket)
            sent += self._socket.send(data[sent:])

    def close(self) -> None:
        """Drop the connection."""
        self._socket.close()

    def _on_data(self, data: bytes, now_ns: int) -> None:
        if not data:
            raise ConnectionLost(f"{self.user_id}: connection lost")
        self._feed(data, now_ns)

    def _feed(self, data: bytes, now_ns: int) -> None:
        """Take frames apart; the beginning of one that is not complete waits for the rest."""
        if self._rest:
            data = self._rest + data
        position = 0
        while (place := payload_at(data, position)) is not None:
            start, end = place
            self._take(data[position] & 0x0F, data[start:end], now_ns)
            position = end
        self._rest = data[position:]

    def _take(self, opcode: int, payload: bytes, now_ns: int) -> None:
        if opcode == _TEXT:
            if self._on_message is None or not self._on_message(payload, now_ns):
                self._packet(json.loads(payload))
        elif opcode == _CLOSE:
            code = int.from_bytes(payload[:2], "big")
            raise ConnectionLost(f"{self.user_id}: closed by the server: {code} {payload[2:].decode()}")
        elif opcode == _PING:
            self._socket.send(frame(payload, _PONG))

    def _packet(self, packet: dict[str, Any]) -> None:
        if packet["op"] == READY:
            self._ready.set()
        elif (waiting := self._replies.pop(packet.get("id", 0), None)) is not None:
            waiting[1].append(packet)
            waiting[0].set()
        elif packet["op"] == ERROR:
            self.refused.append(f"{packet['d']['code']} {packet['d']['reason']}")


def frame(payload: bytes, opcode: int = _TEXT, key: bytes | None = None) -> bytes:
    """Return a client's frame: final, and masked as clients must (RFC 6455 section 5.3), by a random key if none
    is given."""
    length = len(payload)
    if length < 126:
        head = bytes((_FINAL | opcode, _MASKED | length))
    elif length < 65_536:
        head = bytes((_FINAL | opcode, _MASKED | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((_FINAL | opcode, _MASKED | 127)) + length.to_bytes(8, "big")
    key = key or os.urandom(4)
    mask = int.from_bytes((key * (length // 4 + 1))[:length], "big")
    return head + key + (int.from_bytes(payload, "big") ^ mask).to_bytes(length, "big")


async def keep_alive(clients: Sequence[GatewayClient]) -> None:
    """Send heartbeats for all clients until cancelled, spread over the interval.

    Whoever measures may hold up everybody else for a while: then those that were due meanwhile are sent at once.
    """
    heartbeat = frame(json.dumps({"op": HEARTBEAT, "d": None}).encode())
    position, last = 0, trio.current_time()
    while True:
        # The sequence grows while clients connect.
        await trio.sleep(HEARTBEAT_INTERVAL_S / (len(clients) + 1))
        now = trio.current_time()
        due = min(math.ceil((now - last) / HEARTBEAT_INTERVAL_S * len(clients)), len(clients))
        for _ in range(due):
            position = (position + 1) % len(clients)
            await clients[position].send(heartbeat)
        last = now

"""Owns a WebSocket client that asks one thing after another: for benchmarks of what one client waits for.

It must not be used for fan-out (see `gateway`). It reads whole frames and parses none but the reply it waits for,
so that what is measured is the server.
"""

from __future__ import annotations

import json
import os
import socket
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from benchmarks.support.frames import payload_at
from benchmarks.support.gateway import frame

RECEIVE_BYTES: Final = 1 << 18
TIMEOUT_S: Final = 60.0


class Unexpected(Exception):
    """The server did or said something else than it should."""


@attrs.frozen
class Reply:
    """What a request brought."""

    packet: dict[str, Any]
    frames_before: int
    """Packets that came before it."""
    bytes_before: int
    """Their bytes, frame headers left out."""
    bytes_of_reply: int
    elapsed_ns: int
    """From the send of the request to the last byte of the reply."""


class BlockingClient:
    """A connection on a blocking socket.

    Raises:
        Unexpected: the server refused it.
    """

    def __init__(self, url: str, query: str = "") -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(
            f"GET {parts.path}{query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._received = b""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Unexpected(head.decode("latin-1").splitlines()[0])
        self.hello = self._next_packet()

    def ask(self, op: int, d: dict[str, Any] | None, reply_op: int, **envelope: Any) -> Reply:
        """Send a request and wait for the packet with `reply_op`; those before it are counted.

        Raises:
            Unexpected: ERROR or INVALID_SESSION came, or the connection ended.
        """
        data = frame(json.dumps({"op": op, "d": d, **envelope}).encode())
        begin = b'{"op":%d,' % reply_op
        errors = (b'{"op":201,', b'{"op":9,')
        frames = size = 0
        started_ns = time.perf_counter_ns()
        self._socket.sendall(data)
        while True:
            payload = self._next_frame()
            if payload.startswith(begin):
                elapsed_ns = time.perf_counter_ns() - started_ns
                return Reply(json.loads(payload), frames, size, len(payload), elapsed_ns)
            if payload.startswith(errors):
                raise Unexpected(payload.decode())
            frames += 1
            size += len(payload)

    def ask_all(self, requests: Sequence[tuple[int, dict[str, Any]]], reply_op: int) -> None:
        """Send many requests at once and wait for as many replies, which are not parsed.

        Raises:
            Unexpected: one of them was refused.
        """
        self._socket.sendall(b"".join([frame(json.dumps({"op": op, "d": d}).encode()) for op, d in requests]))
        begin = b'{"op":%d,' % reply_op
        left = len(requests)
        while left:
            payload = self._next_frame()
            left -= payload.startswith(begin)
            if payload.startswith(b'{"op":201,'):
                raise Unexpected(payload.decode())

    def drop(self) -> None:
        """Lose the connection, as by a broken network: the session stays."""
        self._socket.close()

    def _next_packet(self) -> dict[str, Any]:
        packet: dict[str, Any] = json.loads(self._next_frame())
        return packet

    def _next_frame(self) -> bytes:
        while (place := payload_at(self._received, 0)) is None:
            self._receive()
        start, end = place
        payload, self._received = self._received[start:end], self._received[end:]
        return payload

    def _receive(self) -> None:
        part = self._socket.recv(RECEIVE_BYTES)
        if not part:
            raise Unexpected("the server closed the connection")
        self._received += part

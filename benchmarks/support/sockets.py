"""Owns how very many WebSocket connections are opened in little time, in a process without tasks.

It must not be used while the clock runs: it blocks.
"""

from __future__ import annotations

import os
import socket
import sys
from base64 import b64encode
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.support.dialects import Dialect, Exchange
from benchmarks.support.inflate import OFFER, Inflater

THIN_BUFFER_BYTES: Final = 8192
THIN_SEGMENT_BYTES: Final = 1400
"""As on Ethernet. Over loopback segments have 64 KiB, and the system alone would keep seconds of a stream."""
AT_ONCE: Final = 64
"""Connections that are being opened at a time: so the server is never idle meanwhile."""
TIMEOUT_S: Final = 30.0
RECEIVE_BYTES: Final = 1 << 16
HEAD_END: Final = b"\r\n\r\n"

Address = tuple[str, int]


class Unreachable(Exception):
    """A server closed a connection, refused it, or said nothing in time."""


class Opening:
    """A connection that is being opened; its socket blocks."""

    def __init__(self, address: Address, target: str, *, thin: bool = False, deflate: bool = False) -> None:
        self.inflater: Inflater | None = None
        self._is_to_deflate = deflate
        self.sock = socket.socket()
        self.sock.settimeout(TIMEOUT_S)
        self._received = b""
        if thin:
            # Before it connects: the other side is told then.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, THIN_BUFFER_BYTES)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, THIN_SEGMENT_BYTES)
        try:
            self.sock.connect(address)
        except OSError as exc:
            self.sock.close()
            raise Unreachable(f"cannot connect: {exc}") from exc
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, port = address
        self.sock.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{OFFER if deflate else ''}\r\n".encode()
        )

    def finish_upgrade(self) -> None:
        """Wait for the answer's head."""
        while HEAD_END not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(HEAD_END)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise Unreachable(head.decode("latin-1").splitlines()[0])
        if self._is_to_deflate:
            self.inflater = Inflater(head)
            if not self.inflater.is_agreed:
                raise Unreachable("it does not compress")
            self._received = self.inflater.feed(self._received)

    def send(self, exchange: Exchange) -> None:
        """Begin an exchange; what came before counts as part of the answer."""
        self.sock.sendall(exchange[0])

    def finish(self, exchange: Exchange) -> None:
        """Wait for an exchange's answer, and forget what came."""
        _, needle, times = exchange
        while self._received.count(needle) < times:
            self._receive()
        self._received = b""

    def _receive(self) -> None:
        try:
            part = self.sock.recv(RECEIVE_BYTES)
        except OSError as exc:
            raise Unreachable(f"{exc}, after {self._received[-300:]!r}") from exc
        if not part:
            raise Unreachable(f"closed by the server, after {self._received[-300:]!r}")
        self._received += part if self.inflater is None else self.inflater.feed(part)


def open_rooms(
    address: Address,
    dialect: Dialect,
    rooms: int,
    members: int,
    thin: int = 0,
    inflaters: dict[int, Inflater] | None = None,
) -> list[list[socket.socket]]:
    """Return the connections of all members, by room, non-blocking; the first member of each made the room.

    Args:
        thin: so many, the last of each room, let the system keep little for them.
        inflaters: where given, what is sent shall be compressed; those of all connections are put here, by
            their file descriptors.

    Raises:
        Unreachable: see there.
    """
    with ExitStack() as stack:
        deflate = inflaters is not None
        firsts = _open_all(stack, address, dialect, [(room, 0) for room in range(rooms)], deflate=deflate)
        for room, first in enumerate(firsts):
            for exchange in dialect.found(room, members):
                first.send(exchange)
                first.finish(exchange)
        places = [(room, member) for room in range(rooms) for member in range(1, members)]
        others = iter(_open_all(stack, address, dialect, places, members - thin, deflate=deflate))
        opened = [[first, *(next(others) for _ in range(members - 1))] for first in firsts]
        stack.pop_all()
    for opening in (opening for room_openings in opened for opening in room_openings):
        opening.sock.setblocking(False)
        if inflaters is not None and opening.inflater is not None:
            inflaters[opening.sock.fileno()] = opening.inflater
    return [[opening.sock for opening in room_openings] for room_openings in opened]


def _open_all(
    stack: ExitStack,
    address: Address,
    dialect: Dialect,
    places: Sequence[tuple[int, int]],
    thin_from: int = sys.maxsize,
    *,
    deflate: bool,
) -> list[Opening]:
    opened: list[Opening] = []
    for start in range(0, len(places), AT_ONCE):
        batch = []
        for place in places[start : start + AT_ONCE]:
            opening = Opening(address, dialect.target(*place), thin=place[1] >= thin_from, deflate=deflate)
            stack.callback(opening.sock.close)
            batch.append((opening, dialect.greet(*place)))
        for opening, greeting in batch:
            opening.finish_upgrade()
            opening.send(greeting)
        for opening, greeting in batch:
            opening.finish(greeting)
        opened += [opening for opening, _ in batch]
    return opened

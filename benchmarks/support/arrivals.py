"""Owns how a client process receives on very many sockets without being the bottleneck, and what it notes down.

It must not parse: whoever registers a socket gets its bytes and the time at which they were read.
"""

from __future__ import annotations

import select
import socket
import time
from array import array
from collections.abc import Callable
from typing import Final

import trio

RECEIVE_BYTES: Final = 16_384
EVENTS_MAX: Final = 32
"""Sockets read before other tasks, the sender above all, get their turn: a few milliseconds at the very most."""

OnData = Callable[[bytes, int], None]
"""Takes what was read (nothing: the peer closed) and when, in nanoseconds of `time.perf_counter_ns`."""


class Drain:
    """Reads all sockets in one task.

    They sit in an epoll of their own, which is itself a thing that Trio can wait for. A task for each socket
    would cost about 10 µs a packet; this costs 1-2.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Callable[[int], bytes], OnData]] = {}

    def add(self, sock: socket.socket, on_data: OnData) -> None:
        """Read a non-blocking socket from now on; the caller keeps it open."""
        self._handlers[sock.fileno()] = (sock.recv, on_data)
        self._epoll.register(sock, select.EPOLLIN)

    async def run(self) -> None:
        """Read until cancelled; what a handler raises ends it."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            for fd, _ in self._epoll.poll(0, EVENTS_MAX):
                receive, on_data = self._handlers[fd]
                try:
                    data = receive(RECEIVE_BYTES)
                except BlockingIOError:
                    continue
                on_data(data, time.perf_counter_ns())

    def close(self) -> None:
        """Give the epoll back."""
        self._epoll.close()


class Arrivals:
    """What one receiver noted: while the clock runs nothing is computed, only appended."""

    __slots__ = ("indexes", "times_ns")

    def __init__(self) -> None:
        self.indexes = array("q")
        """Which message or packet it was, in order of arrival."""
        self.times_ns = array("q")
        """When it arrived."""

    def __len__(self) -> int:
        return len(self.indexes)

    def note(self, index: int, now_ns: int) -> None:
        """Note one."""
        self.indexes.append(index)
        self.times_ns.append(now_ns)

    def clear(self) -> None:
        """Forget all, as after warming up."""
        self.indexes = array("q")
        self.times_ns = array("q")

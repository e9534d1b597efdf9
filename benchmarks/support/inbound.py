"""Owns the load of requests: connections that always have some on their way, pipelined.

It must not be the bottleneck: the requests of one kind are all the same bytes, the replies are counted, not
decoded.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from benchmarks.support.cpu import process_cpu_ns, waited_ns
from benchmarks.support.dialects import content, packet, room_name
from benchmarks.support.fan_load import BUFFER_BYTES, EVENTS_MAX, SLICE_NS, STRETCH_MAX, WARM_UP_S, Unaccounted
from benchmarks.support.gateway import ACK, ERROR, HEARTBEAT, MESSAGE_CREATE

TYPING: Final = 24
KINDS: Final = ("HEARTBEAT", "TYPING", "MESSAGE_CREATE")
WINDOW: Final = 64
"""Requests on their way of each connection; fewer than a server lets wait for its store."""
DRAIN_TIMEOUT_S: Final = 20.0

_REFUSED: Final = b'{"op":%d,' % ERROR


def request(kind: str, room: int) -> tuple[bytes, bytes]:
    """Return a request's frame, and how its reply begins."""
    channel = {"channel_id": room_name(room)}
    if kind == "HEARTBEAT":
        return packet(HEARTBEAT, None), b'{"op":2,'
    acknowledged = b'{"op":%d,' % ACK
    if kind == "TYPING":
        return packet(TYPING, channel | {"typing": True}, 1), acknowledged
    return packet(MESSAGE_CREATE, channel | {"content": content()}, 1), acknowledged


@attrs.define(slots=True, eq=False)
class Asker:
    """One connection."""

    number: int
    sock: socket.socket
    frame: bytes = b""
    block: bytes = b""
    """As many requests as may be on their way."""
    tail: bytes = b""
    """The end of what was read, in which a reply may have begun."""
    pending: int = 0


class Askers:
    """All connections, each the first member of a room of its own."""

    def __init__(self, sockets: Sequence[socket.socket], server_pid: int) -> None:
        self._server_pid = server_pid
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._askers = {sock.fileno(): Asker(number, sock) for number, sock in enumerate(sockets)}
        for fd in self._askers:
            self._epoll.register(fd, select.EPOLLIN)
        self._reply = b""
        self._answered = self._busy_ns = 0
        self._asking = True

    def run(self, kind: str, seconds: float) -> dict[str, Any]:
        """Ask for a while and report.

        Raises:
            Unaccounted: replies were missing or too many.
        """
        self._asking = True
        for asker in self._askers.values():
            asker.frame, self._reply = request(kind, asker.number)
            asker.block, asker.tail = asker.frame * WINDOW, b""
            self._ask(asker, WINDOW)
        self._pump_until(lambda: False, WARM_UP_S)
        before = self._counts()
        start_ns = time.perf_counter_ns()
        self._pump_until(lambda: False, seconds)
        # A slow server, or one that answers in bursts, gets more time, until each has had all it asked for once.
        wanted = before[0] + WINDOW * len(self._askers)
        self._pump_until(lambda: self._answered >= wanted, seconds * (STRETCH_MAX - 1))
        elapsed_ns = time.perf_counter_ns() - start_ns
        answered, busy, server, server_waited, own_waited = (
            after - earlier for after, earlier in zip(self._counts(), before, strict=True)
        )
        self._asking = False
        if not self._pump_until(self._is_quiet, DRAIN_TIMEOUT_S):
            missing = sum(asker.pending for asker in self._askers.values())
            raise Unaccounted(f"{missing} replies did not come within {DRAIN_TIMEOUT_S:g} s")
        return {
            "count": answered,
            "seconds": round(elapsed_ns / 1e9, 3),
            "per_s": round(answered * 1e9 / elapsed_ns),
            "server_busy": round(server / elapsed_ns, 3),
            "client_busy": round(busy / elapsed_ns, 3),
            "client_ceiling_per_s": round(answered * 1e9 / busy) if busy else None,
            "server_us": round(server / answered / 1e3, 3) if answered else None,
            "server_waited": round(server_waited / elapsed_ns, 3),
            "client_waited": round(own_waited / elapsed_ns, 3),
        }

    def _counts(self) -> tuple[int, ...]:
        server = self._server_pid
        return self._answered, self._busy_ns, process_cpu_ns(server), waited_ns(server), waited_ns(os.getpid())

    def _is_quiet(self) -> bool:
        return not any(asker.pending for asker in self._askers.values()) and not self._epoll.poll(0.05, 1)

    def _pump_until(self, is_over: Callable[[], bool], seconds: float) -> bool:
        """Ask on until it is over, or for so long; returns whether it is over."""
        deadline_ns = time.perf_counter_ns() + round(seconds * 1e9)
        while time.perf_counter_ns() < deadline_ns:
            if is_over():
                return True
            self._pump(min(deadline_ns, time.perf_counter_ns() + SLICE_NS))
        return is_over()

    def _pump(self, deadline_ns: int) -> None:
        poll, clock = self._epoll.poll, time.perf_counter_ns
        while True:
            events = poll(0, EVENTS_MAX)
            now_ns = clock()
            for fd, _ in events:
                self._take(self._askers[fd])
            if events:
                self._busy_ns += clock() - now_ns
            if now_ns >= deadline_ns:
                return

    def _take(self, asker: Asker) -> None:
        length = asker.sock.recv_into(self._buffer)
        if not length:
            raise Unaccounted("the server closed a connection")
        data = asker.tail + self._view[:length]
        answered = data.count(self._reply)
        # A reply that is whole must not be counted again, so one byte less than its beginning has is kept.
        asker.tail = data[1 - len(self._reply) :]
        if not answered and (refused := data.find(_REFUSED)) >= 0:
            raise Unaccounted(f"refused: {data[refused : refused + 200].decode(errors='replace')}")
        asker.pending -= answered
        if asker.pending < 0:
            raise Unaccounted("more replies came than were asked for")
        self._answered += answered
        if answered and self._asking:
            self._ask(asker, answered)

    def _ask(self, asker: Asker, count: int) -> None:
        wanted = len(asker.frame) * count
        if asker.sock.send(memoryview(asker.block)[:wanted]) != wanted:
            raise Unaccounted("the server takes no more of its client")
        asker.pending += count

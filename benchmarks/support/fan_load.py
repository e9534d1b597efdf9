"""Owns the load of fan-out: rooms whose first member says something, which all members hear, it among them.

It must not be the bottleneck, nor wait for anything but the sockets: one loop asks an epoll over and over, and
what came is searched for marks, not decoded. How long it was busy with that is measured too (`client_busy`).
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from benchmarks.support.cpu import process_cpu_ns, waited_ns
from benchmarks.support.dialects import DIGITS, MARK, Dialect, Phrase
from benchmarks.support.figures import summarize_us

BUFFER_BYTES: Final = 1 << 18
EVENTS_MAX: Final = 4096
WARM_UP_S: Final = 0.1
SLICE_NS: Final = 5_000_000
"""How often it is asked whether a stretch is over."""
STRETCH_MAX: Final = 8
"""A slow system gets so many times the time that was asked for, until a whole window of messages is through."""
DRAIN_TIMEOUT_S: Final = 40.0

_MARK_BYTES: Final = frozenset(MARK)
_NUMBERS: Final = re.compile(re.escape(MARK) + rb"(\d{%d})" % DIGITS)


class Unaccounted(Exception):
    """Something was lost, doubled or out of order, or did not come in time."""


@attrs.define(slots=True, eq=False)
class Room:
    """What was said in a room, and who has heard how much of it. Messages are known by their number, from 0."""

    number: int
    publisher: socket.socket
    phrase: Phrase
    reference: int
    """File descriptor of the member whose bytes are kept, to be looked at afterwards."""
    standing: list[int]
    """[n]: how many members have got exactly n messages."""
    sent: int = 0
    done: int = 0
    """Messages that all members have."""
    head: int = 0
    """Messages that any member has."""
    sent_ns: list[int] = attrs.Factory(list)
    first_ns: list[int] = attrs.Factory(list)
    last_ns: list[int] = attrs.Factory(list)


class Crowd:
    """All members of all rooms."""

    def __init__(self, dialect: Dialect, rooms: Sequence[Sequence[socket.socket]], server_pid: int) -> None:
        self._dialect = dialect
        self._server_pid = server_pid
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._count = self._buffer.count
        self._receive: dict[int, Callable[[Any], int]] = {}
        self._room: dict[int, Room] = {}
        self._index: dict[int, int] = {}
        self._tails: dict[int, bytes] = {}
        self._kept: dict[int, list[bytes]] = {}
        self._window = 0
        self._delivered = self._busy_ns = 0
        self.rooms: list[Room] = []
        for number, sockets in enumerate(rooms):
            self._add_room(number, sockets)
        self._settle()

    def _add_room(self, number: int, sockets: Sequence[socket.socket]) -> None:
        room = Room(number, sockets[0], self._dialect.phrase(number), sockets[-1].fileno(), [len(sockets)])
        self.rooms.append(room)
        for sock in sockets:
            fd = sock.fileno()
            self._receive[fd] = sock.recv_into
            self._room[fd] = room
            self._index[fd] = 0
            self._epoll.register(fd, select.EPOLLIN)
        self._kept[room.reference] = []
        self._receive[room.reference] = self._keeping(sockets[-1], self._kept[room.reference])

    def _keeping(self, sock: socket.socket, kept: list[bytes]) -> Callable[[Any], int]:
        view = memoryview(self._buffer)

        def receive(buffer: bytearray) -> int:
            length = sock.recv_into(buffer)
            kept.append(bytes(view[:length]))
            return length

        return receive

    def _settle(self) -> None:
        """Read what is still on its way from joining."""
        while self._epoll.poll(0.2, 1):
            self._pump(time.perf_counter_ns())

    def run(self, window: int, seconds: float) -> dict[str, Any]:
        """Say things for a while, each room so many at a time as are in flight at most, and report.

        Raises:
            Unaccounted: see there.
        """
        self._window = window
        firsts = [room.done for room in self.rooms]
        for room in self.rooms:
            self._say(room)
        self._pump_for(WARM_UP_S)
        stretch, marks = self._stretch(seconds)
        self._window = 0
        self._drain()
        self._check(firsts)
        durations = {
            f"{name}_us": summarize_us(
                time_ns - sent_ns
                for room, mark in zip(self.rooms, marks, strict=True)
                for sent_ns, time_ns in zip(room.sent_ns[mark:], times(room)[mark:], strict=True)
            )
            for name, times in (("last", _last_times), ("first", _first_times))
        }
        return stretch | durations

    def _stretch(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        """Measure; returns what was found, and where in each room's messages it began."""
        marks = [room.done for room in self.rooms]
        wanted = sum(marks) + self._window * len(self.rooms)
        before = self._counts()
        start_ns = time.perf_counter_ns()
        self._pump_for(seconds)
        end_ns = start_ns + round(seconds * STRETCH_MAX * 1e9)
        while sum(room.done for room in self.rooms) < wanted and time.perf_counter_ns() < end_ns:
            self._pump_for(SLICE_NS / 1e9)
        elapsed_ns = time.perf_counter_ns() - start_ns
        delivered, busy, server, server_waited, own_waited = (
            after - earlier for after, earlier in zip(self._counts(), before, strict=True)
        )
        return {
            "count": delivered,
            "messages": sum(room.done for room in self.rooms) - sum(marks),
            "seconds": round(elapsed_ns / 1e9, 3),
            "per_s": round(delivered * 1e9 / elapsed_ns),
            "server_busy": round(server / elapsed_ns, 3),
            "client_busy": round(busy / elapsed_ns, 3),
            "client_ceiling_per_s": round(delivered * 1e9 / busy) if busy else None,
            "server_us": round(server / delivered / 1e3, 3) if delivered else None,
            "server_waited": round(server_waited / elapsed_ns, 3),
            "client_waited": round(own_waited / elapsed_ns, 3),
        }, marks

    def _counts(self) -> tuple[int, ...]:
        server = self._server_pid
        return self._delivered, self._busy_ns, process_cpu_ns(server), waited_ns(server), waited_ns(os.getpid())

    def _pump_for(self, seconds: float) -> None:
        self._pump(time.perf_counter_ns() + round(seconds * 1e9))

    def _pump(self, deadline_ns: int) -> None:
        """Take what comes until a moment, and say more as soon as a message is through."""
        poll, clock, buffer, count = self._epoll.poll, time.perf_counter_ns, self._buffer, self._count
        receives, rooms, indexes, tails = self._receive, self._room, self._index, self._tails
        while True:
            events = poll(0, EVENTS_MAX)
            now_ns = clock()
            for fd, _ in events:
                length = receives[fd](buffer)
                if not length:
                    raise Unaccounted("the server closed a connection")
                came = count(MARK, 0, length)
                if fd in tails or buffer[length - 1] in _MARK_BYTES:
                    came = self._count_cut(fd, length)
                if not came:
                    continue
                room = rooms[fd]
                before = indexes[fd]
                after = indexes[fd] = before + came
                standing = room.standing
                standing[before] -= 1
                try:
                    standing[after] += 1
                except IndexError:
                    raise Unaccounted("a member got more messages than were sent") from None
                self._delivered += came
                if after > room.head:
                    room.first_ns += [clock()] * (after - room.head)
                    room.head = after
                if before == room.done and not standing[before]:
                    self._advance(room)
            if events:
                self._busy_ns += clock() - now_ns
            if now_ns >= deadline_ns:
                return

    def _count_cut(self, fd: int, length: int) -> int:
        """Count marks where one may be cut by the end of what was read, now or before."""
        data = self._tails.pop(fd, b"") + self._buffer[:length]
        for kept in range(len(MARK) - 1, 0, -1):
            if data.endswith(MARK[:kept]):
                self._tails[fd] = MARK[:kept]
                break
        return data.count(MARK)

    def _advance(self, room: Room) -> None:
        """All members have some more; say as many more."""
        now_ns = time.perf_counter_ns()
        standing = room.standing
        while room.done < room.sent and not standing[room.done]:
            room.done += 1
            room.last_ns.append(now_ns)
        self._say(room)

    def _say(self, room: Room) -> None:
        while room.sent - room.done < self._window:
            frame = room.phrase.number(room.sent)
            room.sent += 1
            room.standing.append(0)
            room.sent_ns.append(time.perf_counter_ns())
            if room.publisher.send(frame) != len(frame):
                raise Unaccounted("the server takes no more of its publisher")

    def _drain(self) -> None:
        """Wait until all that was said has been heard."""
        deadline_ns = time.perf_counter_ns() + round(DRAIN_TIMEOUT_S * 1e9)
        while any(room.done < room.sent for room in self.rooms):
            if time.perf_counter_ns() > deadline_ns:
                missing = sum(room.sent * sum(room.standing) - self._got(room) for room in self.rooms)
                raise Unaccounted(f"{missing} deliveries did not come within {DRAIN_TIMEOUT_S:g} s")
            self._pump_for(SLICE_NS / 1e9)

    def _got(self, room: Room) -> int:
        return sum(number * members for number, members in enumerate(room.standing))

    def _check(self, firsts: Sequence[int]) -> None:
        """See that every room's reference got every message of this run once and in order."""
        for room, first in zip(self.rooms, firsts, strict=True):
            kept = self._kept[room.reference]
            numbers = [int(number) for number in _NUMBERS.findall(b"".join(kept))]
            kept.clear()
            if numbers != list(range(first, room.sent)):
                raise Unaccounted(f"room {room.number}: out of order, lost or doubled")


def _last_times(room: Room) -> list[int]:
    return room.last_ns


def _first_times(room: Room) -> list[int]:
    return room.first_ns

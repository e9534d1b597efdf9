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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from benchmarks.support.cpu import process_cpu_ns, waited_ns
from benchmarks.support.dialects import DIGITS, MARK, Dialect, Phrase
from benchmarks.support.figures import summarize_us
from benchmarks.support.frames import payload_at
from benchmarks.support.inflate import Inflater

BUFFER_BYTES: Final = 1 << 18
EVENTS_MAX: Final = 4096
WARM_UP_S: Final = 0.1
SLICE_NS: Final = 5_000_000
"""How often it is asked whether a stretch is over."""
STRETCH_MAX: Final = 8
"""A slow system gets so many times the time that was asked for, until a whole window of messages is through."""
DRAIN_TIMEOUT_S: Final = 40.0

READABLE: Final = select.EPOLLIN
EDGES: Final = READABLE | select.EPOLLRDHUP | select.EPOLLET
"""Who has been read to the end is not looked at again until more comes: the kernel's part is a tenth less."""
SETTLED_S: Final = 0.2
"""Nothing came for so long, so nothing is on its way."""

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
    frame: bytes
    """What is to be said next: it is made before it is time to say it."""
    sent: int = 0
    done: int = 0
    """Messages that all members have."""
    head: int = 0
    """Messages that any member has."""
    sent_ns: list[int] = attrs.Factory(list)
    first_ns: list[int] = attrs.Factory(list)
    last_ns: list[int] = attrs.Factory(list)


@attrs.define(slots=True, eq=False)
class Ear:
    """One member."""

    receive: Callable[[bytearray], int]
    room: Room
    count: int = 0
    """Messages it has got."""
    tail: bytes = b""
    """The beginning of a mark or, where frames are counted, of a frame, at the end of what was read."""


class Crowd:
    """All members of all rooms."""

    def __init__(
        self,
        dialect: Dialect,
        rooms: Sequence[Sequence[socket.socket]],
        server_pid: int,
        inflaters: Mapping[int, Inflater] | None = None,
    ) -> None:
        """Begin to listen.

        Args:
            inflaters: of those to whom everything comes compressed: frames are counted then, as there are no
                marks to be seen, and none must come but messages.
        """
        self._dialect = dialect
        self._server_pid = server_pid
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER_BYTES)
        self._count = self._buffer.count
        self._ears: dict[int, Ear] = {}
        self._kept: dict[int, list[bytes]] = {}
        self._window = 0
        self._inflaters = inflaters
        self._is_settled = False
        self._delivered = self._bytes = self._busy_ns = 0
        self.rooms: list[Room] = []
        for number, sockets in enumerate(rooms):
            self._add_room(number, sockets)
        self._settle()

    def _add_room(self, number: int, sockets: Sequence[socket.socket]) -> None:
        phrase = self._dialect.phrase(number)
        reference, standing = sockets[-1].fileno(), [len(sockets)]
        room = Room(number, sockets[0], phrase, reference, standing, phrase.number(0))
        self.rooms.append(room)
        for sock in sockets:
            self._ears[sock.fileno()] = Ear(sock.recv_into, room)
            self._epoll.register(sock, EDGES)
        self._kept[reference] = []
        self._ears[reference].receive = self._keeping(sockets[-1], self._kept[reference])

    def _keeping(self, sock: socket.socket, kept: list[bytes]) -> Callable[[bytearray], int]:
        view = memoryview(self._buffer)

        def receive(buffer: bytearray) -> int:
            length = sock.recv_into(buffer)
            kept.append(bytes(view[:length]))
            return length

        return receive

    def _settle(self) -> None:
        """Read what is still on its way from joining."""
        busy_ns = -1
        while busy_ns != self._busy_ns:
            busy_ns = self._busy_ns
            self._pump_for(SETTLED_S)
        self._is_settled = True

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
        delivered, received, busy, server, server_waited, own_waited = (
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
            "bytes_each": round(received / delivered, 1) if delivered else None,
            "server_waited": round(server_waited / elapsed_ns, 3),
            "client_waited": round(own_waited / elapsed_ns, 3),
        }, marks

    def _counts(self) -> tuple[int, ...]:
        server = self._server_pid
        counted = self._delivered, self._bytes, self._busy_ns
        return *counted, process_cpu_ns(server), waited_ns(server), waited_ns(os.getpid())

    def _pump_for(self, seconds: float) -> None:
        self._pump(time.perf_counter_ns() + round(seconds * 1e9))

    def _pump(self, deadline_ns: int) -> None:
        """Take what comes until a moment, and say more as soon as a message is through."""
        poll, clock, hear = self._epoll.poll, time.perf_counter_ns, self._hear
        while True:
            events = poll(0, EVENTS_MAX)
            now_ns = clock()
            if events:
                hear(events)
                self._busy_ns += clock() - now_ns
            if now_ns >= deadline_ns:
                return

    def _hear(self, events: list[tuple[int, int]]) -> None:
        """Read those who have something to read; those who may have more are put behind."""
        ears, buffer, count, is_framed = self._ears, self._buffer, self._count, self._inflaters is not None
        delivered = received = 0
        for event in events:
            fd, what = event
            ear = ears[fd]
            try:
                length = ear.receive(buffer)
            except BlockingIOError:
                continue
            if not length or what != READABLE:
                raise Unaccounted("the server closed a connection")
            if length == BUFFER_BYTES:
                events.append(event)
            received += length
            came = count(MARK, 0, length)
            if is_framed:
                came = self._count_frames(ear, length)
            elif ear.tail or buffer[length - 1] in _MARK_BYTES:
                came = self._count_cut(ear, length)
            if not came:
                continue
            delivered += came
            room, before = ear.room, ear.count
            after = ear.count = before + came
            standing = room.standing
            standing[before] -= 1
            try:
                standing[after] += 1
            except IndexError:
                raise Unaccounted("a member got more messages than were sent") from None
            if after > room.head:
                room.first_ns += [time.perf_counter_ns()] * (after - room.head)
                room.head = after
            if not standing[before] and before == room.done:
                self._advance(room)
        self._delivered += delivered
        self._bytes += received

    def _count_frames(self, ear: Ear, length: int) -> int:
        data = ear.tail + self._buffer[:length]
        came = position = 0
        while (place := payload_at(data, position)) is not None:
            came += 1
            position = place[1]
        ear.tail = data[position:]
        return came if self._is_settled else 0

    def _count_cut(self, ear: Ear, length: int) -> int:
        """Count marks where one may be cut by the end of what was read, now or before."""
        data = ear.tail + self._buffer[:length]
        cuts = (MARK[:kept] for kept in range(len(MARK) - 1, 0, -1))
        ear.tail = next((cut for cut in cuts if data.endswith(cut)), b"")
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
            frame = room.frame
            room.sent += 1
            room.standing.append(0)
            room.sent_ns.append(time.perf_counter_ns())
            if room.publisher.send(frame) != len(frame):
                raise Unaccounted("the server takes no more of its publisher")
            room.frame = room.phrase.number(room.sent)

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
            heard = b"".join(kept)
            kept.clear()
            if self._inflaters is not None:
                heard = self._inflaters[room.reference].feed(heard)
            numbers = [int(number) for number in _NUMBERS.findall(heard)]
            if numbers != list(range(first, room.sent)):
                raise Unaccounted(f"room {room.number}: out of order, lost or doubled")


def _last_times(room: Room) -> list[int]:
    return room.last_ns


def _first_times(room: Room) -> list[int]:
    return room.first_ns

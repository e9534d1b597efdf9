"""Owns very many WebSocket connections of one client process: they are begun, read, and timed in one plain loop.

It must not know what is measured. It reads what a server of ours sends and no more (RFC 6455: unmasked, whole
frames); one loop over one epoll costs some 3 µs a frame, so that the server is what is measured.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import select
import socket
import time
from array import array
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from benchmarks.support.crowd_tls import TlsSocket, trusting_context
from benchmarks.support.frames import payload_at
from benchmarks.support.gateway import frame

RECEIVE_BYTES: Final = 65_536
EVENTS_MAX: Final = 32
"""Sockets served before the timetable is looked at again: less than a millisecond."""
NAP_NS: Final = 1_000_000
"""What epoll can sleep at least; what is due sooner is waited for by asking again and again."""
SMALL_BUFFER_BYTES: Final = 4096
"""Asked for as the receive buffer of those who read slowly: what they have not read shall wait at the server."""

_HELLO, _HEARTBEAT_ACK, _READY, _MESSAGE, _ACK, _ERROR = 0, 2, 4, 101, 200, 201
_HEAD: Final = b'{"op":'
_SEQ: Final = b'"seq":'
MARK: Final = b"benchmark-"
"""Begins the content of a message; its number in `DIGITS` digits follows."""
DIGITS: Final = 10


class Member:
    """One connection, and what became of it."""

    __slots__ = (
        "begun_ns",
        "channel",
        "end",
        "is_apart",
        "is_stalled",
        "last",
        "ready_ns",
        "rest",
        "sock",
        "status",
    )

    def __init__(self, sock: socket.socket | TlsSocket) -> None:
        self.sock = sock
        self.rest = b""
        self.channel = ""
        self.begun_ns = time.perf_counter_ns()
        self.ready_ns = 0
        """When READY came; 0: not yet."""
        self.status = "connecting"
        """`connecting`, `securing`, `upgrading`, `open`, `ended`."""
        self.end = ""
        """How it ended: a close code, `eof`, `reset`, `refused`; empty while it lives."""
        self.is_stalled = False
        """It is not read by the loop."""
        self.is_apart = False
        """What comes to it is not counted: it is, or will be, stalled."""
        self.last = -1
        """The `seq` of the last message that came: it must rise."""


class Crowd:
    """All connections, one epoll, one timetable."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._target = f"{parts.path}?token={quote(token, safe='')}&user_id="
        self._host = parts.netloc
        self._tls = trusting_context() if parts.scheme == "wss" else None
        self._epoll = select.epoll()
        self._by_fd: dict[int, Member] = {}
        self._timetable: list[tuple[int, int, Callable[[], int | None]]] = []
        self._order = itertools.count()
        self.members: list[Member] = []
        self.ready = 0
        self.acks = 0
        self.heartbeat_acks = 0
        self.errors: list[str] = []
        self.ends: Counter[str] = Counter()
        self.numbers = array("q")
        """Of the messages that came to all who are not apart, in the order in which they came."""
        self.times_ns = array("q")
        """When they came."""
        self.disorder = 0
        """Messages that came twice, or after a later one of their channel."""
        self.lateness_ns = array("q")
        """How late what was in the timetable was done: the client's own part in what it measures."""
        self.busy_ns = 0
        """Time spent at work, not on waiting."""

    # --- the loop ---------------------------------------------------------------------------------

    def at(self, due_ns: int, call: Callable[[], int | None]) -> None:
        """Have something done at a time (`time.perf_counter_ns`); it returns when to be called again, or None."""
        heapq.heappush(self._timetable, (due_ns, next(self._order), call))

    def run(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Serve everybody until `done`, which is asked often; returns False if that took too long."""
        give_up_ns = time.perf_counter_ns() + round(timeout_s * 1e9)
        while not done():
            now = time.perf_counter_ns()
            if now > give_up_ns:
                return False
            next_ns = self._do_due(now)
            wait_ns = min(next_ns - time.perf_counter_ns(), 20 * NAP_NS)
            self._serve(0.0 if wait_ns < NAP_NS else wait_ns // NAP_NS / 1000)
        return True

    def pause(self, seconds: float) -> None:
        """Serve everybody for a time."""
        end_ns = time.perf_counter_ns() + round(seconds * 1e9)
        self.run(lambda: time.perf_counter_ns() >= end_ns, seconds + 1)

    def _do_due(self, now: int) -> int:
        """Do what is due; return when the next thing is."""
        table = self._timetable
        while table and table[0][0] <= now:
            due_ns, _, call = heapq.heappop(table)
            self.lateness_ns.append(now - due_ns)
            again_ns = call()
            if again_ns is not None:
                self.at(again_ns, call)
            self.busy_ns += time.perf_counter_ns() - now
            now = time.perf_counter_ns()
        return table[0][0] if table else now + 20 * NAP_NS

    def _serve(self, wait_s: float) -> None:
        events = self._epoll.poll(wait_s, EVENTS_MAX)
        begun_ns = time.perf_counter_ns()
        for fd, _ in events:
            member = self._by_fd.get(fd)
            if member is not None:
                self._attend(member)
        if events:
            self.busy_ns += time.perf_counter_ns() - begun_ns

    # --- connections ------------------------------------------------------------------------------

    def begin(self, *, small_buffer: bool = False) -> Member:
        """Begin to connect one more, as a user of its own; the loop does the rest, up to READY."""
        sock = socket.socket()
        sock.setblocking(False)
        if small_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        member = Member(sock if self._tls is None else TlsSocket(sock, self._tls))
        number = len(self.members)
        self.members.append(member)
        self._by_fd[sock.fileno()] = member
        code = sock.connect_ex(self._address)
        if code not in (0, errno.EINPROGRESS):
            self._end(member, errno.errorcode.get(code, str(code)))
            return member
        member.rest = self._request(f"user-{number}")
        self._epoll.register(sock, select.EPOLLOUT)
        return member

    def _request(self, user_id: str) -> bytes:
        return (
            f"GET {self._target}{user_id} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n"
        ).encode()

    def stall(self, member: Member) -> None:
        """Read nothing more from a member, but as told."""
        member.is_stalled = True
        self._epoll.unregister(member.sock)

    def resume(self, member: Member) -> None:
        """Read a member again."""
        if not member.end:
            member.is_stalled = False
            self._epoll.register(member.sock, select.EPOLLIN)

    def read_some(self, member: Member, size: int) -> None:
        """Read that much at most of one that is stalled."""
        if not member.end:
            self._read(member, size)

    def send(self, member: Member, data: bytes) -> bool:
        """Send a frame; False if the connection has ended, or takes no more."""
        if member.end:
            return False
        try:
            return member.sock.send(data) == len(data)
        except BlockingIOError:
            return False
        except OSError:
            self._end(member, "reset")
            return False

    def close(self) -> None:
        """Drop all."""
        for member in self.members:
            member.sock.close()
        self._epoll.close()

    def _end(self, member: Member, how: str) -> None:
        if member.end:
            return
        member.end, member.status = how, "ended"
        self.ends[how] += 1
        # What is not in the epoll, as of one that is stalled, need not be taken out; closing it would do as well.
        self._by_fd.pop(member.sock.fileno(), None)
        member.sock.close()

    def _attend(self, member: Member) -> None:
        if member.status == "connecting":
            self._connected(member)
        elif member.status == "securing":
            self._secure(member)
        else:
            self._read(member, RECEIVE_BYTES)

    def _connected(self, member: Member) -> None:
        sock = member.sock
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if isinstance(sock, socket.socket) else 0
        if code:
            self._end(member, errno.errorcode.get(code, str(code)))
            return
        self._epoll.modify(member.sock, select.EPOLLIN)
        if isinstance(sock, TlsSocket):
            member.status = "securing"
            self._secure(member, is_first=True)
        else:
            self._ask_in(member)

    def _secure(self, member: Member, *, is_first: bool = False) -> None:
        assert isinstance(member.sock, TlsSocket)
        try:
            if member.sock.shake_hands(is_first=is_first):
                self._ask_in(member)
        except OSError as exc:
            self._end(member, type(exc).__name__)

    def _ask_in(self, member: Member) -> None:
        request, member.rest, member.status = member.rest, b"", "upgrading"
        member.sock.send(request)

    def _read(self, member: Member, size: int) -> None:
        try:
            data = member.sock.recv(size)
        except BlockingIOError:
            return
        except OSError:
            self._end(member, "reset")
            return
        if not data:
            self._end(member, "eof")
        elif member.status == "upgrading":
            self._upgrade(member, data)
        else:
            self._take(member, data)

    def _upgrade(self, member: Member, data: bytes) -> None:
        member.rest += data
        head, found, rest = member.rest.partition(b"\r\n\r\n")
        if not found:
            return
        status = head.split(b" ", 2)[1]
        if status != b"101":
            self._end(member, f"HTTP {status.decode()}")
            return
        member.rest, member.status = b"", "open"
        self._take(member, rest)

    def _take(self, member: Member, data: bytes) -> None:
        """Take frames apart; the beginning of one that is not complete waits for the rest."""
        now_ns = time.perf_counter_ns()
        if member.rest:
            data = member.rest + data
        position = 0
        while (place := payload_at(data, position)) is not None:
            start, end = place
            if data[position] == 0x88:
                self._end(member, str(int.from_bytes(data[start : start + 2], "big")))
                return
            self._packet(member, data, start, end, now_ns)
            position = end
        member.rest = data[position:]

    def _packet(self, member: Member, data: bytes, start: int, end: int, now_ns: int) -> None:
        assert data.startswith(_HEAD, start), data[start : start + 40]
        op_start = start + len(_HEAD)
        op = int(data[op_start : data.index(b",", op_start, end)])
        if op == _MESSAGE:
            place = data.index(MARK, start, end) + len(MARK)
            number = int(data[place : place + DIGITS])
            # Two speakers may overtake each other on their way to the server; what it made of them may not.
            seq_start = data.index(_SEQ, start, end) + len(_SEQ)
            seq = int(data[seq_start : data.index(b",", seq_start, end)])
            self.disorder += seq <= member.last
            member.last = seq
            if not member.is_apart:
                self.numbers.append(number)
                self.times_ns.append(now_ns)
        elif op == _READY:
            member.ready_ns = now_ns
            self.ready += 1
        elif op == _ACK:
            self.acks += 1
        elif op == _HEARTBEAT_ACK:
            self.heartbeat_acks += 1
        elif op == _ERROR:
            self.errors.append(data[start:end].decode())


def message(channel: str, number: int, chars: int) -> bytes:
    """Return a MESSAGE_CREATE whose event can be known again, without an id: nobody waits for its ACK."""
    content = f"{MARK.decode()}{number:0{DIGITS}}".ljust(chars, ".")
    return frame(f'{{"op":20,"d":{{"channel_id":"{channel}","content":"{content}"}}}}'.encode())


def latencies_ns(crowd: Crowd, due_ns: Sequence[int], first: int, last: int) -> list[int]:
    """Return how long messages number `first` up to `last` took, from when they were due to each receiver."""
    pairs = zip(crowd.numbers, crowd.times_ns, strict=True)
    return [at_ns - due_ns[number] for number, at_ns in pairs if first <= number < last]

"""Owns the load of media chunks: one stream, whose publisher is the first member of a room, and who views it.

It must not fall behind its own schedule; what a viewer gets is searched for marks, not decoded.
"""

from __future__ import annotations

import re
import select
import socket
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final

import attrs
import msgpack

from benchmarks.support.cpu import process_cpu_ns
from benchmarks.support.dialects import MARK, room_name
from benchmarks.support.fan_load import BUFFER_BYTES, EVENTS_MAX, Unaccounted
from benchmarks.support.figures import summarize_us
from benchmarks.support.gateway import frame

MEDIA_CHUNK: Final = 29
CHUNKS_HZ: Final = 30
CHUNK_BYTES: Final = 1_000_000 // 8 // CHUNKS_HZ
"""Of data: a stream of 1 Mbit/s."""
KEYFRAME_EVERY: Final = CHUNKS_HZ
SLOW_BYTES_PER_S: Final = 20_000
"""What a slow viewer reads: a sixth of the stream."""
SLOW_TICK_S: Final = 0.05
SETTLE_S: Final = 0.5
DRAIN_TIMEOUT_S: Final = 10.0
QUIET_S: Final = 0.5

_BINARY: Final = 0x2
_REFUSED: Final = b'{"op":201,'
_STAMP: Final = re.compile(re.escape(MARK) + rb"(\d{10})(\d{20})([K.])")
_STAMP_BYTES: Final = len(MARK) + 31


def chunk_frame(chunk_seq: int, due_ns: int, *, keyframe: bool, init: bool = False) -> bytes:
    """Return a MEDIA_CHUNK; at the end of its data stand its number, when it was due, and if it is a keyframe."""
    stamp = MARK + b"%010d%020d" % (chunk_seq, due_ns) + (b"K" if keyframe else b".")
    d = {
        "channel_id": room_name(0),
        "stream_id": "camera",
        "chunk_seq": chunk_seq,
        "mime": "video/webm",
        "data": stamp.rjust(CHUNK_BYTES, b"\x00"),
        "keyframe": keyframe,
        "init": init,
    }
    return frame(msgpack.packb({"op": MEDIA_CHUNK, "d": d}), _BINARY)


@attrs.define(slots=True, eq=False)
class Viewer:
    """What one has got."""

    sock: socket.socket
    numbers: array[int] = attrs.Factory(lambda: array("q"))
    is_keyframe: list[bool] = attrs.Factory(list)
    tail: bytes = b""
    is_slow: bool = False
    closed: bool = False

    def account(self, sent: range) -> dict[str, Any]:
        """Return what is missing of the chunks that were sent, in how many gaps, and how many ended badly.

        Raises:
            Unaccounted: something came twice, or out of order.
        """
        gaps = bad = 0
        expected = sent.start
        for number, is_keyframe in zip(self.numbers, self.is_keyframe, strict=True):
            if number < expected:
                raise Unaccounted(f"chunk {number} came twice or late")
            if number > expected:
                gaps += 1
                bad += not is_keyframe
            expected = number + 1
        missing = len(sent) - len(self.numbers)
        return {"received": len(self.numbers), "missing": missing, "gaps": gaps, "gaps_not_ended_by_keyframe": bad}


class Viewers:
    """The publisher and all viewers; the last ones can read slowly."""

    def __init__(self, sockets: Sequence[socket.socket], slow: int, server_pid: int) -> None:
        self._server_pid = server_pid
        self._publisher = sockets[0]
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._viewers = {sock.fileno(): Viewer(sock) for sock in sockets[1:]}
        self._may_be_slow = list(self._viewers.values())[len(self._viewers) - slow :]
        self._slow: Sequence[Viewer] = ()
        self._epoll = select.epoll()
        for fd in self._viewers:
            self._epoll.register(fd, select.EPOLLIN)
        self._latencies = array("q")
        self._next = 1
        self._throttled = False
        self._slow_at_ns = 0

    def run(self, seconds: float, slow: bool) -> dict[str, Any]:
        """Send the stream for a while and report.

        Args:
            slow: whether those that can read slowly do.

        Raises:
            Unaccounted: the server refused chunks, or sent some twice.
        """
        self._slow = self._may_be_slow if slow else ()
        for viewer in self._slow:
            self._epoll.unregister(viewer.sock)
            viewer.is_slow = True
        self._throttled = True
        sent = range(self._next, self._next + round(seconds * CHUNKS_HZ))
        start_ns = time.perf_counter_ns() + round(SETTLE_S * 1e9)
        server = process_cpu_ns(self._server_pid)
        for number in sent:
            due_ns = start_ns + (number - sent.start) * 1_000_000_000 // CHUNKS_HZ
            self._pump(due_ns)
            is_keyframe = (number - sent.start) % KEYFRAME_EVERY == 0
            self._publish(chunk_frame(number, due_ns, keyframe=is_keyframe, init=number == 1))
        elapsed_ns = time.perf_counter_ns() - start_ns
        server_busy = (process_cpu_ns(self._server_pid) - server) / elapsed_ns
        self._drain()
        self._next = sent.stop
        return self._report(sent) | {"server_busy": round(server_busy, 3)}

    def _publish(self, data: bytes) -> None:
        if self._publisher.send(data) != len(data):
            raise Unaccounted("the server takes no more of its publisher")
        try:
            answer = self._publisher.recv(4096)
        except BlockingIOError:
            return
        if (refused := answer.find(_REFUSED)) >= 0:
            raise Unaccounted(f"refused: {answer[refused : refused + 200].decode(errors='replace')}")
        if not answer:
            raise Unaccounted("the server closed the publisher's connection")

    def _pump(self, deadline_ns: int) -> None:
        """Take what comes until a moment."""
        poll, clock = self._epoll.poll, time.perf_counter_ns
        while (now_ns := clock()) < deadline_ns:
            for fd, _ in poll(0, EVENTS_MAX):
                self._take(self._viewers[fd], BUFFER_BYTES)
            if self._throttled and now_ns >= self._slow_at_ns:
                self._slow_at_ns = now_ns + round(SLOW_TICK_S * 1e9)
                for viewer in self._slow:
                    self._take(viewer, round(SLOW_BYTES_PER_S * SLOW_TICK_S))

    def _take(self, viewer: Viewer, bytes_max: int) -> None:
        if viewer.closed:
            return
        try:
            length = viewer.sock.recv_into(self._buffer, bytes_max)
        except BlockingIOError:
            return
        except ConnectionResetError:
            length = 0
        if not length:
            viewer.closed = True
            viewer.sock.close()
            return
        now_ns = time.perf_counter_ns()
        data = viewer.tail + self._view[:length]
        end = 0
        for stamp in _STAMP.finditer(data):
            end = stamp.end()
            viewer.numbers.append(int(stamp[1]))
            viewer.is_keyframe.append(stamp[3] == b"K")
            if not viewer.is_slow:
                self._latencies.append(now_ns - int(stamp[2]))
        viewer.tail = data[max(end, len(data) - _STAMP_BYTES + 1) :]

    def _drain(self) -> None:
        """Read all there is, also what was kept for the slow ones, until nothing more comes."""
        self._throttled = False
        for viewer in self._slow:
            if not viewer.closed:
                self._epoll.register(viewer.sock, select.EPOLLIN)
        deadline_ns = time.perf_counter_ns() + round(DRAIN_TIMEOUT_S * 1e9)
        counted = -1
        while time.perf_counter_ns() < deadline_ns and counted != (counted := self._counted()):
            self._pump(time.perf_counter_ns() + round(QUIET_S * 1e9))

    def _counted(self) -> int:
        return sum(len(viewer.numbers) for viewer in self._viewers.values())

    def _report(self, sent: range) -> dict[str, Any]:
        fast = [viewer for viewer in self._viewers.values() if not viewer.is_slow]
        report = {
            "chunks": len(sent),
            "fast": _summary(fast, sent),
            "slow": _summary(self._slow, sent),
            "latency_us": summarize_us(self._latencies),
        }
        for viewer in self._viewers.values():
            viewer.numbers, viewer.is_keyframe, viewer.is_slow = array("q"), [], False
        self._latencies = array("q")
        return report


def _summary(viewers: Sequence[Viewer], sent: range) -> dict[str, int]:
    accounts = [viewer.account(sent) for viewer in viewers]
    names = ("received", "missing", "gaps", "gaps_not_ended_by_keyframe")
    totals = {name: sum(account[name] for account in accounts) for name in names}
    return {"viewers": len(viewers), "closed": sum(viewer.closed for viewer in viewers)} | totals

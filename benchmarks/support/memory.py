"""Owns what a server's memory and processor time come to for each connection that does nothing.

It must not start or stop the server. The connections are plain sockets of this process: opened, identified by the
upgrade itself, read up to READY, and then left alone or kept alive by heartbeats.

Run by hand: python -m benchmarks.support.memory 1000 5000 10000
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import attrs
import trio

from benchmarks.support.cpu import process_cpu_ns
from benchmarks.support.gateway import HEARTBEAT, frame
from benchmarks.support.processes import allow_many_sockets, running_server

AT_ONCE: Final = 64
"""Connections that are being opened at a time."""
PATIENCE_S: Final = 30.0
READY: Final = b'"op":4,'
SETTLED_S: Final = 1.0
"""After the last READY: what the server does behind it (presence, sessions' storage) is over."""
HEARTBEAT_INTERVAL_S: Final = 30.0


@attrs.frozen
class Memory:
    """What a process holds of the machine's memory, in bytes."""

    rss_bytes: int
    """Resident, with what it shares with others."""
    pss_bytes: int
    """Resident, of what is shared its part."""


@attrs.frozen
class Holding:
    """What so many connections cost."""

    connections: int
    rss_bytes_each: float
    pss_bytes_each: float
    opened_per_s: float
    """Connections that were opened and identified, one client process, AT_ONCE at a time."""
    heartbeats_cores: float
    """Of the server, with a heartbeat from each every HEARTBEAT_INTERVAL_S."""


def memory_of(pid: int) -> Memory:
    """Return what a process holds now. Source: proc(5), /proc/[pid]/smaps_rollup."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    return Memory(fields["Rss"], fields["Pss"])


class IdleConnections:
    """Connections that were opened for being there.

    Args:
        url: of the gateway.
        token: the shared secret.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = urlsplit(url)
        self._token = quote(token, safe="")
        self._sockets: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._sockets)

    def open(self, count: int) -> float:
        """Open so many more and wait until each is identified; return how many seconds that took."""
        began_at = time.perf_counter()
        left = count
        while left > 0:
            batch = min(AT_ONCE, left)
            self._open_batch(batch)
            left -= batch
        return time.perf_counter() - began_at

    def beat(self, seconds: float) -> None:
        """Send heartbeats from all, evenly spread, for a while; read what comes."""
        heartbeat = frame(json.dumps({"op": HEARTBEAT, "d": None}).encode())
        began_at = time.perf_counter()
        sent = 0
        while (elapsed_s := time.perf_counter() - began_at) < seconds:
            due = int(elapsed_s / HEARTBEAT_INTERVAL_S * len(self._sockets))
            for place in range(sent, due):
                sock = self._sockets[place % len(self._sockets)]
                # What came for it in the meantime is the answer to the one before.
                _drain(sock)
                sock.send(heartbeat)
            sent = due
            time.sleep(0.005)

    def close(self) -> None:
        """Drop all of them."""
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    def _open_batch(self, count: int) -> None:
        waiting: dict[int, tuple[socket.socket, bytearray]] = {}
        poller = select.poll()
        for _ in range(count):
            sock = socket.create_connection((self._url.hostname, self._url.port or 80), timeout=PATIENCE_S)
            sock.sendall(self._request(len(self._sockets)))
            sock.setblocking(False)
            self._sockets.append(sock)
            waiting[sock.fileno()] = sock, bytearray()
            poller.register(sock, select.POLLIN)
        while waiting:
            events = poller.poll(PATIENCE_S * 1000)
            if not events:
                raise TimeoutError(f"{len(waiting)} connections were not identified within {PATIENCE_S} s")
            for number, _ in events:
                sock, received = waiting[number]
                part = sock.recv(65536)
                if not part:
                    raise ConnectionError(f"closed by the server; before that: {bytes(received[-200:])!r}")
                received += part
                if READY in received:
                    poller.unregister(sock)
                    del waiting[number]

    def _request(self, number: int) -> bytes:
        """Return an upgrade as a browser would send it: most of it is headers that nobody needs."""
        target = f"{self._url.path}?user_id=user{number}&token={self._token}"
        return (
            f"GET {target} HTTP/1.1\r\nHost: {self._url.netloc}\r\nConnection: Upgrade\r\nPragma: no-cache\r\n"
            "Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, "
            "like Gecko) Chrome/140.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n"
            f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        ).encode()


def _drain(sock: socket.socket) -> None:
    try:
        if not sock.recv(65536):
            raise ConnectionError("closed by the server")
    except BlockingIOError:
        pass


def measure(pid: int, url: str, token: str, connections: int, *, beat_s: float) -> Holding:
    """Open connections to a server and tell what they cost it.

    Args:
        pid: the server's process.
        beat_s: how long its processor time is watched while heartbeats come; 0: not at all.
    """
    idle = IdleConnections(url, token)
    try:
        # Whatever is loaded or grown with the first ones is no cost of each.
        idle.open(AT_ONCE)
        time.sleep(SETTLED_S)
        before = memory_of(pid)
        seconds = idle.open(connections)
        time.sleep(SETTLED_S)
        after = memory_of(pid)
        cores = 0.0
        if beat_s:
            cpu_before, began_at = process_cpu_ns(pid), time.perf_counter()
            idle.beat(beat_s)
            cores = (process_cpu_ns(pid) - cpu_before) / 1e9 / (time.perf_counter() - began_at)
        return Holding(
            connections,
            (after.rss_bytes - before.rss_bytes) / connections,
            (after.pss_bytes - before.pss_bytes) / connections,
            connections / seconds,
            cores,
        )
    finally:
        idle.close()


async def measure_server(connections: int, *, beat_s: float, **settings: str) -> Holding:
    """Measure with a server of its own, whose store is `memory:` and keeps nothing.

    Args:
        settings: of the server, as in the environment but without `LIVECHAT_`.
    """
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory() as folder:
        async with running_server(Path(folder), token, STORE_URL="memory:", **settings) as (url, pid):
            return await trio.to_thread.run_sync(partial(measure, pid, url, token, connections, beat_s=beat_s))


def main(counts: Sequence[str]) -> None:
    """Print a line for each number of connections."""
    allow_many_sockets()
    for count in counts:
        print(trio.run(partial(measure_server, int(count), beat_s=10.0)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["1000"])

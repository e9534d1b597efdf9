"""Owns the media socket: datagrams in batches to the relay, what it makes of them out again.

It must not know what is in a datagram; the relay does, and this shell counts what the system refuses.

The batch is what makes it fast: all packets of a turn are sealed, then all are sent. Between receiving and
sending nothing is awaited, so a cancellation never loses a datagram half way. A turn is bounded by the packets
it makes, not by those it takes: one packet may have hundreds of listeners, and the gateway must get its share.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import structlog
import trio

from livechat.media.relay import Relay
from livechat.protocol.types import Address
from livechat.srtp.cipher import Sealed

DATAGRAM_BYTES_MAX: Final = 2048
"""Longer datagrams are dropped: RTP stays below the path's MTU, about 1,500 bytes."""
BATCH_DATAGRAMS_MAX: Final = 32
"""Datagrams taken in one turn."""
TURN_PACKETS: Final = 128
"""A turn ends once it has made this many packets: about 0.4 ms of work."""
SOCKET_BUFFER_BYTES: Final = 4 << 20
"""Asked of the system, which may give less: about 50 ms of the relay's full rate."""
LOG_INTERVAL_S: Final = 60.0
"""A bug that every datagram triggers must not fill the disk."""

log = structlog.get_logger(__name__)


def open_media_socket(host: str, port: int) -> socket.socket:
    """Open a UDP socket for `run`, non-blocking and with large buffers; the caller closes it.

    Args:
        host: an IPv4 or IPv6 literal; `::` serves IPv4 as well, as mapped addresses.
        port: 0 lets the system choose.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            # Stated, as systems differ in their default. `::` takes IPv4 as well, as it does for TCP.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        sock.setblocking(False)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def run(
    sock: socket.socket,
    relay: Relay,
    *,
    now: Callable[[], float] = trio.current_time,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relay until cancelled; reports the bound address as started.

    A datagram whose handling fails is counted and logged (at most once a minute); it never ends the loop.

    Args:
        now: monotonic seconds, the clock of the hub's deadlines.

    Cancellation: between two turns; the socket stays open.
    """
    shell = _Shell(sock, relay, now)
    task_status.started(sock.getsockname()[:2])
    while True:
        if shell.turn():
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(sock)


def send_now(sock: socket.socket, relay: Relay, packets: Sealed) -> None:
    """Send without waiting; what cannot be sent is counted and dropped, as befits voice.

    No destination stops the others: one may be unreachable while the rest listen.
    """
    sendto = sock.sendto
    for packet, address in packets:
        try:
            sendto(packet, address)
        except BlockingIOError:
            relay.counters.would_block += 1
        except OSError:
            relay.counters.send_error += 1


class _Shell:
    """One socket's turns."""

    def __init__(self, sock: socket.socket, relay: Relay, now: Callable[[], float]) -> None:
        self._sock = sock
        self._relay = relay
        self._now = now
        self._log_after = float("-inf")

    def turn(self) -> bool:
        """Take a batch, relay it, send what came of it. Returns whether more datagrams may be waiting."""
        out: Sealed = []
        more = self._receive(out)
        send_now(self._sock, self._relay, out)
        return more

    def _receive(self, out: Sealed) -> bool:
        now = self._now()
        recvfrom = self._sock.recvfrom
        for _ in range(BATCH_DATAGRAMS_MAX):
            try:
                # One byte more than allowed shows what the system would cut off in silence.
                data, source = recvfrom(DATAGRAM_BYTES_MAX + 1)
            except BlockingIOError:
                return False
            except ConnectionError:
                # Some systems report here that an earlier destination refused; it says nothing of
                # the datagrams to come.
                self._relay.counters.send_error += 1
                continue
            except OSError:
                # Memory is short, say. The turn ends, so that an error which stays does not spin.
                self._relay.counters.receive_error += 1
                return False
            # IPv6 adds flow label and scope, which are no part of an address here.
            self._relay_one(data, source[:2], now, out)
            if len(out) >= TURN_PACKETS:
                return True
        return True

    def _relay_one(self, data: bytes, source: Address, now: float, out: Sealed) -> None:
        if len(data) > DATAGRAM_BYTES_MAX:
            self._relay.counters.received += 1
            self._relay.counters.too_long += 1
            return
        try:
            self._relay.datagram(data, source, now, out)
        except Exception:
            # The boundary: one datagram must not silence everyone.
            self._relay.counters.internal += 1
            if now >= self._log_after:
                self._log_after = now + LOG_INTERVAL_S
                log.exception("datagram_failed", bytes=len(data), internal=self._relay.counters.internal)

"""Owns the media socket: datagrams in batches to the relay, what it makes of them out again.

It must not know what is in a datagram; the relay does, and this shell counts what the system refuses.

The batch is what makes it fast: all packets of a turn are sealed, then all are sent, many at a call where the
system can. A turn is bounded by the packets it makes, not by those it takes, as the gateway must get its share.
One datagram may have a thousand listeners: then all are sealed at once, which takes a quarter of the time, and
sent in pieces over several turns.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
import trio

from livechat.media.relay import Relay
from livechat.media.sendmmsg import ARENA_BYTES, SLOTS, SendMmsg, open_sendmmsg
from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations, Sealed, each_packet

DATAGRAM_BYTES_MAX: Final = 2048
"""Longer datagrams are dropped: RTP stays below the path's MTU, about 1,500 bytes."""
BATCH_DATAGRAMS_MAX: Final = 32
"""Datagrams taken in one turn."""
TURN_S: Final = 0.001
"""A turn takes no more datagrams once it has lasted so long, whatever they made: reports may cost much and make
nothing."""
STEPS: Final = 4
"""Between two turns other tasks go on by so many steps: a message goes from task to task on its way from a socket
to the store, and back to those who hear it; a turn at each step would add up. A step costs some 3 us."""
GIVE_WAY_S: Final = 0.005
"""So long it pauses for others at most: a commit takes some two milliseconds, a voice can wait as long."""
TURN_PACKETS: Final = 256
"""A turn ends once it has made this many packets: about 0.7 ms of work, with what the last datagram adds 1.2 ms.
Two packets for 200 listeners fit, so that each listener gets them in one message; by fewer each costs more."""
PIECE_PACKETS: Final = SLOTS
"""So many packets are sent before others get their turn, where one datagram made more."""
MMSG_PACKETS_MIN: Final = 8
"""Fewer are sent faster, or as fast, one by one; from here on the larger call wins at every length of packet."""
TICK_S: Final = 0.02
"""What is due is looked for at least so often."""
EMPTY_TICK_S: Final = 0.25
"""The same while there is nobody for whom anything could be due; the first one who comes has to wait so long."""
SOCKET_BUFFER_BYTES: Final = 4 << 20
"""Asked of the system, which may give less: about 50 ms of the relay's full rate."""
LOG_INTERVAL_S: Final = 60.0
"""A bug that every datagram triggers must not fill the disk."""

GiveWay = Callable[[float], Awaitable[None]]
"""Lets others work for so many seconds at most, if they need it; a checkpoint in any case."""

log = structlog.get_logger(__name__)


async def checkpoint(_most_s: float) -> None:
    """Let the other tasks have their turn, as nothing else needs the processor."""
    await trio.lowlevel.checkpoint()


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
    give_way: GiveWay = checkpoint,
    before_turn: Callable[[], object] = lambda: None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Relay until cancelled; reports the bound address as started.

    A datagram whose handling fails is counted and logged (at most once a minute); it never ends the loop.

    Args:
        now: monotonic seconds, the clock of the hub's deadlines.
        give_way: called between two turns while there is more to do.
        before_turn: called before datagrams are taken.

    Cancellation: between two turns; the socket stays open.
    """
    shell = _Shell(sock, relay, now, open_sendmmsg(sock))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shell.keep_time)
        task_status.started(sock.getsockname()[:2])
        credit_s = 0.0
        while True:
            before_turn()
            began = now()
            if shell.turn():
                # No longer than it has worked since: others may need the processor as much, but not more.
                ended = now()
                credit_s = min(credit_s + ended - began, GIVE_WAY_S)
                for _ in range(STEPS):
                    await trio.lowlevel.checkpoint()
                await give_way(credit_s)
                credit_s = max(0.0, credit_s - (now() - ended))
            else:
                await trio.lowlevel.wait_readable(sock)


def send_now(sock: socket.socket, relay: Relay, packets: Sealed) -> None:
    """Send one by one without waiting; what cannot be sent is counted and dropped, as befits voice.

    No destination stops the others: one may be unreachable while the rest listen.
    """
    sendto = sock.sendto
    for packet, address in each_packet(packets):
        try:
            sendto(packet, address)
        except BlockingIOError:
            relay.counters.would_block += 1
        except OSError:
            relay.counters.send_error += 1


class _Shell:
    """One socket's turns."""

    def __init__(
        self, sock: socket.socket, relay: Relay, now: Callable[[], float], mmsg: SendMmsg | None = None
    ) -> None:
        self._sock = sock
        self._relay = relay
        self._now = now
        self._mmsg = mmsg
        self._log_after = float("-inf")
        self._out: Sealed = []
        """What the last batch made."""
        self._sent = 0
        """So many of those are sent."""
        self._more = False
        """Whether more datagrams may be waiting."""

    def turn(self) -> bool:
        """Take a batch and relay it, then send a piece of what came of it; or only send the next piece.

        Returns:
            Whether there is more to do at once.
        """
        out = self._out
        if self._sent >= len(out):
            out = self._out = []
            self._sent = 0
            self._more = self._receive(out)
        self._sent = self._send(out, self._sent)
        if self._sent < len(out):
            return True
        self._relay.end_turn(out)
        return self._more

    async def keep_time(self) -> None:
        """Have the relay do what is due, for ever."""
        while True:
            out: Sealed = []
            now = self._now()
            try:
                due = self._relay.run_due(now, out)
            except Exception:
                due = None
                if self._count_failure(now):
                    log.exception("relay_timer_failed", internal=self._relay.counters.internal)
            sent = self._send(out, 0)
            while sent < len(out):
                await trio.lowlevel.checkpoint()
                sent = self._send(out, sent)
            # Datagrams and joins may set earlier deadlines in the meantime.
            tick_s = EMPTY_TICK_S if self._relay.is_empty else TICK_S
            await trio.sleep(tick_s if due is None else min(tick_s, max(due - now, 0.0)))

    def _send(self, out: Sealed, start: int) -> int:
        """Send a piece of `out`, from `start` on. Returns where the next piece begins."""
        end, count, size = start, 0, 0
        while end < len(out):
            data, destination = out[end]
            count += len(destination) if isinstance(destination, Destinations) else 1
            size += len(data)
            # Never less than one item: a bundle fits by itself.
            if end > start and (count > PIECE_PACKETS or size > ARENA_BYTES):
                break
            end += 1
        piece = out if end - start == len(out) else out[start:end]
        if self._mmsg is None or count < MMSG_PACKETS_MIN:
            send_now(self._sock, self._relay, piece)
        else:
            self._send_at_once(self._mmsg, piece)
        return end

    def _send_at_once(self, mmsg: SendMmsg, piece: Sealed) -> None:
        try:
            failures = mmsg.send(piece)
        except ValueError:
            # Something in it cannot be sent at all; one by one it is only that which is not.
            send_now(self._sock, self._relay, piece)
            return
        for reason in failures:
            if reason == errno.EAGAIN:
                self._relay.counters.would_block += 1
            else:
                self._relay.counters.send_error += 1

    def _receive(self, out: Sealed) -> bool:
        now = self._now()
        recvfrom = self._sock.recvfrom
        counters = self._relay.counters
        enough = counters.rtp_forwarded + TURN_PACKETS
        end = now + TURN_S
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
            if counters.rtp_forwarded >= enough or len(out) >= TURN_PACKETS or self._now() >= end:
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
            if self._count_failure(now):
                log.exception("datagram_failed", bytes=len(data), internal=self._relay.counters.internal)

    def _count_failure(self, now: float) -> bool:
        """Count an exception that is a bug. Returns whether it may be logged: none was lately."""
        self._relay.counters.internal += 1
        if now < self._log_after:
            return False
        self._log_after = now + LOG_INTERVAL_S
        return True

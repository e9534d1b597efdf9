"""Owns where a relay's output ends: a few sockets that many listeners share, emptied faster than they are filled.

It must not open a packet; packets of a few listeners are kept to be opened once the clock has stopped.

Most packets are only counted, by their length, which tells SRTP from the relay's RTCP. Those of *sampled*
listeners come to sockets of their own, with the time at which the system took them in: that time is the end of a
packet's way through the relay, however late this process looks.
"""

from __future__ import annotations

import socket
from typing import Final

from benchmarks.support.mmsg import SO_TIMESTAMPNS, Inbox

BULK_SOCKETS: Final = 4
POSITIONS: Final = 3
"""Sampled listeners of a room: its first, the one in the middle, its last."""
SLOTS: Final = 512
SLOT_ROOM_BYTES: Final = 64
"""More than an SRTP packet, so that what is longer than one is not taken for one."""
BUFFER_BYTES: Final = 64 << 20

_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO_BYTES: Final = 36
_DROPS_AT: Final = 32
"""SK_MEMINFO_DROPS, the ninth of the words that SO_MEMINFO returns."""

Sample = tuple[int, int, bytes]
"""(position of the listener, nanoseconds since 1970 of its arrival, packet)."""


def open_media_socket() -> socket.socket:
    """Open a UDP socket on loopback, non-blocking, with as large a buffer as the system gives."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.bind(("127.0.0.1", 0))
    return sock


class MediaDrain:
    """The sockets of one relay's listeners.

    Args:
        packet_bytes: the length of every SRTP packet that will come.
        fan_out: listeners of a room.
        sampled_rooms: the first so many rooms have sampled listeners.
    """

    def __init__(self, packet_bytes: int, fan_out: int, sampled_rooms: int) -> None:
        self.received = 0
        """SRTP packets."""
        self.others = 0
        """What else came: the relay's RTCP."""
        self.samples: list[Sample] = []
        self.keeps_all = False
        """Whether every packet of a sampled listener is kept, or the first of each batch."""
        self._packet_bytes = packet_bytes
        self._positions = {place: i for i, place in enumerate(sorted({0, fan_out // 2, fan_out - 1}))}
        self._sampled_rooms = sampled_rooms
        self._bulk = [open_media_socket() for _ in range(BULK_SOCKETS)]
        self._sampled = [open_media_socket() for _ in self._positions]
        for sock in self._sampled:
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._bulk_fds = [sock.fileno() for sock in self._bulk]
        self._sampled_fds = list(enumerate(sock.fileno() for sock in self._sampled))
        self._bulk_inbox = Inbox(SLOTS, packet_bytes + SLOT_ROOM_BYTES)
        self._sampled_inbox = Inbox(SLOTS, packet_bytes + SLOT_ROOM_BYTES, timed=True)

    def position(self, room: int, listener: int) -> int | None:
        """Return which of the sampled positions a listener has; None: its packets are only counted."""
        return self._positions.get(listener) if room < self._sampled_rooms else None

    def address(self, room: int, listener: int) -> tuple[str, int]:
        """Return where a listener wants its packets."""
        position = self.position(room, listener)
        sock = self._bulk[listener % BULK_SOCKETS] if position is None else self._sampled[position]
        host, port = sock.getsockname()
        return host, port

    def take(self) -> bool:
        """Take what has arrived, of each socket a batch at most. Returns whether there was anything."""
        before = self.received + self.others
        inbox = self._bulk_inbox
        for fd in self._bulk_fds:
            received = inbox.receive(fd)
            if received:
                packets = inbox.count_of_length(received, self._packet_bytes)
                self.received += packets
                self.others += received - packets
        for position, fd in self._sampled_fds:
            received = self._sampled_inbox.receive(fd)
            if received:
                self._take_samples(position, received)
        return self.received + self.others != before

    def _take_samples(self, position: int, received: int) -> None:
        inbox = self._sampled_inbox
        kept = False
        for place in range(received):
            if inbox.length(place) != self._packet_bytes:
                self.others += 1
                continue
            self.received += 1
            if self.keeps_all or not kept:
                self.samples.append((position, inbox.arrived_ns(place), inbox.datagram(place)))
                kept = True
        inbox.renew(received)

    def dropped(self) -> int:
        """Return how many packets the system threw away because these sockets' buffers were full."""
        return sum(socket_drops(sock) for sock in (*self._bulk, *self._sampled))

    def close(self) -> None:
        """Close the sockets."""
        for sock in (*self._bulk, *self._sampled):
            sock.close()


def socket_drops(sock: socket.socket) -> int:
    """Return how many datagrams a socket of ours lost for want of room, since it was opened."""
    info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO_BYTES)
    return int.from_bytes(info[_DROPS_AT : _DROPS_AT + 4], "little")


def port_drops(table: str, port: int) -> int:
    """Return how many datagrams the sockets of a local port lost, by the text of /proc/net/udp (proc(5))."""
    drops = 0
    for line in table.splitlines()[1:]:
        fields = line.split()
        if int(fields[1].rpartition(":")[2], 16) == port:
            drops += int(fields[-1])
    return drops

"""Owns one relay under load: its rooms and their keys, the packets sent to it, those that came back.

It must not pace or measure; `benchmarks.support.media_probe` does. Packets are made and opened by libsrtp, so what
arrives is what another implementation accepts.

A packet's RTP timestamp is its number: relays leave the timestamp alone. Packet n is the next one of room
n mod rooms.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

import attrs
from pylibsrtp import Session

from benchmarks.peers.rooms import inbound, outbound
from benchmarks.support.media_drain import MediaDrain
from benchmarks.support.mmsg import Outbox

HEADER: Final = struct.Struct(">BBHII")
"""Version, payload type, sequence number, timestamp, ssrc (RFC 3550 section 5.1)."""
VERSION_2: Final = 0x80
PAYLOAD_TYPE: Final = 96
NUMBER_BYTES: Final = 8
"""At the begin of the payload: the number once more, under encryption."""
SEND_BUFFER_BYTES: Final = 4 << 20

Drops = Callable[[], dict[str, float]]
"""Returns what a relay says it dropped since its start, by reason."""


@attrs.frozen
class RoomKeys:
    """One talker with its listeners."""

    ssrc: int
    """What the talker sends with."""
    key: bytes = attrs.field(repr=False)
    """Master key and salt of what it sends."""
    listener_keys: Sequence[bytes] = attrs.field(repr=False)
    """The same of what each listener receives."""


class MediaSystem:
    """One relay under load.

    Args:
        name: as in the results.
        pid: its process.
        address: where it receives media.
        drops: asks what it dropped.
    """

    def __init__(
        self,
        name: str,
        pid: int,
        address: tuple[str, int],
        profile: str,
        payload_bytes: int,
        rooms: Sequence[RoomKeys],
        drain: MediaDrain,
        drops: Drops,
    ) -> None:
        self.name = name
        self.pid = pid
        self.port = address[1]
        self.drain = drain
        self.drops = drops
        self.fan_out = len(rooms[0].listener_keys)
        self.rooms = len(rooms)
        self.opened = 0
        """Samples that were opened and compared, all rightly."""
        self._payload_bytes = payload_bytes
        self._ssrcs = [room.ssrc for room in rooms]
        self._senders = [outbound(profile, room.key) for room in rooms]
        self._openers: dict[tuple[int, int], Session] = {}
        for number, room in enumerate(rooms):
            for listener, key in enumerate(room.listener_keys):
                position = drain.position(number, listener)
                if position is not None:
                    self._openers[number, position] = inbound(profile, key)
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket.connect(address)
        self.fd = self._socket.fileno()
        self._next = 0

    def prepare(self, outbox: Outbox, count: int) -> int:
        """Make the next `count` packets and lay them out; returns the number of the first."""
        first = self._next
        self._next += count
        rooms = self.rooms
        outbox.load(
            [
                self._senders[number % rooms].protect(self._plain(number, self._ssrcs[number % rooms]))
                for number in range(first, first + count)
            ]
        )
        return first

    def _plain(self, number: int, ssrc: int) -> bytes:
        sequence = number // self.rooms & 0xFFFF
        header = HEADER.pack(VERSION_2, PAYLOAD_TYPE, sequence, number & 0xFFFFFFFF, ssrc)
        return header + number.to_bytes(NUMBER_BYTES, "big").ljust(self._payload_bytes, b".")

    def verify(self) -> None:
        """Open the samples kept since the last time, as their listeners would; forget them.

        Raises:
            pylibsrtp.Error: a packet is not for its listener.
            AssertionError: a packet is not what was sent.
        """
        for position, _, packet in self.drain.samples:
            number = number_of(packet)
            plain = self._openers[number % self.rooms, position].unprotect(packet)
            assert plain[HEADER.size :] == self._plain(number, 0)[HEADER.size :]
            self.opened += 1
        self.drain.samples.clear()

    def close(self) -> None:
        """Close all sockets."""
        self._socket.close()
        self.drain.close()


def number_of(packet: bytes) -> int:
    """Return a packet's number, sealed or not."""
    return int.from_bytes(packet[4:8], "big")


def packet_bytes(profile: str, payload_bytes: int) -> int:
    """Return how long the load's SRTP packets are."""
    session = outbound(profile, bytes(64))
    return len(session.protect(HEADER.pack(VERSION_2, PAYLOAD_TYPE, 0, 0, 1) + bytes(payload_bytes)))

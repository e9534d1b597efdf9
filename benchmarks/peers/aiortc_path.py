"""A relay on the path that media takes through aiortc: RtpPacket parsed and serialized, libsrtp, asyncio.

What RTCDtlsTransport, RTCRtpReceiver and RTCRtpSender do with a packet that is passed on is repeated here without
DTLS and ICE, jitter buffers, codecs and statistics: less than aiortc does, so it is faster than aiortc.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiortc.rtp import HeaderExtensionsMap, RtpPacket, is_rtcp
from pylibsrtp import Error, Session

from benchmarks.peers.rooms import inbound, open_socket, outbound, read_rooms

Legs = list[tuple[Session, tuple[str, int]]]


class Relay(asyncio.DatagramProtocol):
    """Opens and parses each packet; serializes and protects it anew for each listener."""

    def __init__(self, rooms: dict[bytes, tuple[Session, Legs]]) -> None:
        self._rooms = rooms
        self._extensions = HeaderExtensionsMap()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport to send with."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        """Relay a packet."""
        room = self._rooms.get(data[8:12])
        if room is None or is_rtcp(data):
            return
        session, legs = room
        try:
            packet = RtpPacket.parse(session.unprotect(data), self._extensions)
        except (Error, ValueError):
            return
        assert self._transport is not None
        for leg, address in legs:
            # Each RTCRtpSender makes its own packet: with its own ssrc, if nothing else.
            own = RtpPacket(
                payload_type=packet.payload_type,
                marker=packet.marker,
                sequence_number=packet.sequence_number,
                timestamp=packet.timestamp,
                ssrc=packet.ssrc,
                payload=packet.payload,
            )
            own.extensions = packet.extensions
            self._transport.sendto(leg.protect(own.serialize(self._extensions)), address)


async def main() -> None:
    """Relay until killed."""
    profile, rooms = read_rooms()
    sessions = {
        room.ssrc.to_bytes(4, "big"): (
            inbound(profile, room.key),
            [(outbound(profile, listener.key), listener.address) for listener in room.listeners],
        )
        for room in rooms
    }
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Relay(sessions), sock=open_socket())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

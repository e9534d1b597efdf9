"""A relay on the path that media takes through aiortc: RtpPacket parsed and serialized, libsrtp, asyncio.

What RTCDtlsTransport, RTCRtpReceiver and RTCRtpSender do with a packet that is passed on is repeated here without
DTLS and ICE, jitter buffers, codecs and statistics: less than aiortc does, so it is faster than aiortc.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiortc.rtp import HeaderExtensionsMap, RtpPacket, is_rtcp
from pylibsrtp import Error

from benchmarks.peers import asyncio_pylibsrtp

_EXTENSIONS: Final = HeaderExtensionsMap()


class Relay(asyncio_pylibsrtp.Relay):
    """Opens and parses each packet; serializes and protects it anew for each listener."""

    def datagram_received(self, data: bytes, addr: tuple[str | int, int]) -> None:
        """Relay a packet."""
        room = self.rooms.get(data[8:12])
        if room is None or is_rtcp(data):
            return
        session, legs = room
        try:
            packet = RtpPacket.parse(session.unprotect(data), _EXTENSIONS)
        except (Error, ValueError):
            return
        sendto = self.transport.sendto
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
            sendto(leg.protect(own.serialize(_EXTENSIONS)), address)


if __name__ == "__main__":
    asyncio.run(asyncio_pylibsrtp.serve(Relay))

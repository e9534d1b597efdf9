"""Owns the UDP side of a voice for `livechat listen` and `livechat talk`: sealing, opening, keeping it alive.

It must not know where sound comes from or goes to. Keys stay in this process.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

import attrs
import trio

from livechat.client.voice import VoiceKeys
from livechat.error import ProtocolError
from livechat.protocol.types import Address
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import FIXED_BYTES, RtpHeader, parse_untrusted
from livechat.srtp.error import SrtpError

KEEPALIVE_S: Final = 5.0
"""Between reports: a voice ends after 30 s without one, and a NAT forgets a way after as much."""
DATAGRAM_BYTES_MAX: Final = 2048


def seal_untrusted(keys: VoiceKeys, datagram: bytes) -> bytes | None:
    """Seal RTP or RTCP of any one source as our own; None for what is neither, or was there before."""
    try:
        kind = classify(datagram)
        if kind is Kind.RTP and len(datagram) >= FIXED_BYTES:
            return keys.protect(datagram[:8] + keys.ssrc.to_bytes(4, "big") + datagram[12:])
        if kind is Kind.RTCP:
            return _seal_report(keys, rtcp.parse_compound_untrusted(datagram))
    except (SrtpError, ProtocolError):
        pass
    return None


def _seal_report(keys: VoiceKeys, packets: Iterable[rtcp.RtcpPacket]) -> bytes | None:
    """Seal a sender report and what it says of its sender; a BYE is the server's to say."""
    ours: list[rtcp.RtcpPacket] = []
    for packet in packets:
        if isinstance(packet, rtcp.SenderReport):
            ours.append(attrs.evolve(packet, ssrc=keys.ssrc, reports=()))
        elif isinstance(packet, rtcp.SourceDescription) and packet.chunks:
            chunk = attrs.evolve(packet.chunks[0], ssrc=keys.ssrc)
            ours.append(rtcp.SourceDescription((chunk,)))
    is_report = bool(ours) and isinstance(ours[0], rtcp.SenderReport)
    return keys.protect_rtcp(rtcp.serialize_compound(ours)) if is_report else None


def sign_of_life(keys: VoiceKeys) -> bytes:
    """Return an empty receiver report."""
    return keys.protect_rtcp(rtcp.serialize(rtcp.ReceiverReport(keys.ssrc)))


def open_untrusted(keys: VoiceKeys, datagram: bytes) -> tuple[RtpHeader, bytes] | None:
    """Return an RTP packet's header and payload; None for anything that is none, or not authentic."""
    if classify(datagram) is not Kind.RTP:
        return None
    try:
        header, payload = parse_untrusted(keys.unprotect(datagram))
    except (SrtpError, ProtocolError):
        return None
    # Padding counts itself in its last byte.
    padding = payload[-1] if header.padding and payload else 0
    return attrs.evolve(header, padding=False), payload[: max(0, len(payload) - padding)]


class MediaLink:
    """A UDP socket to the server, and the keys of the voice that it carries.

    Args:
        sock: unbound sockets are bound by the first packet that is sent.
    """

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._socket = sock
        self._keys: VoiceKeys | None = None
        """None until the first grant."""
        self._server: Address | None = None

    async def use(self, grant: MediaGrant) -> None:
        """Send as a grant says from now on; what comes under the one before is opened for a while.

        Raises:
            OSError: its host cannot be resolved.
        """
        found = await trio.socket.getaddrinfo(
            grant.host, grant.port, family=self._socket.family, type=socket.SOCK_DGRAM
        )
        host, port = found[0][4][:2]
        self._server = str(host), int(port)
        if self._keys is None:
            self._keys = VoiceKeys(grant, trio.current_time)
        else:
            self._keys.update(grant)

    async def send(self, datagram: bytes) -> None:
        """Seal a packet and send it; one that cannot be sent is lost, as any may be."""
        if self._keys is not None:
            await self._send(seal_untrusted(self._keys, datagram))

    async def receive(self) -> tuple[RtpHeader, bytes] | None:
        """Return the next RTP packet; None for one that is none or not authentic."""
        datagram, _ = await self._socket.recvfrom(DATAGRAM_BYTES_MAX)
        return None if self._keys is None else open_untrusted(self._keys, datagram)

    async def keep_alive(self) -> None:
        """Send a sign of life now and then; does not return."""
        while True:
            if self._keys is not None:
                await self._send(sign_of_life(self._keys))
            await trio.sleep(KEEPALIVE_S)

    async def _send(self, packet: bytes | None) -> None:
        if packet is None or self._server is None:
            return
        try:
            await self._socket.sendto(packet, self._server)
        except OSError:
            # No route, or nobody there just now: the gateway's connection tells whether it stays so.
            await trio.lowlevel.checkpoint()


def media_socket(host: str) -> trio.socket.SocketType:
    """Open a UDP socket of the family of an IP literal; the caller closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return trio.socket.socket(family, socket.SOCK_DGRAM)

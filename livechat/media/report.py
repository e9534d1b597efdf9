"""Owns what one side gets to read of another side's RTCP.

It must not know of keys or addresses, nor to whom a report goes.

Source: RFC 3550 sections 6.1 and 7.2: a translator that changes ssrcs and sequence numbers must change the
reports to match.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

import attrs

from livechat.rtp import rtcp
from livechat.rtp.feedback import AnyPacket
from livechat.rtp.reception import Reception

_COUNTS: Final = struct.Struct(">II")
_COUNTS_AT: Final = 20
"""In an SR, packets and octets follow header, ssrc, NTP and RTP timestamp (RFC 3550 section 6.4.1)."""


@attrs.frozen
class OwnReport:
    """What a publisher said of itself in one datagram, under the ssrc that the others know it by."""

    ssrc: int
    report: rtcp.SenderReport | None
    """Without report blocks: they speak of ssrcs and sequence numbers on its own leg, which mean nothing to
    others."""
    chunk: rtcp.SdesChunk | None
    goodbye: rtcp.Goodbye | None

    def serialize(self) -> bytes:
        """Return a compound that starts with an SR or an empty RR (RFC 3550 section 6.1); b"" if all is None."""
        if self.report is None and self.chunk is None and self.goodbye is None:
            return b""
        compound: list[rtcp.RtcpPacket] = [self.report or rtcp.ReceiverReport(self.ssrc)]
        if self.chunk is not None:
            compound.append(rtcp.SourceDescription((self.chunk,)))
        if self.goodbye is not None:
            compound.append(self.goodbye)
        return rtcp.serialize_compound(compound)


def own_report(packets: Iterable[AnyPacket], ssrc: int, egress_ssrc: int) -> OwnReport:
    """Pick out what a publisher says of itself, and say it under its egress ssrc."""
    report: rtcp.SenderReport | None = None
    chunk: rtcp.SdesChunk | None = None
    goodbye: rtcp.Goodbye | None = None
    for packet in packets:
        if isinstance(packet, rtcp.SenderReport) and packet.ssrc == ssrc:
            report = attrs.evolve(packet, ssrc=egress_ssrc, reports=())
        elif isinstance(packet, rtcp.SourceDescription):
            own = (each for each in packet.chunks if each.ssrc == ssrc)
            chunk = next((attrs.evolve(each, ssrc=egress_ssrc) for each in own), chunk)
        elif isinstance(packet, rtcp.Goodbye) and ssrc in packet.ssrcs:
            goodbye = rtcp.Goodbye((egress_ssrc,), packet.reason)
    return OwnReport(egress_ssrc, report, chunk, goodbye)


def with_counts(compound: bytes, packets: int, octets: int) -> bytes:
    """Return a compound that starts with an SR, with other counts in that (they are 32 bits and wrap)."""
    counts = _COUNTS.pack(packets & 0xFFFFFFFF, octets & 0xFFFFFFFF)
    return compound[:_COUNTS_AT] + counts + compound[_COUNTS_AT + _COUNTS.size :]


def translated_block(block: rtcp.ReportBlock, ssrc: int, offset: int, newest: int) -> rtcp.ReportBlock:
    """Return what a listener reports on a publisher in the terms of that publisher.

    The highest sequence number moves back by the offset. Its cycles are made anew, so that it is nearest to the
    newest packet: those of a listener are not the publisher's where it, or its key, came later.

    Times stay: the SR that the listener speaks of went on at once, so they measure the whole way.

    Args:
        ssrc: what the publisher sends with.
        offset: of their leg: out index minus in index.
        newest: the in index of the newest packet on it.
    """
    ahead = ((block.highest_sequence - newest - offset + 0x8000) & 0xFFFF) - 0x8000
    return attrs.evolve(block, ssrc=ssrc, highest_sequence=(newest + ahead) & 0xFFFFFFFF)


def server_report(reporter_ssrc: int, cname: bytes, peer_ssrc: int, reception: Reception, now: float) -> bytes:
    """Return the compound in which the server tells a peer how it receives it: RR and SDES with a CNAME."""
    block = reception.report(peer_ssrc, now)
    chunk = rtcp.SdesChunk(reporter_ssrc, ((rtcp.SDES_CNAME, cname),))
    report = rtcp.ReceiverReport(reporter_ssrc, () if block is None else (block,))
    return rtcp.serialize_compound((report, rtcp.SourceDescription((chunk,))))

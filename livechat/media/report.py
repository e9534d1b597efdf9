"""Owns what listeners get to read of a publisher's RTCP.

It must not know of keys or addresses, nor to whom a report goes.

Source: RFC 3550 sections 6.1 and 7.2: a translator that changes ssrcs and sequence numbers must change the
reports to match.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from livechat.rtp import rtcp


def rebuild_report(packets: Iterable[rtcp.RtcpPacket], ssrc: int, egress_ssrc: int) -> bytes | None:
    """Rebuild what a publisher says of itself under the ssrc that the others know it by.

    Its sender report stays but for the report blocks: they speak of ssrcs and sequence numbers on its
    own leg, which mean nothing to others. The same goes for receiver reports and feedback.

    Returns:
        A compound that starts with an SR or an empty RR (RFC 3550 section 6.1); None if nothing in it
        is for others.
    """
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
    if report is None and chunk is None and goodbye is None:
        return None
    compound: list[rtcp.RtcpPacket] = [report or rtcp.ReceiverReport(egress_ssrc)]
    if chunk is not None:
        compound.append(rtcp.SourceDescription((chunk,)))
    if goodbye is not None:
        compound.append(goodbye)
    return rtcp.serialize_compound(compound)

"""Owns RTCP packets: SR, RR, SDES and BYE, alone or in one compound datagram.

It must not know of encryption, of timers, or of which reports make sense; feedback has a module of its own.

Source: RFC 3550 sections 6.4 to 6.6 and appendix A.2.

Every packet starts with the same word, and its length counts 32-bit words after that one:

    byte  0         1     2       4
          V P count type  length  body

    SR   ssrc, NTP timestamp (64), RTP timestamp, packets, octets, then `count` report blocks
    RR   ssrc, then `count` report blocks
    SDES `count` chunks: ssrc, items (type, length, text), a zero item, zeros to the next word
    BYE  `count` ssrcs, then an optional reason (length, text, zeros to the next word)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from livechat.error import ProtocolError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
GOODBYE: Final = 203

SDES_CNAME: Final = 1
"""The one item that every participant must send, RFC 3550 section 6.5.1."""

HEADER_BYTES: Final = 4
COUNT_MAX: Final = 31
"""Five bits of report blocks, chunks or sources."""

_VERSION: Final = 2
_PADDING_BIT: Final = 0x20
_COMMON: Final = struct.Struct(">BBH")
_SSRC: Final = struct.Struct(">I")
_SENDER_INFO: Final = struct.Struct(">IQIII")
_REPORT_BLOCK: Final = struct.Struct(">IIIIII")


@attrs.frozen
class ReportBlock:
    """How one source is received."""

    ssrc: int
    """The source reported about."""
    fraction_lost: int = 0
    """In 1/256 since the last report."""
    cumulative_lost: int = 0
    """Packets, signed 24 bits: duplicates make it negative."""
    highest_sequence: int = 0
    """Extended: cycles in the upper half."""
    jitter: int = 0
    """In units of the media clock."""
    last_sr: int = 0
    """Middle 32 bits of the last SR's NTP timestamp."""
    delay_since_last_sr: int = 0
    """In 1/65536 s."""


@attrs.frozen
class SenderReport:
    """What a source has sent, and when."""

    ssrc: int
    ntp_timestamp: int = 0
    """Wall clock, 64-bit fixed point, seconds since 1900."""
    rtp_timestamp: int = 0
    """The same instant in the media clock."""
    packet_count: int = 0
    octet_count: int = 0
    """Payload bytes sent."""
    reports: tuple[ReportBlock, ...] = ()


@attrs.frozen
class ReceiverReport:
    """How its sender receives others; without blocks it is a bare sign of life."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@attrs.frozen
class SdesChunk:
    """Who a source is: items of (type, text); the text is left undecoded."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...] = ()


@attrs.frozen
class SourceDescription:
    """SDES: one chunk a source."""

    chunks: tuple[SdesChunk, ...] = ()


@attrs.frozen
class Goodbye:
    """BYE: these sources have left."""

    ssrcs: tuple[int, ...] = ()
    reason: bytes = b""
    """Undecoded text of at most 255 bytes."""


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye
RawPacket = tuple[int, int, bytes]
"""(packet type, count, body without padding): a packet that is only cut out."""


def parse_compound_untrusted(datagram: bytes) -> list[RtcpPacket]:
    """Parse every packet of a datagram; types other than the four are stepped over.

    Reduced-size RTCP (RFC 5506) is accepted: no packet type has to come first.

    Raises:
        ProtocolError: the datagram is empty, or a packet in it is malformed.
    """
    packets = map(parse_raw_untrusted, split_untrusted(datagram))
    return [packet for packet in packets if packet is not None]


def split_untrusted(datagram: bytes) -> Iterator[RawPacket]:
    """Cut a datagram into its packets, of whatever type.

    Raises:
        ProtocolError: the datagram is empty, or a packet in it does not end where one can.
    """
    if not datagram:
        raise ProtocolError("RTCP: expected at least one packet, got none")
    offset = 0
    while offset < len(datagram):
        raw, offset = _cut_untrusted(datagram, offset)
        yield raw


def parse_raw_untrusted(raw: RawPacket) -> RtcpPacket | None:
    """Parse a packet that was cut out; None: it is none of the four.

    Raises:
        ProtocolError: it is malformed.
    """
    packet_type, count, body = raw
    if packet_type == SENDER_REPORT:
        return _parse_sender_report_untrusted(count, body)
    if packet_type == RECEIVER_REPORT:
        return _parse_receiver_report_untrusted(count, body)
    if packet_type == SOURCE_DESCRIPTION:
        return _parse_source_description_untrusted(count, body)
    if packet_type == GOODBYE:
        return _parse_goodbye_untrusted(count, body)
    return None


def serialize_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """Return the packets' bytes, one after the other."""
    return b"".join(map(serialize, packets))


def serialize(packet: RtcpPacket) -> bytes:
    """Return one packet's bytes."""
    match packet:
        case SenderReport():
            info = _SENDER_INFO.pack(
                packet.ssrc, packet.ntp_timestamp, packet.rtp_timestamp, packet.packet_count, packet.octet_count
            )
            return join(SENDER_REPORT, len(packet.reports), info + _serialize_reports(packet.reports))
        case ReceiverReport():
            body = _SSRC.pack(packet.ssrc) + _serialize_reports(packet.reports)
            return join(RECEIVER_REPORT, len(packet.reports), body)
        case SourceDescription():
            body = b"".join(map(_serialize_chunk, packet.chunks))
            return join(SOURCE_DESCRIPTION, len(packet.chunks), body)
        case Goodbye():
            body = struct.pack(f">{len(packet.ssrcs)}I", *packet.ssrcs)
            if packet.reason:
                body += _pad(bytes([len(packet.reason)]) + packet.reason)
            return join(GOODBYE, len(packet.ssrcs), body)


# --- parsing --------------------------------------------------------------------------------------


def _cut_untrusted(datagram: bytes, offset: int) -> tuple[RawPacket, int]:
    """Cut one packet out. Returns it and the next offset."""
    start = offset + HEADER_BYTES
    if start > len(datagram):
        raise ProtocolError(f"RTCP header: expected {HEADER_BYTES} bytes, got {len(datagram) - offset}")
    first, packet_type, words = _COMMON.unpack_from(datagram, offset)
    if first >> 6 != _VERSION:
        raise ProtocolError(f"RTCP packet: expected version {_VERSION}, got {first >> 6}")
    end = start + 4 * words
    if end > len(datagram):
        raise ProtocolError(f"RTCP packet: expected {end - start} bytes, got {len(datagram) - start}")
    body = datagram[start:end]
    if first & _PADDING_BIT:
        body = _strip_padding_untrusted(body)
    return (packet_type, first & COUNT_MAX, body), end


def _strip_padding_untrusted(body: bytes) -> bytes:
    """Cut off padding; its last byte counts it (a multiple of four), itself included."""
    if not body or body[-1] == 0 or body[-1] % 4 or body[-1] > len(body):
        raise ProtocolError("RTCP padding: expected a whole number of words within the packet")
    return body[: -body[-1]]


def _parse_sender_report_untrusted(count: int, body: bytes) -> SenderReport:
    require_untrusted(body, _SENDER_INFO.size, "sender report")
    ssrc, ntp_timestamp, rtp_timestamp, packet_count, octet_count = _SENDER_INFO.unpack_from(body)
    reports = _parse_reports_untrusted(count, body, _SENDER_INFO.size)
    return SenderReport(ssrc, ntp_timestamp, rtp_timestamp, packet_count, octet_count, reports)


def _parse_receiver_report_untrusted(count: int, body: bytes) -> ReceiverReport:
    require_untrusted(body, _SSRC.size, "receiver report")
    (ssrc,) = _SSRC.unpack_from(body)
    return ReceiverReport(ssrc, _parse_reports_untrusted(count, body, _SSRC.size))


def _parse_reports_untrusted(count: int, body: bytes, offset: int) -> tuple[ReportBlock, ...]:
    """Parse `count` blocks; what follows them is a profile's extension and is stepped over."""
    require_untrusted(body, offset + count * _REPORT_BLOCK.size, "report blocks")
    blocks = []
    for start in range(offset, offset + count * _REPORT_BLOCK.size, _REPORT_BLOCK.size):
        ssrc, loss, highest_sequence, jitter, last_sr, delay = _REPORT_BLOCK.unpack_from(body, start)
        cumulative_lost = (loss & 0xFFFFFF) - ((loss & 0x800000) << 1)
        blocks.append(ReportBlock(ssrc, loss >> 24, cumulative_lost, highest_sequence, jitter, last_sr, delay))
    return tuple(blocks)


def _parse_source_description_untrusted(count: int, body: bytes) -> SourceDescription:
    chunks = []
    offset = 0
    for _ in range(count):
        require_untrusted(body, offset + _SSRC.size, "SDES chunk")
        (ssrc,) = _SSRC.unpack_from(body, offset)
        items, offset = _parse_items_untrusted(body, offset + _SSRC.size)
        chunks.append(SdesChunk(ssrc, items))
    return SourceDescription(tuple(chunks))


def _parse_items_untrusted(body: bytes, offset: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """Parse one chunk's items. Returns (items, offset of the next chunk)."""
    items: list[tuple[int, bytes]] = []
    while True:
        require_untrusted(body, offset + 1, "SDES item")
        item_type = body[offset]
        if item_type == 0:
            # The zero item also fills the chunk to the next word.
            return tuple(items), (offset + 4) & ~3
        require_untrusted(body, offset + 2, "SDES item")
        start = offset + 2
        offset = start + body[offset + 1]
        require_untrusted(body, offset, "SDES text")
        items.append((item_type, body[start:offset]))


def _parse_goodbye_untrusted(count: int, body: bytes) -> Goodbye:
    end = 4 * count
    require_untrusted(body, end, "BYE")
    ssrcs = struct.unpack_from(f">{count}I", body)
    if len(body) == end:
        return Goodbye(ssrcs)
    start = end + 1
    require_untrusted(body, start + body[end], "BYE reason")
    return Goodbye(ssrcs, body[start : start + body[end]])


def require_untrusted(body: bytes, length: int, field: str) -> None:
    """Raise `ProtocolError` if the body of a packet ends before `length`."""
    if len(body) < length:
        raise ProtocolError(f"RTCP {field}: expected {length} bytes, got {len(body)}")


# --- serializing ----------------------------------------------------------------------------------


def join(packet_type: int, count: int, body: bytes) -> bytes:
    """Return a packet with its header; the body is a whole number of words."""
    assert count <= COUNT_MAX
    assert len(body) % 4 == 0
    return _COMMON.pack(_VERSION << 6 | count, packet_type, len(body) // 4) + body


def _serialize_reports(reports: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _REPORT_BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF,
            block.highest_sequence,
            block.jitter,
            block.last_sr,
            block.delay_since_last_sr,
        )
        for block in reports
    )


def _serialize_chunk(chunk: SdesChunk) -> bytes:
    items = b"".join(bytes([item_type, len(text)]) + text for item_type, text in chunk.items)
    # At least one zero ends the items, then zeros fill the word.
    return _pad(_SSRC.pack(chunk.ssrc) + items + b"\0")


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

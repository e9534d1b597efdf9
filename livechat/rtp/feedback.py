"""Owns RTCP feedback: what a receiver asks of a sender, and reading a datagram with any RTCP in it.

It must not decide what becomes of a request; the relay does.

Source: RFC 4585 section 6 (the common layout, generic NACK, PLI), RFC 5104 section 4.3.1 (FIR), and the drafts
that became what browsers speak: draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1 (transport-wide
feedback), draft-alvestrand-rmcat-remb-03 section 2.2 (REMB).

    byte  0          1     2       4                   8                        12
          V P format type  length  ssrc of who reports ssrc of what it is about what is reported

    type 205, format 1    NACK: (packet id, bit mask of the 16 that follow it), 16 bits each
    type 205, format 15   transport-wide feedback: base sequence number (16), packet count (16),
                          reference time (24, in 64 ms), feedback count (8), then status chunks and deltas
    type 206, format 1    PLI: nothing more
    type 206, format 4    FIR: ssrc, a sequence number of commands (8), 24 bits of zeros, for each
                          source; the ssrc in the header is 0
    type 206, format 15   "REMB": the number of ssrcs (8), exponent (6) and mantissa (18) of a bit rate,
                          then the ssrcs; the ssrc in the header is 0
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import attrs

from livechat.error import ProtocolError
from livechat.rtp import rtcp
from livechat.rtp.rtcp import RawPacket, RtcpPacket, join, require_untrusted

TRANSPORT_FEEDBACK: Final = 205
PAYLOAD_FEEDBACK: Final = 206

NACK_FORMAT: Final = 1
TRANSPORT_WIDE_FORMAT: Final = 15
PICTURE_LOSS_FORMAT: Final = 1
FULL_INTRA_FORMAT: Final = 4
APPLICATION_FORMAT: Final = 15

PACKETS_MAX: Final = 64
"""In one datagram: several times what a client has to say at once. A packet may be four bytes long, so that there
would be room for five hundred."""

_SSRCS: Final = struct.Struct(">II")
_NACK: Final = struct.Struct(">HH")
_TRANSPORT_WIDE: Final = struct.Struct(">HHI")
_FULL_INTRA: Final = struct.Struct(">IB3x")
_BANDWIDTH: Final = struct.Struct(">4sI")
_BANDWIDTH_NAME: Final = b"REMB"

_MASK_BITS: Final = 16
_MANTISSA_BITS: Final = 18


@attrs.frozen
class Nack:
    """These packets did not arrive (RFC 4585 section 6.2.1)."""

    sender_ssrc: int
    media_ssrc: int
    pairs: tuple[tuple[int, int], ...]
    """(packet id, mask): the packet with that sequence number, and for bit i (the lowest is 0) that of i + 1
    further on."""

    @classmethod
    def of(cls, sender_ssrc: int, media_ssrc: int, sequences: Iterable[int]) -> Nack:
        """Make one for sequence numbers in the order in which they were sent."""
        pairs: list[tuple[int, int]] = []
        for sequence in sequences:
            behind = (sequence - pairs[-1][0] - 1) & 0xFFFF if pairs else _MASK_BITS
            if behind < _MASK_BITS:
                pairs[-1] = (pairs[-1][0], pairs[-1][1] | 1 << behind)
            else:
                pairs.append((sequence, 0))
        return cls(sender_ssrc, media_ssrc, tuple(pairs))

    def sequences(self) -> Iterator[int]:
        """Yield the sequence numbers, 16 bits each, in the order in which they are named."""
        for packet_id, mask in self.pairs:
            yield packet_id
            for bit in range(_MASK_BITS):
                if mask >> bit & 1:
                    yield (packet_id + bit + 1) & 0xFFFF


@attrs.frozen
class TransportWideFeedback:
    """When which packets arrived, by transport-wide sequence numbers; what follows the counts is left as it is."""

    sender_ssrc: int
    media_ssrc: int
    base_sequence: int
    packet_count: int
    reference_time: int
    """In 64 ms, 24 bits."""
    feedback_count: int
    statuses: bytes = b""
    """Status chunks and receive deltas, a whole number of words."""


@attrs.frozen
class PictureLoss:
    """PLI: pictures are missing; a key frame would help (RFC 4585 section 6.3.1)."""

    sender_ssrc: int
    media_ssrc: int


@attrs.frozen
class FullIntraRequest:
    """FIR: a key frame is needed by somebody who has none to start from (RFC 5104 section 4.3.1)."""

    sender_ssrc: int
    requests: tuple[tuple[int, int], ...]
    """(ssrc of the source, number of the command): a repetition has the number of what it repeats, 8 bits."""


@attrs.frozen
class BandwidthEstimate:
    """REMB: so much the receiver believes it can take, of these sources together."""

    sender_ssrc: int
    exponent: int
    mantissa: int
    ssrcs: tuple[int, ...] = ()

    @property
    def bits_per_s(self) -> int:
        """The bit rate."""
        return self.mantissa << self.exponent


@attrs.frozen
class UnknownPacket:
    """A packet of a type, or feedback of a format, that is not spoken here."""

    packet_type: int
    format: int
    """Of feedback; of other types what stands in its place."""


FeedbackPacket = Nack | TransportWideFeedback | PictureLoss | FullIntraRequest | BandwidthEstimate
AnyPacket = RtcpPacket | FeedbackPacket | UnknownPacket


def parse_datagram_untrusted(datagram: bytes) -> list[AnyPacket]:
    """Parse every packet of a datagram, compound or of reduced size (RFC 5506): reports and feedback.

    Raises:
        ProtocolError: the datagram is empty, holds too many packets, or one that is malformed.
    """
    packets: list[AnyPacket] = []
    for raw in rtcp.split_untrusted(datagram):
        if len(packets) == PACKETS_MAX:
            raise ProtocolError(f"RTCP: expected at most {PACKETS_MAX} packets in a datagram")
        packet = rtcp.parse_raw_untrusted(raw) or parse_raw_untrusted(raw)
        packets.append(packet or UnknownPacket(raw[0], raw[1]))
    return packets


def parse_raw_untrusted(raw: RawPacket) -> FeedbackPacket | None:
    """Parse a packet that was cut out; None: it is no feedback that is spoken here.

    Raises:
        ProtocolError: it is malformed.
    """
    packet_type, packet_format, body = raw
    if packet_type not in (TRANSPORT_FEEDBACK, PAYLOAD_FEEDBACK):
        return None
    require_untrusted(body, _SSRCS.size, "feedback")
    match packet_type, packet_format:
        case (205, 1):
            return _parse_nack_untrusted(body)
        case (205, 15):
            return _parse_transport_wide_untrusted(body)
        case (206, 1):
            return PictureLoss(*_SSRCS.unpack_from(body))
        case (206, 4):
            return _parse_full_intra_untrusted(body)
        case (206, 15) if body[_SSRCS.size : _SSRCS.size + len(_BANDWIDTH_NAME)] == _BANDWIDTH_NAME:
            return _parse_bandwidth_untrusted(body)
    return None


def serialize(packet: FeedbackPacket) -> bytes:
    """Return one packet's bytes."""
    match packet:
        case Nack():
            body = b"".join(_NACK.pack(*pair) for pair in packet.pairs)
            return _join(TRANSPORT_FEEDBACK, NACK_FORMAT, packet.sender_ssrc, packet.media_ssrc, body)
        case TransportWideFeedback():
            time_and_count = packet.reference_time << 8 | packet.feedback_count
            body = _TRANSPORT_WIDE.pack(packet.base_sequence, packet.packet_count, time_and_count)
            body += packet.statuses
            return _join(TRANSPORT_FEEDBACK, TRANSPORT_WIDE_FORMAT, packet.sender_ssrc, packet.media_ssrc, body)
        case PictureLoss():
            return _join(PAYLOAD_FEEDBACK, PICTURE_LOSS_FORMAT, packet.sender_ssrc, packet.media_ssrc, b"")
        case FullIntraRequest():
            body = b"".join(_FULL_INTRA.pack(*request) for request in packet.requests)
            return _join(PAYLOAD_FEEDBACK, FULL_INTRA_FORMAT, packet.sender_ssrc, 0, body)
        case BandwidthEstimate():
            rate = len(packet.ssrcs) << 24 | packet.exponent << _MANTISSA_BITS | packet.mantissa
            body = _BANDWIDTH.pack(_BANDWIDTH_NAME, rate) + struct.pack(f">{len(packet.ssrcs)}I", *packet.ssrcs)
            return _join(PAYLOAD_FEEDBACK, APPLICATION_FORMAT, packet.sender_ssrc, 0, body)


def _join(packet_type: int, packet_format: int, sender_ssrc: int, media_ssrc: int, body: bytes) -> bytes:
    return join(packet_type, packet_format, _SSRCS.pack(sender_ssrc, media_ssrc) + body)


def _parse_nack_untrusted(body: bytes) -> Nack:
    # RFC 4585 section 6.2.1 wants one pair at least.
    require_untrusted(body, _SSRCS.size + _NACK.size, "NACK")
    sender_ssrc, media_ssrc = _SSRCS.unpack_from(body)
    return Nack(sender_ssrc, media_ssrc, tuple(_NACK.iter_unpack(body[_SSRCS.size :])))


def _parse_transport_wide_untrusted(body: bytes) -> TransportWideFeedback:
    start = _SSRCS.size + _TRANSPORT_WIDE.size
    require_untrusted(body, start, "transport-wide feedback")
    sender_ssrc, media_ssrc = _SSRCS.unpack_from(body)
    base_sequence, packet_count, time_and_count = _TRANSPORT_WIDE.unpack_from(body, _SSRCS.size)
    return TransportWideFeedback(
        sender_ssrc,
        media_ssrc,
        base_sequence,
        packet_count,
        time_and_count >> 8,
        time_and_count & 0xFF,
        body[start:],
    )


def _parse_full_intra_untrusted(body: bytes) -> FullIntraRequest:
    require_untrusted(body, _SSRCS.size + _FULL_INTRA.size, "FIR")
    # An entry that is cut off is not one.
    end = len(body) - (len(body) - _SSRCS.size) % _FULL_INTRA.size
    sender_ssrc, _ = _SSRCS.unpack_from(body)
    return FullIntraRequest(sender_ssrc, tuple(_FULL_INTRA.iter_unpack(body[_SSRCS.size : end])))


def _parse_bandwidth_untrusted(body: bytes) -> BandwidthEstimate:
    start = _SSRCS.size + _BANDWIDTH.size
    require_untrusted(body, start, "REMB")
    sender_ssrc, _ = _SSRCS.unpack_from(body)
    _, rate = _BANDWIDTH.unpack_from(body, _SSRCS.size)
    count = rate >> 24
    require_untrusted(body, start + 4 * count, "REMB ssrcs")
    exponent, mantissa = rate >> _MANTISSA_BITS & 0x3F, rate & (1 << _MANTISSA_BITS) - 1
    return BandwidthEstimate(sender_ssrc, exponent, mantissa, struct.unpack_from(f">{count}I", body, start))

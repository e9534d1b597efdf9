"""Owns the RTP header: where it ends, what it says, how it is written.

It must not know of encryption, of payload formats, or of who sent the packet.

Source: RFC 3550 sections 5.1 and 5.3.1.

    byte  0        1        2       4          8      12
          V P X CC M PT     seq     timestamp  ssrc   CC times a 32-bit CSRC
    then, if X:  profile (16 bits), length in 32-bit words (16 bits), that many words
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from livechat.error import ProtocolError

VERSION: Final = 2
FIXED_BYTES: Final = 12
"""The header without CSRCs and extension, RFC 3550 section 5.1."""

PLAIN_MASK: Final = 0xDF
"""Every bit of the first byte but padding, which leaves the header's length alone."""
PLAIN: Final = VERSION << 6
"""Version 2, no extension, no CSRC: the header is exactly `FIXED_BYTES` long."""
EXTENSION_BIT: Final = 0x10
"""Of the first byte: a header extension follows the CSRCs."""

_FIXED: Final = struct.Struct(">BBHII")
_EXTENSION: Final = struct.Struct(">HH")

_CSRC_COUNT_MASK: Final = 0x0F
_PADDING_BIT: Final = 0x20
_MARKER_BIT: Final = 0x80


@attrs.frozen
class RtpHeader:
    """One RTP header."""

    sequence: int
    """Low 16 bits of the packet's index."""
    timestamp: int
    """Media clock, 32 bits, in units of the payload's clock rate."""
    ssrc: int
    """Who sends, 32 bits."""
    payload_type: int = 0
    """7 bits."""
    marker: bool = False
    """For speech: the first packet after a silence."""
    padding: bool = False
    """The payload ends in padding whose last byte counts it; the payload is left as it came."""
    csrcs: tuple[int, ...] = ()
    """Contributing sources, at most 15."""
    extension: tuple[int, bytes] | None = None
    """(profile, data); the data is a whole number of 32-bit words."""

    def serialize(self) -> bytes:
        """Return the header's bytes; the caller appends the payload."""
        assert len(self.csrcs) <= _CSRC_COUNT_MASK
        first = PLAIN | len(self.csrcs)
        first |= _PADDING_BIT if self.padding else 0
        first |= EXTENSION_BIT if self.extension is not None else 0
        second = self.payload_type | (_MARKER_BIT if self.marker else 0)
        fixed = _FIXED.pack(first, second, self.sequence, self.timestamp, self.ssrc)
        csrcs = struct.pack(f">{len(self.csrcs)}I", *self.csrcs)
        return fixed + csrcs + self._serialize_extension()

    def _serialize_extension(self) -> bytes:
        if self.extension is None:
            return b""
        profile, data = self.extension
        assert len(data) % 4 == 0
        return _EXTENSION.pack(profile, len(data) // 4) + data


def header_length_untrusted(packet: bytes, trailer_bytes: int = 0) -> int:
    """Return how many bytes the RTP header takes, with CSRCs and extension.

    Args:
        trailer_bytes: bytes at the packet's end that are not RTP (an SRTP tag); the header must
            end before them.

    Raises:
        ProtocolError: the packet is no RTP version 2, or too short for the header it announces.
    """
    end = len(packet) - trailer_bytes
    if end < FIXED_BYTES:
        raise ProtocolError(f"RTP packet: expected {FIXED_BYTES + trailer_bytes} bytes, got {len(packet)}")
    first = packet[0]
    if first & PLAIN_MASK == PLAIN:
        return FIXED_BYTES
    if first >> 6 != VERSION:
        raise ProtocolError(f"RTP packet: expected version {VERSION}, got {first >> 6}")
    length = FIXED_BYTES + 4 * (first & _CSRC_COUNT_MASK)
    if first & EXTENSION_BIT:
        if length + _EXTENSION.size > end:
            raise ProtocolError(f"RTP extension: expected to start before byte {end}, got {length}")
        _, words = _EXTENSION.unpack_from(packet, length)
        length += _EXTENSION.size + 4 * words
    if length > end:
        raise ProtocolError(f"RTP header: expected at most {end} bytes, got {length}")
    return length


def parse_untrusted(packet: bytes) -> tuple[RtpHeader, bytes]:
    """Split a packet into its header and its payload (padding, if any, stays on the payload).

    Raises:
        ProtocolError: see `header_length_untrusted`.
    """
    length = header_length_untrusted(packet)
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(packet)
    csrc_count = first & _CSRC_COUNT_MASK
    extension: tuple[int, bytes] | None = None
    if first & EXTENSION_BIT:
        start = FIXED_BYTES + 4 * csrc_count
        profile, _ = _EXTENSION.unpack_from(packet, start)
        extension = (profile, packet[start + _EXTENSION.size : length])
    header = RtpHeader(
        sequence=sequence,
        timestamp=timestamp,
        ssrc=ssrc,
        payload_type=second & ~_MARKER_BIT,
        marker=bool(second & _MARKER_BIT),
        padding=bool(first & _PADDING_BIT),
        csrcs=struct.unpack_from(f">{csrc_count}I", packet, FIXED_BYTES),
        extension=extension,
    )
    return header, packet[length:]

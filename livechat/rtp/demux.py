"""Owns telling apart what arrives on the one media port, by its first two bytes.

It must not look further into a datagram, nor decide what becomes of it.

Source: RFC 7983 section 7 (first byte), RFC 5761 section 4 (RTP against RTCP).

    first byte   meaning
    0-3          STUN
    20-63        DTLS
    128-191      RTP or RTCP; RTCP if the second byte is 192-223
    all else     not spoken here (16-19 ZRTP, 64-79 TURN channels)
"""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """What a datagram claims to be; nothing about it has been verified."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    UNKNOWN = "unknown"


def _kind_of_first_byte(first: int) -> Kind:
    if first <= 3:
        return Kind.STUN
    if 20 <= first <= 63:
        return Kind.DTLS
    if 128 <= first <= 191:
        return Kind.RTP
    return Kind.UNKNOWN


# One index into a tuple is the cheapest classification that the hot path can make.
_KINDS = tuple(_kind_of_first_byte(first) for first in range(256))
# Loading an enum member from its class costs more than a module global, on every datagram.
_RTP = Kind.RTP
_RTCP = Kind.RTCP


def classify(datagram: bytes) -> Kind:
    """Classify a datagram by its first byte, and RTP against RTCP by its second.

    An empty datagram is `UNKNOWN`. One that is cut off after the first byte is `RTP` by it alone:
    whoever parses it finds it too short.
    """
    if not datagram:
        return Kind.UNKNOWN
    kind = _KINDS[datagram[0]]
    # RFC 5761 section 4 keeps RTP payload types 64-95 free, so that with the marker bit they read
    # as the RTCP packet types 192-223.
    if kind is _RTP and len(datagram) > 1 and 192 <= datagram[1] <= 223:
        return _RTCP
    return kind

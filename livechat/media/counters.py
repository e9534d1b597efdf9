"""Owns the count of what became of every datagram.

It must not know why a reason applies; the relay and its socket count, this only holds and names.
"""

from __future__ import annotations

import attrs


@attrs.define(slots=True)
class RelayCounters:
    """What became of the datagrams, each since the start."""

    received: int = 0
    """Datagrams of any kind."""
    rtp_accepted: int = 0
    """Authentic SRTP packets."""
    rtcp_accepted: int = 0
    """Authentic SRTCP packets."""
    rtp_forwarded: int = 0
    """Copies of SRTP packets made, one a listener."""
    rtcp_forwarded: int = 0
    """SRTCP packets made, one a listener, BYEs included."""
    keepalive: int = 0
    """Authentic SRTCP packets with nothing to pass on."""
    stun: int = 0
    """Dropped: STUN."""
    dtls: int = 0
    """Dropped: DTLS."""
    unknown_first_byte: int = 0
    """Dropped: no protocol of this port."""
    too_short: int = 0
    """Dropped: empty, or shorter than a header."""
    too_long: int = 0
    """Dropped: longer than the receive buffer."""
    malformed: int = 0
    """Dropped: a header or a report that does not parse."""
    unknown_ssrc: int = 0
    """Dropped: nobody here sends with it."""
    replay: int = 0
    """Dropped: received before, or too old."""
    authentication: int = 0
    """Dropped: the tag does not match."""
    key_exhausted: int = 0
    """Dropped: the index space of a key is used up."""
    older_than_leg: int = 0
    """Copies not made: the packet is older than the leg."""
    no_address: int = 0
    """Copies not made: nobody knows where the listener is."""
    receive_error: int = 0
    """The system failed to hand out a datagram."""
    send_error: int = 0
    """Packets not sent: the system refused that destination."""
    would_block: int = 0
    """Packets not sent: the socket's buffer was full."""
    internal: int = 0
    """Dropped: handling it failed, which is a bug."""

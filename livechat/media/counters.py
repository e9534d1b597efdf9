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
    """SRTCP packets made of what peers reported, one for each who is told, BYEs included."""
    rtcp_reports_received: int = 0
    """SRs and RRs of peers."""
    rtcp_reports_sent: int = 0
    """The server's own reports to peers."""
    rtcp_reports_translated: int = 0
    """Report blocks of listeners that went on to the publisher."""
    nacks: int = 0
    """Packets that listeners asked for once more."""
    retransmitted: int = 0
    """Packets sent once more."""
    key_frame_requests: int = 0
    """PLIs and FIRs of listeners."""
    key_frame_requests_forwarded: int = 0
    """Those that went on to the publisher."""
    rtcp_terminated: int = 0
    """Transport-wide feedback and bandwidth estimates, which end here."""
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
    not_forwarded: int = 0
    """Authentic, and kept from the others by the channel's rules: no floor, or too quiet."""
    older_than_leg: int = 0
    """Copies not made: the packet is older than the leg."""
    no_address: int = 0
    """Copies not made: nobody knows where the listener is."""
    rtcp_unknown: int = 0
    """Parts of SRTCP packets not passed on: of a type or format that is not known."""
    feedback_unheard: int = 0
    """Reports and requests not passed on: about an ssrc that the peer does not hear."""
    reports_over_budget: int = 0
    """Report blocks, and reports of peers on themselves, not passed on: there were many in this second."""
    key_frame_held_back: int = 0
    """PLIs and FIRs not passed on: the publisher was asked less than 500 ms before."""
    nack_missing: int = 0
    """Packets not sent once more: they are not kept any more, or were never sent to the listener."""
    nack_over_budget: int = 0
    """Packets not sent once more: it was done too often."""
    receive_error: int = 0
    """The system failed to hand out a datagram."""
    send_error: int = 0
    """Packets not sent: the system refused that destination."""
    would_block: int = 0
    """Packets not sent: the socket's buffer was full."""
    internal: int = 0
    """Dropped: handling it failed, which is a bug."""

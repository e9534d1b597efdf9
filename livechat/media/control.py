"""Owns the RTCP of a relay: what a peer reports is taken in here, and told on to those whom it concerns.

It must not open packets or decide who hears whom, and it knows of no socket.

Source: RFC 3550 sections 6.4 and 7.2 (a translator), RFC 4585 section 6, RFC 5104 section 4.3.1.

    from a peer            becomes
    SR                     an SR to each listener, with that leg's counts; the server's own notes
    SDES                   the same to each listener of a publisher, with an SR or when it has changed; to a
                           publisher with the RR
    BYE                    the same to each listener, but not again before something was heard
    report block           the listener's statistics; an RR to the publisher, in its terms
    NACK                   the packets once more, from the cache
    PLI, FIR               the same to the publisher, at most one in 500 ms
    transport-wide, REMB   nothing: they speak of the way between the peer and the server alone
    all else               nothing

An ssrc in what a peer reports is one that it hears, an egress ssrc; it is looked for among the peers of its own
channel, and what speaks of anybody else is dropped. Whoever is told, is told under the egress ssrc of the peer, by
the leg between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Final

import attrs

from livechat.error import ProtocolError
from livechat.hub.peer import PeerQuality
from livechat.limits.buckets import Buckets
from livechat.media.counters import RelayCounters
from livechat.media.legs import Leg, Plan
from livechat.media.node import Node
from livechat.media.rekey import RTCP_INDEX_WORN
from livechat.media.report import OwnReport, own_report, translated_block, with_counts
from livechat.media.retransmission import ASKED_MAX, Retransmitter
from livechat.rtp import feedback, rtcp
from livechat.rtp.feedback import AnyPacket, FullIntraRequest, Nack, PictureLoss
from livechat.srtp.cipher import RTCP_ENCRYPTED
from livechat.srtp.context import RTCP_INDEX_MAX
from livechat.srtp.sealed import Sealed

KEY_FRAMES_PER_S: Final = 2
"""Asked of one publisher: a key frame takes several times the bits of others, and serves all who asked."""
REPORTS_PER_S: Final = 20
"""Told on to one publisher: all that a hundred listeners have to say at the interval of RFC 3550."""
OWN_REPORTS_PER_S: Final = 10
"""Of one peer on itself, told on to all who hear it. RFC 3550 has one in some seconds; each makes a packet a
listener, also of those who may not talk."""
PUBLISHERS_MAX: Final = 4096
"""Whose budgets are remembered at once."""


@attrs.frozen
class Heard:
    """A datagram of a peer, in its context."""

    node: Node
    """Who sent it."""
    by_egress: Mapping[int, Node]
    """The peers of its channel."""
    plan: Callable[[], Plan]
    """Returns who hears it; of most who send RTCP it is never asked."""
    now: float
    """Monotonic seconds."""
    out: Sealed
    """What it causes is appended here."""
    looks: Iterator[object] = attrs.field(factory=lambda: repeat(None, ASKED_MAX))
    """One for each lost packet that may yet be looked for."""


class Control:
    """The RTCP of one relay."""

    def __init__(self, counters: RelayCounters) -> None:
        self._counters = counters
        self._retransmitter = Retransmitter(counters)
        self._reports = Buckets(REPORTS_PER_S, REPORTS_PER_S, PUBLISHERS_MAX)
        self._own_reports = Buckets(OWN_REPORTS_PER_S, OWN_REPORTS_PER_S, PUBLISHERS_MAX)
        self._key_frames = Buckets(KEY_FRAMES_PER_S, 1, PUBLISHERS_MAX)

    def datagram(self, plain: bytes, heard: Heard) -> None:
        """Take in an authentic datagram; what is not told on is a sign of life all the same."""
        try:
            packets = feedback.parse_datagram_untrusted(plain)
        except ProtocolError:
            self._counters.malformed += 1
            return
        heard.node.control.schedule.heard(len(plain))
        before = len(heard.out)
        own = own_report(packets, heard.node.peer.ssrc, heard.node.peer.egress_ssrc)
        self._tell_listeners(own, heard)
        name = b"" if own.chunk is None else rtcp.serialize(rtcp.SourceDescription((own.chunk,)))
        for packet in packets:
            self._take(packet, heard, name)
        if len(heard.out) == before:
            self._counters.keepalive += 1

    def _take(self, packet: AnyPacket, heard: Heard, name: bytes) -> None:
        """Take in one packet of a datagram, in which `name` is the SDES of the peer, or nothing."""
        match packet:
            case rtcp.SenderReport() | rtcp.ReceiverReport():
                self._counters.rtcp_reports_received += 1
                self._reports_on_others(packet.reports, heard, name)
            case Nack():
                self._nack(packet, heard)
            case PictureLoss():
                self._key_frame(packet.media_ssrc, None, heard)
            case FullIntraRequest():
                for ssrc, number in packet.requests:
                    self._key_frame(ssrc, number, heard)
            case feedback.TransportWideFeedback() | feedback.BandwidthEstimate():
                self._counters.rtcp_terminated += 1
            case feedback.UnknownPacket():
                self._counters.rtcp_unknown += 1
            case _:  # SDES and BYE speak of the peer itself, and were told already.
                pass

    # --- to the listeners -----------------------------------------------------------------------------

    def _tell_listeners(self, own: OwnReport, heard: Heard) -> None:
        node, state = heard.node, heard.node.control
        if own.report is not None:
            state.reception.sender_report(own.report.ntp_timestamp, heard.now)
        if not node.is_heard and (own.report or own.goodbye):
            # A report on what nobody hears helps nobody, and there may be hundreds who are silent. What they say
            # of themselves could be anything, and as often as they like: it must not pass by the floor either.
            own = attrs.evolve(own, report=None, goodbye=None)
            self._counters.not_forwarded += 1
        if own.report is None and (not node.is_heard or own.chunk == state.chunk_told or node.forwarded_index < 0):
            # Who only listens sends its SDES with each of its reports: to tell everybody each time, or at all,
            # would make a crowd of listeners a flood, and a leg for each pair of them.
            own = attrs.evolve(own, chunk=None)
        if own.goodbye is not None and node.forwarded_index == state.goodbye_index:
            # It said so before, and nothing of it was heard since.
            own = attrs.evolve(own, goodbye=None)
        compound = own.serialize()
        if not compound:
            return
        if self._own_reports.take(str(node.peer.peer_id), heard.now) is not None:
            self._counters.reports_over_budget += 1
            return
        state.chunk_told = own.chunk or state.chunk_told
        if own.goodbye is not None:
            state.goodbye_index = node.forwarded_index
        if own.report is None:
            plan = heard.plan()
            self.to_legs(node, plan.reachable, compound, heard.out)
            self._counters.no_address += plan.mute
        else:
            state.forwarded.append((own.report.ntp_timestamp >> 16 & 0xFFFFFFFF, heard.now))
            self._sender_report(heard, compound)

    def to_legs(self, node: Node, legs: Iterable[Leg], compound: bytes, out: Sealed) -> None:
        """Seal a compound of a peer, under its egress ssrc, for each who hears it by one of these."""
        for leg in legs:
            self._seal(node, leg, compound, out)

    def _sender_report(self, heard: Heard, compound: bytes) -> None:
        state, plan = heard.node.control, heard.plan()
        for leg in plan.reachable:
            # A leg that has not begun was sent nothing.
            begun = leg.offset is not None
            packets = state.packets_sent - leg.packets_before if begun else 0
            octets = state.octets_sent - leg.octets_before if begun else 0
            self._seal(heard.node, leg, with_counts(compound, packets, octets), heard.out)
        self._counters.no_address += plan.mute

    def _seal(self, node: Node, leg: Leg, compound: bytes, out: Sealed) -> bool:
        address = leg.listener.peer.address
        if address is None:
            self._counters.no_address += 1
            return False
        if leg.rtcp_next > RTCP_INDEX_WORN:
            leg.listener.is_worn = True
            if leg.rtcp_next > RTCP_INDEX_MAX:
                self._counters.key_exhausted += 1
                return False
        word = RTCP_ENCRYPTED | leg.rtcp_next
        leg.rtcp_next += 1
        out.append((leg.listener.rtcp.seal_rtcp(compound, node.peer.egress_ssrc, word), address))
        self._counters.rtcp_forwarded += 1
        return True

    # --- to a publisher -------------------------------------------------------------------------------

    def _publisher(self, egress_ssrc: int, heard: Heard) -> tuple[Node, Leg] | None:
        """Find whom a peer speaks of, and their leg; None, and counted: it has not heard such a one yet."""
        publisher = heard.by_egress.get(egress_ssrc)
        leg = None if publisher is None else publisher.legs.get(heard.node.peer.peer_id)
        if publisher is None or leg is None or leg.offset is None:
            self._counters.feedback_unheard += 1
            return None
        return publisher, leg

    def _to_publisher(self, publisher: Node, compound: bytes, heard: Heard) -> bool:
        """Seal a compound under the peer's egress ssrc for one of those who hear it."""
        legs, peer_id = heard.node.legs, publisher.peer.peer_id
        if peer_id not in legs:
            legs[peer_id] = Leg(publisher)
        return self._seal(heard.node, legs[peer_id], compound, heard.out)

    def _reports_on_others(self, blocks: Iterable[rtcp.ReportBlock], heard: Heard, name: bytes) -> None:
        worst_lost, worst_jitter_ms = -1, 0.0
        quality = heard.node.peer.quality
        for block in blocks:
            found = self._publisher(block.ssrc, heard)
            if found is None:
                continue
            publisher, leg = found
            quality.packets_lost_down += max(block.cumulative_lost - leg.lost, 0)
            leg.lost = block.cumulative_lost
            worst_lost = max(worst_lost, block.fraction_lost)
            clock_hz = publisher.control.reception.clock_hz
            worst_jitter_ms = max(worst_jitter_ms, block.jitter * 1000 / clock_hz if clock_hz else 0.0)
            _note_rtt(quality, block, publisher, heard.now)
            if self._reports.take(str(publisher.peer.peer_id), heard.now) is None:
                self._translate(block, publisher, leg, heard, name)
            else:
                self._counters.reports_over_budget += 1
        if worst_lost >= 0:
            quality.fraction_lost_down = worst_lost / 256
            quality.jitter_down_ms = worst_jitter_ms

    def _translate(self, block: rtcp.ReportBlock, publisher: Node, leg: Leg, heard: Heard, name: bytes) -> None:
        assert leg.offset is not None
        translated = translated_block(block, publisher.peer.ssrc, leg.offset, publisher.forwarded_index)
        report = rtcp.ReceiverReport(heard.node.peer.egress_ssrc, (translated,))
        if self._to_publisher(publisher, rtcp.serialize(report) + name, heard):
            self._counters.rtcp_reports_translated += 1

    def _nack(self, nack: Nack, heard: Heard) -> None:
        found = self._publisher(nack.media_ssrc, heard)
        if found is not None:
            publisher, leg = found
            self._retransmitter.answer(nack, publisher, leg, heard.now, heard.out, heard.looks)

    def _key_frame(self, egress_ssrc: int, number: int | None, heard: Heard) -> None:
        """Ask a publisher for a key frame: by PLI, or by FIR with the listener's number of the command.

        The number stays: it counts for the pair of who asks and who is asked (RFC 5104 section 4.3.1.1), and
        each listener asks under an ssrc of its own.
        """
        found = self._publisher(egress_ssrc, heard)
        if found is None:
            return
        self._counters.key_frame_requests += 1
        publisher, ours = found[0], heard.node.peer.egress_ssrc
        if self._key_frames.take(str(publisher.peer.peer_id), heard.now) is not None:
            self._counters.key_frame_held_back += 1
            return
        target = publisher.peer.ssrc
        request = PictureLoss(ours, target) if number is None else FullIntraRequest(ours, ((target, number),))
        compound = rtcp.serialize(rtcp.ReceiverReport(ours)) + feedback.serialize(request)
        if self._to_publisher(publisher, compound, heard):
            self._counters.key_frame_requests_forwarded += 1


def _note_rtt(quality: PeerQuality, block: rtcp.ReportBlock, publisher: Node, now: float) -> None:
    """Measure the round trip from the sender report that a block refers to (RFC 3550 section 6.4.1, figure 2)."""
    forwarded_at = publisher.control.forwarded_at(block.last_sr) if block.last_sr else None
    if forwarded_at is not None:
        rtt_s = now - forwarded_at - block.delay_since_last_sr / 65536
        # Who claims to have waited longer than it can have tells nothing.
        if rtt_s >= 0:
            quality.rtt_ms = rtt_s * 1000

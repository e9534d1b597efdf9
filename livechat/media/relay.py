"""Owns the voice relay: a datagram in, the same packet sealed anew for each listener out.

It must not touch a socket, await, or read a clock; the shell around it does.

Source: RFC 3550 section 2.3 (a translator that re-writes), RFC 3711, RFC 7714, RFC 7983.

A packet's way, in the order that makes it safe:

    classify -> find the peer by ssrc (an unknown one makes nothing) -> open: bounds, replay, tag, decrypt
    -> only now believe it: latch the address, touch the peer -> for each listener re-write and seal

A listener has one key for all it hears, so (egress ssrc, index) must never repeat under it. The server
owns both. A *leg* is one publisher heard by one listener; it has one offset, fixed when it begins:

    out index  =  in index + offset,  with the first out index in [1000, 2^15)

In indexes never repeat (the replay window sees to it), hence neither do out indexes; and whoever starts to
listen late starts at rollover count 0, far from the next rollover, as every SRTP receiver expects. Should a
publisher jump further ahead than a receiver can follow, its legs begin again, right after their last index.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from livechat.error import ProtocolError
from livechat.hub.media import MediaPeer, MediaPeerHub
from livechat.media.counters import RelayCounters
from livechat.media.report import rebuild_report
from livechat.protocol.types import Address
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import FIXED_BYTES
from livechat.srtp.cipher import (
    RTCP_ENCRYPTED,
    CounterLeg,
    CounterModeCipher,
    GcmCipher,
    GcmLeg,
    Sealed,
    make_ciphers,
)
from livechat.srtp.context import RTCP_INDEX_MAX, RTP_INDEX_MAX, SrtpReceiver
from livechat.srtp.error import AuthenticationError, MalformedPacket, ReplayError, SrtpError

FIRST_INDEX_MIN: Final = 1000
"""The first index of a leg is at least this: room for receivers that look back a little from it."""
FIRST_INDEX_END: Final = 1 << 15
"""... and below this: even if its first 2^15 packets were lost, a receiver's first is at rollover count 0."""

JUMP_MAX: Final = (1 << 15) - 1
"""How far ahead of the last index every receiver still estimates right (RFC 3711 appendix A)."""

_RTCP_BYTES_MIN: Final = 8

_RTP: Final = Kind.RTP
_RTCP: Final = Kind.RTCP


@attrs.define(slots=True, eq=False)
class _Leg:
    """One publisher heard by one listener."""

    listener: _Node
    offset: int | None = None
    """Out index minus in index; None until the leg begins."""
    begin: int = 0
    """The in index that it began with; older packets have no out index."""
    rtcp_next: int = 0
    """The next SRTCP index under (listener's key, publisher's egress ssrc)."""


@attrs.define(slots=True, eq=False)
class _Group:
    """The legs of one publisher with one offset: they share the re-written header."""

    offset: int
    begin: int = 0
    """The latest begin of its legs: from there on nobody has to be left out."""
    legs: list[_Leg] = attrs.field(factory=list)
    counter_legs: list[CounterLeg] = attrs.field(factory=list)
    gcm_legs: list[GcmLeg] = attrs.field(factory=list)

    def append(self, leg: _Leg, address: Address) -> None:
        """Take a leg in and unpack what sealing for it takes."""
        self.legs.append(leg)
        self.begin = max(self.begin, leg.begin)
        cipher = leg.listener.rtp
        if isinstance(cipher, GcmCipher):
            self.gcm_legs.append(cipher.leg(address))
        else:
            self.counter_legs.append(cipher.leg(address))


@attrs.define(slots=True, eq=False)
class _Plan:
    """Who hears a publisher, unpacked for the hot path; made anew when membership or an address changes."""

    groups: dict[int, _Group] = attrs.field(factory=dict)
    """By offset."""
    waiting: list[_Leg] = attrs.field(factory=list)
    """Legs that begin with the next packet."""
    reachable: list[_Leg] = attrs.field(factory=list)
    """Every leg whose listener has an address."""
    mute: int = 0
    """Listeners without an address."""


class _Node:
    """A media peer with its cryptographic state: as a publisher and as a listener."""

    __slots__ = ("egress_bytes", "legs", "newest_index", "peer", "plan", "receiver", "rtcp", "rtp")

    def __init__(self, peer: MediaPeer) -> None:
        self.peer = peer
        self.receiver = SrtpReceiver(peer.profile, peer.client_key)
        """Opens what it sends."""
        self.rtp, self.rtcp = make_ciphers(peer.profile, peer.server_key)
        """Seal what it hears."""
        self.egress_bytes = peer.egress_ssrc.to_bytes(4, "big")
        self.newest_index = -1
        """The highest index of an authentic SRTP packet from it; -1 before the first."""
        self.legs: dict[int, _Leg] = {}
        """Who hears it, by the listener's peer id. They last as long as both peers: a leg made twice
        would start its indexes again."""
        self.plan: _Plan | None = None


class Relay:
    """The relay of one node.

    Args:
        hub: decides who hears whom.
        randbelow: returns an unguessable number below its argument; first sequence numbers come from it.

    Attributes:
        counters: may be read and, by the shell that owns the socket, counted up.
    """

    def __init__(self, hub: MediaPeerHub, *, randbelow: Callable[[int], int] = secrets.randbelow) -> None:
        self.counters = RelayCounters()
        self._hub = hub
        self._randbelow = randbelow
        self._nodes: dict[int, _Node] = {}
        self._by_ssrc: dict[int, _Node] = {}

    def statistics(self) -> dict[str, int]:
        """Return every counter by name, and the number of peers."""
        return {"peers": len(self._nodes), **attrs.asdict(self.counters)}

    def add_peer(self, peer: MediaPeer) -> None:
        """Relay for a peer that was added to the hub; its keys must never have been used."""
        # A context made again under a living key would count its indexes from the start.
        assert not peer.is_ended
        assert peer.peer_id not in self._nodes
        assert peer.ssrc not in self._by_ssrc
        node = _Node(peer)
        self._nodes[peer.peer_id] = node
        self._by_ssrc[peer.ssrc] = node
        self._forget_plans(peer)

    def remove_peer(self, peer: MediaPeer) -> Sealed:
        """Stop relaying for a peer, before or after it leaves the hub.

        Returns:
            An RR and a BYE of it (RFC 3550 section 6.6) for every other peer that has an address.
        """
        node = self._nodes.pop(peer.peer_id)
        del self._by_ssrc[peer.ssrc]
        peer.is_ended = True
        ssrc = peer.egress_ssrc
        farewell = rtcp.serialize_compound((rtcp.ReceiverReport(ssrc), rtcp.Goodbye((ssrc,))))
        out: Sealed = []
        node.plan = None  # others may have left the hub since it was made
        self._forward_rtcp(node, farewell, out)
        for other in self._listeners(peer):
            other.plan = None
            other.legs.pop(peer.peer_id, None)
        return out

    def datagram(self, data: bytes, source: Address, now: float, out: Sealed) -> None:
        """Take one datagram and append what it causes to `out`; never raises for what a peer sent.

        Args:
            source: where it came from.
            now: monotonic seconds.
            out: receives (packet, destination).
        """
        self.counters.received += 1
        kind = classify(data)
        if kind is _RTP:
            self._rtp(data, source, now, out)
        elif kind is _RTCP:
            self._rtcp(data, source, now, out)
        elif kind is Kind.STUN:
            self.counters.stun += 1
        elif kind is Kind.DTLS:
            self.counters.dtls += 1
        elif data:
            self.counters.unknown_first_byte += 1
        else:
            self.counters.too_short += 1

    def _rtp(self, data: bytes, source: Address, now: float, out: Sealed) -> None:
        if len(data) < FIXED_BYTES:
            self.counters.too_short += 1
            return
        node = self._by_ssrc.get(int.from_bytes(data[8:12], "big"))
        if node is None:
            # Nothing is kept of it: a flood of made-up ssrcs costs this lookup and no memory.
            self.counters.unknown_ssrc += 1
            return
        try:
            _, index, header_bytes, payload, is_newest = node.receiver.open(data)
        except SrtpError as exc:
            self._refuse(node, exc)
            return
        # The packet is authentic and new; from here on it may change things. An old one that comes from
        # elsewhere is no sign that the peer moved: someone may have held it back to draw its audio away.
        if is_newest:
            if node.peer.address != source:
                self._latch(node, source)
            if index - node.newest_index > JUMP_MAX:
                self._begin_again(node, index)
            node.newest_index = index
        self.counters.rtp_accepted += 1
        _touch(node.peer, data, now)
        self._forward_rtp(node, data[:header_bytes], payload, index, out)

    def _rtcp(self, data: bytes, source: Address, now: float, out: Sealed) -> None:
        if len(data) < _RTCP_BYTES_MIN:
            self.counters.too_short += 1
            return
        node = self._by_ssrc.get(int.from_bytes(data[4:8], "big"))
        if node is None:
            self.counters.unknown_ssrc += 1
            return
        try:
            _, _, plain, is_newest = node.receiver.open_rtcp(data)
        except SrtpError as exc:
            self._refuse(node, exc)
            return
        # Authentic, as above. SRTCP has indexes of its own, so between it and SRTP nothing says which
        # packet is newer: it places only peers that never sent SRTP, the listeners.
        if is_newest and node.newest_index < 0 and node.peer.address != source:
            self._latch(node, source)
        self.counters.rtcp_accepted += 1
        _touch(node.peer, data, now)
        self._pass_on_report(node, plain, out)

    def _pass_on_report(self, node: _Node, plain: bytes, out: Sealed) -> None:
        try:
            packets = rtcp.parse_compound_untrusted(plain)
        except ProtocolError:
            self.counters.malformed += 1
            return
        report = rebuild_report(packets, node.peer.ssrc, node.peer.egress_ssrc)
        if report is None:
            self.counters.keepalive += 1
        else:
            self._forward_rtcp(node, report, out)

    def _refuse(self, node: _Node, error: SrtpError) -> None:
        node.peer.packets_rejected += 1
        match error:
            case AuthenticationError():
                self.counters.authentication += 1
            case ReplayError():
                self.counters.replay += 1
            case MalformedPacket():
                self.counters.malformed += 1
            case _:
                self.counters.key_exhausted += 1

    def _latch(self, node: _Node, source: Address) -> None:
        node.peer.address = source
        self._forget_plans(node.peer)

    def _begin_again(self, node: _Node, index: int) -> None:
        """Begin a publisher's legs again with this index, a jump ahead out of its listeners' reach.

        Only a stream that has not left its first cycle can jump so far (RFC 3711's estimate takes it for
        a rollover later): a client that starts anew with a random number under a living key.
        """
        closed_up = index - node.newest_index - 1
        for leg in node.legs.values():
            if leg.offset is not None:
                # From here on every index is at least one above all that the leg has used, and what
                # is older than the new begin is dropped: still no index comes twice.
                leg.offset -= closed_up
                leg.begin = index
        node.plan = None

    # --- who hears whom ---------------------------------------------------------------------------

    def _listeners(self, peer: MediaPeer) -> list[_Node]:
        nodes = (self._nodes.get(other.peer_id) for other in self._hub.listeners_of(peer))
        return [node for node in nodes if node is not None]

    def _forget_plans(self, peer: MediaPeer) -> None:
        """Have those whom the peer hears plan anew with their next packet: most of them never talk."""
        for other in self._listeners(peer):
            other.plan = None

    def _make_plan(self, node: _Node) -> _Plan:
        plan = node.plan = _Plan()
        for listener in self._listeners(node.peer):
            leg = node.legs.get(listener.peer.peer_id)
            if leg is None:
                leg = node.legs[listener.peer.peer_id] = _Leg(listener)
            address = listener.peer.address
            if address is None:
                plan.mute += 1
                continue
            plan.reachable.append(leg)
            if leg.offset is None:
                plan.waiting.append(leg)
                continue
            if leg.offset not in plan.groups:
                plan.groups[leg.offset] = _Group(leg.offset)
            plan.groups[leg.offset].append(leg, address)
        return plan

    def _begin_legs(self, node: _Node, plan: _Plan, index: int) -> _Plan:
        """Begin every waiting leg with the packet of this in index."""
        offset = self._offset_for(plan.groups, index)
        for leg in plan.waiting:
            leg.offset = offset
            leg.begin = index
        return self._make_plan(node)

    def _offset_for(self, offsets: Iterable[int], index: int) -> int:
        """Find an offset that puts this in index where a first packet belongs.

        One in use saves a header for every packet to come; a new one starts at random, as RFC 3550
        section 5.1 wants of sequence numbers.
        """
        for offset in offsets:
            if FIRST_INDEX_MIN <= index + offset < FIRST_INDEX_END:
                return offset
        return FIRST_INDEX_MIN + self._randbelow(FIRST_INDEX_END - FIRST_INDEX_MIN) - index

    # --- forwarding -------------------------------------------------------------------------------

    def _forward_rtp(self, node: _Node, header: bytes, payload: bytes, index: int, out: Sealed) -> None:
        plan = node.plan or self._make_plan(node)
        if plan.waiting:
            plan = self._begin_legs(node, plan, index)
        ssrc = node.peer.egress_ssrc
        before = len(out)
        for group in plan.groups.values():
            if index < group.begin:
                group = self._without_younger(group, index)
            out_index = index + group.offset
            if out_index > RTP_INDEX_MAX:
                # The leg is over. To wrap to index 0 would be the two-time pad.
                self.counters.key_exhausted += len(group.legs)
                continue
            sequence = (out_index & 0xFFFF).to_bytes(2, "big")
            rewritten = header[:2] + sequence + header[4:8] + node.egress_bytes + header[12:]
            if group.counter_legs:
                CounterModeCipher.seal_each(group.counter_legs, rewritten, payload, ssrc, out_index, out)
            if group.gcm_legs:
                GcmCipher.seal_each(group.gcm_legs, rewritten, payload, ssrc, out_index, out)
        made = len(out) - before
        node.peer.packets_forwarded += made
        self.counters.rtp_forwarded += made
        self.counters.no_address += plan.mute

    def _without_younger(self, group: _Group, index: int) -> _Group:
        """Return the group without the legs that began after this packet (it was late)."""
        older = _Group(group.offset)
        for leg in group.legs:
            address = leg.listener.peer.address
            if leg.begin <= index and address is not None:
                older.append(leg, address)
        self.counters.older_than_leg += len(group.legs) - len(older.legs)
        return older

    def _forward_rtcp(self, node: _Node, compound: bytes, out: Sealed) -> None:
        plan = node.plan or self._make_plan(node)
        for leg in plan.reachable:
            address = leg.listener.peer.address
            assert address is not None
            if leg.rtcp_next > RTCP_INDEX_MAX:
                self.counters.key_exhausted += 1
                continue
            word = RTCP_ENCRYPTED | leg.rtcp_next
            leg.rtcp_next += 1
            out.append((leg.listener.rtcp.seal_rtcp(compound, node.peer.egress_ssrc, word), address))
            self.counters.rtcp_forwarded += 1
        self.counters.no_address += plan.mute


def _touch(peer: MediaPeer, data: bytes, now: float) -> None:
    """Record a sign of life; only authentic packets are one."""
    peer.last_seen = now
    peer.packets_received += 1
    peer.bytes_received += len(data)

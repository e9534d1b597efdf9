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

import random
import secrets
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs

from livechat.hub.peer import NO_RULES, ChannelRules, MediaEvents, MediaPeer, NoEvents
from livechat.media.control import Control, Heard
from livechat.media.counters import RelayCounters
from livechat.media.forwarding import forward
from livechat.media.legs import Plan, make_plan
from livechat.media.node import Node
from livechat.media.rekey import KeyChanges
from livechat.media.reporting import Reporter
from livechat.media.sent import SentTurns, remember
from livechat.media.settings import DEFAULT_MEDIA, DEFAULT_SPEAKING, MediaSettings, SpeakingSettings
from livechat.media.speakers import Speakers
from livechat.media.stage import Stage
from livechat.protocol.types import Address, ChannelId
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.extensions import blank
from livechat.rtp.packet import FIXED_BYTES
from livechat.srtp.error import AuthenticationError, MalformedPacket, ReplayError, SrtpError
from livechat.srtp.sealed import Sealed

JUMP_MAX: Final = (1 << 15) - 1
"""How far ahead of the last index every receiver still estimates right (RFC 3711 appendix A)."""

_RTCP_BYTES_MIN: Final = 8

_RTP: Final = Kind.RTP
_RTCP: Final = Kind.RTCP


@attrs.define(slots=True, eq=False)
class _Room:
    """A channel with peers."""

    nodes: dict[int, Node] = attrs.field(factory=dict)
    """By peer id, in order of joining."""
    by_egress: dict[int, Node] = attrs.field(factory=dict)
    """By the ssrc that the others know them by."""
    stage: Stage | None = None
    """The places of those who are heard, where they are limited."""


class Relay:
    """The relay of one node.

    Args:
        events: may be set later.
        settings: of voice.
        speaking: what counts as speech.
        randbelow: returns an unguessable number below its argument; first sequence numbers come from it.
        chance: returns a number at random in [0, 1); reports are spread by it.

    Attributes:
        events: told what others must know.
        counters: may be read and, by the shell that owns the socket, counted up.
    """

    def __init__(
        self,
        events: MediaEvents | None = None,
        *,
        settings: MediaSettings = DEFAULT_MEDIA,
        speaking: SpeakingSettings = DEFAULT_SPEAKING,
        randbelow: Callable[[int], int] = secrets.randbelow,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.counters = RelayCounters()
        self.events: MediaEvents = events or NoEvents()
        self._speakers = Speakers(speaking)
        self._randbelow = randbelow
        self._control = Control(self.counters)
        self._reporter = Reporter(self.counters, settings, chance)
        self._sent = SentTurns(settings.resend_bytes)
        self._nodes: dict[int, Node] = {}
        self._by_ssrc: dict[int, Node] = {}
        self._rooms: dict[ChannelId, _Room] = {}
        self._key_changes = KeyChanges(self._listeners, settings.rekey_overlap_ms / 1000)

    def statistics(self) -> dict[str, int]:
        """Return every counter by name, and the number of peers."""
        return {"peers": len(self._nodes), **attrs.asdict(self.counters)}

    @property
    def is_empty(self) -> bool:
        """Whether there is no peer."""
        return not self._nodes

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        """Say whose media is forwarded in a channel from now on; nothing happens if it has no peers."""
        room = self._rooms.get(channel_id)
        if room is None:
            return
        for node in room.nodes.values():
            node.is_forwarded = _may_be_heard(node.peer, rules)
        self._set_stage(room, rules.max_speakers)
        for node in room.nodes.values():
            node.stage = room.stage
            if room.stage is not None and not node.is_forwarded:
                # Who has lost the floor may talk on; that must not keep its place from whoever has it now.
                room.stage.discard(node.speech)

    def _set_stage(self, room: _Room, limit: int | None) -> None:
        if limit is None:
            room.stage = None
        elif room.stage is not None:
            room.stage.set_limit(limit)
        else:
            speeches = (node.speech for node in room.nodes.values() if node.is_forwarded)
            room.stage = Stage(limit, self._speakers.settings, speeches)

    def add_peer(self, peer: MediaPeer, rules: ChannelRules = NO_RULES) -> None:
        """Relay for a peer.

        Args:
            peer: its keys must never have been used.
            rules: of its channel, from now on.
        """
        # A context made again under a living key would count its indexes from the start.
        assert not peer.is_ended
        assert peer.peer_id not in self._nodes
        assert peer.ssrc not in self._by_ssrc
        node = Node(peer, self._speakers.settings, self._reporter.new_state())
        self._nodes[peer.peer_id] = node
        self._by_ssrc[peer.ssrc] = node
        room = self._rooms.get(peer.channel_id)
        if room is None:
            room = self._rooms[peer.channel_id] = _Room()
        room.nodes[peer.peer_id] = room.by_egress[peer.egress_ssrc] = node
        self._reporter.add(node)
        self.set_rules(peer.channel_id, rules)
        self._forget_plans(peer)

    def remove_peer(self, peer: MediaPeer) -> Sealed:
        """Stop relaying for a peer.

        Returns:
            An RR and a BYE of it (RFC 3550 section 6.6) for each whom it has reached before. Who was never heard
            must not say goodbye (section 6.3.7): players take anybody's BYE for the end of what they play, and the
            end of a meeting of a thousand would be a million goodbyes.
        """
        node = self._nodes.pop(peer.peer_id)
        del self._by_ssrc[peer.ssrc]
        self._key_changes.forget(peer)
        peer.is_ended = True
        ssrc = peer.egress_ssrc
        farewell = rtcp.serialize_compound((rtcp.ReceiverReport(ssrc), rtcp.Goodbye((ssrc,))))
        out: Sealed = []
        room = self._rooms[peer.channel_id]
        legs = [leg for leg in node.legs.values() if leg.is_used]
        self._control.to_legs(node, legs, farewell, out)
        self._speakers.forget(node)
        del room.nodes[peer.peer_id], room.by_egress[peer.egress_ssrc]
        for other in room.nodes.values():
            other.plan = None
            other.legs.pop(peer.peer_id, None)
        if not room.nodes:
            del self._rooms[peer.channel_id]
        return out

    def rekey(self, peer: MediaPeer, now: float) -> None:
        """Go over to a peer's new keys, which took the place of the old; those end after the overlap."""
        self._key_changes.begin(self._nodes[peer.peer_id], now)

    def sent_up_to(self, peer: MediaPeer) -> int:
        """Return the highest SRTP index that a peer has sent, as it counts; -1: none."""
        return self._nodes[peer.peer_id].receiver.sent_up_to(peer.ssrc)

    def run_due(self, now: float, out: Sealed) -> float | None:
        """Do what is due, append what it causes to `out`; return when to call again, in monotonic seconds."""
        due = (
            self._reporter.run_due(now, out),
            self._speakers.run_due(now, self.events),
            self._key_changes.run_due(now, self._nodes, self.events),
        )
        return min((at for at in due if at is not None), default=None)

    def datagram(self, data: bytes, source: Address, now: float, out: Sealed) -> None:
        """Take one datagram and append what it causes to `out`; never raises for what a peer sent.

        Args:
            source: where it came from.
            now: monotonic seconds.
            out: receives packets and bundles.
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

    def end_turn(self, out: Sealed) -> None:
        """Hand over what one or more calls of `datagram` made, once it is sent; it may be emptied later."""
        self._sent.end_turn(out)

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
            node.newest_index = index
        self.counters.rtp_accepted += 1
        _touch(node.peer, data, now)
        node.control.reception.packet(data, index, now)
        if not self._speakers.hears(node, data, now, self.events, is_newest=is_newest):
            self.counters.not_forwarded += 1
            node.is_paused = True
            return
        if index > node.forwarded_index:
            if node.is_paused or index - node.forwarded_index > JUMP_MAX:
                self._begin_again(node, index)
            node.forwarded_index = index
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
        room = self._rooms[node.peer.channel_id]
        self._control.datagram(plain, Heard(node, room.by_egress, partial(self._plan, node), now, out))

    def _refuse(self, node: Node, error: SrtpError) -> None:
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

    def _latch(self, node: Node, source: Address) -> None:
        node.peer.address = source
        self._forget_plans(node.peer)

    def _begin_again(self, node: Node, index: int) -> None:
        """Begin a publisher's legs again with this index, right after the last that was forwarded.

        Either it was not heard for a while: its listeners must not take that for loss, nor lose count of its
        rollovers in it. Or it jumped ahead out of their reach. Only a stream that has not left its first cycle
        can jump so far (RFC 3711's estimate takes it for a rollover later): a client that starts anew with a
        random number under a living key.
        """
        node.is_paused = False
        closed_up = index - node.forwarded_index - 1
        for leg in node.legs.values():
            if leg.offset is not None:
                # From here on every index is at least one above all that the leg has used, and what
                # is older than the new begin is dropped: still no index comes twice.
                leg.offset -= closed_up
                leg.begin = index
        node.plan = None

    # --- who hears whom ---------------------------------------------------------------------------

    def _listeners(self, peer: MediaPeer) -> list[Node]:
        return [node for node in self._rooms[peer.channel_id].nodes.values() if node.peer is not peer]

    def _forget_plans(self, peer: MediaPeer) -> None:
        """Have those whom the peer hears plan anew with their next packet: most of them never talk."""
        for other in self._listeners(peer):
            other.plan = None

    def _plan(self, node: Node) -> Plan:
        return node.plan or make_plan(node, self._listeners(node.peer))

    # --- forwarding -------------------------------------------------------------------------------

    def _forward_rtp(self, node: Node, header: bytes, payload: bytes, index: int, out: Sealed) -> None:
        plan = node.plan or self._plan(node)
        if plan.waiting:
            node.control.begin(plan.begin_waiting(index, self._randbelow))
            plan = make_plan(node, self._listeners(node.peer))
        if len(header) > FIXED_BYTES and node.peer.extensions.transport_cc is not None:
            # Its numbers count all that the publisher sends to the server, a way that listeners have no part in.
            header = blank(header, node.peer.extensions.transport_cc)
        start = len(out)
        forward(node, plan, header, payload, index, out, self.counters)
        if self._sent.keeps:
            remember(node.sent, index, out, start)
        node.control.went_on(header, payload)


def _may_be_heard(peer: MediaPeer, rules: ChannelRules) -> bool:
    return not rules.floor_control or rules.floor_holder == peer.user_id


def _touch(peer: MediaPeer, data: bytes, now: float) -> None:
    """Record a sign of life; only authentic packets are one."""
    peer.last_seen = now
    peer.packets_received += 1
    peer.bytes_received += len(data)

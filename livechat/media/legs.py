"""Owns which legs a publisher's packets take: one a listener, each with an offset that is fixed when it begins.

It must not seal or send. A *leg* is one publisher heard by one listener:

    out index  =  in index + offset,  with the first out index in [1000, 2^15)

In indexes never repeat (the replay window sees to it), hence neither do out indexes; and whoever starts to
listen late starts at rollover count 0, far from the next rollover, as every SRTP receiver expects. When the
listener's key changes, the leg goes on at rollover count 0 under the new one: see `Plan.begin_waiting`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from livechat.srtp.cipher import AnyLeg
from livechat.srtp.sealed import Destinations

if TYPE_CHECKING:
    from livechat.media.node import Node

FIRST_INDEX_MIN: Final = 1000
"""The first index of a leg is at least this: room for receivers that look back a little from it."""
FIRST_INDEX_END: Final = 1 << 15
"""... and below this: even if its first 2^15 packets were lost, a receiver's first is at rollover count 0."""
GO_ON_END: Final = 3 << 14
"""A leg goes on at its sequence number under another key only below this: the same holds for 2^14 packets."""

BUNDLE_LEGS_MAX: Final = 128
"""So that a piece of what one packet with a thousand listeners makes can be sent before the rest."""


@attrs.define(slots=True, eq=False)
class Leg:
    """One publisher heard by one listener."""

    listener: Node
    offset: int | None = None
    """Out index minus in index; None until the leg begins."""
    begin: int = 0
    """The in index that it began with; older packets have no out index."""
    is_renewed: bool = False
    """Its listener has another key, under which it goes on with the next packet; its offset is the old yet."""
    rtcp_next: int = 0
    """The next SRTCP index under (listener's key, publisher's egress ssrc)."""
    packets_before: int = 0
    """Packets of the publisher that went on, but not on this leg: it had not begun, or they came late."""
    octets_before: int = 0
    """Their payload."""
    lost: int = 0
    """Packets lost in all by the listener's last report block."""
    resent: dict[int, int] | None = None
    """How often packets were sent again, by in index; None: none was ever asked for."""

    @property
    def is_used(self) -> bool:
        """Whether anything was sent on it, media or reports."""
        return self.offset is not None or self.rtcp_next > 0

    def leave_out(self, octets: int) -> None:
        """Note that a packet goes on, but not on this leg."""
        self.packets_before += 1
        self.octets_before += octets


@attrs.frozen(eq=False)
class Bundle:
    """Legs whose packets have one header and one length: what sealing for all of them takes."""

    seal: Callable[[Sequence[Any], bytes, bytes, int, int], bytes]
    """(keys, header, payload, ssrc, index) -> the packets back to back, in the order of the keys."""
    keys: Sequence[AnyLeg]
    destinations: Destinations


@attrs.define(slots=True, eq=False)
class Group:
    """The legs of one publisher with one offset: they share the re-written header."""

    offset: int
    begin: int = 0
    """The latest begin of its legs: from there on nobody has to be left out."""
    legs: list[Leg] = attrs.field(factory=list)
    """All with an address."""
    bundles: list[Bundle] = attrs.field(factory=list)
    """The same legs, unpacked for the hot path."""

    def append(self, leg: Leg) -> None:
        """Take a leg in, before `bundle_up`."""
        self.legs.append(leg)
        self.begin = max(self.begin, leg.begin)

    def bundle_up(self) -> None:
        """Sort the legs by the length of their tags, and unpack them."""
        by_tag: dict[int, list[Leg]] = {}
        for leg in self.legs:
            by_tag.setdefault(leg.listener.rtp.tag_bytes, []).append(leg)
        for legs in by_tag.values():
            # Nearly equal parts: a turn ends with a bundle, so a small one at the end would waste a call.
            parts = -(-len(legs) // BUNDLE_LEGS_MAX)
            self.bundles += [_bundle(legs[part::parts]) for part in range(parts)]

    def without_younger(self, index: int) -> Group:
        """Return the group without the legs that began after this in index (a packet came late)."""
        older = Group(self.offset)
        for leg in self.legs:
            if leg.begin <= index:
                older.append(leg)
        older.bundle_up()
        return older


def _bundle(legs: Sequence[Leg]) -> Bundle:
    ciphers = [leg.listener.rtp for leg in legs]
    peers = [leg.listener.peer for leg in legs]
    addresses = [peer.address for peer in peers if peer.address is not None]
    assert len(addresses) == len(peers)
    destinations = Destinations(addresses, [peer.peer_id for peer in peers])
    return Bundle(ciphers[0].seal_each, [cipher.leg() for cipher in ciphers], destinations)


@attrs.define(slots=True, eq=False)
class Plan:
    """Who hears a publisher, unpacked for the hot path; made anew when membership or an address changes."""

    groups: dict[int, Group] = attrs.field(factory=dict)
    """By offset."""
    waiting: list[Leg] = attrs.field(factory=list)
    """Legs that begin with the next packet, or go on with it under another key."""
    reachable: list[Leg] = attrs.field(factory=list)
    """Every leg whose listener has an address."""
    mute: int = 0
    """Listeners without an address."""

    def begin_waiting(self, index: int, randbelow: Callable[[int], int]) -> list[Leg]:
        """Begin every waiting leg with the packet of this in index; the plan must be made anew.

        A leg that has another key goes on at its sequence number, so that nobody sees a gap, but at rollover count
        0, where a fresh receiver begins: all indexes under the key are free. What comes late has an index as well,
        as the range of first indexes begins further up than a replay window is wide.

        Returns:
            Those that had not begun before.
        """
        began = [leg for leg in self.waiting if leg.offset is None]
        offset: int | None = None
        for leg in self.waiting:
            sequence = None if leg.offset is None else index + leg.offset & 0xFFFF
            if sequence is not None and FIRST_INDEX_MIN <= sequence < GO_ON_END:
                leg.offset = sequence - index
            else:
                if offset is None:
                    offset = offset_for(self.groups, index, randbelow)
                leg.offset = offset
            leg.is_renewed = False
        for leg in began:
            leg.begin = index
        return began


def make_plan(node: Node, listeners: Iterable[Node]) -> Plan:
    """Make the plan of a publisher, and the legs that are missing."""
    plan = node.plan = Plan()
    for listener in listeners:
        leg = node.legs.get(listener.peer.peer_id)
        if leg is None:
            leg = node.legs[listener.peer.peer_id] = Leg(listener)
        if listener.peer.address is None:
            plan.mute += 1
            continue
        plan.reachable.append(leg)
        if leg.offset is None or leg.is_renewed:
            plan.waiting.append(leg)
            continue
        if leg.offset not in plan.groups:
            plan.groups[leg.offset] = Group(leg.offset)
        plan.groups[leg.offset].append(leg)
    for group in plan.groups.values():
        group.bundle_up()
    return plan


def offset_for(offsets: Iterable[int], index: int, randbelow: Callable[[int], int]) -> int:
    """Find an offset that puts this in index where a first packet belongs.

    One in use saves a header for every packet to come; a new one starts at random, as RFC 3550
    section 5.1 wants of sequence numbers.
    """
    for offset in offsets:
        if FIRST_INDEX_MIN <= index + offset < FIRST_INDEX_END:
            return offset
    return FIRST_INDEX_MIN + randbelow(FIRST_INDEX_END - FIRST_INDEX_MIN) - index

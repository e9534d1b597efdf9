"""Owns how the keys of a peer change while media flow, and when keys are worn.

It must not draw keys, nor decide when they change; the node does.

Source: RFC 3711 sections 8.1 and 9.2 (re-keying, lifetimes).

Make before break: for an overlap both the older and the newer keys are good.

    what the peer sends    opened by either key; see `livechat.srtp.succession`
    what the peer hears    sealed under the older key until the peer was seen to have the newer (by its first
                           authentic packet, SRTP or SRTCP), or until half of the overlap is over (it only listens)

Nothing is lost: whatever was not sealed under the older key is sealed under the newer, late packets too. How a leg
goes on is for `livechat.media.legs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import inf
from typing import Final

import attrs

from livechat.hub.peer import MediaEvents, MediaPeer
from livechat.media.node import Node
from livechat.srtp.cipher import AnyCipher, make_ciphers
from livechat.srtp.context import RTCP_INDEX_MAX, RTP_INDEX_MAX, SrtpReceiver
from livechat.srtp.succession import KeySuccession

WORN: Final = 0.9
"""Keys are worn once so much of their lifetime is over."""
RTP_INDEX_WORN: Final = int(RTP_INDEX_MAX * WORN)
RTCP_INDEX_WORN: Final = int(RTCP_INDEX_MAX * WORN)
WEAR_LOOK_S: Final = 60.0
"""How often it is looked for worn keys. Nobody uses up the tenth that is left in that time: 2^27 SRTCP packets."""


@attrs.define(slots=True, eq=False)
class _Change:
    """The change of one peer's keys."""

    node: Node
    succession: KeySuccession
    rtp: AnyCipher
    rtcp: AnyCipher
    """Seal what it hears from the switch on."""
    switch_at: float | None
    """Monotonic seconds; None: done."""
    ends_at: float
    """When the older keys end."""


class KeyChanges:
    """The changes under way in a relay.

    Args:
        others: returns those of a peer's channel but itself: it hears them.
        overlap_s: how long older keys are good beside the newer.
    """

    def __init__(self, others: Callable[[MediaPeer], Iterable[Node]], overlap_s: float) -> None:
        self._others = others
        self._overlap_s = overlap_s
        self._under_way: dict[int, _Change] = {}
        """By peer id."""
        self._due = inf
        self._look_for_wear_at = -inf

    def begin(self, node: Node, now: float) -> None:
        """Go over to the keys that a peer has now. A change under way ends at once; the node waits for it."""
        peer = node.peer
        before = self._under_way.pop(peer.peer_id, None)
        if before is not None:
            self._switch(before)
            self._end(before)
        succession = KeySuccession(
            node.receiver,
            SrtpReceiver(peer.profile, peer.client_key),
            peer.ssrc,
            on_taken=partial(self._taken, peer, peer.client_key),
        )
        rtp, rtcp = make_ciphers(peer.profile, peer.server_key)
        switch_at, ends_at = now + self._overlap_s / 2, now + self._overlap_s
        self._under_way[peer.peer_id] = _Change(node, succession, rtp, rtcp, switch_at, ends_at)
        self._due = min(self._due, switch_at)
        node.receiver = succession

    def forget(self, peer: MediaPeer) -> None:
        """Take note that a peer is gone."""
        self._under_way.pop(peer.peer_id, None)

    def run_due(self, now: float, nodes: Mapping[int, Node], events: MediaEvents) -> float | None:
        """Switch and end what is due, and look for worn keys.

        Returns:
            When to call again, in monotonic seconds; None: there are no peers.
        """
        if not nodes:
            return None
        if now >= self._look_for_wear_at:
            self._look_for_wear_at = now + WEAR_LOOK_S
            for node in [node for node in nodes.values() if self._is_worn(node)]:
                events.keys_worn(node.peer)
        if now >= self._due:
            self._run_due(now)
        return min(self._due, self._look_for_wear_at)

    def _run_due(self, now: float) -> None:
        self._due = inf
        for peer_id, change in list(self._under_way.items()):
            if change.switch_at is not None and change.switch_at <= now:
                self._switch(change)
            if change.ends_at <= now:
                self._end(change)
                del self._under_way[peer_id]
            else:
                self._due = min(self._due, change.ends_at if change.switch_at is None else change.switch_at)

    def _is_worn(self, node: Node) -> bool:
        """Tell whether a peer's keys, of either direction, come near the end of their lifetime."""
        if node.peer.peer_id in self._under_way:
            return False
        rtp, rtcp = node.receiver.highest(node.peer.ssrc)
        return node.is_worn or rtp > RTP_INDEX_WORN or rtcp > RTCP_INDEX_WORN

    def _taken(self, peer: MediaPeer, client_key: bytes) -> None:
        """Switch, as the peer was seen to have these keys: perhaps long after the overlap, or too late."""
        if client_key != peer.client_key:
            return
        peer.keys_taken = True
        change = self._under_way.get(peer.peer_id)
        if change is not None:
            self._switch(change)

    def _switch(self, change: _Change) -> None:
        if change.switch_at is None:
            return
        change.switch_at = None
        node = change.node
        node.rtp, node.rtcp = change.rtp, change.rtcp
        node.is_worn = False
        node.control.report_next = 0
        for publisher in self._others(node.peer):
            leg = publisher.legs.get(node.peer.peer_id)
            if leg is not None:
                leg.is_renewed = True
                leg.rtcp_next = 0
                # The plan holds the older key, unpacked for the hot path.
                publisher.plan = None

    def _end(self, change: _Change) -> None:
        change.succession.end_older()
        change.node.receiver = change.succession.settled()

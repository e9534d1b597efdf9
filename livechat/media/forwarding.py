"""Owns the hot path: one opened packet, re-written and sealed for every leg of its publisher's plan.

It must not look up who hears whom, and nothing here is done per leg that can be done per packet.
"""

from __future__ import annotations

from livechat.media.counters import RelayCounters
from livechat.media.legs import Group, Plan
from livechat.media.node import Node
from livechat.media.rekey import RTP_INDEX_WORN
from livechat.media.rtcp_state import octets_of
from livechat.srtp.context import RTP_INDEX_MAX
from livechat.srtp.sealed import Sealed


def forward(
    node: Node, plan: Plan, header: bytes, payload: bytes, index: int, out: Sealed, counters: RelayCounters
) -> None:
    """Seal a publisher's packet for everyone in its plan, and append the bundles to `out`.

    Args:
        plan: with no leg that waits to begin.
        header: the RTP header as it came, with CSRCs and extension.
        index: the packet's own, as it came.
    """
    ssrc = node.peer.egress_ssrc
    made = 0
    for group in plan.groups.values():
        if index < group.begin:
            group = _without_younger(group, index, octets_of(header, payload), counters)
        out_index = index + group.offset
        if out_index > RTP_INDEX_WORN:
            for leg in group.legs:
                leg.listener.is_worn = True
            if out_index > RTP_INDEX_MAX:
                # The leg is over. To wrap to index 0 would be the two-time pad.
                counters.key_exhausted += len(group.legs)
                continue
        sequence = (out_index & 0xFFFF).to_bytes(2, "big")
        rewritten = header[:2] + sequence + header[4:8] + node.egress_bytes + header[12:]
        for bundle in group.bundles:
            out.append((bundle.seal(bundle.keys, rewritten, payload, ssrc, out_index), bundle.destinations))
        made += len(group.legs)
    node.peer.packets_forwarded += made
    counters.rtp_forwarded += made
    counters.no_address += plan.mute


def _without_younger(group: Group, index: int, octets: int, counters: RelayCounters) -> Group:
    older = group.without_younger(index)
    for leg in group.legs:
        if leg.begin > index:
            leg.leave_out(octets)
    counters.older_than_leg += len(group.legs) - len(older.legs)
    return older

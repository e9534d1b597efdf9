"""Owns the server's own reports: each peer is told, at the intervals of RFC 3550, how the server receives it.

It must not read a clock or send. Each peer is a session of two, it and the server, so how often it is reported to
does not depend on how many others there are.

The reports are sealed under the peer's key with an ssrc that nobody else is ever heard as in its channel, and with
an index of their own: so no (key, ssrc, index) comes twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from livechat.hub.peer import MediaPeer
from livechat.media.counters import RelayCounters
from livechat.media.node import Node
from livechat.media.rekey import RTCP_INDEX_WORN
from livechat.media.report import server_report
from livechat.media.rtcp_state import RtcpState
from livechat.media.settings import MediaSettings
from livechat.rtp.interval import ReportSchedule
from livechat.rtp.reception import Reception, make_clocks
from livechat.srtp.cipher import RTCP_ENCRYPTED
from livechat.srtp.context import RTCP_INDEX_MAX
from livechat.srtp.sealed import Sealed

REPORTS_PER_TURN: Final = 32
"""More that are due at once wait for the next turn: about half a millisecond."""
CNAME_BYTES: Final = 12
"""Of randomness, as RFC 7022 section 4.2 has it for a name that lives for one session."""


class Reporter:
    """Reports to the peers of a relay.

    Args:
        settings: of voice.
        chance: returns a number at random in [0, 1).
    """

    def __init__(self, counters: RelayCounters, settings: MediaSettings, chance: Callable[[], float]) -> None:
        self._counters = counters
        self._interval_min_s = settings.report_interval_ms / 1000
        self._clocks = make_clocks(settings.clock_rate_hz)
        self._chance = chance
        self._new: list[Node] = []
        self._due: list[tuple[float, int, Node]] = []
        """A heap of (when, in monotonic seconds, peer id, peer); each peer once, also some that have ended."""
        self._cname = secrets.token_hex(CNAME_BYTES).encode()

    def new_state(self) -> RtcpState:
        """Return the state of a peer that has just come."""
        return RtcpState(Reception(self._clocks), ReportSchedule(self._interval_min_s))

    def add(self, node: Node) -> None:
        """Begin to report to a peer; its first interval begins at the next `run_due`."""
        self._new.append(node)

    def run_due(self, now: float, out: Sealed) -> float | None:
        """Append the reports that are due to `out`; return when the next one is, None: there are no peers."""
        for node in self._new:
            self._schedule(node, now)
        self._new.clear()
        for _ in range(REPORTS_PER_TURN):
            if not self._due or self._due[0][0] > now:
                break
            node = heappop(self._due)[2]
            if node.peer.is_ended:
                continue
            self._report(node, now, out)
            self._schedule(node, now)
        return self._due[0][0] if self._due else None

    def _schedule(self, node: Node, now: float) -> None:
        sends = node.control.reception.highest >= 0
        after_s = node.control.schedule.next_after_s(self._chance(), other_sends=sends)
        heappush(self._due, (now + after_s, node.peer.peer_id, node))

    def _report(self, node: Node, now: float, out: Sealed) -> None:
        peer, state = node.peer, node.control
        if peer.address is None:
            return
        if state.report_next > RTCP_INDEX_WORN:
            node.is_worn = True
            if state.report_next > RTCP_INDEX_MAX:
                self._counters.key_exhausted += 1
                return
        compound = server_report(peer.reporter_ssrc, self._cname, peer.ssrc, state.reception, now)
        _note_quality(peer, state.reception)
        word = RTCP_ENCRYPTED | state.report_next
        state.report_next += 1
        packet = node.rtcp.seal_rtcp(compound, peer.reporter_ssrc, word)
        state.schedule.reported(len(packet))
        out.append((packet, peer.address))
        self._counters.rtcp_reports_sent += 1


def _note_quality(peer: MediaPeer, reception: Reception) -> None:
    if reception.clock_hz:
        peer.quality.packets_lost_up = reception.lost_in_all
        peer.quality.fraction_lost_up = reception.fraction_lost / 256
        peer.quality.jitter_up_ms = reception.jitter_ms

"""Owns the answer to NACKs: packets that were sent before are sent again, byte by byte what they were.

It must not seal anything: a packet sealed anew at an index that was used would be the two-time pad (RFC 3711
section 9.1), and to give it a new index would make it another packet. What is not kept any more is not sent again.

Source: RFC 4585 section 6.2.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from livechat.limits.buckets import Buckets
from livechat.media.counters import RelayCounters
from livechat.media.legs import Leg
from livechat.media.node import Node
from livechat.media.sent import find_sent, is_remembered
from livechat.rtp.feedback import Nack
from livechat.srtp.sealed import Sealed

RETRANSMISSIONS_PER_S: Final = 100
"""For one listener: a fifth of a video of 500 packets a second."""
TIMES_MAX: Final = 3
"""How often one packet is sent again to one listener: who lost it four times is better served by the next."""
ASKED_MAX: Final = 128
"""Sequence numbers looked at in one datagram: no more packets are kept of a publisher. A datagram has room for
thousands, and each takes some microseconds, sent again or not."""
LISTENERS_MAX: Final = 4096
"""Whose budgets are remembered at once."""


class Retransmitter:
    """Sends again what listeners have lost, within a budget for each."""

    def __init__(self, counters: RelayCounters) -> None:
        self._counters = counters
        self._budgets = Buckets(RETRANSMISSIONS_PER_S, RETRANSMISSIONS_PER_S, LISTENERS_MAX)

    def answer(
        self, nack: Nack, publisher: Node, leg: Leg, now: float, out: Sealed, looks: Iterator[object]
    ) -> None:
        """Append to `out` what a listener has lost of a publisher.

        Args:
            leg: the publisher's to the listener; it has begun.
            looks: gives one item for each number that may yet be looked at, see `ASKED_MAX`.
        """
        # In this order, as `zip` takes from the first before it finds the second used up.
        for sequence, _ in zip(nack.sequences(), looks, strict=False):
            self._counters.nacks += 1
            index = index_of(sequence, publisher, leg)
            # Older than the leg: it was never sent on it, whatever the number may mean to the listener.
            if index < leg.begin or not is_remembered(publisher.sent, index):
                self._counters.nack_missing += 1
            elif not self._may_send(leg, index, now):
                self._counters.nack_over_budget += 1
            else:
                self._send_again(publisher, leg, index, out)

    def _send_again(self, publisher: Node, leg: Leg, index: int, out: Sealed) -> None:
        # Only now, within the budget, is it looked for among what went to all the others.
        address = leg.listener.peer.address
        packet = find_sent(publisher.sent, index, leg.listener.peer.peer_id)
        if packet is None or address is None:
            self._counters.nack_missing += 1
            return
        out.append((packet, address))
        self._counters.retransmitted += 1

    def _may_send(self, leg: Leg, index: int, now: float) -> bool:
        """Take one from the listener's budget, and one of the times that the packet may be asked for."""
        if leg.resent is None:
            leg.resent = {}
        times = leg.resent.pop(index, 0)
        # In order of the last time, so what falls out is what was not asked for lately.
        leg.resent[index] = times
        if len(leg.resent) > ASKED_MAX:
            del leg.resent[next(iter(leg.resent))]
        if times >= TIMES_MAX or self._budgets.take(str(leg.listener.peer.peer_id), now) is not None:
            return False
        leg.resent[index] = times + 1
        return True


def index_of(sequence: int, publisher: Node, leg: Leg) -> int:
    """Return the publisher's index of what a listener knows by a sequence number: one of the last 2^16."""
    assert leg.offset is not None
    newest = publisher.forwarded_index
    return newest - ((newest + leg.offset - sequence) & 0xFFFF)

"""Owns when a participant's next RTCP report is due.

It must not read a clock or draw randomness; both are given.

Source: RFC 3550 sections 6.2 and 6.3.1, appendix A.7.

    bandwidth of all reports      5 % of the session's
    of those who send media       a quarter of that, shared among them, if they are few (at most a quarter)
    time between two reports      average size x sharers / their bandwidth, but at least 5 s, before the first
                                  report 2.5 s; then by chance 0.5 to 1.5 times as long, so that not all
                                  report at once

Appendix A.7 divides by e - 3/2 at last, to make up for a reconsideration of the time whenever one is due. The
members of our sessions are known, so nothing is reconsidered, and nothing is to be made up for.
"""

from __future__ import annotations

from typing import Final

import attrs

INTERVAL_MIN_S: Final = 5.0
"""RFC 3550 section 6.2."""
SESSION_BITS_PER_S: Final = 64_000
"""What one voice is taken to need: Opus at its best with headers, G.711 without."""
REPORTS_SHARE: Final = 0.05
"""Of the session's bandwidth, RFC 3550 section 6.2."""
SENDERS_SHARE: Final = 0.25
"""Of that, RFC 3550 section 6.2."""
FIRST_BYTES: Final = 100
"""The size of a report that is assumed before the first: RR, CNAME, UDP and IP."""
HEADERS_BYTES: Final = 28
"""UDP and IPv4, which count as well (RFC 3550 section 6.2)."""


def interval_s(members: int, senders: int, average_bytes: float, least_s: float, *, is_sender: bool) -> float:
    """Return the time between two reports before chance has its part.

    Args:
        members: of the session, at least 1; `senders` of them send media.
        average_bytes: of a report with all its headers.
        least_s: the result is at least this.
    """
    bytes_per_s = SESSION_BITS_PER_S / 8 * REPORTS_SHARE
    sharers = members
    if senders <= members * SENDERS_SHARE:
        sharers = senders if is_sender else members - senders
        bytes_per_s *= SENDERS_SHARE if is_sender else 1 - SENDERS_SHARE
    return max(average_bytes * sharers / bytes_per_s, least_s)


@attrs.define(slots=True)
class ReportSchedule:
    """The reports of one participant that sends no media itself, in a session of two."""

    interval_min_s: float = INTERVAL_MIN_S
    """Half of it before the first report."""
    average_bytes: float = FIRST_BYTES
    """Of the reports of both, RFC 3550 section 6.3.3."""
    sent: int = 0
    """Reports so far."""

    def heard(self, size: int) -> None:
        """Take note of a report of the other's, `size` bytes of UDP payload long."""
        self.average_bytes += (size + HEADERS_BYTES - self.average_bytes) / 16

    def next_after_s(self, chance: float, *, other_sends: bool) -> float:
        """Return after how many seconds the next report is due.

        Args:
            chance: at random in [0, 1).
            other_sends: whether the other one sends media.
        """
        senders = 1 if other_sends else 0
        least_s = self.interval_min_s if self.sent else self.interval_min_s / 2
        return interval_s(2, senders, self.average_bytes, least_s, is_sender=False) * (0.5 + chance)

    def reported(self, size: int) -> None:
        """Take note of a report of our own, `size` bytes of UDP payload long."""
        self.sent += 1
        self.heard(size)

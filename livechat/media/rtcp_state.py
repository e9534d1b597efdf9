"""Owns what the RTCP of one peer has to remember between packets.

It must not act on any of it; `control` and `reporting` do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import attrs

from livechat.media.legs import Leg
from livechat.rtp import rtcp
from livechat.rtp.interval import ReportSchedule
from livechat.rtp.reception import Reception

FORWARDED_MAX: Final = 8
"""Sender reports that listeners may still refer to: theirs are about as frequent, so it is one of the last two."""

_PADDING_BIT: Final = 0x20


@attrs.define(slots=True, eq=False)
class RtcpState:
    """The RTCP of one peer."""

    reception: Reception
    """How the server receives it."""
    schedule: ReportSchedule
    """When the server reports to it."""
    report_next: int = 0
    """The next SRTCP index under (its key, the server's reporter ssrc)."""
    packets_sent: int = 0
    """Of its SRTP packets, those that went on to its listeners, each counted once."""
    octets_sent: int = 0
    """Payload of those, without padding."""
    chunk_told: rtcp.SdesChunk | None = None
    """The SDES items of it that went on last."""
    goodbye_index: int | None = None
    """The highest index that was forwarded of it when its last BYE went on; None: none has."""
    forwarded: deque[tuple[int, float]] = attrs.field(factory=lambda: deque(maxlen=FORWARDED_MAX))
    """Its sender reports that went on: (middle of the NTP timestamp, when, in monotonic seconds)."""

    def went_on(self, header: bytes, payload: bytes) -> None:
        """Count an SRTP packet that went on to the listeners."""
        self.packets_sent += 1
        self.octets_sent += octets_of(header, payload)

    def begin(self, legs: Iterable[Leg]) -> None:
        """Note that legs begin with the packet that goes on next."""
        for leg in legs:
            leg.packets_before, leg.octets_before = self.packets_sent, self.octets_sent

    def forwarded_at(self, last_sr: int) -> float | None:
        """Return when the sender report went on that a report block refers to by `last_sr`."""
        return next((at for middle, at in self.forwarded if middle == last_sr), None)


def octets_of(header: bytes, payload: bytes) -> int:
    """Return the payload's bytes without padding, as an SR counts them (RFC 3550 section 6.4.1)."""
    if header[0] & _PADDING_BIT and payload:
        return max(len(payload) - payload[-1], 0)
    return len(payload)

"""Owns how one source is received: what is lost, how unevenly it comes, and the last of its sender reports.

It must not know of addresses, keys or other sources, nor when a report is due.

Source: RFC 3550 section 6.4.1 and appendices A.1 (sequence numbers), A.3 (loss) and A.8 (jitter); section 6.2 of
RFC 3551 for clock rates.

It is told of authentic packets only, each once and with its whole index: what appendix A.1 does to guess the
cycles and to tell a source from noise has been done by then.
"""

from __future__ import annotations

import struct
from typing import Final

from livechat.rtp.rtcp import ReportBlock

AUDIO_CLOCK_HZ: Final = 48_000
"""What Opus has, at all its rates (RFC 7587 section 4.1)."""
DROPOUT_MAX: Final = 3000
"""A gap of this many packets is no loss any more but a new beginning (RFC 3550 appendix A.1)."""

_STATIC_CLOCKS_HZ: Final = {
    **dict.fromkeys((0, 3, 4, 5, 7, 8, 9, 12, 13, 15, 18), 8_000),
    6: 16_000,
    10: 44_100,
    11: 44_100,
    16: 11_025,
    17: 22_050,
    **dict.fromkeys((14, 25, 26, 28, 31, 32, 33, 34), 90_000),
}
"""Clock rates of the payload types that always mean the same, RFC 3551 section 6."""

_TYPE_TIMESTAMP: Final = struct.Struct(">xB2xI")
"""Marker and payload type, and the timestamp, of an RTP header (RFC 3550 section 5.1)."""
_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1
_LOST_MIN: Final = -(1 << 23)
_LOST_MAX: Final = (1 << 23) - 1


def make_clocks(dynamic_hz: int = AUDIO_CLOCK_HZ) -> tuple[int, ...]:
    """Return the clock rate of each payload type, in Hz.

    Args:
        dynamic_hz: of the types that mean what was agreed upon.
    """
    return tuple(_STATIC_CLOCKS_HZ.get(payload_type, dynamic_hz) for payload_type in range(128))


class Reception:
    """One source as it is received.

    Args:
        clocks: as from `make_clocks`.
    """

    __slots__ = (
        "_base",
        "_clock_hz",
        "_clocks",
        "_expected_before",
        "_last_sr",
        "_last_sr_at",
        "_lost_before",
        "_received",
        "_received_before",
        "_transit_at",
        "_transit_timestamp",
        "fraction_lost",
        "highest",
        "jitter",
    )

    def __init__(self, clocks: tuple[int, ...]) -> None:
        self._clocks = clocks
        self._base = 0
        self._received = 0
        self._expected_before = self._received_before = self._lost_before = 0
        self._last_sr, self._last_sr_at = 0, 0.0
        self._clock_hz = 0
        self._transit_at, self._transit_timestamp = 0.0, 0
        self.highest = -1
        """The highest index; -1 before the first packet."""
        self.jitter = 0.0
        """Mean deviation of the packets' spacing, in units of the media clock (RFC 3550 appendix A.8)."""
        self.fraction_lost = 0
        """In 1/256, in the interval before the last report."""

    def packet(self, packet: bytes, index: int, now: float) -> None:
        """Take note of an authentic packet.

        Args:
            packet: at least its first 8 bytes.
            index: rollover count and sequence number.
            now: when it came, in monotonic seconds.
        """
        if index > self.highest:
            if index - self.highest > DROPOUT_MAX or self.highest < 0:
                self._begin(index)
            self.highest = index
        elif index < self._base:
            return
        self._received += 1
        payload_type, timestamp = _TYPE_TIMESTAMP.unpack_from(packet)
        clock_hz = self._clocks[payload_type & 0x7F]
        if clock_hz == self._clock_hz:
            # By how much the spacing at the receiver differs from that at the sender; timestamps wrap.
            sent = ((timestamp - self._transit_timestamp + _HALF) & _MASK) - _HALF
            self.jitter += (abs((now - self._transit_at) * clock_hz - sent) - self.jitter) / 16
        else:
            self._clock_hz = clock_hz
        self._transit_at = now
        self._transit_timestamp = timestamp

    def sender_report(self, ntp_timestamp: int, now: float) -> None:
        """Take note of a sender report: 64 bits of NTP time, and when it came."""
        self._last_sr, self._last_sr_at = ntp_timestamp >> 16 & _MASK, now

    @property
    def expected(self) -> int:
        """Packets sent since the beginning, as far as is known."""
        return self.highest - self._base + 1 if self._received else 0

    @property
    def lost(self) -> int:
        """Packets of those that did not come."""
        return self.expected - self._received

    @property
    def lost_in_all(self) -> int:
        """The same, with what was lost before the source began anew."""
        return self._lost_before + self.lost

    @property
    def jitter_ms(self) -> float:
        """The same as `jitter`, in milliseconds."""
        return self.jitter * 1000 / self._clock_hz if self._clock_hz else 0.0

    @property
    def clock_hz(self) -> int:
        """Of the last packet; 0 before the first."""
        return self._clock_hz

    def report(self, ssrc: int, now: float) -> ReportBlock | None:
        """End an interval and report on it; None: nothing has come in it (RFC 3550 section 6.4)."""
        if self._received == self._received_before:
            return None
        expected, received = self.expected, self._received
        expected_now, received_now = expected - self._expected_before, received - self._received_before
        self._expected_before, self._received_before = expected, received
        lost_now = max(expected_now - received_now, 0)
        self.fraction_lost = min(lost_now * 256 // expected_now, 255) if expected_now > 0 else 0
        return ReportBlock(
            ssrc=ssrc,
            fraction_lost=self.fraction_lost,
            cumulative_lost=max(_LOST_MIN, min(self.lost, _LOST_MAX)),
            highest_sequence=self.highest & _MASK,
            jitter=min(int(self.jitter), _MASK),
            last_sr=self._last_sr,
            delay_since_last_sr=min(int((now - self._last_sr_at) * 65536), _MASK) if self._last_sr else 0,
        )

    def _begin(self, index: int) -> None:
        self._lost_before += self.lost
        self._base = index
        self._received = self._expected_before = self._received_before = 0

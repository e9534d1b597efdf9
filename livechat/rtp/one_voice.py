"""Owns making one continuous RTP stream of a channel's many: for players that know of one speaker only.

It must not know of encryption or sockets, nor mix: one voice at a time is passed on.

Source: RFC 3550 section 5.1; RFC 6716 section 3.1 and RFC 7587 for the silence between them.

A voice is passed on until it has been silent for `HOLD_S`; then it is the turn of whoever is heard next. What
leaves has one ssrc and one line of numbers. Where nobody speaks, packets of silence fill the time: players and
recorders take a stream that stops for one that is over, and a recording keeps its time.
"""

from __future__ import annotations

from typing import Final

import attrs

from livechat.rtp.packet import RtpHeader
from livechat.rtp.sdp import OPUS_CLOCK_HZ, OPUS_PAYLOAD_TYPE

HOLD_S: Final = 0.4
"""A voice that pauses no longer keeps its turn: longer than any jitter, and shorter than a breath."""
SILENCE_S: Final = 0.02
"""The length of a packet of silence."""
SILENCE: Final = b"\xf8\xff\xfe"
"""20 ms of silence in Opus: the byte that says CELT, full band, 20 ms, one frame; then an empty frame."""

_SEQUENCE_MASK: Final = 0xFFFF
_TIMESTAMP_MASK: Final = 0xFFFFFFFF


class OneVoice:
    """The stream that is made.

    Args:
        ssrc: its own.
        now: when it begins, in monotonic seconds.
    """

    def __init__(self, ssrc: int, now: float) -> None:
        self._ssrc = ssrc
        self._speaker: int | None = None
        """Whose turn it is, by ssrc."""
        self._sequence = self._timestamp = 0
        """Of the newest packet that left."""
        self._sent_at = now
        """When that was."""
        self._heard_at = float("-inf")
        self._sequence_shift = self._timestamp_shift = 0
        """What to add to the speaker's own numbers."""

    def take(self, header: RtpHeader, payload: bytes, now: float) -> bytes | None:
        """Take a packet of anybody's; return what leaves for it, if anything.

        The contributing sources and header extensions are left out; they mean nothing to players.
        """
        if header.ssrc != self._speaker:
            if now - self._heard_at < HOLD_S:
                return None
            self._begin(header, now)
        self._heard_at = self._sent_at = now
        sequence = (header.sequence + self._sequence_shift) & _SEQUENCE_MASK
        timestamp = (header.timestamp + self._timestamp_shift) & _TIMESTAMP_MASK
        if (sequence - self._sequence) & _SEQUENCE_MASK < 1 << 15:
            self._sequence, self._timestamp = sequence, timestamp
        return (
            attrs.evolve(
                header,
                sequence=sequence,
                timestamp=timestamp,
                ssrc=self._ssrc,
                payload_type=OPUS_PAYLOAD_TYPE,
                csrcs=(),
                extension=None,
            ).serialize()
            + payload
        )

    def _begin(self, header: RtpHeader, now: float) -> None:
        """Give a voice its turn: its numbers go on where the stream stands, and its clock by the time gone by."""
        passed = max(1, round((now - self._sent_at) * OPUS_CLOCK_HZ))
        self._speaker = header.ssrc
        self._sequence_shift = self._sequence + 1 - header.sequence
        self._timestamp_shift = self._timestamp + passed - header.timestamp

    def silence(self, now: float) -> list[bytes]:
        """Return the packets of silence that are due: none while somebody speaks. To be asked every 20 ms."""
        if now - self._heard_at < HOLD_S:
            return []
        # Who spoke last may go on; but by the clock of now, not from where it stopped.
        self._speaker = None
        packets = []
        while now - self._sent_at >= SILENCE_S:
            self._sent_at += SILENCE_S
            self._sequence = (self._sequence + 1) & _SEQUENCE_MASK
            self._timestamp = (self._timestamp + round(SILENCE_S * OPUS_CLOCK_HZ)) & _TIMESTAMP_MASK
            header = RtpHeader(self._sequence, self._timestamp, self._ssrc, OPUS_PAYLOAD_TYPE)
            packets.append(header.serialize() + SILENCE)
        return packets

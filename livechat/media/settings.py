"""Owns the settings of voice; the configuration holds one of each of these."""

from __future__ import annotations

from typing import Final

import attrs

from livechat.error import ConfigError
from livechat.rtp.reception import AUDIO_CLOCK_HZ

WORKERS_MAX: Final = 64
"""More would be a slip: a worker is to have a core."""
QUIETEST: Final = 126
"""The lowest level that is not digital silence, in dB below full scale (RFC 6464)."""


@attrs.frozen
class MediaSettings:
    """How media peers are kept."""

    peer_timeout_ms: int = 30_000
    """A media peer without an authentic packet for so long ends."""
    rekey_after_ms: int = 86_400_000
    """A media peer's keys change when they are so old, or up to a quarter of that earlier; 0: never by age."""
    rekey_overlap_ms: int = 10_000
    """How long the older keys are good beside newer ones; what clients are told is 10 s."""
    keys_in_clear: bool = False
    """Whether SRTP keys may be told over a connection that is neither TLS nor loopback."""
    report_interval_ms: int = 5_000
    """Between two of the server's RTCP reports to a peer, at least; chance makes it half to one and a half."""
    clock_rate_hz: int = AUDIO_CLOCK_HZ
    """Of the RTP timestamps of payload types that have none by RFC 3551: jitter is measured by it."""
    resend_bytes: int = 16 << 20
    """Memory for packets that were sent lately, kept for listeners who lose some (RTCP NACK); 0: none are."""
    audio_level_id: int = 1
    """Under which id clients send audio levels (RFC 6464) in header extensions (RFC 8285); 0: they do not."""
    transport_cc_id: int = 3
    """Under which id clients send transport-wide sequence numbers, kept from receivers; 0: they do not."""
    workers: int = 0
    """Processes that relay, each for its share of the channels and on a UDP port of its own: `udp_port` and those
    that follow it, or any free ones where that is 0. None: the server's own process relays."""
    worker_timeout_ms: int = 5_000
    """A worker that gives no sign of life for so long is killed and started anew."""

    def check(self, udp_port: int) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the setting, what was expected and what came.
        """
        if self.workers > WORKERS_MAX:
            raise ConfigError(f"media.workers: expected at most {WORKERS_MAX}, got {self.workers}")
        if udp_port + self.workers - 1 > 65535:
            raise ConfigError(f"media.workers: {self.workers} ports from udp_port {udp_port} on go beyond 65535")


@attrs.frozen
class SpeakingSettings:
    """What counts as speech, and when one speaker takes the place of another. Levels are dB below full scale."""

    start_level: int = 40
    """As loud as this a packet counts toward a beginning; from a client that sets the voice flag only with it."""
    stop_level: int = 50
    """As loud as this a packet keeps speech going, and counts toward a beginning if it has the voice flag."""
    start_packets: int = 3
    """Speech begins once so many more packets count toward it than do not."""
    hangover_ms: int = 300
    """Speech ends once nothing has kept it going for so long."""
    event_interval_ms: int = 250
    """Between two SPEAKING events about one user in one channel; what cancels out meanwhile is not told."""
    challenge_db: int = 6
    """With `max_speakers`: who wants the place of somebody who speaks must be louder by this,"""
    challenge_ms: int = 500
    """and for so long."""

    def check(self) -> None:
        """Refuse levels that could never begin or end.

        Raises:
            ConfigError: names the setting, what was expected and what came.
        """
        if self.stop_level > QUIETEST:
            raise ConfigError(f"speaking.stop_level: expected at most {QUIETEST}, got {self.stop_level}")
        if self.start_level > self.stop_level:
            raise ConfigError(
                f"speaking.start_level: expected at most speaking.stop_level, {self.stop_level},"
                f" got {self.start_level}"
            )


DEFAULT_MEDIA: Final = MediaSettings()
DEFAULT_SPEAKING: Final = SpeakingSettings()

"""Owns whether a publisher speaks, by the levels that its packets tell. Pure: levels and `now` in, verdicts out.

It must not see a packet before it is authenticated, nor tell anybody; the relay does both.

    quiet     start_packets more packets count toward a beginning than do not   -> speaking
    speaking  nothing has kept it going for the hang-over, be it quiet or gone   -> quiet

    packet                                                       counts toward  keeps going
    at least start_level loud, and the client never sets V       yes            yes
    at least stop_level loud, with V                             yes            yes
    at least stop_level loud, without V                          no             yes
    less                                                         no             no

The voice flag V (RFC 6464 section 3) is the encoder's opinion. Whoever sets it now and then is believed when it
is not set: loud typing begins no speech. Whoever never sets it is judged by the level alone.

Of a publisher that tells no levels nobody can say whether it speaks, so it does not: many send without a pause.
But while its packets flow it has something to say, and counts as just loud enough for that; so it is heard where
only the loudest are.
"""

from __future__ import annotations

from math import inf
from typing import Final

from livechat.media.settings import SpeakingSettings
from livechat.rtp.extensions import LEVEL_MASK, VOICE_BIT

SILENCE_DB: Final = -127.0
"""Digital silence, or nothing heard yet."""
ATTACK: Final = 0.5
"""How much of the way to a louder level is gone with each packet: at once, for who begins must be seen."""
RELEASE: Final = 1 / 16
"""The same to a quieter level: about 0.3 s with packets of 20 ms, so that a pause between words stays a pause."""


class Speech:
    """What is known of one publisher's speech.

    Attributes:
        level_db: smoothed, in dB relative to full scale: 0 to -127.
        active_until: when the hang-over ends that its last packet with speech began; monotonic seconds.
        is_speaking: as of the last `update`.
        tells_levels: whether any of its packets had one.
        challenging_since: since when it has been loud enough to take another's place; for the stage to keep.
    """

    __slots__ = (
        "_flags_voice",
        "_hangover_s",
        "_loud",
        "_start_db",
        "_start_packets",
        "_stop_db",
        "active_until",
        "challenging_since",
        "is_speaking",
        "level_db",
        "tells_levels",
    )

    def __init__(self, settings: SpeakingSettings) -> None:
        self._start_db = -settings.start_level
        self._stop_db = -settings.stop_level
        self._start_packets = settings.start_packets
        self._hangover_s = settings.hangover_ms / 1000
        self._loud = 0
        self.tells_levels = False
        self._flags_voice = False
        self.level_db = SILENCE_DB
        self.active_until = -inf
        self.is_speaking = False
        self.challenging_since: float | None = None

    def measure(self, level: int | None, now: float) -> None:
        """Take the level of the newest packet.

        Args:
            level: the byte of the header extension; None: the packet has none.
        """
        if now >= self.active_until:
            # What was before a pause is no part of what begins now.
            self._loud = 0
            self.challenging_since = None
        if level is None:
            # One that told levels before tells nothing by this packet, for or against: it may repair another.
            if not self.tells_levels:
                self.level_db = float(self._start_db)
                self.active_until = now + self._hangover_s
            return
        counts, keeps = self._judge(level)
        if counts:
            self._loud = min(self._loud + 1, self._start_packets)
        elif self._loud:
            self._loud -= 1
        if counts or (keeps and self.is_speaking):
            self.active_until = now + self._hangover_s

    def _judge(self, level: int) -> tuple[bool, bool]:
        """Follow a level. Returns (whether it counts toward a beginning, whether it keeps speech going)."""
        self.tells_levels = True
        level_db = -(level & LEVEL_MASK)
        difference = level_db - self.level_db
        self.level_db += difference * (ATTACK if difference > 0 else RELEASE)
        keeps = level_db >= self._stop_db
        if level & VOICE_BIT:
            self._flags_voice = True
            return keeps, keeps
        return level_db >= self._start_db and not self._flags_voice, keeps

    def is_active(self, now: float) -> bool:
        """Tell whether it has something to say, be it only a first packet yet."""
        return now < self.active_until

    def update(self, now: float) -> bool:
        """Say whether `is_speaking` has become another by now."""
        if self.is_speaking:
            if now < self.active_until:
                return False
        elif self._loud < self._start_packets or now >= self.active_until:
            return False
        self.is_speaking = not self.is_speaking
        return True

    def silence(self) -> bool:
        """End its speech at once: it is heard by nobody. Returns whether `is_speaking` has become another."""
        was_speaking, self.is_speaking = self.is_speaking, False
        return was_speaking

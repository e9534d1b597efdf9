"""Owns whose media is forwarded where a channel lets only so many be heard: the loudest. Pure.

It must not measure levels (`speaking`), nor forward.

    there is room                          anybody but digital silence gets a place with the first packet
    somebody on stage has gone quiet       who has something to say takes that place with the first packet
    all on stage have something to say     a challenger must be louder than the quietest of them by some dB,
                                           for some time, so that they do not take turns with each word

Who went quiet keeps a place until another wants it; nobody gets one for being less quiet. Publishers that tell no
levels all count as equally loud: they take a place while their packets flow, and a place that becomes free goes to
the one who is heard next.
"""

from __future__ import annotations

from collections.abc import Iterable

from livechat.media.settings import SpeakingSettings
from livechat.media.speaking import SILENCE_DB, Speech


class Stage:
    """The places of one channel.

    Args:
        limit: how many there are.
        publishers: of the channel; the loudest of those who speak get places at once.
    """

    __slots__ = ("_challenge_db", "_challenge_s", "_limit", "_places")

    def __init__(self, limit: int, settings: SpeakingSettings, publishers: Iterable[Speech] = ()) -> None:
        self._limit = limit
        self._challenge_db = settings.challenge_db
        self._challenge_s = settings.challenge_ms / 1000
        speaking = [speech for speech in publishers if speech.is_speaking]
        loudest = sorted(speaking, key=lambda speech: speech.level_db, reverse=True)
        self._places: dict[Speech, None] = dict.fromkeys(loudest[:limit])

    def __contains__(self, speech: Speech) -> bool:
        return speech in self._places

    def __len__(self) -> int:
        return len(self._places)

    def admits(self, speech: Speech, now: float) -> bool:
        """Say whether a publisher is to be heard with its newest packet, which it has been measured by."""
        if speech in self._places:
            return True
        if len(self._places) < self._limit:
            if speech.level_db <= SILENCE_DB:
                return False
        elif not speech.is_active(now) or not self._makes_room(speech, now):
            return False
        self._places[speech] = None
        return True

    def _makes_room(self, challenger: Speech, now: float) -> bool:
        """Take the place of the weakest from it if the challenger may have it."""
        weakest = min(self._places, key=lambda speech: _strength(speech, now))
        if weakest.is_active(now):
            if challenger.level_db < weakest.level_db + self._challenge_db:
                challenger.challenging_since = None
                return False
            if challenger.challenging_since is None:
                challenger.challenging_since = now
            if now - challenger.challenging_since < self._challenge_s:
                return False
        del self._places[weakest]
        return True

    def set_limit(self, limit: int) -> None:
        """Go on with another number of places; if they are fewer, the loudest of those who speak stay."""
        self._limit = limit
        if len(self._places) > limit:
            ranked = sorted(self._places, key=lambda each: (each.is_speaking, each.level_db), reverse=True)
            self._places = dict.fromkeys(ranked[:limit])

    def discard(self, speech: Speech) -> None:
        """Free the place of a publisher that is gone, if it has one."""
        self._places.pop(speech, None)


def _strength(speech: Speech, now: float) -> tuple[bool, float]:
    """Rank who holds a place: the quiet ones below, the longest of them first; the others by how loud they are."""
    if speech.is_active(now):
        return True, speech.level_db
    return False, speech.active_until

"""Owns who speaks in which channel, as others are told of it: the newest alone, and not too often.

It must not measure (the relay does), send or wait, nor look at a clock. A peer that begins and ends to speak again
and again is told of once in an interval, and not at all where that leaves things as they were told last.
"""

from __future__ import annotations

from itertools import islice
from math import inf
from typing import Final

import attrs

from livechat.hub.peer import MediaPeer
from livechat.protocol.types import ChannelId
from livechat.protocol.voice_events import ActiveSpeaker, SpeakingEvent

ACTIVE_SPEAKERS_MAX: Final = 32
"""Of one channel that are listed."""
EVENT_INTERVAL_S: Final = 0.25


@attrs.define(slots=True, eq=False)
class _Voice:
    """A peer that speaks, or has spoken."""

    is_speaking: bool = False
    level_db: int = 0
    """As it was when it began or ended last."""
    is_told: bool = False
    """What was told last of `is_speaking`."""
    told_at: float = -inf
    """Monotonic seconds."""
    is_awaited: bool = False
    """`take` will be called for it."""


class SpeakerHub:
    """The speakers of this node.

    Args:
        interval_s: between two events of one peer.
    """

    __slots__ = ("_active", "_interval_s", "_voices")

    def __init__(self, interval_s: float = EVENT_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._voices: dict[int, _Voice] = {}
        """By peer id; of peers that live, or whose end is yet to be told."""
        self._active: dict[ChannelId, dict[int, MediaPeer]] = {}
        """Who speaks now, by peer id, in the order in which they began."""

    def note(self, peer: MediaPeer, speaking: bool, level_db: int, now: float) -> float | None:
        """Take what a peer does now; of one that has ended, nothing.

        Returns:
            When to call `take` for it, in monotonic seconds; None: not, or that is awaited already.
        """
        if peer.is_ended or (not speaking and peer.peer_id not in self._voices):
            return None
        voice = self._voices.setdefault(peer.peer_id, _Voice())
        voice.level_db = level_db
        self._set(peer, voice, speaking)
        return self._await(voice, max(now, voice.told_at + self._interval_s))

    def end(self, peer: MediaPeer, now: float) -> float | None:
        """Note that a peer is gone, and speaks no more. Returns as `note`."""
        voice = self._voices.get(peer.peer_id)
        if voice is None:
            return None
        self._set(peer, voice, False)
        if not voice.is_told:
            del self._voices[peer.peer_id]
            return None
        # At once, also if `take` is awaited later: by then there is nothing left to tell.
        return now

    def take(self, peer: MediaPeer, now: float) -> SpeakingEvent | None:
        """Return what is to be told of a peer now, if anything."""
        voice = self._voices.get(peer.peer_id)
        if voice is None:
            return None
        voice.is_awaited = False
        is_news = voice.is_speaking != voice.is_told
        voice.is_told = voice.is_speaking
        if peer.is_ended:
            del self._voices[peer.peer_id]
        if not is_news:
            return None
        voice.told_at = now
        return SpeakingEvent(peer.channel_id, peer.user_id, peer.egress_ssrc, voice.is_speaking, voice.level_db)

    def active(self, channel_id: ChannelId, most: int = ACTIVE_SPEAKERS_MAX) -> list[ActiveSpeaker]:
        """List who speaks in a channel now, the last to begin first."""
        peers = reversed(self._active.get(channel_id, {}).values())
        return [
            ActiveSpeaker(peer.user_id, peer.egress_ssrc, self._voices[peer.peer_id].level_db)
            for peer in islice(peers, most)
        ]

    def _set(self, peer: MediaPeer, voice: _Voice, speaking: bool) -> None:
        if speaking == voice.is_speaking:
            return
        voice.is_speaking = speaking
        if speaking:
            self._active.setdefault(peer.channel_id, {})[peer.peer_id] = peer
            return
        active = self._active[peer.channel_id]
        del active[peer.peer_id]
        if not active:
            del self._active[peer.channel_id]

    def _await(self, voice: _Voice, due: float) -> float | None:
        if voice.is_awaited or voice.is_speaking == voice.is_told:
            return None
        voice.is_awaited = True
        return due

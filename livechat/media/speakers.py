"""Owns who speaks and who is heard among the publishers of a relay: what its packets do to `Speech` and `Stage`.

It must be given authentic packets only, and of each publisher only what the relay knows: an unknown ssrc never
comes here, and a forged level changes nothing.
"""

from __future__ import annotations

from math import inf
from typing import Final

from livechat.hub.peer import MediaEvents
from livechat.media.node import Node
from livechat.media.settings import SpeakingSettings
from livechat.rtp.extensions import audio_level_untrusted
from livechat.rtp.packet import EXTENSION_BIT

COMFORT_NOISE: Final = 13
"""The payload type that stands for silence, RFC 3389."""
SCAN_INTERVAL_S: Final = 0.05
"""Those who speak are looked through no more often, to find who has gone quiet."""

_PAYLOAD_TYPE_MASK: Final = 0x7F


class Speakers:
    """Who speaks, of all channels of a relay."""

    def __init__(self, settings: SpeakingSettings) -> None:
        self.settings = settings
        self._speaking: dict[Node, None] = {}
        self._due = inf
        """When the first of them may have gone quiet; it may lie too early, never too late."""

    def hears(self, node: Node, packet: bytes, now: float, events: MediaEvents, *, is_newest: bool) -> bool:
        """Take an authentic packet of a publisher; say whether it is to be forwarded.

        Args:
            packet: its RTP header, with or without more.
            is_newest: whether it is newer than all before it; of others the level is not looked at.
        """
        speech, stage = node.speech, node.stage
        if not is_newest:
            return node.is_heard
        if stage is None and not packet[0] & EXTENSION_BIT and not speech.tells_levels:
            # Of such a publisher nobody is told anything, and nobody asks how loud it is.
            return node.is_forwarded
        element_id = node.peer.extensions.audio_level
        level = None if element_id is None else audio_level_untrusted(packet, element_id)
        if level is not None or packet[1] & _PAYLOAD_TYPE_MASK != COMFORT_NOISE:
            speech.measure(level, now)
        if not node.is_forwarded or (stage is not None and not stage.admits(speech, now)):
            # Whom nobody hears does not speak, however loud.
            if speech.silence():
                self._tell(node, events)
            return False
        if speech.update(now):
            self._tell(node, events)
        return True

    def _tell(self, node: Node, events: MediaEvents) -> None:
        speech = node.speech
        if speech.is_speaking:
            self._speaking[node] = None
            self._due = min(self._due, speech.active_until)
        else:
            self._speaking.pop(node, None)
        events.speaking(node.peer, speech.is_speaking, round(speech.level_db))

    def forget(self, node: Node) -> None:
        """Note that a publisher is gone; nobody is told, for all hear that it has left."""
        self._speaking.pop(node, None)
        if node.stage is not None:
            node.stage.discard(node.speech)

    def run_due(self, now: float, events: MediaEvents) -> float | None:
        """End the speech of those who have gone quiet, or whose packets do not come any more.

        Returns:
            When to call again; None: nobody speaks.
        """
        if now >= self._due:
            for node in list(self._speaking):
                if node.speech.update(now):
                    self._tell(node, events)
            first = min((node.speech.active_until for node in self._speaking), default=inf)
            self._due = max(first, now + SCAN_INTERVAL_S) if self._speaking else inf
        return None if self._due == inf else self._due

"""Owns how the settings of voice become a hub and a relay. It must not open or run anything."""

from __future__ import annotations

import os

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ExtensionIds, MediaEvents
from livechat.media.relay import Relay
from livechat.media.settings import MediaSettings, SpeakingSettings


def make_hub(settings: MediaSettings, *, seen_late_s: float = 0.0) -> MediaPeerHub:
    """Make the hub of a server.

    Args:
        seen_late_s: so much later than a peer sent it is known here at most; so much longer it is waited for.
    """
    extensions = ExtensionIds(settings.audio_level_id or None, settings.transport_cc_id or None)
    return MediaPeerHub(
        os.urandom, peer_timeout_s=settings.peer_timeout_ms / 1000 + seen_late_s, extensions=extensions
    )


def make_relay(settings: MediaSettings, speaking: SpeakingSettings, events: MediaEvents | None = None) -> Relay:
    """Make a relay, here or in a worker."""
    return Relay(events, settings=settings, speaking=speaking)

"""Owns the bounds of sessions and messages that handlers keep to; the configuration holds one of these."""

from __future__ import annotations

import attrs


@attrs.frozen
class ChatLimits:
    """What a message and a user may be at most."""

    message_chars: int = 2000
    """Code points of a message's content; more gets 3001."""
    sessions_per_user: int = 64
    """Living and parked sessions; the oldest parked one ends for a new one, else IDENTIFY gets 9001."""

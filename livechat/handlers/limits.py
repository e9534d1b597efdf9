"""Owns the bounds of sessions and messages that handlers keep to; the configuration holds one of these."""

from __future__ import annotations

from pathlib import Path

import attrs

from livechat.handlers.content import WordAction


@attrs.frozen
class ChatLimits:
    """What a message and a user may be at most."""

    message_chars: int = 2000
    """Code points of a message's content; more gets 3001."""
    sessions_per_user: int = 64
    """Living and parked sessions; the oldest parked one ends for a new one, else IDENTIFY gets 9001."""
    held_packets: int = 4096
    """Events that a RESUME holds back while it tells what came before; past it, the client is too slow (4001)."""
    presence_grace_ms: int = 5_000
    """How long a lost connection does not show: a user who comes back within it was never away."""
    presence_interval_ms: int = 250
    """How long changes of presence gather before they are told."""
    words_file: Path | None = None
    """Unwanted words or phrases, one a line, in UTF-8; read again on SIGHUP."""
    words_action: WordAction = "reject"
    """`reject`: a message with such a word gets 3004; `mask`: each character of the word becomes `*`."""

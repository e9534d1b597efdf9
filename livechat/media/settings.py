"""Owns the settings of voice; the configuration holds one of these."""

from __future__ import annotations

import attrs


@attrs.frozen
class MediaSettings:
    """How media peers are kept."""

    peer_timeout_ms: int = 30_000
    """A media peer without an authentic packet for so long ends."""
    keys_in_clear: bool = False
    """Whether SRTP keys may be told over a connection that is neither TLS nor loopback."""

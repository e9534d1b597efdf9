"""Owns the form of what an embedder is told when it asks a server for its numbers.

It must not count; the parts do.
"""

from __future__ import annotations

from typing import TypedDict


class Statistics(TypedDict):
    """What a server counts, by part."""

    gateway: dict[str, float]
    media: dict[str, float]
    peers: dict[int, dict[str, float]]
    """By peer id: loss, jitter and round trip, as far as they are known (`livechat.hub.peer.PeerQuality`)."""
    jobs: dict[str, float]
    store: dict[str, float]
    files: dict[str, float]

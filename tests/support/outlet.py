"""Outlets for tests of the hubs."""

from __future__ import annotations

from collections.abc import Sequence

from livechat.hub.users import Mark, Outlet, Queued
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.protocol.types import ChannelId, StreamKey


class NullOutlet:
    """Drops everything."""

    local_host = peer_host = "127.0.0.1"
    is_confidential = True
    queued = Queued()

    @property
    def sink(self) -> object | None:
        """It has none."""
        return None

    def send(self, packet: Outgoing) -> None:
        """Drop it."""

    def send_batch(self, batch: Batch) -> None:
        """Drop it."""

    def displace(self) -> None:
        """Do nothing."""

    def drop_chunks(self, channel_id: ChannelId) -> None:
        """Do nothing."""

    def forget_stream(self, stream: StreamKey) -> None:
        """Do nothing."""

    def expel(self, code: int, reason: str) -> None:
        """Do nothing."""

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """Say that everything was sent."""
        return ()

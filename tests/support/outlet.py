"""Where a session's packets go in tests of the hubs: nowhere."""

from __future__ import annotations

from livechat.protocol.outgoing import Outgoing


class NullOutlet:
    """Takes every packet and forgets it."""

    def send(self, packet: Outgoing) -> None:
        """See `livechat.hub.users.Outlet`."""

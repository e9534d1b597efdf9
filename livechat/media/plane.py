"""Owns the media side of a server as handlers see it: the hub, the relay and the socket together.

It must not decide who may speak; it does what it is told, at once.
"""

from __future__ import annotations

import socket

import trio

from livechat.handlers.node import WorkerInfo
from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ChannelRules, MediaEvents, MediaPeer
from livechat.media import udp
from livechat.media.endpoint import endpoint_of, reachable_from
from livechat.media.relay import Relay
from livechat.protocol.types import Address, ChannelId


class UdpMediaPlane:
    """The `MediaPlane` of a server with its own UDP socket.

    Args:
        sock: as from `udp.open_media_socket`; the caller closes it.
        advertise_host: what clients are told to send to; None: the address at which they reached the gateway.
        give_way: see `udp.run`.
    """

    def __init__(
        self,
        hub: MediaPeerHub,
        relay: Relay,
        sock: socket.socket,
        advertise_host: str | None,
        give_way: udp.GiveWay = udp.checkpoint,
    ) -> None:
        self.hub = hub
        self._relay = relay
        self._socket = sock
        self._advertise_host = advertise_host
        self._give_way = give_way
        self._bound: Address = sock.getsockname()[:2]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the socket is bound."""
        return (self._bound,)

    async def run(self) -> None:
        """Relay until cancelled; peers can be closed afterwards, and the others are still told."""
        await udp.run(self._socket, self._relay, give_way=self._give_way)

    def workers(self) -> list[WorkerInfo]:
        """There are none."""
        return []

    def worker_of(self, channel_id: ChannelId) -> int | None:
        """There is none."""
        return None

    def check_available(self, channel_id: ChannelId) -> None:
        """Voice is always available: it lives as long as the gateway."""

    def endpoint(self, channel_id: ChannelId, local_host: str) -> Address:
        """Return what to tell a client that reached the gateway at `local_host`; all channels share one port."""
        return endpoint_of(self._bound, self._advertise_host, local_host)

    def reachable(self, address: Address) -> Address | None:
        """Return an IP address in the form in which our socket sends to it; None if it cannot."""
        return reachable_from(self._bound[0], address)

    def subscribe(self, events: MediaEvents) -> None:
        """Tell this one what happens; who was told before is told no more."""
        self._relay.events = events

    def statistics(self) -> dict[str, int]:
        """Return every counter of the relay by name, and the number of peers."""
        return self._relay.statistics()

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        """Say whose media is forwarded in a channel from now on."""
        self._relay.set_rules(channel_id, rules)

    def open(self, peer: MediaPeer, rules: ChannelRules) -> None:
        """Begin to relay for a peer that is in the hub."""
        self._relay.add_peer(peer, rules)

    def rekey(self, peer: MediaPeer) -> None:
        """Go over to the new keys that the hub gave a peer."""
        self._relay.rekey(peer, trio.current_time())

    def close(self, peer: MediaPeer) -> None:
        """End a peer: the others get its BYE, and nothing with its keys is sent or accepted any more."""
        goodbyes = self._relay.remove_peer(peer)
        self.hub.remove(peer)
        udp.send_now(self._socket, self._relay, goodbyes)

    def close_channel(self, channel_id: ChannelId) -> None:
        """End all peers of a channel that is gone, without farewells: nobody is left to hear them."""
        peers = list(self.hub.peers_of(channel_id))
        for peer in peers:
            self.hub.remove(peer)
        for peer in peers:
            self._relay.remove_peer(peer)

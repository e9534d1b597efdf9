"""Owns the media side of a server as handlers see it: the hub, the relay and the socket together.

It must not decide who may speak; it does what it is told, at once.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from livechat.hub.media import MediaPeer, MediaPeerHub
from livechat.media import udp
from livechat.media.relay import Relay
from livechat.protocol.types import Address, ChannelId


class UdpMediaPlane:
    """The `MediaPlane` of a server with its own UDP socket.

    Args:
        sock: as from `udp.open_media_socket`; the caller runs `udp.run` on it and closes it.
        advertise_host: what clients are told to send to; None: the address at which they reached the gateway.
    """

    def __init__(self, hub: MediaPeerHub, relay: Relay, sock: socket.socket, advertise_host: str | None) -> None:
        self.hub = hub
        self.relay = relay
        self._socket = sock
        self._advertise_host = advertise_host
        self._bound_host, self._port = sock.getsockname()[:2]

    @property
    def address(self) -> Address:
        """Where the socket is bound."""
        return self._bound_host, self._port

    def endpoint(self, local_host: str) -> Address:
        """Return what to tell a client that reached the gateway at `local_host`."""
        if self._advertise_host is not None:
            return self._advertise_host, self._port
        if ip_address(self._bound_host).is_unspecified:
            return local_host.removeprefix("::ffff:"), self._port
        return self._bound_host, self._port

    def reachable(self, address: Address) -> Address | None:
        """Return an IP address in the form in which our socket sends to it; None if it cannot."""
        host, port = ip_address(address[0]), address[1]
        host = getattr(host, "ipv4_mapped", None) or host
        bound = ip_address(self._bound_host)
        if host.version == bound.version:
            return str(host), port
        # A socket bound to `::` knows IPv4 hosts by their mapped addresses.
        return (f"::ffff:{host}", port) if bound.version == 6 and bound.is_unspecified else None

    def open(self, peer: MediaPeer) -> None:
        """Begin to relay for a peer that is in the hub."""
        self.relay.add_peer(peer)

    def close(self, peer: MediaPeer) -> None:
        """End a peer: the others get its BYE, and nothing with its keys is sent or accepted any more."""
        goodbyes = self.relay.remove_peer(peer)
        self.hub.remove(peer)
        udp.send_now(self._socket, self.relay, goodbyes)

    def close_channel(self, channel_id: ChannelId) -> None:
        """End all peers of a channel that is gone, without farewells: nobody is left to hear them."""
        peers = list(self.hub.peers_of(channel_id))
        for peer in peers:
            self.hub.remove(peer)
        for peer in peers:
            self.relay.remove_peer(peer)

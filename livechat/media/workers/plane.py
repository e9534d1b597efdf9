"""Owns the media side of a server with worker processes, as handlers see it.

It must not relay, and must not wait: what it is told, it passes on, and looks the same from the gateway whether a
worker lives at the moment or not.

A channel lives wholly in one worker, so that nothing has to pass between them. A hash of its id says in which, as
evenly as chance for names of any pattern.
"""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Final

import trio

from livechat.error import MediaNotPossible
from livechat.handlers.node import WorkerInfo
from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ChannelRules, MediaEvents, MediaPeer
from livechat.media.endpoint import endpoint_of, reachable_from
from livechat.media.making import make_relay
from livechat.media.workers.messages import Begin
from livechat.media.workers.supervisor import Supervisor
from livechat.media.workers.tally import sum_up
from livechat.protocol.types import Address, ChannelId

STOP_TIMEOUT_S: Final = 2.0
"""For workers to do what they were told, say their goodbyes, and end; then they are killed."""
RETRY_AFTER_MS: Final = 5_000


class WorkerMediaPlane:
    """The `MediaPlane` of a server with workers.

    Args:
        hub: decides who hears whom, and draws the keys.
        sockets: one a worker, as from `udp.open_media_socket`; the caller closes them.
        begin: what workers are told first.
        advertise_host: what clients are told to send to; None: the address at which they reached the gateway.
    """

    def __init__(
        self,
        hub: MediaPeerHub,
        sockets: Sequence[socket.socket],
        begin: Begin,
        advertise_host: str | None,
    ) -> None:
        self.hub = hub
        self._advertise_host = advertise_host
        # Named by a relay that relays nothing, so that all are there before the first report.
        self._zeros = dict.fromkeys(make_relay(begin.settings, begin.speaking).statistics(), 0)
        self._rules: dict[ChannelId, ChannelRules] = {}
        """Of the channels with peers."""
        self._workers = [
            Supervisor(number, sock, begin, rules_of=self._rules.__getitem__)
            for number, sock in enumerate(sockets)
        ]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the sockets are bound, worker by worker."""
        return tuple(worker.address for worker in self._workers)

    async def run(self) -> None:
        """Keep the workers running until cancelled; they then still run, and `stop` ends them."""
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                nursery.start_soon(worker.run)

    async def stop(self) -> None:
        """End the workers: within a few seconds, and leaving nothing behind, whatever they do."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for worker in self._workers:
                    nursery.start_soon(worker.stop, STOP_TIMEOUT_S)

    # --- what handlers ask ----------------------------------------------------------------------------

    def subscribe(self, events: MediaEvents) -> None:
        """Tell this one what happens; who was told before is told no more."""
        for worker in self._workers:
            worker.events = events

    def workers(self) -> list[WorkerInfo]:
        """Show the workers."""
        return [worker.info() for worker in self._workers]

    def worker_of(self, channel_id: ChannelId) -> int:
        """Return which worker relays for a channel, from 0."""
        digest = hashlib.blake2b(channel_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") % len(self._workers)

    def statistics(self) -> Counter[str]:
        """Return every counter of all relays by name, as they were a report ago, and the number of peers."""
        total = sum_up((self._zeros, *(worker.tally.total() for worker in self._workers)))
        total["peers"] = len(self.hub)
        return total

    def check_available(self, channel_id: ChannelId) -> None:
        """Check that somebody relays for a channel, or will in a moment.

        Raises:
            MediaNotPossible: its worker failed, and does not come back.
        """
        if self._of(channel_id).is_lost:
            raise MediaNotPossible(
                "media: voice in this channel is not available now", action="RETRY", retry_after_ms=RETRY_AFTER_MS
            )

    def endpoint(self, channel_id: ChannelId, local_host: str) -> Address:
        """Return what to tell a client that reached the gateway at `local_host`."""
        return endpoint_of(self._of(channel_id).address, self._advertise_host, local_host)

    def reachable(self, address: Address) -> Address | None:
        """Return an IP address in the form in which the workers send to it; None if they cannot."""
        return reachable_from(self._workers[0].address[0], address)

    # --- what handlers tell ---------------------------------------------------------------------------

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        """Say whose media is forwarded in a channel from now on."""
        if channel_id in self._rules and self._rules[channel_id] != rules:
            self._rules[channel_id] = rules
            self._of(channel_id).set_rules(channel_id, rules)

    def open(self, peer: MediaPeer, rules: ChannelRules) -> None:
        """Begin to relay for a peer that is in the hub."""
        self._rules[peer.channel_id] = rules
        self._of(peer.channel_id).open(peer)

    def rekey(self, peer: MediaPeer) -> None:
        """Go over to the new keys that the hub gave a peer."""
        self._of(peer.channel_id).rekey(peer)

    def close(self, peer: MediaPeer) -> None:
        """End a peer: the others get its BYE, and soon nothing with its keys is sent or accepted any more."""
        self._close(peer, farewell=True)

    def close_channel(self, channel_id: ChannelId) -> None:
        """End all peers of a channel that is gone, without farewells: nobody is left to hear them."""
        for peer in list(self.hub.peers_of(channel_id)):
            self._close(peer, farewell=False)

    def _close(self, peer: MediaPeer, *, farewell: bool) -> None:
        self._of(peer.channel_id).close(peer, farewell=farewell)
        self.hub.remove(peer)
        if not self.hub.peers_of(peer.channel_id):
            self._rules.pop(peer.channel_id, None)

    def _of(self, channel_id: ChannelId) -> Supervisor:
        return self._workers[self.worker_of(channel_id)]

"""A relay with callers around it: each sends like a client and opens what it hears with libsrtp."""

from __future__ import annotations

import random

from pylibsrtp import Session

from livechat.hub.media import MediaPeer, MediaPeerHub
from livechat.media.relay import Relay
from livechat.protocol.types import Address, ChannelId, SessionId, Ssrc, UserId
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import RtpHeader, parse_untrusted
from livechat.srtp.cipher import Sealed
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from tests.support.nonce_ledger import NonceLedger
from tests.support.voice import libsrtp_receiver, rtp_packet

CM_80 = SrtpProfile.AES_CM_128_HMAC_SHA1_80
CHANNEL = ChannelId("room")
NO_DROPS = {
    "peers",
    "received",
    "rtp_accepted",
    "rtcp_accepted",
    "rtp_forwarded",
    "rtcp_forwarded",
    "keepalive",
}
"""Statistics of what went well."""


class Caller:
    """One client with a voice."""

    def __init__(self, peer: MediaPeer, address: Address) -> None:
        self.peer = peer
        self.address = address
        self.sequence = 1
        """The next to be sent, as a whole index."""
        self.heard: list[tuple[RtpHeader, bytes]] = []
        self.reports: list[list[rtcp.RtcpPacket]] = []
        self._sender = SrtpSender(peer.profile, peer.client_key)
        # Made at the join, as a client's is: whatever comes must open from rollover count 0 on.
        self._receiver: Session = libsrtp_receiver(peer.profile, peer.server_key)

    def speak(self, payload: bytes = b"speech", *, skip: int = 0) -> bytes:
        """Return the next SRTP packet, after leaving out `skip` numbers."""
        self.sequence += skip + 1
        return self._sender.protect(rtp_packet(self.sequence - 1, self.peer.ssrc, payload))

    def report(self, *packets: rtcp.RtcpPacket) -> bytes:
        """Return an SRTCP packet; an RR of its own comes first, so that it is found by its ssrc."""
        compound = packets or (rtcp.ReceiverReport(self.peer.ssrc),)
        return self._sender.protect_rtcp(rtcp.serialize_compound(compound))

    def hear(self, packet: bytes) -> None:
        """Open a packet; libsrtp raises if it is not for this caller, forged, or repeated."""
        if classify(packet) is Kind.RTCP:
            self.reports.append(rtcp.parse_compound_untrusted(self._receiver.unprotect_rtcp(packet)))
        else:
            self.heard.append(parse_untrusted(self._receiver.unprotect(packet)))

    @property
    def payloads(self) -> list[bytes]:
        """What it heard."""
        return [payload for _, payload in self.heard]


class Room:
    """Hub, relay, ledger and callers."""

    def __init__(self, seed: int | str = 1) -> None:
        self.rng = random.Random(seed)
        self.hub = MediaPeerHub(self.rng.randbytes)
        self.relay = Relay(self.hub, randbelow=self.rng.randrange)
        self.ledger = NonceLedger()
        self.now = 1000.0
        self.callers: dict[int, Caller] = {}
        """By peer id."""
        self._port = 1000

    def new_address(self) -> Address:
        """Return an address that nobody has."""
        self._port += 1
        return ("192.0.2.1", self._port)

    def join(
        self,
        user: str,
        *,
        profile: SrtpProfile = CM_80,
        ssrc: int | None = None,
        stated: bool = False,
        channel: ChannelId = CHANNEL,
    ) -> Caller:
        """Add a voice; it has no address yet unless it states one."""
        address = self.new_address()
        peer = self.hub.add(
            channel,
            UserId(user),
            SessionId(f"sess_{user}"),
            profile=profile,
            now=self.now,
            ssrc=None if ssrc is None else Ssrc(ssrc),
            address=address if stated else None,
        )
        self.relay.add_peer(peer)
        caller = self.callers[peer.peer_id] = Caller(peer, address)
        return caller

    def leave(self, caller: Caller, *, hub_first: bool = False) -> Sealed:
        """Remove a voice and deliver what that causes."""
        if hub_first:
            self.hub.remove(caller.peer)
        out = self.relay.remove_peer(caller.peer)
        if not hub_first:
            self.hub.remove(caller.peer)
        del self.callers[caller.peer.peer_id]
        self._deliver(out)
        return out

    def send(self, data: bytes, source: Address) -> Sealed:
        """Give the relay a datagram and deliver what comes out."""
        out: Sealed = []
        self.relay.datagram(data, source, self.now, out)
        self._deliver(out)
        return out

    def speak(self, caller: Caller, payload: bytes = b"speech", *, skip: int = 0) -> Sealed:
        """Have a caller send its next packet from where it is."""
        return self.send(caller.speak(payload, skip=skip), caller.address)

    def _deliver(self, out: Sealed) -> None:
        peers = [caller.peer for caller in self.callers.values()]
        entries = self.ledger.record(out, peers)
        for (packet, _), (listener, *_) in zip(out, entries, strict=True):
            self.callers[listener.peer_id].hear(packet)

    def dropped(self) -> dict[str, int]:
        """Return the counters of drops that are not zero."""
        statistics = self.relay.statistics()
        return {name: count for name, count in statistics.items() if count and name not in NO_DROPS}

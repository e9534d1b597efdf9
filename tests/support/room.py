"""A relay with callers around it: each sends like a client and opens what it hears with libsrtp."""

from __future__ import annotations

import random

from pylibsrtp import Error, Session

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import NO_RULES, ChannelRules, MediaPeer
from livechat.media.relay import Relay
from livechat.protocol.types import Address, ChannelId, SessionId, Ssrc, UserId
from livechat.rtp import extensions, feedback, rtcp
from livechat.rtp.demux import Kind, classify
from livechat.rtp.feedback import AnyPacket, FeedbackPacket, parse_datagram_untrusted
from livechat.rtp.packet import RtpHeader, parse_untrusted
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed, each_packet
from tests.support.nonce_ledger import NonceLedger
from tests.support.voice import libsrtp_receiver, rtp_packet

Packets = list[tuple[bytes, Address]]
CM_80 = SrtpProfile.AES_CM_128_HMAC_SHA1_80
CHANNEL = ChannelId("room")
NO_DROPS = {
    "peers",
    "received",
    "rtp_accepted",
    "rtcp_accepted",
    "rtp_forwarded",
    "rtcp_forwarded",
    "rtcp_reports_received",
    "rtcp_reports_sent",
    "rtcp_reports_translated",
    "nacks",
    "retransmitted",
    "key_frame_requests",
    "key_frame_requests_forwarded",
    "rtcp_terminated",
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
        self.reports: list[list[AnyPacket]] = []
        self.is_deaf = False
        """Whether what is sent to it is lost on the way."""
        self._sender = SrtpSender(peer.profile, peer.client_key)
        # Made at the join, as a client's is: whatever comes must open from rollover count 0 on.
        self._receivers: list[Session] = [libsrtp_receiver(peer.profile, peer.server_key)]

    def speak(self, payload: bytes = b"speech", *, skip: int = 0, level: int | None = None) -> bytes:
        """Return the next SRTP packet, after leaving out `skip` numbers.

        Args:
            level: the byte of the audio level (RFC 6464) that it tells; None: it tells none.
        """
        self.sequence += skip + 1
        extension = None if level is None else extensions.serialize([(1, bytes([level]))])
        return self._sender.protect(rtp_packet(self.sequence - 1, self.peer.ssrc, payload, extension=extension))

    def report(self, *packets: rtcp.RtcpPacket | FeedbackPacket) -> bytes:
        """Return an SRTCP packet, without any packets of an empty RR."""
        compound = packets or (rtcp.ReceiverReport(self.peer.ssrc),)
        return self._sender.protect_rtcp(b"".join(map(_serialize, compound)))

    def take_reports(self) -> list[list[AnyPacket]]:
        """Return the compounds that came since the last call."""
        reports, self.reports = self.reports, []
        return reports

    def take_keys(self, *, rollover: int = 0) -> None:
        """Go over to the keys that the peer has now, as a client does on MEDIA_UPDATE.

        Args:
            rollover: the count at which it goes on; a new libsrtp session does at 0.
        """
        self._sender = SrtpSender(self.peer.profile, self.peer.client_key, rollover=rollover)
        self._receivers = [libsrtp_receiver(self.peer.profile, self.peer.server_key), *self._receivers[:1]]

    def hear(self, packet: bytes) -> None:
        """Open a packet; libsrtp raises if it is not for this caller, forged, or repeated."""
        *newer, oldest = self._receivers
        for receiver in newer:
            try:
                self._hear_by(receiver, packet)
            except Error:
                continue
            return
        self._hear_by(oldest, packet)

    def _hear_by(self, receiver: Session, packet: bytes) -> None:
        if classify(packet) is Kind.RTCP:
            self.reports.append(parse_datagram_untrusted(receiver.unprotect_rtcp(packet)))
        else:
            self.heard.append(parse_untrusted(receiver.unprotect(packet)))

    @property
    def payloads(self) -> list[bytes]:
        """What it heard."""
        return [payload for _, payload in self.heard]


class Room:
    """Hub, relay, ledger and callers."""

    def __init__(self, seed: int | str = 1) -> None:
        self.rng = random.Random(seed)
        self.hub = MediaPeerHub(self.rng.randbytes)
        self.relay = Relay(randbelow=self.rng.randrange, chance=random.Random(seed).random)
        self.ledger = NonceLedger()
        self.now = 1000.0
        self.rules = NO_RULES
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
        self.relay.add_peer(peer, self.rules)
        caller = self.callers[peer.peer_id] = Caller(peer, address)
        return caller

    def rekey(self, caller: Caller) -> None:
        """Give a voice new keys; its client does not know of them yet."""
        self.ledger.note(caller.peer)
        self.hub.renew_keys(caller.peer, self.now)
        self.relay.rekey(caller.peer, self.now)

    def set_rules(self, rules: ChannelRules) -> None:
        """Give the channel other rules."""
        self.rules = rules
        self.relay.set_rules(CHANNEL, rules)

    def leave(self, caller: Caller, *, hub_first: bool = False) -> Packets:
        """Remove a voice and deliver what that causes."""
        if hub_first:
            self.hub.remove(caller.peer)
        out = self.relay.remove_peer(caller.peer)
        if not hub_first:
            self.hub.remove(caller.peer)
        del self.callers[caller.peer.peer_id]
        return self._deliver(out)

    def send(self, data: bytes, source: Address, *, resends: bool = False) -> Packets:
        """Give the relay a datagram and deliver what comes out; packets may come again if it `resends`."""
        out: Sealed = []
        self.relay.datagram(data, source, self.now, out)
        self.relay.end_turn(out)
        return self._deliver(out, resends=resends)

    def report(self, caller: Caller, *packets: rtcp.RtcpPacket | FeedbackPacket) -> Packets:
        """Have a caller send RTCP from where it is; the relay may send packets again for it."""
        return self.send(caller.report(*packets), caller.address, resends=True)

    def wait(self, seconds: float) -> list[tuple[float, Address]]:
        """Let time pass and the relay do what is due, when it is. Returns when it sent something to whom."""
        end, sent = self.now + seconds, []
        while True:
            out: Sealed = []
            due = self.relay.run_due(self.now, out)
            sent += [(self.now, address) for _, address in self._deliver(out)]
            if due is None or due > end:
                self.now = end
                return sent
            self.now = due

    def speak(
        self, caller: Caller, payload: bytes = b"speech", *, skip: int = 0, level: int | None = None
    ) -> Packets:
        """Have a caller send its next packet from where it is; see `Caller.speak`."""
        return self.send(caller.speak(payload, skip=skip, level=level), caller.address)

    def run_due(self) -> float | None:
        """Have the relay do what is due, and deliver what that causes; return when something is due next."""
        out: Sealed = []
        due = self.relay.run_due(self.now, out)
        self._deliver(out)
        return due

    def _deliver(self, sealed: Sealed, *, resends: bool = False) -> Packets:
        out = list(each_packet(sealed))
        peers = [caller.peer for caller in self.callers.values()]
        entries = self.ledger.record(out, peers, resends=resends)
        for (packet, _), (listener, *_) in zip(out, entries, strict=True):
            if not self.callers[listener.peer_id].is_deaf:
                self.callers[listener.peer_id].hear(packet)
        return out

    def dropped(self) -> dict[str, int]:
        """Return the counters of drops that are not zero."""
        statistics = self.relay.statistics()
        return {name: count for name, count in statistics.items() if count and name not in NO_DROPS}


def _serialize(packet: rtcp.RtcpPacket | FeedbackPacket) -> bytes:
    return feedback.serialize(packet) if isinstance(packet, FeedbackPacket) else rtcp.serialize(packet)

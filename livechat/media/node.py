"""Owns a media peer with its cryptographic state, as a publisher and as a listener.

It must not decide who hears it; the relay does.
"""

from __future__ import annotations

from livechat.hub.peer import MediaPeer
from livechat.media.legs import Leg, Plan
from livechat.media.rtcp_state import RtcpState
from livechat.media.sent import SentSlots
from livechat.media.settings import SpeakingSettings
from livechat.media.speaking import Speech
from livechat.media.stage import Stage
from livechat.srtp.cipher import make_ciphers
from livechat.srtp.context import SrtpReceiver
from livechat.srtp.succession import CYCLE_PACKETS, KeySuccession, Receiver


class Node:
    """A media peer in the relay."""

    __slots__ = (
        "control",
        "egress_bytes",
        "forwarded_index",
        "is_forwarded",
        "is_paused",
        "is_worn",
        "legs",
        "newest_index",
        "peer",
        "plan",
        "receiver",
        "rtcp",
        "rtp",
        "sent",
        "speech",
        "stage",
    )

    def __init__(self, peer: MediaPeer, speaking: SpeakingSettings, control: RtcpState) -> None:
        self.peer = peer
        self.control = control
        self.receiver: Receiver = _make_receiver(peer)
        """Opens what it sends."""
        self.rtp, self.rtcp = make_ciphers(peer.profile, peer.server_key)
        """Seal what it hears."""
        self.egress_bytes = peer.egress_ssrc.to_bytes(4, "big")
        self.newest_index = -1
        """The highest index of an authentic SRTP packet from it; -1 before the first."""
        self.forwarded_index = -1
        """The highest index that was forwarded; -1 before the first."""
        self.is_paused = False
        """Whether packets after that one were not forwarded: its legs go on without a gap."""
        self.legs: dict[int, Leg] = {}
        """Who hears it, by the listener's peer id. They last as long as both peers: a leg made twice
        would start its indexes again."""
        self.plan: Plan | None = None
        self.sent: SentSlots = {}
        """Where its last packets are, as they went to its listeners."""
        self.is_forwarded = True
        """Whether the channel's rules let others hear it now, but for `stage`."""
        self.speech = Speech(speaking)
        self.stage: Stage | None = None
        """Where it needs a place to be heard; None: it does not."""
        self.is_worn = False
        """Whether an index under the key of what it hears comes near its end."""

    @property
    def is_heard(self) -> bool:
        """Whether what it sends goes on to others now, as of its last packet."""
        return self.is_forwarded and (self.stage is None or self.speech in self.stage)


def _make_receiver(peer: MediaPeer) -> Receiver:
    receiver = SrtpReceiver(peer.profile, peer.client_key)
    if peer.sent_up_to < CYCLE_PACKETS // 2:
        return receiver
    # It may have kept its rollover count under the keys that it got since.
    return KeySuccession.after_loss(receiver, peer.ssrc, peer.sent_up_to)

"""Owns what a media peer is, what decides whom it hears, and what the relay tells of it.

It must not draw keys or ssrcs (the hub does), nor relay: both the hub and the relay work on these.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

import attrs

from livechat.protocol.types import Address, ChannelId, RekeyCause, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile


@attrs.frozen
class ChannelRules:
    """What decides, beside membership, whose media is forwarded in a channel."""

    max_speakers: int | None = None
    """Only so many publishers, the loudest; None: all."""
    floor_control: bool = False
    """Push to talk: only the holder of the floor is heard."""
    floor_holder: UserId | None = None


NO_RULES: Final = ChannelRules()


@attrs.frozen
class ExtensionIds:
    """The local ids under which a peer sends RTP header extensions (RFC 8285 section 5); None: it does not."""

    audio_level: int | None = 1
    """RFC 6464."""
    transport_cc: int | None = 3
    """Transport-wide congestion control; never shown to receivers."""


DEFAULT_IDS: Final = ExtensionIds()


@attrs.define(slots=True, eq=False)
class PeerQuality:
    """How well media arrives, from a peer (up) and at it (down), by RTCP (RFC 3550 section 6.4).

    Up is measured here, as of the last report to the peer; down is what the peer's own reports say, of what it
    hears together. Times are None until there is something to measure.
    """

    packets_lost_up: int = 0
    """Of what it sent; late and double ones count against it."""
    fraction_lost_up: float = 0.0
    """0 to 1, in the last interval between two reports in which something came."""
    jitter_up_ms: float | None = None
    packets_lost_down: int = 0
    """Of what was sent to it, and of what was lost before it came here."""
    fraction_lost_down: float = 0.0
    """0 to 1, of the publisher that it hears worst, in its last report."""
    jitter_down_ms: float | None = None
    """Of the publisher that it hears worst, in its last report."""
    rtt_ms: float | None = None
    """From here to the peer and back."""

    def measured(self) -> dict[str, float]:
        """Return by name what there is."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@attrs.define(slots=True, eq=False)
class MediaPeer:
    """One user's voice in one channel."""

    peer_id: int
    """Counts up from 1 on this node in order of joining; never reused."""
    channel_id: ChannelId
    user_id: UserId
    session_id: SessionId = attrs.field(repr=False)
    ssrc: Ssrc
    """What the client sends with."""
    egress_ssrc: Ssrc
    """What the others receive: `member.ssrc`."""
    reporter_ssrc: Ssrc
    """What it receives the server's own reports from; in its channel nothing else is ever heard as it."""
    profile: SrtpProfile
    client_key: bytes = attrs.field(repr=False)
    """Master key ‖ salt of what the client sends."""
    server_key: bytes = attrs.field(repr=False)
    """Master key ‖ salt of what the client receives."""
    joined_at: float
    """Monotonic seconds."""
    address: Address | None = None
    """Where to send: stated at the join or learned from authentic packets; the host is an IP literal."""
    address_stated: bool = False
    """Whether the join stated an address."""
    last_seen: float | None = None
    """Monotonic seconds of the last authentic packet; None before the first."""
    is_ended: bool = False
    """Its keys are spent: it must never be relayed again."""
    packets_received: int = 0
    """Authentic SRTP and SRTCP packets from it."""
    bytes_received: int = 0
    """Of those packets, as they came."""
    packets_rejected: int = 0
    """Packets with its ssrc that were not authentic, replayed or malformed."""
    packets_forwarded: int = 0
    """Copies made of its SRTP packets for others."""
    extensions: ExtensionIds = DEFAULT_IDS
    """The ids of the header extensions that it sends."""
    quality: PeerQuality = attrs.field(factory=PeerQuality)
    keys_since: float = attrs.field(init=False)
    """Monotonic seconds since when it has its keys."""
    keys_taken: bool = True
    """Whether its client is known to have the keys: they are the first, or a packet under them was authentic."""
    older_keys_until: float = 0.0
    """Monotonic seconds up to which the keys before are good as well."""
    rekeys: int = 0
    """How often its keys have changed."""
    sent_up_to: int = -1
    """The SRTP index that it had counted up to when who relayed for it was lost; -1: that has not been."""
    rekey_cause: RekeyCause | None = None
    """Why its keys are to change as soon as can be; None: they are not."""

    def __attrs_post_init__(self) -> None:
        self.keys_since = self.joined_at


class MediaEvents(Protocol):
    """The port to the node: what the relay tells it, in the middle of a turn; it must not wait."""

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        """Note that a peer begins or ends to speak.

        Args:
            level_db: how loud, in dB relative to full scale: 0 to -127.
        """
        ...

    def keys_worn(self, peer: MediaPeer) -> None:
        """Note that a peer's keys come near the end of their lifetime."""
        ...

    def moved(self, peers: Collection[MediaPeer]) -> None:
        """Note that these need new keys, and an address to send to: who relayed for them is gone."""
        ...


class NoEvents:
    """Hears nothing, for whoever relays without a node."""

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        """See `MediaEvents`."""

    def keys_worn(self, peer: MediaPeer) -> None:
        """See `MediaEvents`."""

    def moved(self, peers: Collection[MediaPeer]) -> None:
        """See `MediaEvents`."""

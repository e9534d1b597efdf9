"""Owns who hears what: the media peers of this node, their ssrcs, keys and addresses.

It must not send, encrypt, wait or look at a clock; randomness comes from the `randbytes` it is given.

A peer has two ssrcs. It sends with `ssrc`, by which the server finds it, so among living peers that one is
unique on the node. Others hear it as `egress_ssrc`. Every receiver has one key for all it hears, and a
keystream depends on nothing but (key, ssrc, index): an egress ssrc must never come back under a key that
saw it before (RFC 3711 section 9.1, two-time pad). Hence what a channel remembers:

    heard     egress ssrcs of living peers
    retired   egress ssrcs chosen by clients that left, each until the last receiver that could have heard
              it has left too
    fresh     a run of consecutive ssrcs from a random start, handed out where the client's own is used up;
              a start and a count remember all of them
    reporter  the first good one of that run: the server's own reports are heard as it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

import attrs

from livechat.error import SsrcInUse
from livechat.hub.peer import DEFAULT_IDS, ExtensionIds, MediaPeer
from livechat.protocol.types import Address, ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile

PEER_TIMEOUT_S: Final = 30.0
"""Without an authentic packet for so long, a peer is over."""

RETIRED_MAX: Final = 4096
"""Client-chosen egress ssrcs a channel remembers. Past it, re-joining peers are heard under fresh ones,
which cost no memory; so whoever joins and leaves all day makes nothing grow."""

_SSRC_MASK: Final = 0xFFFFFFFF


@attrs.define(slots=True, eq=False)
class _Channel:
    """The voices of one channel and the egress ssrcs its receivers have heard."""

    fresh_start: int
    peers: dict[UserId, MediaPeer] = attrs.field(factory=dict)
    """In order of joining: the first is the oldest receiver."""
    heard: set[Ssrc] = attrs.field(factory=set)
    retired: dict[Ssrc, int] = attrs.field(factory=dict)
    """ssrc -> the peer id that was next when it retired, ascending: peers from it on never heard it."""
    fresh_count: int = 0
    reporter: Ssrc = Ssrc(0)
    """Set before the first peer joins."""

    def was_used(self, ssrc: Ssrc) -> bool:
        """Say whether any living receiver may have heard this egress ssrc."""
        in_fresh_run = (ssrc - self.fresh_start) & _SSRC_MASK < self.fresh_count
        return in_fresh_run or self.was_chosen(ssrc)

    def was_chosen(self, ssrc: Ssrc) -> bool:
        """Say the same of an ssrc outside of the fresh run."""
        return ssrc in self.heard or ssrc in self.retired

    def next_fresh(self) -> Ssrc:
        """Return the next of the run; it may still be used otherwise."""
        assert self.fresh_count <= _SSRC_MASK
        ssrc = Ssrc((self.fresh_start + self.fresh_count) & _SSRC_MASK)
        self.fresh_count += 1
        return ssrc

    def retire(self, ssrc: Ssrc, next_peer_id: int) -> None:
        """Remember the egress ssrc of a peer that left; forget those that nobody left can have heard."""
        self.heard.remove(ssrc)
        if not self.was_used(ssrc):
            self.retired[ssrc] = next_peer_id
        oldest = next(iter(self.peers.values())).peer_id
        while self.retired:
            first = next(iter(self.retired))
            if self.retired[first] > oldest:
                break
            del self.retired[first]


class MediaPeerHub:
    """Every media peer of this node: by ssrc, by channel and user, by session.

    Args:
        randbytes: returns that many unguessable bytes; keys come from it.
        peer_timeout_s: how long a peer lives without an authentic packet.
        extensions: the header extensions that peers send.
    """

    __slots__ = (
        "_by_session",
        "_by_ssrc",
        "_channels",
        "_extensions",
        "_next_peer_id",
        "_randbytes",
        "_reserved",
        "on_removed",
        "peer_timeout_s",
    )

    def __init__(
        self,
        randbytes: Callable[[int], bytes],
        *,
        peer_timeout_s: float = PEER_TIMEOUT_S,
        extensions: ExtensionIds = DEFAULT_IDS,
    ) -> None:
        self._randbytes = randbytes
        self._extensions = extensions
        self.peer_timeout_s = peer_timeout_s
        self.on_removed: Callable[[MediaPeer], object] = lambda _peer: None
        """Called with each peer that was taken out."""
        self._by_ssrc: dict[Ssrc, MediaPeer] = {}
        self._by_session: dict[SessionId, dict[int, MediaPeer]] = {}
        self._channels: dict[ChannelId, _Channel] = {}
        self._next_peer_id = 1
        self._reserved: set[Ssrc] = set()

    def __len__(self) -> int:
        return len(self._by_ssrc)

    def __iter__(self) -> Iterator[MediaPeer]:
        return iter(self._by_ssrc.values())

    def by_ssrc(self, ssrc: int) -> MediaPeer | None:
        """Return the peer that sends with this ssrc."""
        return self._by_ssrc.get(Ssrc(ssrc))

    def of(self, channel_id: ChannelId, user_id: UserId) -> MediaPeer | None:
        """Return the user's voice in the channel."""
        channel = self._channels.get(channel_id)
        return channel.peers.get(user_id) if channel is not None else None

    def peers_of(self, channel_id: ChannelId) -> Collection[MediaPeer]:
        """Return the channel's voices in order of joining; a view, so copy it before changing the hub."""
        channel = self._channels.get(channel_id)
        return channel.peers.values() if channel is not None else ()

    def of_session(self, session_id: SessionId) -> list[MediaPeer]:
        """Return the session's voices, at most one a channel."""
        return list(self._by_session.get(session_id, {}).values())

    def listeners_of(self, peer: MediaPeer) -> list[MediaPeer]:
        """Return who must hear this peer: the others of its channel, also once it has left itself."""
        return [other for other in self.peers_of(peer.channel_id) if other is not peer]

    def is_free(self, channel_id: ChannelId, ssrc: Ssrc, *, leaving: MediaPeer | None = None) -> bool:
        """Say whether a peer may send with this ssrc, once `leaving` (if any) has left.

        No living peer of the node may send with it, and none of the channel may be heard as it:
        RFC 3550 section 8.2 takes one's own ssrc coming in for a collision or a loop.
        """
        if ssrc in self._reserved:
            return False
        channel = self._channels.get(channel_id)
        holder = self._by_ssrc.get(ssrc)
        if holder is not None and holder is not leaving:
            return False
        if channel is None:
            return True
        if ssrc == channel.reporter:
            return False
        if ssrc not in channel.heard:
            return True
        return leaving is not None and leaving.channel_id == channel_id and leaving.egress_ssrc == ssrc

    def reserve(self, ssrc: Ssrc) -> None:
        """Keep a free ssrc from everybody until `release`: a client that insists on it is about to join."""
        self._reserved.add(ssrc)

    def release(self, ssrc: Ssrc) -> None:
        """Give a reserved ssrc free again; nothing happens if it is not reserved."""
        self._reserved.discard(ssrc)

    def add(
        self,
        channel_id: ChannelId,
        user_id: UserId,
        session_id: SessionId,
        *,
        profile: SrtpProfile,
        now: float,
        ssrc: Ssrc | None = None,
        address: Address | None = None,
        insist: bool = False,
        heard_before: Ssrc | None = None,
    ) -> MediaPeer:
        """Make a peer with fresh keys; the user must have none in this channel.

        Args:
            ssrc: what the client would like to send with; None if it does not care.
            address: where it says to receive; the caller has checked that it may, and that the host is an
                IP literal (a name would be resolved, blocking, at every send).
            insist: refuse instead of giving the client another ssrc.
            heard_before: what the others must not hear it as: the egress ssrc of the peer it takes over from.

        Raises:
            SsrcInUse: `insist`, and the ssrc is taken.
        """
        assert self.of(channel_id, user_id) is None
        if ssrc is not None and not self.is_free(channel_id, ssrc):
            if insist:
                raise SsrcInUse(f"ssrc {ssrc}: expected one that nobody uses")
            ssrc = None
        channel = self._channels.get(channel_id)
        if channel is None:
            channel = self._new_channel(ssrc)
        if ssrc is None:
            ssrc = self._random_ssrc(channel)
        peer = MediaPeer(
            peer_id=self._next_peer_id,
            channel_id=channel_id,
            user_id=user_id,
            session_id=session_id,
            ssrc=ssrc,
            egress_ssrc=self._choose_egress(channel, ssrc, heard_before),
            reporter_ssrc=channel.reporter,
            profile=profile,
            client_key=self._randbytes(profile.master_bytes),
            server_key=self._randbytes(profile.master_bytes),
            joined_at=now,
            address=address,
            address_stated=address is not None,
            extensions=self._extensions,
        )
        self._next_peer_id += 1
        self._channels[channel_id] = channel
        channel.peers[user_id] = peer
        channel.heard.add(peer.egress_ssrc)
        self._by_ssrc[ssrc] = peer
        self._by_session.setdefault(session_id, {})[peer.peer_id] = peer
        return peer

    def renew_keys(self, peer: MediaPeer, now: float) -> None:
        """Give a peer fresh keys in place of its own; whoever relays for it keeps those for the overlap."""
        assert not peer.is_ended
        peer.client_key = self._randbytes(peer.profile.master_bytes)
        peer.server_key = self._randbytes(peer.profile.master_bytes)
        peer.keys_since = now
        peer.keys_taken = False
        peer.rekeys += 1
        peer.rekey_cause = None

    def remove(self, peer: MediaPeer) -> None:
        """Take a peer out. Its ssrc is free again; its egress ssrc is not, see the module."""
        peer.is_ended = True
        del self._by_ssrc[peer.ssrc]
        peers = self._by_session[peer.session_id]
        del peers[peer.peer_id]
        if not peers:
            del self._by_session[peer.session_id]
        channel = self._channels[peer.channel_id]
        del channel.peers[peer.user_id]
        if channel.peers:
            channel.retire(peer.egress_ssrc, self._next_peer_id)
        else:
            # Every key that ever received in this channel is gone, and all that it heard with it.
            del self._channels[peer.channel_id]
        self.on_removed(peer)

    def expires_at(self, peer: MediaPeer) -> float | None:
        """Return when the peer is over unless it is heard from, in monotonic seconds.

        None for a peer that stated its address and never sent: it only listens, and lives as long as
        its session.
        """
        if peer.last_seen is not None:
            return peer.last_seen + self.peer_timeout_s
        return None if peer.address_stated else peer.joined_at + self.peer_timeout_s

    def _new_channel(self, ssrc: Ssrc | None) -> _Channel:
        """Make a channel whose reporter is nobody: not its first peer either, who would like to be `ssrc`."""
        channel = _Channel(fresh_start=int.from_bytes(self._randbytes(4), "big"))
        while not channel.reporter:
            fresh = channel.next_fresh()
            if fresh not in (0, ssrc) and fresh not in self._by_ssrc and fresh not in self._reserved:
                channel.reporter = fresh
        return channel

    def _random_ssrc(self, channel: _Channel) -> Ssrc:
        while True:
            ssrc = Ssrc(int.from_bytes(self._randbytes(4), "big"))
            # Zero stands for "none" in some implementations.
            if ssrc and ssrc not in self._reserved and ssrc not in self._by_ssrc and not channel.was_used(ssrc):
                return ssrc

    def _choose_egress(self, channel: _Channel, ssrc: Ssrc, heard_before: Ssrc | None) -> Ssrc:
        """Keep what the client sends with if no receiver ever heard it, else take a fresh one."""
        remembered = len(channel.retired) + len(channel.peers)
        if remembered < RETIRED_MAX and ssrc != heard_before and not channel.was_used(ssrc):
            return ssrc
        while True:
            fresh = channel.next_fresh()
            # The run may come upon what clients chose; it must not be anybody's own ssrc either.
            if fresh not in (0, heard_before) and not channel.was_chosen(fresh) and fresh not in self._by_ssrc:
                return fresh

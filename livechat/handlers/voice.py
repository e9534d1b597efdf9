"""Owns how a CHANNEL_JOIN becomes a media peer and how a media peer ends.

It must not touch packets or sockets: the media plane does. Voice belongs to one session and is one per user
and channel; a newer session takes it over.
"""

from __future__ import annotations

from ipaddress import ip_address

import attrs

from livechat.cluster.backplane import ChannelNotice
from livechat.error import MediaNotPossible, SsrcInUse
from livechat.handlers import rekey
from livechat.handlers.call import Call
from livechat.handlers.node import Node
from livechat.hub.channels import ChannelFacts
from livechat.hub.peer import ChannelRules, MediaPeer
from livechat.hub.users import Session
from livechat.protocol import events
from livechat.protocol.requests import ChannelJoin
from livechat.protocol.types import Address, ChannelId, SessionId, Ssrc, UserId
from livechat.srtp.profile import SrtpProfile

DEFAULT_PROFILE = SrtpProfile.AES_CM_128_HMAC_SHA1_80


@attrs.frozen
class VoicePlan:
    """What a join asks for, checked before anything is changed."""

    channel_id: ChannelId
    user_id: UserId
    ssrc: Ssrc | None
    insist: bool
    """The client cannot send with another ssrc."""
    profile: SrtpProfile
    address: Address | None
    endpoint: Address
    """Where the client is to send its media."""


def plan(call: Call, request: ChannelJoin) -> VoicePlan | None:
    """Check the media part of a join; None if it asks for no voice.

    Raises:
        MediaNotPossible: no common profile, a foreign address, no confidential way to tell the keys, or no relay.
    """
    if not request.wants_voice:
        return None
    if request.sdp_offer is not None:
        raise MediaNotPossible("sdp_offer: WebRTC is not available on this server")
    if not call.caller.is_confidential and not call.node.media_keys_in_clear:
        raise MediaNotPossible("media: keys are given only over TLS or loopback")
    call.node.media.check_available(request.channel_id)
    ssrc, insist = request.ssrc, False
    if request.tracks:
        if len(request.tracks) > 1:
            raise MediaNotPossible("tracks: expected one track, a peer sends one stream")
        ssrc, insist = request.tracks[0].ssrc, True
    media = request.media
    planned = VoicePlan(
        channel_id=request.channel_id,
        user_id=call.session.user_id,
        ssrc=ssrc,
        insist=insist,
        profile=choose_profile(media.profiles if media is not None else None),
        address=_stated_address(call, request),
        endpoint=call.node.media.endpoint(request.channel_id, call.caller.local_host),
    )
    if insist and ssrc is not None:
        _reserve(call.node, planned, ssrc)
    return planned


def _reserve(node: Node, plan: VoicePlan, ssrc: Ssrc) -> None:
    """Take an ssrc that the client insists on before the membership is asked for; one's own old peer makes room.

    Raises:
        SsrcInUse: another peer has it, or is about to.
    """
    hub = node.media.hub
    if not hub.is_free(plan.channel_id, ssrc, leaving=hub.of(plan.channel_id, plan.user_id)):
        raise SsrcInUse(f"tracks: ssrc {ssrc} is in use")
    hub.reserve(ssrc)


def release(node: Node, plan: VoicePlan | None) -> None:
    """Give free what `plan` reserved."""
    if plan is not None and plan.insist and plan.ssrc is not None:
        node.media.hub.release(plan.ssrc)


def choose_profile(offered: tuple[str, ...] | None) -> SrtpProfile:
    """Return the first of the client's profiles that the server has.

    Raises:
        MediaNotPossible: there is none.
    """
    if offered is None:
        return DEFAULT_PROFILE
    for name in offered:
        if name in SrtpProfile.__members__:
            return SrtpProfile[name]
    raise MediaNotPossible(f"media.profiles: expected one of {', '.join(SrtpProfile.__members__)}")


def _stated_address(call: Call, request: ChannelJoin) -> Address | None:
    """Return the address a client states for its media; only its own host can be stated.

    Otherwise anybody could have the server send a stream to a third party.
    """
    if request.media is None or request.media.address is None:
        return None
    stated = request.media.address
    if not same_host(stated.host, call.caller.peer_host):
        raise MediaNotPossible("media.address: expected the host that this connection comes from")
    address = call.node.media.reachable((stated.host, stated.port))
    if address is None:
        raise MediaNotPossible("media.address: media is not sent to addresses of this family")
    return address


def same_host(one: str, other: str) -> bool:
    """Tell whether two IP literals mean the same host; an IPv4-mapped IPv6 address is its IPv4 one."""
    addresses = []
    for text in (one, other):
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        addresses.append(mapped or address)
    return bool(addresses[0] == addresses[1])


def rules_of(node: Node, facts: ChannelFacts) -> ChannelRules:
    """Return whose media is to be forwarded in a channel, as things stand."""
    holder = node.floors.holder(facts.channel_id)
    return ChannelRules(
        max_speakers=facts.max_speakers,
        floor_control=facts.mode == "ptt",
        floor_holder=None if holder is None else holder.user_id,
    )


def begin(
    node: Node, session: Session, plan: VoicePlan, rules: ChannelRules
) -> tuple[MediaPeer, MediaPeer | None]:
    """Add a media peer with fresh keys and begin to relay for it; it ends by itself when it stays silent.

    Args:
        rules: of the channel.

    Returns:
        The new peer, and the one of the same user and channel that it took over from, which has ended.
    """
    hub = node.media.hub
    replaced = hub.of(plan.channel_id, plan.user_id)
    release(node, plan)
    if replaced is not None:
        node.media.close(replaced)
    peer = hub.add(
        channel_id=plan.channel_id,
        user_id=plan.user_id,
        session_id=session.session_id,
        ssrc=plan.ssrc,
        insist=plan.insist,
        profile=plan.profile,
        address=plan.address,
        now=node.now(),
        # A new voice is told from the old one by its ssrc, also where nobody else has heard that yet.
        heard_before=None if replaced is None else replaced.egress_ssrc,
    )
    node.media.open(peer, rules)

    node.deadlines.schedule(_next_look(node, peer, node.now()), lambda now: _look_after(node, peer, now))
    return peer, replaced


def _look_after(node: Node, peer: MediaPeer, now: float) -> float | None:
    """End a peer that is silent for too long, change keys that are too old; return when to look again."""
    if peer.is_ended:
        return None
    silent_at = node.media.hub.expires_at(peer)
    if silent_at is not None and silent_at <= now:
        end(node, peer, "timeout")
        return None
    if rekey.old_at(node, peer) <= now:
        rekey.change(node, peer, "age")
    return _next_look(node, peer, now)


def _next_look(node: Node, peer: MediaPeer, now: float) -> float:
    """Return when a peer must be looked after: soon, lest one that is long gone stays in the heap."""
    silent_at = node.media.hub.expires_at(peer)
    if silent_at is None:
        silent_at = now + node.media.hub.peer_timeout_s
    return min(silent_at, rekey.old_at(node, peer))


def end(node: Node, peer: MediaPeer, cause: str) -> None:
    """End a media peer and tell the channel."""
    node.media.close(peer)
    publish_end(node, peer, cause)


def publish_end(node: Node, peer: MediaPeer, cause: str, origin: SessionId | None = None) -> None:
    """Tell a channel that a peer's voice is over."""
    event = events.ChannelEvent(
        event="voice_leave",
        channel_id=peer.channel_id,
        member=events.Member(peer.user_id, peer.egress_ssrc),
        cause=cause,
    )
    node.backplane.publish(ChannelNotice(event, origin))

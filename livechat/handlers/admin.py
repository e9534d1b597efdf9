"""Owns what an operator is shown of who and what is on a server: users, channels, media peers.

It must not change anything, nor show what anybody said, keys, tokens or whole session ids; and it does not decide
who is an operator. Sessions and peers are this node's: the hubs know no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice
from typing import Final

import attrs

from livechat.handlers.node import Node
from livechat.hub.floor import Claim
from livechat.hub.peer import MediaPeer, PeerQuality
from livechat.hub.users import Queued, Session
from livechat.protocol.patterns import ChannelPatterns, allowed
from livechat.protocol.types import ChannelId, ChannelMode, FloorIndicator, PresenceStatus, UserId
from livechat.protocol.voice_events import ActiveSpeaker
from livechat.store.base import perform
from livechat.store.operations import GetChannel, ListChannels, LoadUser
from livechat.store.rows import ChannelRow
from livechat.telemetry.scope import shown_session

OPERATOR: Final = UserId("operator")
"""As whom the store is asked; with `admin` it makes no difference."""
MEMBERS_SHOWN: Final = 1000


@attrs.frozen
class AdminSession:
    """One session of a user."""

    session: str
    """The beginning of its id, as in log lines and in the trace."""
    connected: bool
    """False: it is parked."""
    age_s: float
    subscriptions: int
    egress_frames: int
    """What waits for the client to read it."""
    egress_bytes: int
    chunks_dropped: int
    """Media chunks that its connection was not sent, as the client reads too slowly; 0 while it is parked."""
    is_admin: bool
    peer: str | None = None
    """The client's address; left out while it is parked."""
    parked_s: float | None = None
    focus: ChannelId | None = None
    token_expires_at: int | None = None


@attrs.frozen
class AdminUser:
    """One user with a session here."""

    user_id: UserId
    status: PresenceStatus
    """What the user shows: the most present of the connected sessions."""
    sessions: int
    connected: int
    """Sessions with a connection."""
    channels: int
    """Memberships."""
    voices: int
    """Media peers."""


@attrs.frozen
class AdminUserPage:
    """A part of the users, in the order of their ids."""

    users: list[AdminUser]
    next: UserId | None = None
    """The `after` that continues the list; left out at its end."""


@attrs.frozen
class AdminUserDetails:
    """One user, here or not."""

    user_id: UserId
    status: PresenceStatus
    sessions: list[AdminSession]
    channels: list[ChannelId]
    voices: list[AdminPeer]
    last_seen: int | None = None
    """When the user last had a connection, as far as was written; left out: never."""
    banned_until: int | None = None
    """Until when the user is kept out; left out: not at all."""


@attrs.frozen
class AdminChannel:
    """One channel."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    private: bool
    owner_id: UserId
    capacity: int
    member_count: int
    last_seq: int
    created_at: int
    members_here: int
    """Members with a session on this server."""
    subscribers: int
    """Sessions here that hear it."""
    voices: int
    """Media peers here."""


@attrs.frozen
class AdminChannelPage:
    """A part of the channels, in the order of their ids."""

    channels: list[AdminChannel]
    next: ChannelId | None = None
    """The `after` that continues the list; left out at its end."""


@attrs.frozen
class AdminFloorClaim:
    """A session that waits for the floor."""

    user_id: UserId
    session: str
    """The beginning of its id."""
    priority: int
    indicator: FloorIndicator


@attrs.frozen
class AdminFloor(AdminFloorClaim):
    """The session that has the floor of a push-to-talk channel."""

    held_s: float
    left_s: float
    """Until it is taken away at the latest."""
    waiting: list[AdminFloorClaim]
    """In the order in which they will have it."""


@attrs.frozen
class AdminChannelDetails:
    """One channel, and who of it is here."""

    channel: AdminChannel
    members_here: list[UserId]
    """Those with a session on this server, at most 1,000."""
    voices: list[AdminPeer]
    active_speakers: list[ActiveSpeaker]
    """Who speaks now, the last to begin first; at most 32."""
    floor: AdminFloor | None = None
    """Left out while nobody has it."""


@attrs.frozen
class AdminQuality:
    """How well media arrives from a peer (up) and at it (down), by its RTCP and ours."""

    packets_lost_up: int
    """Of what it sent."""
    fraction_lost_up: float
    """0 to 1, in the last interval between two of our reports in which something came."""
    packets_lost_down: int
    """Of what was sent to it, as it says; with what was lost on the way from the publishers."""
    fraction_lost_down: float
    """0 to 1, in its last report, of the publisher that it hears worst."""
    jitter_up_ms: float | None = None
    """Left out: it has sent nothing that was reported on yet."""
    jitter_down_ms: float | None = None
    """Of the publisher that it hears worst; left out: it has not reported on any."""
    rtt_ms: float | None = None
    """From here to the peer and back; left out: its reports refer to no sender report yet."""


@attrs.frozen
class AdminPeer:
    """One media peer: a user's voice in a channel."""

    peer_id: int
    channel_id: ChannelId
    user_id: UserId
    session: str
    ssrc: int
    """What it sends with."""
    egress_ssrc: int
    """What others hear it as."""
    profile: str
    age_s: float
    packets_received: int
    bytes_received: int
    packets_rejected: int
    packets_forwarded: int
    quality: AdminQuality
    address: str | None = None
    """Where it is sent to; left out: not known yet."""
    idle_s: float | None = None
    """Since its last authentic packet; left out: there was none."""
    worker: int | None = None
    """Which worker relays for it; left out: the server's own process."""


@attrs.frozen
class AdminPeerPage:
    """A part of the media peers, in the order in which they joined."""

    peers: list[AdminPeer]
    next: int | None = None
    """The `after` that continues the list; left out at its end."""


# --- users --------------------------------------------------------------------------------------------


def list_users(node: Node, after: str | None, limit: int) -> AdminUserPage:
    """Show users with a session here."""
    # Not all of them sorted: a page of many must not hold up the packets.
    here = {session.user_id for session in node.users if after is None or session.user_id > after}
    page = nsmallest(limit + 1, here)
    users = [_user_info(node, user_id) for user_id in page[:limit]]
    return AdminUserPage(users, page[limit - 1] if len(page) > limit else None)


async def show_user(node: Node, user_id: UserId, patterns: ChannelPatterns | None = None) -> AdminUserDetails:
    """Show one user; one whom nobody knows has nothing.

    Args:
        patterns: the channels that the one who asks may hear of; None: all.

    Raises:
        LiveError: the store is away.
    """
    view = await perform(node.store, LoadUser(user_id, node.now_ms()))
    sessions = node.users.sessions_of(user_id)
    voices = [peer for session in sessions for peer in node.media.hub.of_session(session.session_id)]
    return AdminUserDetails(
        user_id=user_id,
        status=_status_of(sessions),
        sessions=[_session_info(node, session, patterns) for session in sessions],
        channels=[name for state in view.states if allowed(patterns, name := state.channel.channel_id)],
        voices=[_peer_info(node, peer) for peer in voices if allowed(patterns, peer.channel_id)],
        last_seen=view.user.last_seen,
        banned_until=node.revocations.kept_out_until(user_id),
    )


def _user_info(node: Node, user_id: UserId) -> AdminUser:
    sessions = node.users.sessions_of(user_id)
    return AdminUser(
        user_id=user_id,
        status=_status_of(sessions),
        sessions=len(sessions),
        connected=sum(session.outlet is not None for session in sessions),
        channels=len(node.channels.memberships(user_id)),
        voices=sum(len(node.media.hub.of_session(session.session_id)) for session in sessions),
    )


def _status_of(sessions: Iterable[Session]) -> PresenceStatus:
    shown = {session.status for session in sessions if session.outlet is not None}
    if "ONLINE" in shown:
        return "ONLINE"
    return "AWAY" if "AWAY" in shown else "OFFLINE"


def _session_info(node: Node, session: Session, patterns: ChannelPatterns | None) -> AdminSession:
    outlet, now = session.outlet, node.now()
    queued = Queued() if outlet is None else outlet.queued
    return AdminSession(
        session=shown_session(session.session_id),
        connected=outlet is not None,
        age_s=round(now - session.created_at, 3),
        subscriptions=len(node.channels.channels_of(session)),
        egress_frames=queued.frames,
        egress_bytes=queued.bytes,
        chunks_dropped=queued.chunks_dropped,
        is_admin=session.is_admin,
        peer=None if outlet is None else outlet.peer_host,
        parked_s=None if session.parked_at is None else round(now - session.parked_at, 3),
        focus=session.focus if session.focus is not None and allowed(patterns, session.focus) else None,
        token_expires_at=session.expires_at,
    )


# --- channels -----------------------------------------------------------------------------------------


async def list_channels(
    node: Node, after: ChannelId | None, limit: int, patterns: ChannelPatterns | None = None
) -> AdminChannelPage:
    """Show the channels of the store, with what of them is here; a page may be short of `limit`.

    Args:
        patterns: see `show_user`.

    Raises:
        LiveError: the store is away.
    """
    page = await perform(node.store, ListChannels(OPERATOR, after, limit, admin=True))
    shown = [_channel_info(node, row) for row in page.channels if allowed(patterns, row.channel_id)]
    return AdminChannelPage(shown, page.next)


async def show_channel(node: Node, channel_id: ChannelId) -> AdminChannelDetails:
    """Show one channel.

    Raises:
        ChannelNotFound: there is none.
        LiveError: the store is away.
    """
    view = await perform(node.store, GetChannel(channel_id, OPERATOR, admin=True))
    here = node.channels.get(channel_id)
    members = () if here is None else here.members
    return AdminChannelDetails(
        channel=_channel_info(node, view.channel),
        members_here=sorted(islice(members, MEMBERS_SHOWN)),
        voices=[_peer_info(node, peer) for peer in node.media.hub.peers_of(channel_id)],
        active_speakers=node.speakers.active(channel_id),
        floor=_floor_info(node, channel_id),
    )


def _floor_info(node: Node, channel_id: ChannelId) -> AdminFloor | None:
    floor, now = node.floors.get(channel_id), node.now()
    if floor is None or floor.holder is None:
        return None
    holder = _claim_info(floor.holder)
    return AdminFloor(
        holder.user_id,
        holder.session,
        holder.priority,
        holder.indicator,
        held_s=round(now - floor.held_since, 3),
        left_s=round(floor.over_at - now, 3),
        waiting=[_claim_info(claim) for claim in floor.waiting],
    )


def _claim_info(claim: Claim) -> AdminFloorClaim:
    return AdminFloorClaim(claim.user_id, shown_session(claim.session_id), claim.priority, claim.indicator)


def _channel_info(node: Node, row: ChannelRow) -> AdminChannel:
    here = node.channels.get(row.channel_id)
    return AdminChannel(
        channel_id=row.channel_id,
        channel_name=row.channel_name,
        mode=row.mode,
        durable=row.durable,
        private=row.private,
        owner_id=row.owner_id,
        capacity=row.capacity,
        member_count=row.member_count,
        last_seq=row.last_seq,
        created_at=row.created_at,
        members_here=0 if here is None else len(here.members),
        subscribers=0 if here is None else len(here.subscribers),
        voices=len(node.media.hub.peers_of(row.channel_id)),
    )


# --- media peers ----------------------------------------------------------------------------------------


def list_peers(
    node: Node, channel_id: ChannelId | None, after: int, limit: int, patterns: ChannelPatterns | None = None
) -> AdminPeerPage:
    """Show the media peers here, of one channel or all.

    Args:
        patterns: see `show_user`.
    """
    hub = node.media.hub
    peers = hub if channel_id is None else hub.peers_of(channel_id)
    wanted = (peer for peer in peers if peer.peer_id > after and allowed(patterns, peer.channel_id))
    page = nsmallest(limit + 1, wanted, key=lambda peer: peer.peer_id)
    shown = [_peer_info(node, peer) for peer in page[:limit]]
    return AdminPeerPage(shown, shown[-1].peer_id if len(page) > limit else None)


def show_peer(node: Node, peer_id: int, patterns: ChannelPatterns | None = None) -> AdminPeer | None:
    """Show one media peer; None: there is none that the one who asks may hear of."""
    peer = next((peer for peer in node.media.hub if peer.peer_id == peer_id), None)
    return None if peer is None or not allowed(patterns, peer.channel_id) else _peer_info(node, peer)


def _peer_info(node: Node, peer: MediaPeer) -> AdminPeer:
    now = node.now()
    return AdminPeer(
        peer_id=peer.peer_id,
        channel_id=peer.channel_id,
        user_id=peer.user_id,
        session=shown_session(peer.session_id),
        ssrc=peer.ssrc,
        egress_ssrc=peer.egress_ssrc,
        profile=peer.profile.value,
        age_s=round(now - peer.joined_at, 3),
        packets_received=peer.packets_received,
        bytes_received=peer.bytes_received,
        packets_rejected=peer.packets_rejected,
        packets_forwarded=peer.packets_forwarded,
        quality=_quality_info(peer.quality),
        address=None if peer.address is None else _joined(*peer.address),
        idle_s=None if peer.last_seen is None else round(now - peer.last_seen, 3),
        worker=node.media.worker_of(peer.channel_id),
    )


def _quality_info(quality: PeerQuality) -> AdminQuality:
    return AdminQuality(
        packets_lost_up=quality.packets_lost_up,
        fraction_lost_up=round(quality.fraction_lost_up, 4),
        jitter_up_ms=_rounded(quality.jitter_up_ms),
        packets_lost_down=quality.packets_lost_down,
        fraction_lost_down=round(quality.fraction_lost_down, 4),
        jitter_down_ms=_rounded(quality.jitter_down_ms),
        rtt_ms=_rounded(quality.rtt_ms),
    )


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 2)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

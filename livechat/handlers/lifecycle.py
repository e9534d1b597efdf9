"""Owns how sessions begin, are parked and end, and all that goes with them.

It must not wait: whatever way a connection ends, one call of `connection_lost` leaves every hub clean.

    connection  ends with its socket: out of every channel's subscribers at once
    session     parked for the resume window, unless the client said it is done; then ended
    membership  is stored; in a channel that is not durable it ends with the member's last session
"""

from __future__ import annotations

from collections.abc import Mapping

from livechat.cluster.backplane import ChannelNotice
from livechat.error import LiveError, Overloaded
from livechat.handlers import voice
from livechat.handlers.node import Node
from livechat.hub.users import Session, SessionState
from livechat.protocol.events import ChannelEvent, Member
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.store.base import LeaveChannel, Left, Outcome

DISCONNECT = "disconnect"
LEAVE_RETRY_S = 5.0
"""How long to wait before a leave that the store refused is tried again."""


def session_to_displace(node: Node, user_id: UserId) -> Session | None:
    """Return the session that must end for a new one of the user; None if there is room.

    Raises:
        Overloaded: the user has as many sessions as allowed, and none of them is parked.
    """
    sessions = node.users.sessions_of(user_id)
    if len(sessions) < node.limits.sessions_per_user:
        return None
    parked = [session for session in sessions if session.parked_at is not None]
    if not parked:
        raise Overloaded(f"user_id: has {len(sessions)} sessions, the most allowed")
    return min(parked, key=lambda session: session.parked_at or 0.0)


def connection_lost(node: Node, session: Session, *, resumable: bool) -> None:
    """Take a session's connection out of every hub; park the session, or end it."""
    if session.state is not SessionState.LIVE:
        return
    if not resumable or node.resume_window_s <= 0:
        end_session(node, session, DISCONNECT)
        return
    node.channels.detach(session)
    node.users.park(session, node.now())

    def window_over(_now: float) -> None:
        if session.state is SessionState.PARKED:
            end_session(node, session, DISCONNECT)

    node.deadlines.schedule(node.now() + node.resume_window_s, window_over)


def end_session(node: Node, session: Session, cause: str) -> None:
    """End a session: its voice, its place in the hubs, and memberships that live no longer than it.

    Where the membership ends as well, one `leave` tells of both; else a `voice_leave` tells of the voice.
    """
    node.channels.detach(session)
    is_gone = node.users.end(session) and not node.users.is_arriving(session.user_id)
    transient = transient_memberships(node, session.user_id) if is_gone else []
    voices: dict[ChannelId, Ssrc] = {}
    for peer in node.media.hub.of_session(session.session_id):
        if peer.channel_id in transient:
            voices[peer.channel_id] = peer.egress_ssrc
            node.media.close(peer)
        else:
            voice.end(node, peer, cause)
    if is_gone:
        depart(node, session.user_id, voices)


def begin_arrival(node: Node, user_id: UserId) -> None:
    """Note that a session of the user is being opened: until `end_arrival` nobody takes the user for gone."""
    node.users.arriving[user_id] += 1


def end_arrival(node: Node, user_id: UserId) -> None:
    """Note that a session of the user was opened, or that opening it failed."""
    node.users.arriving[user_id] -= 1
    if not node.users.arriving[user_id]:
        del node.users.arriving[user_id]
        if not node.users.sessions_of(user_id):
            depart(node, user_id)


def depart(node: Node, user_id: UserId, voices: Mapping[ChannelId, Ssrc] | None = None) -> None:
    """Forget a user without sessions, and end the memberships that live no longer than those.

    Args:
        voices: what the user was heard as until now, by channel.
    """
    transient = transient_memberships(node, user_id)
    node.channels.forget_user(user_id)
    for channel_id in transient:
        submit_leave(node, channel_id, user_id, ssrc=(voices or {}).get(channel_id))


def transient_memberships(node: Node, user_id: UserId) -> list[ChannelId]:
    """List the user's channels that are not durable."""
    channels = [node.channels.get(channel_id) for channel_id in node.channels.memberships(user_id)]
    return [channel.facts.channel_id for channel in channels if channel is not None and not channel.facts.durable]


def submit_leave(node: Node, channel_id: ChannelId, user_id: UserId, *, ssrc: Ssrc | None = None) -> None:
    """End the membership of a user who is gone, and go on trying while the store fails.

    Args:
        ssrc: what the user was heard as until now, for the event.
    """

    def done(outcome: Outcome[Left]) -> None:
        if outcome.value is not None:
            publish_leave(node, outcome.value, user_id, cause=DISCONNECT, ssrc=ssrc)
        elif outcome.error is not None and outcome.error.retryable:
            node.deadlines.schedule(node.now() + LEAVE_RETRY_S, again)
        # Any other refusal means that the channel or the membership is gone already.

    def again(_now: float) -> None:
        if node.users.is_arriving(user_id):
            node.deadlines.schedule(node.now() + LEAVE_RETRY_S, again)
        # Who came back in the meantime is a member again, as before.
        elif not node.users.sessions_of(user_id):
            submit_leave(node, channel_id, user_id, ssrc=ssrc)

    try:
        node.store.submit(LeaveChannel(channel_id, user_id, node.now_ms(), DISCONNECT), done)
    except LiveError:
        # Overloaded: later. Closing: the next start writes the leaves that are missing.
        node.deadlines.schedule(node.now() + LEAVE_RETRY_S, again)


def publish_leave(
    node: Node,
    left: Left,
    user_id: UserId,
    *,
    cause: str | None = None,
    ssrc: Ssrc | None = None,
    origin: SessionId | None = None,
) -> None:
    """Tell a channel that somebody left it; voice and hubs follow on delivery."""
    peer = node.media.hub.of(left.channel.channel_id, user_id)
    event = ChannelEvent(
        event="leave",
        channel_id=left.channel.channel_id,
        member=Member(user_id, ssrc if peer is None else peer.egress_ssrc),
        seq=left.message.seq,
        cause=cause,
    )
    node.backplane.publish(ChannelNotice(event, origin))

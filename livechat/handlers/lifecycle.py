"""Owns how sessions begin, are parked and end, and all that goes with them.

It must not wait: whatever way a connection ends, one call of `connection_lost` leaves every hub clean.

    connection  ends with its socket: out of every channel's subscribers at once
    session     parked for the resume window, unless the client said it is done; then ended
    membership  is stored; in a channel that is not durable it ends with the member's last session
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from livechat.cluster.backplane import ChannelNotice
from livechat.error import LiveError, Overloaded
from livechat.handlers import chunks, floor, presence, views, voice
from livechat.handlers.node import Node
from livechat.hub.users import Outlet, Session, SessionState
from livechat.protocol.events import Announcement, Member
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.store.base import Outcome
from livechat.store.operations import LeaveChannel, NoteSeen
from livechat.store.rows import Left, MessageRow

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
    # One that is just being resumed only if there is no other.
    return min(parked, key=lambda session: (session.claim is not None, session.parked_at or 0.0))


def connection_lost(node: Node, session: Session, *, resumable: bool) -> None:
    """Take a session's connection out of every hub; park the session, or end it."""
    if session.state is not SessionState.LIVE:
        return
    if not resumable or node.resume_window_s <= 0:
        end_session(node, session, DISCONNECT)
        return
    presence.went(node, session)
    heard = node.channels.detach(session)
    node.users.park(session, node.now(), node.now_ms())
    for channel_id, last_seq in heard.items():
        session.miss_from(channel_id, last_seq + 1)
    floor.lost(node, session)
    chunks.lost(node, session)
    _end_when_window_is_over(node, session)


def connection_settled(node: Node, session: Session, outlet: Outlet | None) -> None:
    """Note that the connection it lost sends a session nothing more; unless it has another one already."""
    if session.tail is outlet:
        # While it is parked it must not keep all of that in memory.
        session.note_unsent(None)
        node.keeper.note(session)


def release_claim(node: Node, session: Session) -> None:
    """Note that resuming a session came to nothing; it stays parked for a whole window more."""
    if session.state is not SessionState.PARKED:
        return
    session.tail, session.claim = session.claim, None
    session.parked_at = node.now()
    _end_when_window_is_over(node, session)


def _end_when_window_is_over(node: Node, session: Session) -> None:
    parked_at = session.parked_at

    def window_over(now: float) -> float | None:
        if session.state is not SessionState.PARKED or session.parked_at != parked_at:
            return None  # it was resumed, and perhaps parked again with a deadline of its own
        if session.claim is not None:
            return now + node.resume_window_s
        end_session(node, session, DISCONNECT)
        return None

    node.deadlines.schedule(node.now() + node.resume_window_s, window_over)
    node.keeper.note(session)


def end_session(node: Node, session: Session, cause: str) -> None:
    """End a session: its voice, its place in the hubs, and memberships that live no longer than it.

    Where the membership ends as well, one `leave` tells of both; else a `voice_leave` tells of the voice.
    """
    presence.went(node, session)
    node.channels.detach(session)
    if session.claim is not None:
        session.claim.displace()
    # A parked one has heard nothing since it was parked.
    left_at_ms = session.parked_at_ms if session.state is SessionState.PARKED else node.now_ms()
    missed = [packet.payload for packet in session.missed.values()]
    untold = [payload.created_at for payload in missed if isinstance(payload, Announcement)]
    node.keeper.note(session)
    is_gone = node.users.end(session) and not node.users.is_arriving(session.user_id)
    floor.lost(node, session)
    chunks.ended(node, session)
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
        # Nor was it told of what is dated from before that and was not out by then.
        _note_logout(node, session.user_id, min([left_at_ms, *untold, *node.announcing]))


def _note_logout(node: Node, user_id: UserId, left_at_ms: int) -> None:
    """Have the store keep when the user's last session lost its connection: what is announced later was missed."""
    try:
        node.store.submit(NoteSeen(user_id, logout_ms=left_at_ms), lambda _outcome: None)
    except LiveError:
        pass  # then the next login is told of what was announced since the logout before: rather twice than never


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
    for channel_id in transient:
        node.channels.remove_member(channel_id, user_id)
    node.channels.forget_user(user_id)
    if user_id not in node.presence:
        node.channels.settle(user_id)  # it was shown as gone long ago
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
            publish_leave(node, channel_id, outcome.value.message, ssrc=ssrc)
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
    channel_id: ChannelId,
    message: MessageRow,
    *,
    ssrc: Ssrc | None = None,
    origin: SessionId | None = None,
) -> None:
    """Tell a channel that somebody left it; voice and hubs follow on delivery.

    Args:
        message: the SYSTEM message of the leave.
        ssrc: what the user was heard as until now, if the voice has ended already.
    """
    event = views.system_event(message)
    peer = node.media.hub.of(channel_id, event.member.user_id)
    if peer is not None:
        ssrc = peer.egress_ssrc
    event = attrs.evolve(event, member=Member(event.member.user_id, ssrc))
    node.backplane.publish(ChannelNotice(event, origin))

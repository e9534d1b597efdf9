"""Handles ops 10-16: create, join, leave, update, delete, list and describe channels.

It must not decide who may: the store does, in the transaction that changes something.
"""

from __future__ import annotations

from livechat.cluster.backplane import ChannelNotice
from livechat.error import AlreadyInChannel, LiveError
from livechat.handlers import access, chunks, floor, lifecycle, rekey, views, voice
from livechat.handlers.ask import Asked
from livechat.handlers.call import Call
from livechat.handlers.node import Node
from livechat.hub.peer import MediaPeer
from livechat.protocol import events
from livechat.protocol.requests import (
    ChannelCreate,
    ChannelDelete,
    ChannelInfo,
    ChannelJoin,
    ChannelLeave,
    ChannelList,
    ChannelUpdate,
)
from livechat.protocol.types import ChannelId, UserId
from livechat.store import operations, rows


def create(call: Asked, request: ChannelCreate) -> None:
    """Op 10 → ACK ChannelCreated. The creator owns the channel but is not yet a member."""

    def committed(row: rows.ChannelRow) -> None:
        call.ack(events.ChannelCreated(row.channel_id, row.channel_name, row.mode, row.durable, row.capacity))

    call.submit(
        operations.CreateChannel(
            channel_id=request.channel_id,
            channel_name=request.channel_name or request.channel_id,
            mode=request.effective_mode,
            durable=request.effective_durable,
            capacity=request.capacity,
            private=request.private,
            max_speakers=request.max_speakers,
            freq=request.freq,
            owner_id=call.user_id,
            now_ms=call.node.now_ms(),
        ),
        committed,
    )


def join(call: Call, request: ChannelJoin) -> None:
    """Op 11 → ACK ChannelJoined: become a member if not one yet, and take up voice if asked for.

    Raises:
        AlreadyInChannel: this session joined before and asks for no new voice. Found out only in commit order: a
            LEAVE of the same session may still be on its way.
        MediaNotPossible: voice is asked for in a way that cannot be had; nothing was joined.
        SsrcInUse: the client insists on an ssrc that another peer has.
    """
    session, node = call.session, call.node
    plan = voice.plan(call, request)

    def committed(joined: rows.Joined) -> None:
        if not call.is_attended:
            _joined_unattended(call, joined)
            return
        if not session.may_hear(request.channel_id):
            # A new token has come while the store was asked. The membership stands, as on other devices.
            _publish_join(call, joined, None)
            access.check_channel(session.channels, request.channel_id)
        if plan is None and request.channel_id in session.joined:
            raise AlreadyInChannel(f"channel_id: this session is in {request.channel_id}")
        facts = views.facts(joined.channel)
        heard = request.channel_id in node.channels.channels_of(session)
        node.channels.admit(session.user_id, facts, joined.channel.last_seq)
        node.channels.subscribe(session, request.channel_id)
        replaced = peer = None
        if plan is not None:
            peer, replaced = voice.begin(node, session, plan, voice.rules_of(node, facts))
        session.joined |= {request.channel_id}
        call.ack(
            events.ChannelJoined(
                channel_id=request.channel_id,
                mode=joined.channel.mode,
                active_members=active_members(node, request.channel_id, session.user_id),
                last_seq=joined.channel.last_seq,
                media=None if peer is None or plan is None else rekey.grant(peer, plan.endpoint),
            )
        )
        floor.show(node, session, [request.channel_id])
        if not heard:
            chunks.show(node, session, [request.channel_id])
        if replaced is not None:
            cause = "rejoined" if replaced.session_id == session.session_id else "moved"
            voice.publish_end(node, replaced, cause, origin=call.origin)
        _publish_join(call, joined, peer)

    operation = operations.JoinChannel(request.channel_id, session.user_id, node.now_ms(), admin=session.is_admin)
    try:
        call.submit(operation, committed, settled=lambda: voice.release(node, plan))
    except LiveError:
        voice.release(node, plan)
        raise


def _joined_unattended(call: Call, joined: rows.Joined) -> None:
    """Finish a join whose client cannot get the ACK: the membership stands, voice is not begun.

    Its connection ended before the commit, or it was told RETRY before the commit proved good. If its session is
    still connected, or on another connection by now, it hears the `join` like everybody else.
    """
    _publish_join(call, joined, None)
    user_id = call.session.user_id
    if not joined.channel.durable and not call.node.users.sessions_of(user_id):
        lifecycle.submit_leave(call.node, joined.channel.channel_id, user_id)


def _publish_join(call: Call, joined: rows.Joined, peer: MediaPeer | None) -> None:
    """Tell the others: one `join` for a new member, `voice_join` when an old one adds voice, else nothing."""
    session = call.session
    if not joined.created and peer is None:
        return
    event = events.ChannelEvent(
        event="join" if joined.created else "voice_join",
        channel_id=joined.channel.channel_id,
        member=events.Member(session.user_id, None if peer is None else peer.egress_ssrc),
        seq=joined.message.seq if joined.message is not None else None,
    )
    call.node.backplane.publish(ChannelNotice(event, call.origin, views.facts(joined.channel)))


def active_members(node: Node, channel_id: ChannelId, viewer: UserId) -> list[events.Member]:
    """List the members who have a connection or voice, each with the ssrc that receivers see.

    Those who are shown as offline are not among them, but for the viewer and for who can be heard.
    """
    channel = node.channels.get(channel_id)
    voices = {peer.user_id: peer.egress_ssrc for peer in node.media.hub.peers_of(channel_id)}
    sessions = () if channel is None else (*channel.subscribers, *channel.unsubscribed)
    connected = dict.fromkeys(session.user_id for session in sessions)
    shown = node.presence.shown(connected, len(connected))
    listed = [user_id for user_id in connected if user_id in shown or user_id == viewer]
    return [events.Member(user_id, voices.get(user_id)) for user_id in dict.fromkeys((*listed, *voices))]


def leave(call: Call, request: ChannelLeave) -> None:
    """Op 12 → ACK ChannelRef: end the membership, with its voice, on all of the user's sessions."""
    session = call.session

    def committed(left: rows.Left) -> None:
        call.ack(events.ChannelRef(request.channel_id))
        lifecycle.publish_leave(call.node, request.channel_id, left.message, origin=call.origin)

    operation = operations.LeaveChannel(
        request.channel_id, session.user_id, call.node.now_ms(), admin=session.is_admin
    )
    call.submit(operation, committed)


def update(call: Asked, request: ChannelUpdate) -> None:
    """Op 13 → ACK ChannelRef: change the channel's settings; owners and moderators may.

    All subscribers hear of it, the one that asked after its ACK.
    """

    def committed(row: rows.ChannelRow) -> None:
        call.ack(events.ChannelRef(row.channel_id))
        event = events.ChannelEvent(
            event="update",
            channel_id=row.channel_id,
            member=events.Member(call.user_id, None),
            actor_id=call.user_id,
            channel=events.ChannelChange(row.channel_name, row.capacity, row.private, row.max_speakers),
        )
        call.node.backplane.publish(ChannelNotice(event, facts=views.facts(row)))

    call.submit(
        operations.UpdateChannel(
            request.channel_id,
            call.user_id,
            admin=call.is_admin,
            channel_name=request.channel_name,
            capacity=request.capacity,
            private=request.private,
            max_speakers=request.max_speakers,
        ),
        committed,
    )


def delete(call: Asked, request: ChannelDelete) -> None:
    """Op 14 → ACK ChannelRef: end the channel, its memberships, messages and voice; the owner may.

    All subscribers hear of it, the one that asked after its ACK.
    """

    def committed(deleted: rows.Deleted) -> None:
        call.ack(events.ChannelRef(request.channel_id))
        event = events.ChannelEvent(
            event="delete",
            channel_id=deleted.channel.channel_id,
            member=events.Member(call.user_id, None),
            actor_id=call.user_id,
        )
        call.node.backplane.publish(ChannelNotice(event))

    call.submit(
        operations.DeleteChannel(request.channel_id, call.user_id, admin=call.is_admin, now_ms=call.node.now_ms()),
        committed,
    )


def list_channels(call: Asked, request: ChannelList) -> None:
    """Op 15 → ACK ChannelPage: public channels, and the private ones the user is in or owns, by id."""

    def loaded(page: rows.ChannelPage) -> None:
        # A page may hold fewer than asked for; `next` alone tells whether there are more.
        rows_allowed = [row for row in page.channels if call.may_hear(row.channel_id)]
        call.ack(events.ChannelPage([views.channel_summary(row) for row in rows_allowed], page.next))

    call.submit(
        operations.ListChannels(call.user_id, request.after, request.limit, admin=call.is_admin),
        loaded,
    )


def info(call: Asked, request: ChannelInfo) -> None:
    """Op 16 → ACK ChannelDetails; members and others may ask, a private channel only its own."""

    def loaded(view: rows.ChannelView) -> None:
        peers = [views.voice_member(peer) for peer in call.node.media.hub.peers_of(request.channel_id)]
        held = floor.held(call.node, request.channel_id)
        speakers = call.node.speakers.active(request.channel_id)
        is_owner = view.channel.owner_id == call.user_id
        call.ack(views.channel_details(view, is_owner, peers, speakers, held))

    call.submit(operations.GetChannel(request.channel_id, call.user_id, call.is_admin), loaded)

"""Handles ops 1 and 3: HEARTBEAT, IDENTIFY.

It must not check tokens (see `auth`) or attach sockets; the connection does.
"""

from __future__ import annotations

from livechat.error import AlreadyIdentified, LiveError, ShuttingDown
from livechat.handlers import access, chunks, floor, lifecycle, presence, views
from livechat.handlers.auth import Identity
from livechat.handlers.call import Call
from livechat.handlers.job_replay import JobReplay
from livechat.handlers.node import Node, new_session_id
from livechat.hub.users import Session
from livechat.protocol.events import Ready, TokenRenewed
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import Heartbeat, Identify
from livechat.store.operations import LoadUser
from livechat.store.rows import UserView


def heartbeat(call: Call, _request: Heartbeat) -> None:
    """Op 1 → HEARTBEAT_ACK. That the frame came is noted by the connection."""
    call.reply(Op.HEARTBEAT_ACK, None)


def begin(call: Call, identity: Identity, request: Identify) -> None:
    """Op 3, once the token is proven: open a session, subscribe it, answer READY."""
    node = call.node
    if node.draining:
        raise ShuttingDown("this server is shutting down")

    def loaded(view: UserView) -> None:
        displaced = lifecycle.session_to_displace(node, identity.user_id)
        session = Session(
            session_id=new_session_id(),
            user_id=identity.user_id,
            created_at=node.now(),
            status=request.status,
            priority=request.priority,
            presence_batches=request.presence_batches,
        )
        # The token may have been revoked while the store was asked.
        access.take_token(node, session, identity)
        # The connection may have ended while the store was asked; then there is nothing to begin.
        if not call.caller.activate(session):
            return
        node.users.add(session)
        node.instruments.counters.sessions_started += 1
        node.keeper.note(session)
        if displaced is not None:
            lifecycle.end_session(node, displaced, "replaced")
        for state in view.states:
            node.channels.admit(session.user_id, views.facts(state.channel), state.channel.last_seq)
        node.channels.attach(session)
        call.reply(Op.READY, _ready(node, session, view))
        floor.show(node, session, list(node.channels.channels_of(session)))
        chunks.show(node, session, list(node.channels.channels_of(session)))
        if request.jobs:
            session.jobs_due.update(request.jobs)
            call.run(lambda: JobReplay().follow(node, call.caller, session))

    # The user's last session may end before the store has answered; its memberships are this one's as well.
    lifecycle.begin_arrival(node, identity.user_id)
    try:
        call.submit(
            LoadUser(identity.user_id, node.now_ms()),
            loaded,
            settled=lambda: lifecycle.end_arrival(node, identity.user_id),
        )
    except LiveError:
        lifecycle.end_arrival(node, identity.user_id)
        raise


def _ready(node: Node, session: Session, view: UserView) -> Ready:
    return Ready(
        session_id=session.session_id,
        user_id=session.user_id,
        node_id=node.node_id,
        expires_at=session.expires_at,
        channels=[
            views.channel_state(state) for state in view.states if session.may_hear(state.channel.channel_id)
        ],
        announcements=list(view.announcements),
        presence=presence.came(node, session),
        settings=view.user.settings,
    )


def renew(call: Call, identity: Identity) -> None:
    """Op 3 on an identified connection, once the token is proven: the session goes by that one from now on."""
    if identity.user_id != call.session.user_id:
        raise AlreadyIdentified("this connection belongs to another user")
    node, session = call.node, call.session
    heard = set(node.channels.channels_of(session))
    access.take_token(node, session, identity)
    call.caller.renewed(identity.expires_at)
    call.ack(TokenRenewed(identity.expires_at))
    news = [each for each in node.channels.channels_of(session) if each not in heard]
    floor.show(node, session, news)
    chunks.show(node, session, news)

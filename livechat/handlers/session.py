"""Handles ops 1, 3 and 5: HEARTBEAT, IDENTIFY, RESUME.

It must not check tokens (see `auth`) or attach sockets; the connection does.
"""

from __future__ import annotations

from livechat.error import AlreadyIdentified, LiveError, ShuttingDown
from livechat.handlers import lifecycle, views
from livechat.handlers.auth import Identity
from livechat.handlers.call import Call
from livechat.handlers.node import new_session_id
from livechat.hub.users import Session
from livechat.protocol.events import InvalidSession, Ready, TokenRenewed
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import Heartbeat, Resume
from livechat.store.base import LoadUser, MemberState


def heartbeat(call: Call, _request: Heartbeat) -> None:
    """Op 1 → HEARTBEAT_ACK. That the frame came is noted by the connection."""
    call.reply(Op.HEARTBEAT_ACK, None)


def begin(call: Call, identity: Identity) -> None:
    """Op 3, once the token is proven: open a session, subscribe it, answer READY."""
    node = call.node
    if node.draining:
        raise ShuttingDown("this server is shutting down")

    def loaded(states: tuple[MemberState, ...]) -> None:
        displaced = lifecycle.session_to_displace(node, identity.user_id)
        session = Session(
            session_id=new_session_id(),
            user_id=identity.user_id,
            created_at=node.now(),
            expires_at=identity.expires_at,
        )
        # The connection may have ended while the store was asked; then there is nothing to begin.
        if not call.caller.activate(session):
            return
        node.users.add(session)
        if displaced is not None:
            lifecycle.end_session(node, displaced, "replaced")
        for state in states:
            node.channels.admit(session.user_id, views.facts(state.channel), state.channel.last_seq)
            node.channels.subscribe(session, state.channel.channel_id)
        call.reply(
            Op.READY,
            Ready(
                session_id=session.session_id,
                user_id=session.user_id,
                node_id=node.node_id,
                expires_at=session.expires_at,
                channels=[views.channel_state(state) for state in states],
            ),
        )

    # The user's last session may end before the store has answered; its memberships are this one's as well.
    lifecycle.begin_arrival(node, identity.user_id)
    try:
        call.submit(
            LoadUser(identity.user_id), loaded, settled=lambda: lifecycle.end_arrival(node, identity.user_id)
        )
    except LiveError:
        lifecycle.end_arrival(node, identity.user_id)
        raise


def renew(call: Call, identity: Identity) -> None:
    """Op 3 on an identified connection, once the token is proven: only its lifetime changes."""
    if identity.user_id != call.session.user_id:
        raise AlreadyIdentified("this connection belongs to another user")
    call.session.expires_at = identity.expires_at
    call.ack(TokenRenewed(identity.expires_at))


def resume(call: Call, _request: Resume) -> None:
    """Op 5 → INVALID_SESSION: replay is not part of this version, so the client identifies anew."""
    call.reply(Op.INVALID_SESSION, InvalidSession("sessions cannot be resumed here; IDENTIFY instead"))

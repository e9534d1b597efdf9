"""Handles ops 24-27: TYPING, FOCUS, SUBSCRIBE, UNSUBSCRIBE, which ask the hubs only and so need no store.

It must not deliver: what others hear of it goes through the backplane. The connection calls these once everything
that the client asked before in the same channel has been answered, so the hubs know of it.
"""

from __future__ import annotations

from collections.abc import Callable

from livechat.cluster.backplane import FocusNotice
from livechat.error import NotInChannel
from livechat.handlers.call import Call
from livechat.hub.channels import Channel
from livechat.protocol.events import ChannelRef, Focused, Subscribed, TypingEvent
from livechat.protocol.requests import Focus, Subscribe, Typing, Unsubscribe
from livechat.protocol.types import ChannelId
from livechat.store import permissions
from livechat.store.operations import GetChannel
from livechat.store.permissions import Deed
from livechat.store.rows import ChannelView


def typing(call: Call, request: Typing) -> None:
    """Op 24 → ACK ChannelRef if the request carried an id; TYPING_EVENT to all that look at the channel."""
    channel = _own_channel(call, Deed.TYPING, request.channel_id, lambda: typing(call, request))
    if channel is None:
        return
    if call.request_id is None:
        call.succeed_silently()
    else:
        call.ack(ChannelRef(request.channel_id))
    event = TypingEvent(request.channel_id, call.session.user_id, request.typing)
    call.node.backplane.publish(FocusNotice(event, call.origin))


def focus(call: Call, request: Focus) -> None:
    """Op 25 → ACK Focused: which channel this session has on its screen; that one hears TYPING and READ_EVENTs."""
    if request.channel_id is not None:
        channel = _own_channel(call, Deed.FOCUS, request.channel_id, lambda: focus(call, request))
        if channel is None:
            return
    call.node.channels.focus(call.session, request.channel_id)
    call.ack(Focused(request.channel_id))


def subscribe(call: Call, request: Subscribe) -> None:
    """Op 26 → ACK Subscribed: this session hears the channel again."""
    channel = _own_channel(call, Deed.SUBSCRIBE, request.channel_id, lambda: subscribe(call, request))
    if channel is not None:
        call.node.channels.subscribe(call.session, request.channel_id)
        call.ack(Subscribed(request.channel_id, channel.last_seq))


def unsubscribe(call: Call, request: Unsubscribe) -> None:
    """Op 27 → ACK ChannelRef: this session hears only UNREAD_EVENTs of the channel."""
    channel = _own_channel(call, Deed.UNSUBSCRIBE, request.channel_id, lambda: unsubscribe(call, request))
    if channel is not None:
        call.node.channels.unsubscribe(call.session, request.channel_id)
        call.ack(ChannelRef(request.channel_id))


def _own_channel(call: Call, deed: Deed, channel_id: ChannelId, again: Callable[[], None]) -> Channel | None:
    """Return a channel that the user is a member of; otherwise answer with the error, which only the store knows.

    None as well if the session has lost its connection meanwhile: nobody waits for the answer.

    Args:
        again: does the request anew, for who has become a member by the time at which the store answers; this
            session has been told so, and must not be told the contrary after it.
    """
    session = call.session
    if session.outlet is None:
        call.succeed_silently()
        return None
    if call.node.channels.is_member(channel_id, session.user_id):
        return call.node.channels.get(channel_id)

    def no_member(view: ChannelView) -> None:
        if call.node.channels.is_member(channel_id, session.user_id):
            again()
            return
        who = permissions.standing(
            is_member=False,
            is_moderator=False,
            is_owner=view.channel.owner_id == session.user_id,
            is_private=view.channel.private,
            is_banned=False,  # makes no difference to any of these
            is_admin=session.is_admin,
        )
        permissions.check(deed, who, channel_id)
        raise NotInChannel(f"not a member of channel {channel_id!r}")

    call.submit(GetChannel(channel_id, session.user_id, session.is_admin), no_member)
    return None

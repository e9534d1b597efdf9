"""Handles ops 24-27: TYPING, FOCUS, SUBSCRIBE, UNSUBSCRIBE, which ask the hubs only and so need no store.

It must not deliver: what others hear of it goes through the backplane. The connection calls these once everything
that the client asked before in the same channel has been answered, so the hubs know of it.
"""

from __future__ import annotations

from livechat.cluster.backplane import FocusNotice
from livechat.handlers import chunks, floor
from livechat.handlers.call import Call
from livechat.handlers.membership import own_channel
from livechat.protocol.events import (
    ChannelRef,
    Focused,
    Subscribed,
    TypingEvent,
)
from livechat.protocol.requests import Focus, Subscribe, Typing, Unsubscribe
from livechat.store.permissions import Deed


def typing(call: Call, request: Typing) -> None:
    """Op 24 → ACK ChannelRef if the request carried an id; TYPING_EVENT to all that look at the channel."""
    channel = own_channel(call, Deed.TYPING, request.channel_id, lambda: typing(call, request))
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
        channel = own_channel(call, Deed.FOCUS, request.channel_id, lambda: focus(call, request))
        if channel is None:
            return
    call.node.channels.focus(call.session, request.channel_id)
    call.ack(Focused(request.channel_id))


def subscribe(call: Call, request: Subscribe) -> None:
    """Op 26 → ACK Subscribed: this session hears the channel again, who has its floor, and its live streams."""
    channel = own_channel(call, Deed.SUBSCRIBE, request.channel_id, lambda: subscribe(call, request))
    if channel is not None:
        heard = call.session in channel.subscribers
        call.node.channels.subscribe(call.session, request.channel_id)
        call.ack(Subscribed(request.channel_id, channel.last_seq))
        floor.show(call.node, call.session, [request.channel_id], was_away=True)
        if not heard:
            chunks.show(call.node, call.session, [request.channel_id])


def unsubscribe(call: Call, request: Unsubscribe) -> None:
    """Op 27 → ACK ChannelRef: this session hears only UNREAD_EVENTs of the channel."""
    channel = own_channel(call, Deed.UNSUBSCRIBE, request.channel_id, lambda: unsubscribe(call, request))
    if channel is not None:
        call.node.channels.unsubscribe(call.session, request.channel_id)
        chunks.ignore(call.node, call.session, [request.channel_id])
        call.ack(ChannelRef(request.channel_id))

"""Owns whether a request may be done that only members of a channel may, where the hubs know all that it takes.

It must not decide what members may; see `livechat.store.permissions`.
"""

from __future__ import annotations

from collections.abc import Callable

from livechat.error import NotInChannel
from livechat.handlers.call import Call
from livechat.hub.channels import Channel
from livechat.protocol.types import ChannelId
from livechat.store import permissions
from livechat.store.operations import GetChannel
from livechat.store.permissions import Deed
from livechat.store.rows import ChannelView


def own_channel(call: Call, deed: Deed, channel_id: ChannelId, again: Callable[[], None]) -> Channel | None:
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

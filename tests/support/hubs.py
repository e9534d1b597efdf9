"""Where the hubs of a running server have somebody, for tests that nothing is left behind."""

from __future__ import annotations

import livechat
from livechat.hub.users import Session, SessionState


def places_of(server: livechat.Server, user_id: str) -> list[str]:
    """Name the channels in which sessions of a user hear, look, or are told counts; as `what channel`."""
    return [
        f"{what} {channel.facts.channel_id}"
        for channel in server._node.channels
        for what in ("subscribers", "unsubscribed", "focused")
        for session in getattr(channel, what)
        if session.user_id == user_id
    ]


def is_nowhere(server: livechat.Server, session: Session) -> bool:
    """Tell whether a session has ended, no hub knows it, and it holds nothing any more."""
    node = server._node
    return (
        session.state is SessionState.ENDED
        and (session.outlet, session.claim, session.tail) == (None, None, None)
        and not session.spans
        and not session.missed
        and node.users.get(session.session_id) is None
        and not any(session in channel.focused for channel in node.channels)
        and not any(session in channel.unsubscribed for channel in node.channels)
        and not node.channels.channels_of(session)
        and not node.media.hub.of_session(session.session_id)
    )

"""Serves users: who I am, and how somebody is."""

from __future__ import annotations

from typing import Any, Final

import attrs

from livechat.error import Forbidden
from livechat.handlers.auth import ADMIN_SCOPE
from livechat.http.endpoint import API, READING, Answer, Call, Endpoint
from livechat.protocol.events import UserPresence
from livechat.protocol.patterns import allowed
from livechat.protocol.types import PresenceStatus, UserId
from livechat.store.base import perform
from livechat.store.operations import LoadUser, ReadStates


@attrs.frozen
class Me:
    """Who the token speaks for, and what is kept of that user."""

    user_id: UserId
    scopes: list[str]
    """What the token is good for."""
    status: PresenceStatus
    """What others see."""
    settings: dict[str, Any]
    """The user's own, as SETTINGS_SET keeps them."""
    name: str | None = None
    """What the user is called, for people."""
    channels: list[str] | None = None
    """Patterns of the channels that the token is good for; left out: all."""
    expires_at: int | None = None
    """When the token ends, in milliseconds since 1970; left out: never."""


async def me(call: Call) -> Answer:
    """Tell who asks."""
    node, identity = call.node, call.identity
    view = await perform(node.store, LoadUser(identity.user_id, node.now_ms()))
    return Answer(
        Me(
            user_id=identity.user_id,
            scopes=sorted(identity.scopes),
            status=node.presence.presence_of(identity.user_id, node.now_ms()).status,
            settings=view.user.settings,
            name=identity.name,
            channels=None if identity.channels is None else list(identity.channels.patterns),
            expires_at=identity.expires_at,
        )
    )


async def presence(call: Call) -> Answer:
    """Tell how somebody is, as PRESENCE_EVENT would."""
    node, identity, user_id = call.node, call.identity, UserId(call.path["user_id"])
    view = await perform(node.store, LoadUser(user_id, node.now_ms()))
    if user_id != identity.user_id and ADMIN_SCOPE not in identity.scopes:
        theirs = (state.channel.channel_id for state in view.states)
        channel_ids = tuple(each for each in theirs if allowed(identity.channels, each))
        # Whoever is unknown shares no channel either: nobody learns who is a user here.
        if not channel_ids or not await perform(node.store, ReadStates(identity.user_id, channel_ids)):
            raise Forbidden("user_id: expected somebody with whom you share a channel")
    shown = node.presence.presence_of(user_id, node.now_ms())
    if shown.last_seen is None:
        shown = attrs.evolve(shown, last_seen=view.user.last_seen)
    return Answer(shown)


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        f"{API}/users/me",
        me,
        "users",
        "Tell who I am",
        "user",
        answers={200: Me},
        errors=READING,
    ),
    Endpoint(
        "GET",
        f"{API}/users/{{user_id}}/presence",
        presence,
        "users",
        "Tell how somebody is",
        "user",
        answers={200: UserPresence},
        errors=READING,
        description="For who shares a channel with that user, and for that user.",
    ),
)

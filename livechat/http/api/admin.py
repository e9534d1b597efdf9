"""Serves the operator: what a server does, who is on it, and putting somebody out."""

from __future__ import annotations

from typing import Any, Final

import attrs
import structlog

from livechat.error import FloorNotHeld, NotPttChannel
from livechat.handlers import admin, floor, rekey, revoke, status
from livechat.http.endpoint import API, OF_A_CHANNEL, READING, Answer, Call, Endpoint, Handler
from livechat.http.problems import NoSuchPath
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.validators import SEQ_MAX, between, length
from livechat.store.base import perform
from livechat.store.operations import GetChannel

log = structlog.get_logger("livechat.admin")

PAGE_MAX: Final = 1000
REASON_BYTES_MAX: Final = 123
"""What a close frame holds (RFC 6455, section 5.5)."""
KICKED: Final = "kicked"
BAN_S_MAX: Final = 10 * 366 * 86_400


@attrs.frozen
class AdminUserQuery:
    """Which part of the users is wanted."""

    after: UserId | None = None
    """Only ids that come after this one."""
    limit: int = attrs.field(default=100, validator=between(1, PAGE_MAX))


@attrs.frozen
class AdminChannelQuery:
    """Which part of the channels is wanted."""

    after: ChannelId | None = None
    """Only ids that come after this one."""
    limit: int = attrs.field(default=100, validator=between(1, PAGE_MAX))


@attrs.frozen
class AdminPeerQuery:
    """Which part of the media peers is wanted."""

    channel_id: ChannelId | None = None
    """Only those of this channel."""
    after: int = attrs.field(default=0, validator=between(0, SEQ_MAX))
    """Only ids that come after this one."""
    limit: int = attrs.field(default=100, validator=between(1, PAGE_MAX))


def _fits_close_frame(_instance: object, attribute: attrs.Attribute[str], value: str) -> None:
    size = len(value.encode("utf-8", "surrogatepass"))
    if size > REASON_BYTES_MAX:
        raise ValueError(f"{attribute.name}: expected at most {REASON_BYTES_MAX} bytes of UTF-8, got {size}")


@attrs.frozen
class Kick:
    """Why somebody is put out, and for how long."""

    reason: str = attrs.field(default=KICKED, validator=[length(1, REASON_BYTES_MAX), _fits_close_frame])
    """Told in the close frame."""
    ban_for_s: int | None = attrs.field(default=None, validator=between(1, BAN_S_MAX))
    """Keep the user out for so long, whatever the token; left out: who has a good one may come back."""


@attrs.frozen
class Kicked:
    """What became of it."""

    user_id: UserId
    sessions_ended: int
    banned_until: int | None = None
    """Milliseconds since 1970."""


@attrs.frozen
class Rekey:
    """Whose keys are to change."""

    user_id: UserId | None = None
    """Only this user's; left out: those of all voices in the channel."""


@attrs.frozen
class Rekeyed:
    """What became of it."""

    channel_id: ChannelId
    voices: int
    """So many get new keys, now or as soon as their clients can be told."""


@attrs.frozen
class FloorRevoked:
    """Who lost the floor; the next who waited for it has it now."""

    channel_id: ChannelId
    user_id: UserId


async def show_status(call: Call) -> Answer:
    """Show the server as a whole."""
    return Answer(await status.status(call.node))


async def list_users(call: Call) -> Answer:
    """List users with a session here."""
    wanted: AdminUserQuery = call.query
    return Answer(admin.list_users(call.node, wanted.after, wanted.limit))


async def show_user(call: Call) -> Answer:
    """Show one user."""
    return Answer(await admin.show_user(call.node, UserId(call.path["user_id"]), call.channels))


async def list_channels(call: Call) -> Answer:
    """List all channels."""
    wanted: AdminChannelQuery = call.query
    return Answer(await admin.list_channels(call.node, wanted.after, wanted.limit, call.channels))


async def show_channel(call: Call) -> Answer:
    """Show one channel."""
    return Answer(await admin.show_channel(call.node, ChannelId(call.path["channel_id"])))


async def list_peers(call: Call) -> Answer:
    """List media peers."""
    wanted: AdminPeerQuery = call.query
    return Answer(admin.list_peers(call.node, wanted.channel_id, wanted.after, wanted.limit, call.channels))


async def show_peer(call: Call) -> Answer:
    """Show one media peer."""
    text = call.path["peer_id"]
    peer = admin.show_peer(call.node, int(text), call.channels) if text.isascii() and text.isdecimal() else None
    if peer is None:
        raise NoSuchPath("peer_id: no such media peer")
    return Answer(peer)


async def kick(call: Call) -> Answer:
    """End all sessions of a user."""
    node, user_id = call.node, UserId(call.path["user_id"])
    wanted: Kick = call.body
    banned_until = None if wanted.ban_for_s is None else node.now_ms() + wanted.ban_for_s * 1000
    ended = revoke.kick(node, user_id, wanted.reason, ban_until_ms=banned_until)
    log.info("user kicked", user=user_id, actor=call.actor, sessions=ended, banned_until=banned_until)
    return Answer(Kicked(user_id, ended, banned_until))


async def rekey_channel(call: Call) -> Answer:
    """Give the voices of a channel new keys."""
    channel_id = ChannelId(call.path["channel_id"])
    await perform(call.node.store, GetChannel(channel_id, admin.OPERATOR, admin=True))
    wanted: Rekey = call.body
    voices = rekey.rekey(call.node, channel_id, wanted.user_id, "demand")
    log.info("voices rekeyed", channel=channel_id, user=wanted.user_id, actor=call.actor, voices=voices)
    return Answer(Rekeyed(channel_id, voices))


async def revoke_floor(call: Call) -> Answer:
    """Take the floor from whoever holds it."""
    channel_id = ChannelId(call.path["channel_id"])
    user_id = await floor.revoke(call.node, channel_id, call.identity_or_none)
    return Answer(FloorRevoked(channel_id, user_id))


def _reads(path: str, handler: Handler, summary: str, answer: type[Any], **more: Any) -> Endpoint:
    return Endpoint(
        "GET",
        f"{API}/admin/{path}",
        handler,
        "admin",
        summary,
        "admin",
        answers={200: answer},
        open_on_loopback=True,
        **more,
    )


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    _reads("status", show_status, "Show how the server is", status.ServerStatus),
    _reads("users", list_users, "List users who are here", admin.AdminUserPage, query=AdminUserQuery),
    _reads("users/{user_id}", show_user, "Show a user", admin.AdminUserDetails, errors=READING),
    _reads(
        "channels",
        list_channels,
        "List all channels",
        admin.AdminChannelPage,
        query=AdminChannelQuery,
        errors=READING,
    ),
    _reads(
        "channels/{channel_id}",
        show_channel,
        "Show a channel",
        admin.AdminChannelDetails,
        errors=(*OF_A_CHANNEL, *READING),
    ),
    _reads("peers", list_peers, "List media peers", admin.AdminPeerPage, query=AdminPeerQuery),
    _reads("peers/{peer_id}", show_peer, "Show a media peer", admin.AdminPeer, errors=(NoSuchPath,)),
    Endpoint(
        "POST",
        f"{API}/admin/kick/{{user_id}}",
        kick,
        "admin",
        "Put a user out",
        "admin",
        body=Kick,
        body_optional=True,
        answers={200: Kicked},
        description="Ends all sessions of the user (4507), none of which can be resumed.",
    ),
    Endpoint(
        "POST",
        f"{API}/admin/rekey/{{channel_id}}",
        rekey_channel,
        "admin",
        "Give voices new keys",
        "admin",
        body=Rekey,
        body_optional=True,
        answers={200: Rekeyed},
        errors=(*OF_A_CHANNEL, *READING),
        description="Clients are told by MEDIA_UPDATE; the older keys are good for 10 s more.",
    ),
    Endpoint(
        "POST",
        f"{API}/admin/floor-revoke/{{channel_id}}",
        revoke_floor,
        "admin",
        "Take the floor away",
        "user",
        answers={200: FloorRevoked},
        errors=(*OF_A_CHANNEL, NotPttChannel, FloorNotHeld, *READING),
        description="Of a push-to-talk channel. For its owner and moderators, and for operators; who else asks "
        "gets 403, whether there is such a channel or not. The holder hears FLOOR_REVOKE `admin_revoke`.",
        needs_user=False,
    ),
)

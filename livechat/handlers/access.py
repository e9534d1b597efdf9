"""Owns what the holder of a token may do: its channels and its revocation are checked here and nowhere else.

It must not know how tokens are proven (`auth`), nor decide what members and moderators may: the store does.
Which scope an endpoint of the HTTP API takes is the endpoint's to say (`livechat.http.access`).

    scope      good for
    chat       sessions on the gateway, and HTTP as oneself
    publish    sending messages over HTTP, and nothing else
    admin      everything
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from livechat.error import Forbidden, InvalidToken, RateLimited
from livechat.handlers import chunks, floor, voice
from livechat.handlers.auth import ADMIN_SCOPE, Banned, Identity, UserIdMissing, authenticate
from livechat.handlers.node import Node
from livechat.hub.users import Session, SessionState
from livechat.protocol.patterns import ChannelPatterns, allowed

CHAT_SCOPES: Final = frozenset({"chat", ADMIN_SCOPE})


async def prove(node: Node, token: str, user_id: str | None, peer_host: str) -> Identity:
    """Return whom a token speaks for, if it counts now.

    Args:
        peer_host: the IP literal of who shows it. One that shows many that are no good has to wait.

    Raises:
        InvalidToken: it proves nothing, has ended or was revoked.
        RateLimited: too many were no good; this one was not looked at.
        Banned: its user is kept out.
        BackendUnavailable: the authenticator took too long, or failed.
    """
    wait_ms = node.addresses.wait_ms(peer_host, node.now())
    if wait_ms is not None:
        raise RateLimited(f"too many bad tokens; try again in {wait_ms} ms", retry_after_ms=wait_ms)
    try:
        identity = await authenticate(node.authenticator, token, user_id, node.now_ms)
        check_not_revoked(node, identity)
    except UserIdMissing:
        raise  # the token is right
    except InvalidToken:
        node.addresses.failed(peer_host, node.now())
        raise
    return identity


def check_not_revoked(node: Node, identity: Identity) -> None:
    """Refuse a token that was revoked; to be asked again after anything was waited for.

    Raises:
        Banned: its user is kept out, whatever the token.
        InvalidToken: it was revoked.
    """
    kept_out_until_ms = node.revocations.kept_out_until(identity.user_id)
    if kept_out_until_ms is not None:
        raise Banned("user_id: banned", retry_after_ms=kept_out_until_ms - node.now_ms())
    names = {identity.token_id, identity.family_id}
    if any(node.revocations.is_revoked(identity.user_id, name, identity.issued_at) for name in names):
        raise InvalidToken("token: revoked")


def check_counts(node: Node, identity: Identity) -> None:
    """Refuse a token that counted when it was shown, and does so no more.

    Raises:
        InvalidToken: it has expired or was revoked.
        Banned: its user is kept out.
    """
    if identity.expires_at is not None and identity.expires_at <= node.now_ms():
        raise InvalidToken("token: expired")
    check_not_revoked(node, identity)


def check_scope(identity: Identity, scopes: frozenset[str]) -> None:
    """Refuse a token that has none of some scopes.

    Raises:
        Forbidden: it has none of them.
    """
    if not identity.scopes & scopes:
        raise Forbidden(f"token: expected the scope {' or '.join(sorted(scopes))}")


def check_channels(patterns: ChannelPatterns | None, *requests: object) -> None:
    """Refuse requests that name a channel for which the token is not good.

    Args:
        patterns: the token's; None: it is good for all.
        requests: what names channels does so by fields `channel_id` or `channels`, a map by channel id, or by
            `channel_id` in a map `input`.

    Raises:
        Forbidden: the text names the channel.
    """
    if patterns is None:
        return
    for request in requests:
        for channel_id in _channels_named(request):
            check_channel(patterns, channel_id)


def check_channel(patterns: ChannelPatterns | None, channel_id: str) -> None:
    """Refuse a channel for which the token is not good.

    Raises:
        Forbidden: the text names the channel.
    """
    if not allowed(patterns, channel_id):
        raise Forbidden(f"channel_id: the token is not good for {channel_id}")


def _channels_named(request: Any) -> Iterable[str]:
    channel_id = getattr(request, "channel_id", None)
    named = [] if channel_id is None else [channel_id]
    # What a job is given is as free as its kind; by this name it means a channel.
    given = getattr(request, "input", None)
    if isinstance(given, dict) and isinstance(given.get("channel_id"), str):
        named.append(given["channel_id"])
    return [*named, *(getattr(request, "channels", None) or ())]


def take_token(node: Node, session: Session, identity: Identity) -> None:
    """Let a session go by its newest token: how long, as whom, and in which channels.

    What it hears, or has yet to hear, of channels for which that is not good, ends here.

    Raises:
        InvalidToken: it was revoked; the session stays as it was.
    """
    assert session.user_id == identity.user_id
    check_not_revoked(node, identity)
    session.expires_at = identity.expires_at
    session.token_id = identity.token_id
    session.family_id = identity.family_id
    session.issued_at = identity.issued_at
    session.is_admin = ADMIN_SCOPE in identity.scopes
    session.priority_max = identity.priority_max
    if identity.channels == session.channels:
        return
    session.channels = identity.channels
    node.channels.follow_token(session)
    if session.state is SessionState.PARKED:
        session.forget_disallowed()
    floor.forbidden(node, session)
    chunks.forbidden(node, session)
    for peer in node.media.hub.of_session(session.session_id):
        if not allowed(session.channels, peer.channel_id):
            voice.end(node, peer, "forbidden")

"""Handles ops 30-32, FLOOR_REQUEST, FLOOR_RELEASE and FLOOR_PING, and whatever else moves the floor of a channel.

It must not decide who has the floor (`livechat.hub.floor` does) nor deliver. The relay learns first who has it,
then the channel: nobody is told to talk who would not be heard, and nobody is heard who was told not to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from livechat.cluster.backplane import FloorNotice
from livechat.error import AccessDenied, ChannelNotFound, FloorNotHeld, Forbidden, NotPttChannel
from livechat.handlers import voice
from livechat.handlers.auth import ADMIN_SCOPE, Identity
from livechat.handlers.call import Call
from livechat.handlers.membership import own_channel
from livechat.handlers.node import Node
from livechat.hub.floor import Claim, Floor, State, Told
from livechat.hub.users import Session
from livechat.protocol.catalog import FLOOR_OPS
from livechat.protocol.events import ChannelRef
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.requests import FloorPing, FloorRelease, FloorRequest
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.voice_events import (
    FloorDeny,
    FloorEvent,
    FloorGranted,
    FloorHeld,
    FloorIdle,
    FloorRevoke,
    FloorTaken,
)
from livechat.store import permissions
from livechat.store.base import perform
from livechat.store.operations import GetChannel
from livechat.store.permissions import Deed

log = structlog.get_logger("livechat.floor")

OPERATOR = UserId("operator")
"""As whom the store is asked for who did not say who it is; with `admin` it makes no difference."""

# --- what a session asks ------------------------------------------------------------------------------


def request(call: Call, wanted: FloorRequest) -> None:
    """Op 30 → FLOOR_GRANTED, FLOOR_QUEUE_POS_INFO or FLOOR_DENY; before it an ACK ChannelRef if it carried an id.

    Raises:
        NotPttChannel: there is no floor in this channel.
    """
    session = call.session
    priority = session.priority if wanted.priority is None else wanted.priority
    if session.priority_max is not None:
        priority = min(priority, session.priority_max)
    claim = Claim(session.session_id, session.user_id, priority, wanted.indicator)
    if _is_possible(call, wanted.channel_id, lambda: request(call, wanted)):
        floor = _open(call.node, wanted.channel_id)
        _answer(call, floor, floor.request(claim, call.node.now()))


def release(call: Call, wanted: FloorRelease) -> None:
    """Op 31 → an ACK ChannelRef if it carried an id; then the floor is the next one's, or idle.

    Raises:
        NotPttChannel: there is no floor in this channel.
        FloorNotHeld: the session neither has the floor nor waits for it.
    """
    if _is_possible(call, wanted.channel_id, lambda: release(call, wanted)):
        floor = _known(call.node, wanted.channel_id)
        _answer(call, floor, floor.release(call.session.session_id, call.node.now()))


def ping(call: Call, wanted: FloorPing) -> None:
    """Op 32 → FLOOR_PONG; before it an ACK ChannelRef if it carried an id.

    Raises:
        NotPttChannel: there is no floor in this channel.
        FloorNotHeld: the session does not have the floor.
    """
    if _is_possible(call, wanted.channel_id, lambda: ping(call, wanted)):
        floor = _known(call.node, wanted.channel_id)
        _answer(call, floor, floor.ping(call.session.session_id, call.node.now()))


def _is_possible(call: Call, channel_id: ChannelId, again: Callable[[], None]) -> bool:
    """Tell whether there is a floor for this session to ask about; otherwise it has its answer."""
    channel = own_channel(call, Deed.FLOOR, channel_id, again)
    if channel is None:
        return False
    check_mode(channel.facts.mode)
    return True


def check_mode(mode: str) -> None:
    """Refuse a channel without a floor.

    Raises:
        NotPttChannel: it is one.
    """
    if mode != "ptt":
        raise NotPttChannel(f"channel_id: expected a channel of the mode ptt, got {mode}")


def _known(node: Node, channel_id: ChannelId) -> Floor:
    """Return a channel's floor; one that is not kept, where nobody has asked for it lately."""
    return node.floors.get(channel_id) or Floor(channel_id, node.floors.settings)


def _open(node: Node, channel_id: ChannelId) -> Floor:
    """Return a channel's floor, which is kept and watched from now on."""
    floor = node.floors.get(channel_id)
    if floor is None:
        floor = node.floors.open(channel_id)
        _watch(node, floor)
    return floor


def _watch(node: Node, floor: Floor) -> None:
    """Keep the deadlines of a floor: by one entry, however often it changes hands, until that finds it idle.

    No grant ends before the entry comes: that is due `shortest_s` after it was made or looked at last, at most.
    """

    def due(now: float) -> float | None:
        if node.floors.get(floor.channel_id) is not floor:
            return None  # the channel was deleted
        tell(node, floor, floor.expire(now))
        if floor.state is State.IDLE:
            node.floors.forget(floor.channel_id)
        return floor.next_due

    node.deadlines.schedule(node.now() + floor.shortest_s, due)


def _answer(call: Call, floor: Floor, told: list[Told]) -> None:
    # Noted first, told after the ACK: that may end the connection, and with it the place that it has just got.
    _note(call.node, floor, told)
    if call.wants_ack:
        call.ack(ChannelRef(floor.channel_id))
    else:
        call.succeed_silently()
    tell_noted(call.node)


# --- what else happens to it --------------------------------------------------------------------------


def lost(node: Node, session: Session) -> None:
    """Take a session that has lost its connection, or has ended, off all floors: it learns so if it comes back."""
    if not len(node.floors):
        return
    for channel_id in list(node.channels.memberships(session.user_id)):
        _take_off(node, session, channel_id)


def forbidden(node: Node, session: Session) -> None:
    """Take a session off the floors of the channels that its token is not good for any more."""
    for channel_id in list(node.channels.memberships(session.user_id)):
        if not session.may_hear(channel_id):
            _take_off(node, session, channel_id)


def _take_off(node: Node, session: Session, channel_id: ChannelId) -> None:
    floor = node.floors.get(channel_id)
    if floor is not None:
        tell(node, floor, floor.leave(session.session_id, node.now(), "disconnect"))


def left(node: Node, channel_id: ChannelId, user_id: UserId) -> None:
    """Take a user who is no member any more off a floor, for `tell_noted`; that it is over, its `leave` says."""
    floor = node.floors.get(channel_id)
    if floor is not None:
        _note(node, floor, floor.leave_all(user_id, node.now()))


async def revoke(node: Node, channel_id: ChannelId, identity: Identity | None) -> UserId:
    """Take the floor away from whoever has it; the channel's owner and moderators may, and operators.

    Args:
        identity: who asks; None: an operator who did not say who that is.

    Returns:
        Who had it.

    Raises:
        Forbidden: whoever asks may not, or must not know of the channel.
        ChannelNotFound: there is none.
        NotPttChannel: there is no floor in this channel.
        FloorNotHeld: nobody has it.
        LiveError: the store is away.
    """
    is_admin = identity is None or identity.holds_secret or ADMIN_SCOPE in identity.scopes
    user_id = OPERATOR if identity is None else identity.user_id
    try:
        view = await perform(node.store, GetChannel(channel_id, user_id, admin=is_admin))
    except (ChannelNotFound, AccessDenied):
        if is_admin:
            raise
        raise Forbidden("channel_id: this takes the owner or a moderator of the channel") from None
    who = permissions.standing(
        is_member=view.member is not None,
        is_moderator=view.member is not None and view.member.role == "moderator",
        is_owner=view.channel.owner_id == user_id,
        is_private=view.channel.private,
        is_banned=False,  # makes no difference to this
        is_admin=is_admin,
    )
    permissions.check(Deed.FLOOR_REVOKE, who, channel_id)
    check_mode(view.channel.mode)
    floor = node.floors.get(channel_id)
    if floor is None or floor.holder is None:
        raise FloorNotHeld("channel_id: nobody has the floor")
    holder = floor.holder
    tell(node, floor, floor.revoke("admin_revoke", node.now()))
    log.info("floor revoked", channel=channel_id, user=holder.user_id, actor=user_id)
    return holder.user_id


# --- telling ------------------------------------------------------------------------------------------


def show(node: Node, session: Session, channel_ids: Iterable[ChannelId], *, was_away: bool = False) -> None:
    """Tell a session that has begun to hear channels who has the floor there.

    Args:
        was_away: it has heard them before: what it knows of them may be wrong, so an idle floor is told as well.
    """
    for channel_id in channel_ids:
        channel = node.channels.get(channel_id)
        if channel is None or channel.facts.mode != "ptt" or session not in channel.subscribers:
            continue
        event = _as_seen_by(session, channel_id, node.floors.holder(channel_id))
        if session.outlet is not None and (isinstance(event, FloorTaken) or (was_away and event is not None)):
            session.outlet.send(Outgoing(FLOOR_OPS[type(event)], event))


def _as_seen_by(session: Session, channel_id: ChannelId, holder: Claim | None) -> FloorEvent | None:
    if holder is None:
        return FloorIdle(channel_id)
    # Who has it knows.
    return (
        None
        if holder.session_id == session.session_id
        else FloorTaken(channel_id, holder.user_id, holder.indicator)
    )


def held(node: Node, channel_id: ChannelId) -> FloorHeld | None:
    """Return who has the floor of a channel, for those who look at it; None: nobody."""
    floor = node.floors.get(channel_id)
    if floor is None or floor.holder is None:
        return None
    return FloorHeld(floor.holder.user_id, floor.holder.indicator, len(floor.waiting))


def tell(node: Node, floor: Floor, told: list[Told]) -> None:
    """Make the relay follow a floor, and tell everybody what has become of it."""
    _note(node, floor, told)
    tell_noted(node)


def _note(node: Node, floor: Floor, told: list[Told]) -> None:
    if any(isinstance(each.event, FloorGranted | FloorIdle) for each in told):
        channel = node.channels.get(floor.channel_id)
        if channel is not None:
            node.media.set_rules(floor.channel_id, voice.rules_of(node, channel.facts))
    for each in told:
        _count(node, each.event)
        node.floor_notices.append(FloorNotice(each.event, only=each.only, origin=each.but))


def tell_noted(node: Node) -> None:
    """Tell what has become of floors and was not told yet."""
    if node.floor_is_telling:
        # Telling a client has ended its connection, and that its place on a floor: what came first is told first.
        return
    node.floor_is_telling = True
    try:
        while node.floor_notices:
            node.backplane.publish(node.floor_notices.popleft())
    finally:
        node.floor_is_telling = False


def _count(node: Node, event: FloorEvent) -> None:
    counters = node.instruments.counters.floor
    match event:
        case FloorGranted():
            counters.grants += 1
        case FloorDeny(reason=reason):
            counters.denies[reason] += 1
        case FloorRevoke(cause=cause):
            counters.revokes[cause] += 1

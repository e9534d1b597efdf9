"""Chat as the protocol describes it: what each request answers and changes in a channel, in the shortest words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from tests.support.chat_channel import Channel, Entry, Member
from tests.support.client import (
    CREATE,
    DELETE,
    FOCUS,
    HISTORY,
    IDENTIFY,
    INFO,
    JOIN,
    LEAVE,
    MEMBER_ADD,
    MEMBER_LIST,
    MEMBER_REMOVE,
    MESSAGE,
    READ,
    RESUME,
    SUBSCRIBE,
    TYPING,
    UNSUBSCRIBE,
    UPDATE,
)

VANISH = -1
"""No request: the user's last session has ended."""

Answer = dict[str, Any] | int | None
"""The data of an ACK as far as it can be foretold, the code of an ERROR, or nothing about this channel."""


@attrs.frozen
class Who:
    """Who asks."""

    user_id: str
    session: str


class Refused(Exception):
    """An error code."""


# --- who may ---------------------------------------------------------------------------------------

_ANYBODY = {"excluded": 2002}
_MEMBERS = {"absent": 2004, "hidden": 2002, "outsider": 2004, "banned": 2004, "excluded": 2002}
_MODERATORS = {"member": 1007, "outsider": 1007, "banned": 1007, "excluded": 2002}
_OWNERS = {**_MODERATORS, "moderator": 1007}
_REFUSALS = {
    INFO: _ANYBODY,
    JOIN: {**_ANYBODY, "banned": 1007},
    MESSAGE: {**_MEMBERS, "absent": 3002, "outsider": 3002, "banned": 3002},
    MEMBER_LIST: {"outsider": 2004, "banned": 2004, "excluded": 2002},
    **dict.fromkeys((HISTORY, LEAVE, READ, TYPING, FOCUS, SUBSCRIBE, UNSUBSCRIBE), _MEMBERS),
    **dict.fromkeys((UPDATE, MEMBER_ADD, MEMBER_REMOVE), _MODERATORS),
    DELETE: _OWNERS,
}
"""What refuses an op, by who asks; who is not named may."""


def _standing(channel: Channel, user_id: str) -> str:
    member = channel.member(user_id)
    if member is not None:
        return "owner" if user_id == channel.owner_id else member.role
    if user_id == channel.owner_id:
        return "hidden" if channel.is_private else "absent"
    if channel.is_private:
        return "excluded"
    return "banned" if user_id in channel.banned else "outsider"


def _check(channel: Channel, user_id: str, refusals: dict[str, int]) -> None:
    if not channel.is_there:
        raise Refused(2000)
    code = refusals.get(_standing(channel, user_id))
    if code is not None:
        raise Refused(code)


# --- what they answer and change -------------------------------------------------------------------

Rule = Callable[[Channel, Who, dict[str, Any]], tuple[Channel, Answer]]


def _create(channel: Channel, who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    if channel.is_there:
        raise Refused(2005)
    created = attrs.evolve(
        channel,
        is_there=True,
        is_private=d["private"],
        is_durable=d["durable"],
        name=channel.channel_id,
        owner_id=who.user_id,
        base=channel.last_seq,
    )
    data = {"channel_id": channel.channel_id, "channel_name": channel.channel_id, "durable": d["durable"]}
    return created, {**data, "mode": "conference", "capacity": 100}


def _delete(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    gone = attrs.evolve(channel, is_there=False, members=(), banned=frozenset(), joined=frozenset())
    return gone, {"channel_id": channel.channel_id}


def _update(channel: Channel, _who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    changed = attrs.evolve(channel, name=d["channel_name"], is_private=d["private"])
    return changed, {"channel_id": channel.channel_id}


def _admit(channel: Channel, user_id: str, role: str, actor_id: str | None = None) -> Channel:
    channel = channel.with_entry(Entry("join", user_id, actor_id=actor_id))
    return channel.with_member(Member(user_id, role, channel.last_seq))


def _join(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    token = (who.user_id, who.session)
    if token in channel.joined:
        raise Refused(2003)
    if channel.member(who.user_id) is None:
        channel = _admit(channel, who.user_id, "member")
    channel = attrs.evolve(channel, joined=channel.joined | {token})
    return channel, {"channel_id": channel.channel_id, "last_seq": channel.last_seq}


def _leave(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    return channel.without(who.user_id), {"channel_id": channel.channel_id}


def _vanish(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    if channel.is_there and not channel.is_durable and channel.member(who.user_id) is not None:
        channel = channel.without(who.user_id, cause="disconnect")
    return channel, None


def _message(channel: Channel, who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    nonce, mentions = d.get("nonce"), tuple(d.get("mentions", ()))
    wanted = Entry("message", who.user_id, d["content"], mentions, nonce)
    data = {"channel_id": channel.channel_id} | ({} if nonce is None else {"nonce": nonce})
    if nonce is not None:
        for seq, entry in enumerate(channel.entries, 1):
            if (entry.kind, entry.user_id, entry.nonce) == ("message", who.user_id, nonce):
                if entry != wanted:
                    raise Refused(3003)
                return channel, {**data, "seq": seq, "duplicate": True}
    if not d["content"]:
        raise Refused(3000)
    _check(channel, who.user_id, _REFUSALS[MESSAGE])
    channel = channel.with_entry(wanted)
    member = channel.member(who.user_id)
    assert member is not None
    channel = channel.with_member(attrs.evolve(member, read_seq=channel.last_seq))
    return channel, {**data, "seq": channel.last_seq, "duplicate": False}


def _read(channel: Channel, who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    if d["seq"] > channel.last_seq:
        raise Refused(1004)
    member = channel.member(who.user_id)
    assert member is not None
    read_seq = max(member.read_seq, d["seq"])
    channel = channel.with_member(attrs.evolve(member, read_seq=read_seq))
    unread = channel.unread(who.user_id, read_seq)
    return channel, {"channel_id": channel.channel_id, "read_seq": read_seq, "unread": unread}


def _history(channel: Channel, _who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    last_seq, limit = channel.last_seq, d["limit"]
    if "after_seq" in d:
        found = channel.part(d["after_seq"], last_seq + 1)
        page, has_after = found[:limit], len(found) > limit
        has_before = bool(channel.part(0, d["after_seq"] + 1))
    else:
        before = d.get("before_seq", last_seq + 1)
        found = channel.part(0, before)
        page, has_before = found[-limit:], len(found) > limit
        has_after = bool(channel.part(before - 1, last_seq + 1))
    data = {"messages": page, "has_before": has_before, "has_after": has_after, "last_seq": last_seq}
    return channel, {"channel_id": channel.channel_id, **data}


def _heed(channel: Channel, _who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    return channel, {"channel_id": channel.channel_id}


def _subscribe(channel: Channel, _who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    return channel, {"channel_id": channel.channel_id, "last_seq": channel.last_seq}


def _view(channel: Channel, user_id: str) -> dict[str, Any]:
    member = channel.member(user_id)
    last = channel.part(channel.last_seq - 1, channel.last_seq + 1)
    return {
        "channel_name": channel.name,
        "durable": channel.is_durable,
        "role": channel.role(user_id),
        "last_seq": channel.last_seq,
        "read_seq": 0 if member is None else member.read_seq,
        "unread": 0 if member is None else channel.unread(user_id, member.read_seq),
        "mention_count": 0 if member is None else channel.mentions(member),
        "member_count": len(channel.members),
        "last_message": last[0] if last and member is not None else None,
    }


def _info(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    return channel, _view(channel, who.user_id)


def _identify(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    return channel, None if channel.member(who.user_id) is None else _view(channel, who.user_id)


def _resume(channel: Channel, who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    member = channel.member(who.user_id)
    if member is None:
        return channel, None
    unread = channel.unread(who.user_id, member.read_seq)
    return channel, {"last_seq": channel.last_seq, "read_seq": member.read_seq, "unread": unread}


def _member_add(channel: Channel, who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    user_id, role = d["user_id"], d.get("role")
    member = channel.member(user_id)
    changes_role = role is not None and role != ("member" if member is None else member.role)
    if changes_role:
        _check(channel, who.user_id, _OWNERS)
    if member is None:
        channel = _admit(channel, user_id, role or "member", who.user_id)
        channel = attrs.evolve(channel, banned=channel.banned - {user_id})
    elif role is not None and changes_role:
        channel = channel.with_member(attrs.evolve(member, role=role))
    else:
        raise Refused(2003)
    return channel, {"channel_id": channel.channel_id, "user_id": user_id, "role": channel.role(user_id)}


def _member_remove(channel: Channel, who: Who, d: dict[str, Any]) -> tuple[Channel, Answer]:
    user_id, ban = d["user_id"], d["ban"]
    member = channel.member(user_id)
    if user_id == channel.owner_id:
        raise Refused(1007)
    if member is not None and member.role == "moderator":
        _check(channel, who.user_id, _OWNERS)
    if member is None and not ban:
        raise Refused(2004)
    if ban:
        channel = attrs.evolve(channel, banned=channel.banned | {user_id})
    if member is not None:
        channel = channel.without(user_id, actor_id=who.user_id, cause="ban" if ban else "remove")
    return channel, {"channel_id": channel.channel_id, "user_id": user_id}


def _member_list(channel: Channel, _who: Who, _d: dict[str, Any]) -> tuple[Channel, Answer]:
    members = [(member.user_id, channel.role(member.user_id)) for member in channel.members]
    return channel, {"channel_id": channel.channel_id, "members": members}


_RULES: dict[int, Rule] = {
    CREATE: _create,
    JOIN: _join,
    LEAVE: _leave,
    UPDATE: _update,
    DELETE: _delete,
    INFO: _info,
    MESSAGE: _message,
    HISTORY: _history,
    READ: _read,
    TYPING: _heed,
    FOCUS: _heed,
    SUBSCRIBE: _subscribe,
    UNSUBSCRIBE: _heed,
    MEMBER_ADD: _member_add,
    MEMBER_REMOVE: _member_remove,
    MEMBER_LIST: _member_list,
    IDENTIFY: _identify,
    RESUME: _resume,
    VANISH: _vanish,
}
_UNCHECKED = (CREATE, MESSAGE, IDENTIFY, RESUME, VANISH)
"""These look first at something else than who asks, or may be done by all."""


def execute(channel: Channel, who: Who, op: int, d: dict[str, Any]) -> tuple[Channel, Answer]:
    """Do one request; return the channel afterwards, and the answer."""
    try:
        if op not in _UNCHECKED:
            _check(channel, who.user_id, _REFUSALS[op])
        return _RULES[op](channel, who, d)
    except Refused as refused:
        code: int = refused.args[0]
        return channel, code

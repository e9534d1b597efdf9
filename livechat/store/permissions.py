"""Owns who may do what in a channel: the whole of it is one table, deed by standing. Pure.

It must not look anything up; the rules find out a user's standing and ask here.

    ADMIN          has the `admin` scope and is no member
    OWNER          owns the channel and is a member; so does a member with the `admin` scope
    ABSENT_OWNER   owns the channel, which is public, and is no member
    HIDDEN_OWNER   owns the channel, which is private, and is no member
    MODERATOR      a member with that role
    MEMBER         any other member
    OUTSIDER       no member of a public channel
    BANNED         an outsider who was banned from it
    EXCLUDED       no member of a private channel, which thereby is not to be known
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from livechat.error import AccessDenied, Forbidden, JoinBeforeMessaging, LiveError, NotInChannel


class Standing(Enum):
    """What somebody is to a channel."""

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at each look into a table.

    ADMIN = auto()
    OWNER = auto()
    ABSENT_OWNER = auto()
    HIDDEN_OWNER = auto()
    MODERATOR = auto()
    MEMBER = auto()
    OUTSIDER = auto()
    BANNED = auto()
    EXCLUDED = auto()


class Deed(Enum):
    """What somebody wants to do with a channel that exists."""

    __hash__ = object.__hash__  # Enum's own hashes the name, in Python, at each look into a table.

    INFO = auto()
    JOIN = auto()
    LEAVE = auto()
    UPDATE = auto()
    DELETE = auto()
    MESSAGE = auto()
    CHUNK = auto()
    HISTORY = auto()
    READ = auto()
    TYPING = auto()
    FOCUS = auto()
    SUBSCRIBE = auto()
    UNSUBSCRIBE = auto()
    FLOOR = auto()
    FLOOR_REVOKE = auto()
    MEMBER_LIST = auto()
    MEMBER_ADD = auto()
    MEMBER_REMOVE = auto()
    """Of a plain member, or a ban of who is none. Nobody removes the owner."""
    ROLE_CHANGE = auto()
    """Make a moderator, or a plain member of one."""
    MODERATOR_REMOVE = auto()


Refusal = type[LiveError] | None

_ERRORS: Final[dict[str, Refusal]] = {
    "ok": None,
    "1007": Forbidden,
    "2002": AccessDenied,
    "2004": NotInChannel,
    "3002": JoinBeforeMessaging,
}


def _row(codes: str) -> dict[Standing, Refusal]:
    return {who: _ERRORS[code] for who, code in zip(Standing, codes.split(), strict=True)}


#                       ADMIN OWNER ABSENT HIDDEN MODER MEMBER OUTS. BANNED EXCLUDED
_MEMBERS_ONLY: Final = "2004  ok    2004   2002   ok    ok     2004  2004   2002"
_MODERATION: Final = "  ok    ok    ok     ok     ok    1007   1007  1007   2002"
_OWNERSHIP: Final = "   ok    ok    ok     ok     1007  1007   1007  1007   2002"

REFUSALS: Final[dict[Deed, dict[Standing, Refusal]]] = {
    #                       ADMIN OWNER ABSENT HIDDEN MODER MEMBER OUTS. BANNED EXCLUDED
    Deed.INFO: _row("       ok    ok    ok     ok     ok    ok     ok    ok     2002"),
    Deed.JOIN: _row("       ok    ok    ok     ok     ok    ok     ok    1007   2002"),
    Deed.MESSAGE: _row("    ok    ok    3002   2002   ok    ok     3002  3002   2002"),
    Deed.HISTORY: _row("    ok    ok    2004   2002   ok    ok     2004  2004   2002"),
    Deed.MEMBER_LIST: _row("ok    ok    ok     ok     ok    ok     2004  2004   2002"),
    Deed.CHUNK: _row(_MEMBERS_ONLY),
    Deed.LEAVE: _row(_MEMBERS_ONLY),
    Deed.READ: _row(_MEMBERS_ONLY),
    Deed.TYPING: _row(_MEMBERS_ONLY),
    Deed.FOCUS: _row(_MEMBERS_ONLY),
    Deed.SUBSCRIBE: _row(_MEMBERS_ONLY),
    Deed.UNSUBSCRIBE: _row(_MEMBERS_ONLY),
    Deed.FLOOR: _row(_MEMBERS_ONLY),
    Deed.FLOOR_REVOKE: _row(_MODERATION),
    Deed.UPDATE: _row(_MODERATION),
    Deed.MEMBER_ADD: _row(_MODERATION),
    Deed.MEMBER_REMOVE: _row(_MODERATION),
    Deed.ROLE_CHANGE: _row(_OWNERSHIP),
    Deed.MODERATOR_REMOVE: _row(_OWNERSHIP),
    Deed.DELETE: _row(_OWNERSHIP),
}
"""Deed by standing: the error that refuses it, or None where it may be done."""

_REASONS: Final[dict[type[LiveError], str]] = {
    AccessDenied: "channel {channel_id!r} is private",
    NotInChannel: "not a member of channel {channel_id!r}",
    JoinBeforeMessaging: "join channel {channel_id!r} first",
    Forbidden: "{deed} in channel {channel_id!r} takes the owner or a moderator",
}
_REASONS_OF_DEEDS: Final[dict[Deed, str]] = {
    Deed.JOIN: "banned from channel {channel_id!r}",
    Deed.DELETE: "only the owner may delete channel {channel_id!r}",
    Deed.ROLE_CHANGE: "only the owner may give roles in channel {channel_id!r}",
    Deed.MODERATOR_REMOVE: "only the owner may remove a moderator from channel {channel_id!r}",
}


def standing(
    *, is_member: bool, is_moderator: bool, is_owner: bool, is_private: bool, is_banned: bool, is_admin: bool
) -> Standing:
    """Return what somebody is to a channel."""
    if is_member:
        if is_owner or is_admin:
            return Standing.OWNER
        return Standing.MODERATOR if is_moderator else Standing.MEMBER
    if is_admin:
        return Standing.ADMIN
    if is_owner:
        return Standing.HIDDEN_OWNER if is_private else Standing.ABSENT_OWNER
    if is_private:
        return Standing.EXCLUDED
    return Standing.BANNED if is_banned else Standing.OUTSIDER


def check(deed: Deed, who: Standing, channel_id: str) -> None:
    """Raise the error of the table, if there is one.

    Raises:
        LiveError: who has this standing may not do this.
    """
    refusal = REFUSALS[deed][who]
    if refusal is not None:
        reason = _REASONS[refusal]
        if refusal is Forbidden:
            reason = _REASONS_OF_DEEDS.get(deed, reason)
        raise refusal(reason.format(channel_id=channel_id, deed=deed.name))

"""Owns what each operation will look up, for a database where a few queries for a whole batch pay.

It must not know any database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from livechat.protocol.types import ChannelId, UserId
from livechat.store.operations import (
    AddMember,
    ChangeSettings,
    CheckMember,
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    ListMembers,
    LoadUser,
    MarkRead,
    NoteSeen,
    Operation,
    ReadStates,
    RemoveMember,
    UpdateChannel,
)
from livechat.store.records import NonceKey


@attrs.define(slots=True)
class Lookups:
    """What a batch of operations will ask the records for; in no order, and things may occur twice."""

    created: list[ChannelId] = attrs.field(factory=list)
    """Ids that ought to be free."""
    changed: list[tuple[ChannelId, UserId]] = attrs.field(factory=list)
    """Memberships, be there one or not, in channels that will change."""
    read: list[tuple[ChannelId, UserId]] = attrs.field(factory=list)
    """Memberships, be there one or not, in channels that will only be looked at."""
    banned: list[tuple[ChannelId, UserId]] = attrs.field(factory=list)
    """Those of the memberships above whose ban will be asked for if there is none."""
    nonces: list[NonceKey] = attrs.field(factory=list)
    positions: list[tuple[ChannelId, int]] = attrs.field(factory=list)
    """Entries whose ordinal may be asked for."""
    users_changed: list[UserId] = attrs.field(factory=list)
    users_read: list[UserId] = attrs.field(factory=list)


def lookups_of(operations: Iterable[Operation[Any]]) -> Lookups:
    """Return what executing these operations will ask the records for."""
    lookups = Lookups()
    for operation in operations:
        note = _LOOKUPS.get(type(operation))
        if note is not None:
            note(lookups, operation)
    return lookups


def _note_message(lookups: Lookups, operation: CreateMessage) -> None:
    channel_id = operation.channel_id
    lookups.changed.append((channel_id, operation.author_id))
    if operation.mentions:
        lookups.changed.extend([(channel_id, user_id) for user_id in operation.mentions])
    if operation.nonce is not None:
        lookups.nonces.append((operation.author_id, channel_id, operation.nonce))


def _note_join(lookups: Lookups, operation: JoinChannel) -> None:
    membership = (operation.channel_id, operation.user_id)
    lookups.changed.append(membership)
    lookups.banned.append(membership)


def _note_leave(lookups: Lookups, operation: LeaveChannel) -> None:
    lookups.changed.append((operation.channel_id, operation.user_id))


def _note_read(lookups: Lookups, operation: MarkRead) -> None:
    lookups.changed.append((operation.channel_id, operation.user_id))
    lookups.positions.append((operation.channel_id, operation.seq))


def _note_moderation(lookups: Lookups, operation: AddMember | RemoveMember) -> None:
    lookups.changed.append((operation.channel_id, operation.actor_id))
    lookups.changed.append((operation.channel_id, operation.user_id))


def _note_ownership(lookups: Lookups, operation: UpdateChannel | DeleteChannel) -> None:
    lookups.changed.append((operation.channel_id, operation.actor_id))


def _note_glance(lookups: Lookups, operation: GetChannel | ListMembers | CheckMember) -> None:
    membership = (operation.channel_id, operation.user_id)
    lookups.read.append(membership)
    lookups.banned.append(membership)


def _note_states(lookups: Lookups, operation: ReadStates) -> None:
    if operation.channel_ids is not None:
        lookups.read.extend([(channel_id, operation.user_id) for channel_id in operation.channel_ids])


_LOOKUPS: Final[dict[type[Operation[Any]], Callable[[Lookups, Any], None]]] = {
    CreateChannel: lambda lookups, operation: lookups.created.append(operation.channel_id),
    UpdateChannel: _note_ownership,
    DeleteChannel: _note_ownership,
    GetChannel: _note_glance,
    JoinChannel: _note_join,
    LeaveChannel: _note_leave,
    AddMember: _note_moderation,
    RemoveMember: _note_moderation,
    ListMembers: _note_glance,
    CheckMember: _note_glance,
    CreateMessage: _note_message,
    MarkRead: _note_read,
    LoadUser: lambda lookups, operation: lookups.users_read.append(operation.user_id),
    ReadStates: _note_states,
    ChangeSettings: lambda lookups, operation: lookups.users_changed.append(operation.user_id),
    NoteSeen: lambda lookups, operation: lookups.users_changed.append(operation.user_id),
}
"""What each operation looks up; those that are missing look up nothing by its key."""

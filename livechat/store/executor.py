"""Owns which rule executes which operation, what that rule will look up, and the store's own upkeep.

It must not know any database: it works on `Records`. A refused operation has written nothing. It runs in the
writer thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from livechat.protocol.types import ChannelId, UserId
from livechat.store.channel_rules import ChannelRules
from livechat.store.message_rules import MessageRules
from livechat.store.operations import (
    AddMember,
    ChangeSettings,
    CreateAnnouncement,
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    ListChannels,
    ListMembers,
    LoadUser,
    MarkRead,
    NoteSeen,
    Operation,
    ReadStates,
    RemoveMember,
    TransientMembers,
    UpdateChannel,
)
from livechat.store.records import Lookups, Records
from livechat.store.user_rules import UserRules

NONCE_TTL_MS: Final = 24 * 60 * 60 * 1000
"""For how long a nonce is unique: the 24 hours of the protocol."""
PRUNE_ROWS_MAX: Final = 1000
"""Rows removed by one transaction, so that upkeep never delays the messages behind it for long."""


@attrs.frozen
class Prune(Operation[bool]):
    """The store's own upkeep: remove one chunk of what nobody can see; tells whether there may be more."""


class Executor:
    """Executes operations on `Records`, one after another."""

    def __init__(self, records: Records, *, nonce_ttl_ms: int = NONCE_TTL_MS) -> None:
        self._records = records
        channels = ChannelRules(records)
        self._messages = messages = MessageRules(records, nonce_ttl_ms=nonce_ttl_ms)
        users = UserRules(records)
        self._rules: dict[type[Operation[Any]], Callable[[Any], object]] = {
            CreateChannel: channels.create,
            UpdateChannel: channels.update,
            DeleteChannel: channels.delete,
            GetChannel: channels.get,
            ListChannels: channels.list,
            JoinChannel: channels.join,
            LeaveChannel: channels.leave,
            AddMember: channels.add_member,
            RemoveMember: channels.remove_member,
            ListMembers: channels.list_members,
            CreateMessage: messages.create,
            MarkRead: messages.mark_read,
            LoadUser: users.load,
            ReadStates: users.read_states,
            ChangeSettings: users.change_settings,
            NoteSeen: users.note_seen,
            CreateAnnouncement: users.announce,
            TransientMembers: self._transient_members,
            Prune: self._prune,
        }

    def execute(self, operation: Operation[Any]) -> object:
        """Execute an operation and return its result.

        Raises:
            LiveError: it is refused, and nothing has changed.
        """
        return self._rules[type(operation)](operation)

    def prepare(self, operations: Sequence[Operation[Any]]) -> None:
        """Prefetch what the operations will ask the records for."""
        lookups = Lookups()
        for operation in operations:
            note = _LOOKUPS.get(type(operation))
            if note is not None:
                note(lookups, operation)
        self._records.prefetch(lookups)

    def _transient_members(self, _: TransientMembers) -> tuple[tuple[ChannelId, UserId], ...]:
        return self._records.transient_members()

    def _prune(self, _: Prune) -> bool:
        return self._records.prune(nonces_until=self._messages.nonces_until, limit=PRUNE_ROWS_MAX)


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


def _note_glance(lookups: Lookups, operation: GetChannel | ListMembers) -> None:
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
    CreateMessage: _note_message,
    MarkRead: _note_read,
    LoadUser: lambda lookups, operation: lookups.users_read.append(operation.user_id),
    ReadStates: _note_states,
    ChangeSettings: lambda lookups, operation: lookups.users_changed.append(operation.user_id),
    NoteSeen: lambda lookups, operation: lookups.users_changed.append(operation.user_id),
}
"""What each operation looks up; those that are missing look up nothing by its key."""

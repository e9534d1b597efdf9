"""Owns which rule executes which operation, and the store's own upkeep.

It must not know any database: it works on `Records`. A refused operation has written nothing. It runs in the
writer thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

from livechat.protocol.types import ChannelId, UserId
from livechat.store.channel_rules import ChannelRules
from livechat.store.message_rules import MessageRules
from livechat.store.operations import (
    AddMember,
    ChangeSettings,
    CheckMember,
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
from livechat.store.records import Records
from livechat.store.side import Transact
from livechat.store.user_rules import UserRules

T = TypeVar("T")

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
        self._rules: dict[type[Operation[Any]], Callable[[Any], Any]] = {
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
            CheckMember: channels.check_member,
            CreateMessage: messages.create,
            MarkRead: messages.mark_read,
            LoadUser: users.load,
            ReadStates: users.read_states,
            ChangeSettings: users.change_settings,
            NoteSeen: users.note_seen,
            CreateAnnouncement: users.announce,
            TransientMembers: self._transient_members,
            Transact: records.transact,
            Prune: self._prune,
        }

    def execute(self, operation: Operation[T]) -> T:
        """Execute an operation and return its result.

        Raises:
            LiveError: it is refused, and nothing has changed.
        """
        result: T = self._rules[type(operation)](operation)
        return result

    def _transient_members(self, _: TransientMembers) -> tuple[tuple[ChannelId, UserId], ...]:
        return self._records.transient_members()

    def _prune(self, _: Prune) -> bool:
        return self._records.prune(nonces_until=self._messages.nonces_until, limit=PRUNE_ROWS_MAX)

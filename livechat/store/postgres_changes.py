"""Owns what a transaction is going to write to PostgreSQL: it gathers changes, and makes a few statements of many.

It must not execute SQL, nor look anything up in the database.
"""

from __future__ import annotations

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import UserId
from livechat.store import postgres_rows as rows
from livechat.store import postgres_statements as sql
from livechat.store.postgres_connection import Statement
from livechat.store.postgres_known import MemberKey
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, UserRecord
from livechat.store.rows import MessageRow


@attrs.define(slots=True, eq=False)
class Changes:
    """What was put off; a later change to a row takes the place of an earlier one."""

    new_channels: list[ChannelRecord] = attrs.field(factory=list)
    counters: dict[int, ChannelRecord] = attrs.field(factory=dict)
    """By channel_key, as are `settings`."""
    settings: dict[int, ChannelRecord] = attrs.field(factory=dict)
    members: dict[MemberKey, MemberRecord] = attrs.field(factory=dict)
    removed_members: dict[MemberKey, None] = attrs.field(factory=dict)
    messages: list[tuple[int, MessageRow, int]] = attrs.field(factory=list)
    """(channel_key, message, ordinal) each."""
    newest: dict[int, MessageRow] = attrs.field(factory=dict)
    """The last of them in each channel."""
    ordinals: dict[tuple[int, int], int] = attrs.field(factory=dict)
    """By (channel_key, seq)."""
    mentions: dict[MemberKey, list[int]] = attrs.field(factory=dict)
    """The `seq` of each."""
    read_mentions: dict[MemberKey, int] = attrs.field(factory=dict)
    """Up to which `seq` those that are in the database are to be forgotten."""
    bans: dict[MemberKey, tuple[UserId, int] | None] = attrs.field(factory=dict)
    """(actor, time) of a new ban; None: lifted."""
    nonces: dict[NonceKey, NonceRecord] = attrs.field(factory=dict)
    users: dict[UserId, UserRecord] = attrs.field(factory=dict)
    announcements: list[Announcement] = attrs.field(factory=list)

    def clear(self) -> None:
        """Forget everything."""
        for field in attrs.fields(Changes):
            getattr(self, field.name).clear()

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """Put off an entry of the channel's sequence, whose counters stand at it already."""
        key, ordinal = channel.channel_key, channel.last_ordinal
        self.messages.append((key, message, ordinal))
        self.newest[key] = message
        self.ordinals[key, message.seq] = ordinal

    def read(self, key: MemberKey, until_seq: int) -> int:
        """Forget a member's mentions up to a message; return how many of those that were put off are left."""
        self.read_mentions[key] = max(until_seq, self.read_mentions.get(key, 0))
        left = [seq for seq in self.mentions.pop(key, ()) if seq > until_seq]
        if left:
            self.mentions[key] = left
        return len(left)

    def take(self) -> list[Statement]:
        """Return the statements that write everything, in an order that works; nothing is put off any more."""
        statements = [
            *self._channel_statements(),
            *self._member_statements(),
            *self._mention_statements(),
            *self._message_statements(),
            *self._other_statements(),
        ]
        if statements:
            self.clear()
        return statements

    def _channel_statements(self) -> list[Statement]:
        statements: list[Statement] = []
        if self.new_channels:
            values = [rows.channel_values(channel) for channel in self.new_channels]
            statements.append((sql.INSERT_CHANNELS, rows.columns(values)))
        if self.settings:
            settings = [
                (each.channel_key, each.channel_name, each.capacity, each.private, each.max_speakers)
                for each in self.settings.values()
            ]
            statements.append((sql.UPDATE_SETTINGS, rows.columns(settings)))
        if self.counters:
            counters = [
                (each.channel_key, each.last_seq, each.last_ordinal, each.member_count)
                for each in self.counters.values()
            ]
            statements.append((sql.UPDATE_COUNTERS, rows.columns(counters)))
        return statements

    def _member_statements(self) -> list[Statement]:
        statements: list[Statement] = []
        # First the deletions, so that a user who joins again in the same batch is kept.
        if self.removed_members:
            statements.append((sql.DELETE_MEMBERS, rows.columns(self.removed_members)))
        if self.members:
            statements.append((sql.PUT_MEMBERS, rows.member_columns(self.members.values())))
        return statements

    def _mention_statements(self) -> list[Statement]:
        statements: list[Statement] = []
        # First the deletions: what was read among the put-off ones is gone already.
        if self.read_mentions:
            read = [(*key, until_seq) for key, until_seq in self.read_mentions.items()]
            statements.append((sql.DELETE_MENTIONS, rows.columns(read)))
        if self.mentions:
            new = [(*key, seq) for key, seqs in self.mentions.items() for seq in seqs]
            statements.append((sql.INSERT_MENTIONS, rows.columns(new)))
        return statements

    def _message_statements(self) -> list[Statement]:
        if not self.messages:
            return []
        messages = [message for _, message, _ in self.messages]
        columns = [
            rows.numbers([channel_key for channel_key, _, _ in self.messages]),
            rows.numbers([message.seq for message in messages]),
            rows.texts([message.message_id for message in messages]),
            rows.texts([message.author_id for message in messages]),
            rows.texts([message.message_type for message in messages]),
            rows.texts([message.content for message in messages]),
            rows.nullable([message.nonce for message in messages]),
            rows.numbers([message.timestamp for message in messages]),
            rows.numbers([ordinal for _, _, ordinal in self.messages]),
        ]
        extras = [(message.attachment, message.mentions or None, message.system) for message in messages]
        if not any(extra != (None, None, None) for extra in extras):
            return [(sql.INSERT_MESSAGES, columns)]
        dumped = [[rows.dump(each) if each is not None else None for each in extra] for extra in extras]
        return [(sql.INSERT_MESSAGES_WITH_EXTRAS, columns + rows.columns(dumped))]

    def _other_statements(self) -> list[Statement]:
        statements: list[Statement] = []
        if self.nonces:
            statements.append((sql.PUT_NONCES, rows.nonce_columns(self.nonces.values())))
        lifted = [key for key, ban in self.bans.items() if ban is None]
        if lifted:
            statements.append((sql.DELETE_BANS, rows.columns(lifted)))
        imposed = [(*key, *ban) for key, ban in self.bans.items() if ban is not None]
        if imposed:
            statements.append((sql.INSERT_BANS, rows.columns(imposed)))
        if self.users:
            values = [rows.user_values(user) for user in self.users.values()]
            statements.append((sql.PUT_USERS, rows.columns(values)))
        if self.announcements:
            announced = [rows.announcement_values(announcement) for announcement in self.announcements]
            statements.append((sql.INSERT_ANNOUNCEMENTS, rows.columns(announced)))
        return statements

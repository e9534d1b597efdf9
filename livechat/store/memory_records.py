"""Owns the records of a store in memory: they are the truth itself, so to touch or save them does nothing.

It must not hold rules. There are no transactions: a rule has checked everything before its first change.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right, insort
from collections.abc import Iterator
from functools import partial
from typing import TypeVar

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import file_rows
from livechat.store.records import ChannelRecord, MemberRecord, NonceKey, NonceRecord, UserRecord
from livechat.store.rows import ChannelPage, ChannelRow, MemberPage, MemberState, MessageRow
from livechat.store.side import Transact
from livechat.store.sqlite_side import SqliteSide, open_memory_side

T = TypeVar("T")


@attrs.define(slots=True, eq=False)
class Life:
    """One life of a channel, with all that belongs to it."""

    channel: ChannelRecord
    first_seq: int
    """Of the first message; the others follow without a hole."""
    messages: list[MessageRow] = attrs.field(factory=list)
    ordinals: list[int] = attrs.field(factory=list)
    """Of each message."""
    members: dict[UserId, MemberRecord] = attrs.field(factory=dict)
    mentions: dict[UserId, list[int]] = attrs.field(factory=dict)
    """The `seq` of each unread one, ascending."""
    banned: set[UserId] = attrs.field(factory=set)


class MemoryRecords:
    """The `Records` of a store in memory."""

    def __init__(self) -> None:
        self.lives: dict[ChannelId, Life] = {}
        self._lives_by_key: dict[int, Life] = {}
        self._channel_ids: list[ChannelId] = []  # in binary order
        self._lives_of: dict[UserId, dict[int, Life]] = {}  # by channel_key
        self._former: dict[ChannelId, int] = {}
        self._ended: list[Life] = []
        # In the order of insertion, so that the oldest are the first.
        self._nonces: dict[NonceKey, NonceRecord] = {}
        self._users: dict[UserId, UserRecord] = {}
        self._announcements: list[Announcement] = []
        self._last_key = 0
        self._side: SqliteSide | None = None

    def transact(self, operation: Transact[T]) -> T:
        """See `Records.transact`; these tables are SQLite's, in memory like the rest."""
        if self._side is None:
            self._side = open_memory_side()
        return self._side.transact(operation)

    # --- lookups ----------------------------------------------------------------------------------

    def channel(self, channel_id: ChannelId) -> ChannelRecord | None:
        """See `Records.channel`."""
        life = self.lives.get(channel_id)
        return life.channel if life is not None else None

    def member(self, channel: ChannelRecord, user_id: UserId) -> MemberRecord | None:
        """See `Records.member`."""
        return self._lives_by_key[channel.channel_key].members.get(user_id)

    def nonce(self, key: NonceKey) -> NonceRecord | None:
        """See `Records.nonce`."""
        return self._nonces.get(key)

    def last_message(self, channel: ChannelRecord) -> MessageRow | None:
        """See `Records.last_message`."""
        messages = self._lives_by_key[channel.channel_key].messages
        return messages[-1] if messages else None

    def is_banned(self, channel: ChannelRecord, user_id: UserId) -> bool:
        """See `Records.is_banned`."""
        return user_id in self._lives_by_key[channel.channel_key].banned

    def ordinal_at(self, channel: ChannelRecord, seq: int) -> int:
        """See `Records.ordinal_at`."""
        life = self._lives_by_key[channel.channel_key]
        return life.ordinals[seq - life.first_seq]

    def user(self, user_id: UserId) -> UserRecord:
        """See `Records.user`."""
        return self._users.get(user_id) or UserRecord(user_id, {}, None, None)

    def last_seq_before(self, channel_id: ChannelId) -> int:
        """See `Records.last_seq_before`."""
        return self._former.get(channel_id, 0)

    # --- queries ----------------------------------------------------------------------------------

    def memberships(self, user_id: UserId, *, with_messages: bool) -> tuple[MemberState, ...]:
        """See `Records.memberships`."""
        lives = sorted(self._lives_of.get(user_id, {}).values(), key=lambda life: life.channel.channel_id)
        return tuple(
            [
                MemberState(
                    life.channel.row(),
                    life.members[user_id].row(life.channel),
                    life.messages[-1] if with_messages and life.messages else None,
                )
                for life in lives
            ]
        )

    def visible_channels(
        self, user_id: UserId, after: ChannelId | None, limit: int, *, admin: bool
    ) -> ChannelPage:
        """See `Records.visible_channels`."""
        visible = (life for life in self._lives_after(after) if admin or _is_visible(life, user_id))
        # One more than asked for tells whether there is a next page.
        found = list(itertools.islice(visible, limit + 1))
        page = tuple([life.channel.row() for life in found[:limit]])
        return ChannelPage(page, page[-1].channel_id if len(found) > limit else None)

    def _lives_after(self, channel_id: ChannelId | None) -> Iterator[Life]:
        start = bisect_right(self._channel_ids, channel_id) if channel_id is not None else 0
        for index in range(start, len(self._channel_ids)):
            yield self.lives[self._channel_ids[index]]

    def members_of(self, channel: ChannelRecord, after: UserId | None, limit: int) -> MemberPage:
        """See `Records.members_of`."""
        members = self._lives_by_key[channel.channel_key].members
        user_ids = heapq.nsmallest(limit + 1, [user_id for user_id in members if user_id > (after or "")])
        page = tuple([members[user_id].row(channel) for user_id in user_ids[:limit]])
        return MemberPage(page, page[-1].user_id if len(user_ids) > limit else None)

    def transient_members(self) -> tuple[tuple[ChannelId, UserId], ...]:
        """See `Records.transient_members`."""
        return tuple(
            [
                (life.channel.channel_id, user_id)
                for life in self._lives_after(None)
                if not life.channel.durable
                for user_id in sorted(life.members)
            ]
        )

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Records.announcements`."""
        valid = [
            each
            for each in self._announcements
            if each.created_at >= since_ms and (each.expires_at is None or each.expires_at > now_ms)
        ]
        return tuple(valid[-limit:])

    # --- changes ----------------------------------------------------------------------------------

    def add_channel(self, row: ChannelRow) -> ChannelRecord:
        """See `Records.add_channel`."""
        self._last_key = key = self._last_key + 1
        channel = ChannelRecord(key, **attrs.asdict(row))
        self.lives[row.channel_id] = self._lives_by_key[key] = Life(channel, row.last_seq + 1)
        insort(self._channel_ids, row.channel_id)
        return channel

    def save_channel(self, channel: ChannelRecord) -> None:
        """See `Records.save_channel`."""

    def remove_channel(self, channel: ChannelRecord) -> tuple[UserId, ...]:
        """See `Records.remove_channel`. The messages are unreachable from now on, and pruned later."""
        life = self.lives.pop(channel.channel_id)
        del self._lives_by_key[channel.channel_key]
        del self._channel_ids[bisect_right(self._channel_ids, channel.channel_id) - 1]
        for user_id in life.members:
            del self._lives_of[user_id][channel.channel_key]
        self._former[channel.channel_id] = channel.last_seq
        self._ended.append(life)
        if self._side is not None:
            self._side.transact(Transact(partial(file_rows.forget_channel, channel_key=channel.channel_key)))
        return tuple(sorted(life.members))

    def touch_channel(self, channel: ChannelRecord) -> None:
        """See `Records.touch_channel`."""

    def add_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.add_member`."""
        life = self._lives_by_key[channel.channel_key]
        life.members[member.user_id] = member
        self._lives_of.setdefault(member.user_id, {})[channel.channel_key] = life

    def touch_member(self, member: MemberRecord) -> None:
        """See `Records.touch_member`."""

    def remove_member(self, channel: ChannelRecord, member: MemberRecord) -> None:
        """See `Records.remove_member`."""
        life = self._lives_by_key[channel.channel_key]
        del life.members[member.user_id]
        del self._lives_of[member.user_id][channel.channel_key]
        life.mentions.pop(member.user_id, None)

    def add_ban(self, channel: ChannelRecord, user_id: UserId, actor_id: UserId, now_ms: int) -> None:
        """See `Records.add_ban`."""
        self._lives_by_key[channel.channel_key].banned.add(user_id)

    def remove_ban(self, channel: ChannelRecord, user_id: UserId) -> None:
        """See `Records.remove_ban`."""
        self._lives_by_key[channel.channel_key].banned.discard(user_id)

    def add_message(self, channel: ChannelRecord, message: MessageRow) -> None:
        """See `Records.add_message`."""
        life = self._lives_by_key[channel.channel_key]
        life.messages.append(message)
        life.ordinals.append(channel.last_ordinal)

    def add_mention(self, member: MemberRecord, seq: int) -> None:
        """See `Records.add_mention`."""
        mentions = self._lives_by_key[member.channel_key].mentions
        mentions.setdefault(member.user_id, []).append(seq)

    def remove_mentions(self, member: MemberRecord, until_seq: int) -> int:
        """See `Records.remove_mentions`."""
        seqs = self._lives_by_key[member.channel_key].mentions.get(member.user_id, [])
        del seqs[: bisect_right(seqs, until_seq)]
        return len(seqs)

    def save_user(self, user: UserRecord) -> None:
        """See `Records.save_user`."""
        self._users[user.user_id] = user

    def add_announcement(self, announcement: Announcement) -> None:
        """See `Records.add_announcement`."""
        insort(self._announcements, announcement, key=lambda each: (each.created_at, each.announcement_id))

    def put_nonce(self, nonce: NonceRecord) -> None:
        """See `Records.put_nonce`."""
        self._nonces.pop(nonce.key, None)
        self._nonces[nonce.key] = nonce

    def prune(self, *, nonces_until: int | None, limit: int) -> bool:
        """See `Records.prune`."""
        more = False
        if nonces_until is not None:
            oldest = list(itertools.islice(self._nonces.values(), limit))
            expired = [nonce.key for nonce in oldest if nonce.timestamp <= nonces_until]
            for key in expired:
                del self._nonces[key]
            more = len(expired) >= limit
        if not self._ended:
            return more
        life = self._ended[-1]
        del life.messages[-limit:], life.ordinals[-limit:]
        if not life.messages:
            self._ended.pop()
        return True


def _is_visible(life: Life, user_id: UserId) -> bool:
    return not life.channel.private or life.channel.owner_id == user_id or user_id in life.members

"""Owns the rules of queries: who may read what, and what a page of history is.

It must not know any database: it works on `Snapshot`. It runs in whatever thread reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from livechat.error import ChannelNotFound
from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import permissions
from livechat.store.permissions import Deed
from livechat.store.queries import GetAnnouncements, GetHistory, Query, Range, ReadRanges
from livechat.store.rows import History, MessageRow


@attrs.frozen
class ChannelGlance:
    """What a query needs to know of a channel and of who asks."""

    channel_key: int
    channel_id: ChannelId
    owner_id: UserId
    private: bool
    last_seq: int
    is_member: bool
    is_moderator: bool


class Snapshot(Protocol):
    """One state of the database."""

    def glance(self, channel_id: ChannelId, user_id: UserId) -> ChannelGlance | None:
        """Return the living channel of this id, as the user stands to it."""

    def before(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """Return the newest messages before `seq`, descending."""

    def after(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """Return the oldest messages after `seq`, ascending."""

    def has_up_to(self, channel: ChannelGlance, seq: int) -> bool:
        """Tell whether there is a message at `seq` or before."""

    def ranges(self, ranges: Sequence[Range], limit: int) -> list[MessageRow]:
        """Return what lies in the ranges, in their order and ascending, `limit` rows at most."""

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """Return what `GetAnnouncements` asks for."""


def answer(query: Query[Any], snapshot: Snapshot) -> object:
    """Answer a query.

    Raises:
        LiveError: it is refused.
    """
    if isinstance(query, GetHistory):
        return _history(query, snapshot)
    if isinstance(query, ReadRanges):
        return _ranges(query, snapshot)
    assert isinstance(query, GetAnnouncements)
    return snapshot.announcements(query.since_ms, query.now_ms, query.limit)


def _history(query: GetHistory, snapshot: Snapshot) -> History:
    channel = snapshot.glance(query.channel_id, query.user_id)
    if channel is None:
        raise ChannelNotFound(f"no channel {query.channel_id!r}")
    who = permissions.standing(
        is_member=channel.is_member,
        is_moderator=channel.is_moderator,
        is_owner=channel.owner_id == query.user_id,
        is_private=channel.private,
        is_banned=False,  # makes no difference to who reads
        is_admin=query.admin,
    )
    permissions.check(Deed.HISTORY, who, query.channel_id)
    if query.after_seq is not None:
        found = snapshot.after(channel, query.after_seq, query.limit + 1)
        messages = found[: query.limit]
        has_after = len(found) > query.limit
        has_before = snapshot.has_up_to(channel, query.after_seq)
    else:
        before = channel.last_seq + 1 if query.before_seq is None else query.before_seq
        found = snapshot.before(channel, before, query.limit + 1)
        messages = found[: query.limit][::-1]
        has_before = len(found) > query.limit
        # What the page ends with, or would if it were not empty.
        has_after = channel.last_seq >= before and snapshot.has_up_to(channel, channel.last_seq)
    return History(tuple(messages), has_before, has_after, channel.last_seq)


def _ranges(query: ReadRanges, snapshot: Snapshot) -> tuple[MessageRow, ...]:
    """Cut the messages found where they pass the size that was asked for."""
    found = snapshot.ranges(query.ranges, query.limit)
    size = 0
    for count, message in enumerate(found):
        size += len(message.content.encode())
        if size > query.bytes_max and count:
            return tuple(found[:count])
    return tuple(found)

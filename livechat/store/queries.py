"""Owns the store's queries: reads of what is committed, which neither wait for a writer nor make one wait.

It must not know any database. A query sees every operation that was answered before it was asked, and one state
of the database only.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store.rows import History, MessageRow

T_co = TypeVar("T_co", covariant=True)


@attrs.frozen
class Query(Generic[T_co]):
    """A read; the parameter is the type of its result."""


@attrs.frozen
class GetHistory(Query[History]):
    """Return a page of a channel's sequence, SYSTEM messages included.

    Raises:
        ChannelNotFound: no such channel.
        AccessDenied: it is private, and the user not a member (be it the owner) nor `admin`.
        NotInChannel: it is public, and the user not a member nor `admin`.
    """

    channel_id: ChannelId
    user_id: UserId
    admin: bool = False
    before_seq: int | None = None
    """The newest messages before this one; None: see `after_seq`."""
    after_seq: int | None = None
    """The oldest messages after this one; None as well: the newest of all."""
    limit: int = 20
    """Messages at most (from 1)."""


@attrs.frozen
class Range:
    """A part of a channel's sequence: what lies strictly between."""

    channel_id: ChannelId
    after: int
    before: int
    """The caller has got it from the channel's `last_seq`; it may lie beyond the end."""


@attrs.frozen
class ReadRanges(Query[tuple[MessageRow, ...]]):
    """Return the messages of several ranges, in their order and ascending, until a limit is reached.

    Nothing is checked: the caller knows that the user may read them. A channel that is gone has no messages.
    """

    ranges: tuple[Range, ...]
    """Each channel at most once."""
    limit: int = 500
    """Messages at most (from 1)."""
    bytes_max: int = 1 << 20
    """About as many bytes of content at most; at least one message is returned if there is one."""


@attrs.frozen
class GetAnnouncements(Query[tuple[Announcement, ...]]):
    """Return the announcements made since a time that have not expired, ascending by time."""

    since_ms: int
    now_ms: int
    limit: int = 100
    """The newest of them, at most."""

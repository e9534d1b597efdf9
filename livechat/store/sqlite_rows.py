"""Owns how rows travel between SQLite and the records: as JSON texts, in the column order of `sqlite_statements`.

It must not execute SQL.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId
from livechat.store.records import ChannelRecord, MemberRecord, NonceRecord
from livechat.store.rows import MessageRow

K = TypeVar("K")
V = TypeVar("V")

INTEGER_MAX: Final = 2**63 - 1
"""The largest that SQLite can hold."""

# Of the other characters only these are escaped, so that a lone surrogate fails at binding instead of being
# stored as broken UTF-8.
dump: Final[Callable[[object], str]] = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def shrink(cache: dict[K, V], size_max: int) -> None:
    """Drop the older half of a cache that has grown too large."""
    if len(cache) > size_max:
        for key in list(itertools.islice(cache, len(cache) - size_max // 2)):
            del cache[key]


def channel(values: Sequence[Any]) -> ChannelRecord:
    """Return the record of a row as `sqlite_statements.CHANNEL` orders it."""
    channel = ChannelRecord(*values)
    channel.durable = bool(channel.durable)
    channel.private = bool(channel.private)
    return channel


def member_values(member: MemberRecord) -> tuple[object, ...]:
    """Return a row as `sqlite_statements.MEMBER` orders it."""
    return (
        member.channel_key,
        member.user_id,
        member.role,
        member.joined_at,
        member.read_seq,
        member.read_ordinal,
        member.mention_count,
    )


def message(values: Sequence[Any], channel_id: ChannelId) -> MessageRow:
    """Return the message of a row as `sqlite_statements.MESSAGE` orders it."""
    _, seq, message_id, author_id, kind, content, nonce, timestamp, _, attachment, mentions, system = values
    return MessageRow(
        message_id=message_id,
        channel_id=channel_id,
        seq=seq,
        author_id=author_id,
        message_type=kind,
        content=content,
        attachment=json.loads(attachment) if attachment is not None else None,
        mentions=tuple(json.loads(mentions)) if mentions is not None else (),
        nonce=nonce,
        timestamp=timestamp,
        system=json.loads(system) if system is not None else None,
    )


def nonce(values: Sequence[Any]) -> NonceRecord:
    """Return the record of a row as `sqlite_statements.NONCE` orders it."""
    author_id, channel_id, nonce, digest, message_id, seq, timestamp = values
    key = (author_id, channel_id, nonce)
    return NonceRecord(key, bytes.fromhex(digest), message_id, seq, timestamp)


def announcement(values: Sequence[Any]) -> Announcement:
    """Return the announcement of a row as `sqlite_statements.ANNOUNCEMENT` orders it."""
    return Announcement(*values)


def announcement_values(announcement: Announcement) -> tuple[object, ...]:
    """Return a row as `sqlite_statements.ANNOUNCEMENT` orders it."""
    return (
        announcement.announcement_id,
        announcement.title,
        announcement.body,
        announcement.severity,
        announcement.created_at,
        announcement.url,
        announcement.image_url,
        announcement.expires_at,
    )

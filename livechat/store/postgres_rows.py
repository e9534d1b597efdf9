"""Owns how rows travel to and from PostgreSQL: columns as array texts, results in the order of the statements.

It must not execute SQL.

Source: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId
from livechat.store.operations import Operation
from livechat.store.records import ChannelRecord, MemberRecord, NonceRecord, UserRecord
from livechat.store.rows import MessageRow

dump: Final[Callable[[object], str]] = json.JSONEncoder(separators=(",", ":")).encode
"""JSON in ASCII, so that it can hold the characters that PostgreSQL's text can't."""


def is_storable(operation: Operation[Any]) -> bool:
    """Tell whether PostgreSQL can hold all texts of an operation: none has a NUL or a lone surrogate.

    Dictionaries are stored as JSON in ASCII, which holds everything.
    """
    text = "".join(_texts(operation))
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return "\0" not in text


def _texts(value: object) -> Iterator[str]:
    fields = _GETTERS.get(type(value)) or _make_getter(type(value))
    for each in fields(value):
        if type(each) is str:
            yield each
        elif type(each) is tuple:
            yield from each
        elif type(each) is Announcement:
            yield from _texts(each)


def _make_getter(cls: type[Any]) -> Callable[[object], tuple[object, ...]]:
    names = [field.name for field in attrs.fields(cls)]
    if len(names) > 1:
        _GETTERS[cls] = attrgetter(*names)
    else:
        _GETTERS[cls] = lambda value: tuple([getattr(value, name) for name in names])
    return _GETTERS[cls]


_GETTERS: Final[dict[type[Any], Callable[[object], tuple[object, ...]]]] = {}
"""What returns all fields of an object, by its class."""


# --- arrays ---------------------------------------------------------------------------------------


def numbers(values: Collection[int]) -> str:
    """Return an array of numbers."""
    return f"{{{','.join(map(str, values))}}}"


def texts(values: Collection[str]) -> str:
    """Return an array of texts, none of which has a NUL.

    psycopg would take seven times as long for a list.
    """
    if not values:
        return "{}"
    joined = "\0".join(values).replace("\\", "\\\\").replace('"', '\\"')
    if joined.count("\0") != len(values) - 1:
        raise ValueError("PostgreSQL can't hold a text with NUL")
    return f'{{"{joined.replace(chr(0), _BETWEEN)}"}}'


_BETWEEN: Final = '","'


def nullable(values: Collection[object]) -> str:
    """Return an array of numbers or truth values, or texts without NUL; None becomes NULL."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def columns(rows: Collection[Sequence[object]]) -> list[str]:
    """Return an array for each column of some rows, of which there must be one at least."""
    return [nullable(column) for column in zip(*rows, strict=True)]


# --- rows -----------------------------------------------------------------------------------------


def channel_values(channel: ChannelRecord) -> tuple[object, ...]:
    """Return a row as `postgres_statements.CHANNEL` orders it."""
    return (
        channel.channel_key,
        channel.channel_id,
        channel.channel_name,
        channel.mode,
        channel.durable,
        channel.capacity,
        channel.private,
        channel.max_speakers,
        channel.freq,
        channel.owner_id,
        channel.created_at,
        channel.last_seq,
        channel.last_ordinal,
        channel.member_count,
    )


def member_columns(members: Collection[MemberRecord]) -> list[str]:
    """Return the columns of rows as `postgres_statements.MEMBER` orders them."""
    return [
        numbers([member.channel_key for member in members]),
        texts([member.user_id for member in members]),
        texts([member.role for member in members]),
        numbers([member.joined_at for member in members]),
        numbers([member.read_seq for member in members]),
        numbers([member.read_ordinal for member in members]),
        numbers([member.mention_count for member in members]),
    ]


def message(values: Sequence[Any], channel_id: ChannelId) -> MessageRow:
    """Return the message of a row as `postgres_statements.MESSAGE` orders it."""
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
    """Return the record of a row as `postgres_statements.NONCE` orders it."""
    author_id, channel_id, nonce, digest, message_id, seq, timestamp = values
    return NonceRecord((author_id, channel_id, nonce), bytes.fromhex(digest), message_id, seq, timestamp)


def nonce_columns(nonces: Collection[NonceRecord]) -> list[str]:
    """Return the columns of rows as `postgres_statements.NONCE` orders them."""
    return [
        texts([nonce.key[0] for nonce in nonces]),
        texts([nonce.key[1] for nonce in nonces]),
        texts([nonce.key[2] for nonce in nonces]),
        texts([nonce.body_digest.hex() for nonce in nonces]),
        texts([nonce.message_id for nonce in nonces]),
        numbers([nonce.seq for nonce in nonces]),
        numbers([nonce.timestamp for nonce in nonces]),
    ]


def user(values: Sequence[Any]) -> UserRecord:
    """Return the record of a row as `postgres_statements.USER` orders it."""
    user_id, settings, last_seen, last_logout = values
    return UserRecord(user_id, json.loads(settings), last_seen, last_logout)


def user_values(user: UserRecord) -> tuple[object, ...]:
    """Return a row as `postgres_statements.USER` orders it."""
    return (user.user_id, dump(user.settings), user.last_seen, user.last_logout)


def announcement(values: Sequence[Any]) -> Announcement:
    """Return the announcement of a row as `postgres_statements.ANNOUNCEMENT` orders it."""
    return Announcement(*values)


def announcement_values(announcement: Announcement) -> tuple[object, ...]:
    """Return a row as `postgres_statements.ANNOUNCEMENT` orders it."""
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

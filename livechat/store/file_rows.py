"""Owns the rows of files: work on their tables, each function to be done by a `Transact` or within a rule.

It must not know where the bytes are; who removes a file removes those before the row (see `livechat.files`).

    expires_at   a time   no message refers to it yet; from then on it is gone
                 NULL     a message refers to it; it is there as long as its channel
                 0        gone: to be removed

Usage is kept beside the rows, so that nobody ever has to sum them up. Its row of all users is changed first, so
that two nodes that change several rows do not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from livechat.error import FileNotFound, Forbidden, Overloaded, PayloadTooLarge, ProtocolError
from livechat.protocol.types import ChannelId, FileId, UserId
from livechat.store.operations import FileClaim
from livechat.store.schema import FILE, FILE_PRUNABLE, FILE_USAGE
from livechat.store.side import Tables

CHARGED_BYTES_MIN: Final = 4096
"""What a file counts at least: a block of the disk."""
EVERYBODY: Final = ""
"""Whose usage that of all users is; no user has this id."""
GONE: Final = 0


@attrs.frozen
class FileRow:
    """A file that is there."""

    file_id: FileId
    channel_key: int
    """The life of the channel that it was uploaded to."""
    channel_id: ChannelId
    uploader_id: UserId
    name: str
    mime: str
    bytes: int
    sha256: str
    """In hex."""
    created_at: int
    """Milliseconds since 1970."""
    expires_at: int | None
    """Milliseconds since 1970; None: a message refers to it."""


_COLUMNS: Final = [FILE.c[field.name] for field in attrs.fields(FileRow)]
_ID: Final[sa.BindParameter[str]] = sa.bindparam("id")
_SELECT: Final = sa.select(*_COLUMNS).where(FILE.c.file_id == _ID)
_INSERT: Final = sa.insert(FILE).values({field.name: sa.bindparam(field.name) for field in attrs.fields(FileRow)})
_ATTACH: Final = sa.update(FILE).values(expires_at=None).where(FILE.c.file_id == _ID)
_CONDEMN: Final = sa.update(FILE).values(expires_at=GONE).where(FILE.c.file_id == _ID)
_CONDEMN_UNATTACHED: Final = _CONDEMN.where(FILE.c.expires_at.is_not(None))
_USAGE: Final = sa.select(FILE_USAGE.c.bytes).where(FILE_USAGE.c.user_id == _ID)
_NEW_USAGE: Final = insert(FILE_USAGE).values(user_id=sa.bindparam("user"), bytes=sa.bindparam("more"))
_ADD_USAGE: Final = _NEW_USAGE.on_conflict_do_update(
    index_elements=[FILE_USAGE.c.user_id], set_={"bytes": FILE_USAGE.c.bytes + _NEW_USAGE.excluded.bytes}
).returning(FILE_USAGE.c.bytes)
_TAKE_EXPIRED: Final = (
    sa.update(FILE)
    .values(expires_at=GONE)
    .where(
        FILE.c.file_id.in_(
            sa.select(FILE.c.file_id)
            .where(FILE.c.expires_at <= sa.bindparam("now"))
            .order_by(FILE.c.expires_at)
            .limit(sa.bindparam("most", type_=sa.Integer))
        )
    )
    .returning(FILE.c.file_id)
)
_KEY: Final = sa.bindparam("key", type_=sa.BigInteger)
_FORGET_CHANNEL: Final = insert(FILE_PRUNABLE).from_select(
    ["channel_key"], sa.select(_KEY).where(sa.exists().where(FILE.c.channel_key == _KEY))
)
_ENDED: Final = sa.select(FILE_PRUNABLE.c.channel_key).order_by(FILE_PRUNABLE.c.channel_key).limit(1)
_CONDEMN_OF_CHANNEL: Final = (
    sa.update(FILE)
    .values(expires_at=GONE)
    .where(
        FILE.c.file_id.in_(
            sa.select(FILE.c.file_id)
            .where(FILE.c.channel_key == _KEY, sa.func.coalesce(FILE.c.expires_at, 1) != GONE)
            .limit(sa.bindparam("most", type_=sa.Integer))
        )
    )
)
_FORGOTTEN: Final = sa.delete(FILE_PRUNABLE).where(FILE_PRUNABLE.c.channel_key == _KEY)


def charge(size: int) -> int:
    """Return what a file of so many bytes counts."""
    return max(size, CHARGED_BYTES_MIN)


def check_room(tables: Tables, uploader_id: UserId, size: int, *, user_bytes: int, total_bytes: int) -> int:
    """Tell early that there is no room for a file of so many bytes; what is decided is decided by `add`.

    Returns:
        How many bytes there is room for.

    Raises:
        PayloadTooLarge, Overloaded: see `add`.
    """
    used_by_all, used = _usage(tables, EVERYBODY), _usage(tables, uploader_id)
    _check(used_by_all + charge(size), total_bytes, used + charge(size), user_bytes)
    return min(total_bytes - used_by_all, user_bytes - used)


def _usage(tables: Tables, user_id: str) -> int:
    found = tables.execute(_USAGE, {"id": user_id}).first()
    return int(found[0]) if found is not None else 0


def _check(used_by_all: int, total_bytes: int, used: int, user_bytes: int) -> None:
    if used > user_bytes:
        raise PayloadTooLarge(f"file: all files of a user may have {user_bytes} bytes, it would be {used}")
    if used_by_all > total_bytes:
        raise Overloaded("file: there is no room for more files")


def add(tables: Tables, row: FileRow, *, user_bytes: int, total_bytes: int) -> FileRow:
    """Add a file, if there is room for it.

    Raises:
        PayloadTooLarge: the user's files would be more than `user_bytes`.
        Overloaded: all files would be more than `total_bytes`.
    """
    used_by_all = _add_usage(tables, EVERYBODY, charge(row.bytes))
    used = _add_usage(tables, row.uploader_id, charge(row.bytes))
    _check(used_by_all, total_bytes, used, user_bytes)
    tables.execute(_INSERT, attrs.asdict(row))
    return row


def _add_usage(tables: Tables, user_id: str, more: int) -> int:
    """Add to somebody's usage; return what it is now."""
    found = tables.execute(_ADD_USAGE, {"user": user_id, "more": more}).first()
    assert found is not None
    return int(found[0])


def get(tables: Tables, file_id: FileId, now_ms: int) -> FileRow:
    """Return a file.

    Raises:
        FileNotFound: there is none, or it is gone.
    """
    row = _find(tables, file_id, now_ms)
    if row is None:
        raise FileNotFound("file: there is no such file")
    return row


def _find(tables: Tables, file_id: FileId, now_ms: int) -> FileRow | None:
    found = tables.execute(_SELECT, {"id": file_id}).first()
    if found is None:
        return None
    row = FileRow(*found)
    return row if row.expires_at is None or row.expires_at > now_ms else None


def find_known(tables: Tables, file_ids: Sequence[FileId]) -> set[FileId]:
    """Return those of the ids that there are rows of, be it of files that are gone."""
    rows = tables.execute(sa.select(FILE.c.file_id).where(FILE.c.file_id.in_(file_ids))).all()
    return {FileId(row[0]) for row in rows}


def claim(
    tables: Tables, claimed: FileClaim, *, channel_key: int, author_id: UserId, now_ms: int
) -> dict[str, Any] | None:
    """Attach a file to a message of its uploader; return the attachment as it is stored.

    Returns:
        None: there is no such file, and the claim does not say that it must be one.

    Raises:
        ProtocolError: there is no such file, as far as the author may know.
        Forbidden: it is another user's, or was uploaded to another channel.
    """
    row = _find(tables, claimed.file_id, now_ms)
    if row is None and not claimed.is_certain:
        return None
    is_author = row is not None and row.uploader_id == author_id
    is_here = row is not None and row.channel_key == channel_key
    if row is None or not (is_author or (is_here and row.expires_at is None)):
        raise ProtocolError("attachment.url: there is no such file")
    if not is_author:
        raise Forbidden("attachment.url: only its uploader may attach the file")
    if not is_here:
        raise Forbidden("attachment.url: the file was uploaded to another channel")
    if row.expires_at is not None:
        tables.execute(_ATTACH, {"id": row.file_id})
    return {"url": claimed.url, "name": row.name, "bytes": row.bytes, "mime": row.mime}


def condemn(tables: Tables, file_id: FileId, *, even_attached: bool) -> bool:
    """Make a file gone; return whether it could be. Its row stays until `remove`, so that its bytes are found."""
    statement = _CONDEMN if even_attached else _CONDEMN_UNATTACHED
    return tables.execute(statement, {"id": file_id}).rowcount > 0


def take_expired(tables: Tables, now_ms: int, limit: int) -> list[FileId]:
    """Make those gone whose time is over; return them and those that are gone already, of all some."""
    rows = tables.execute(_TAKE_EXPIRED, {"now": now_ms, "most": limit}).all()
    return [FileId(row[0]) for row in rows]


def remove(tables: Tables, file_ids: Sequence[FileId]) -> int:
    """Remove the rows of files that are gone, once their bytes are; return how many there were."""
    removed = tables.execute(
        sa.delete(FILE)
        .where(FILE.c.file_id.in_(file_ids), FILE.c.expires_at == GONE)
        .returning(FILE.c.uploader_id, FILE.c.bytes)
    ).all()
    if removed:
        freed: dict[str, int] = {EVERYBODY: 0}
        for uploader_id, size in removed:
            freed[uploader_id] = freed.get(uploader_id, 0) + charge(size)
            freed[EVERYBODY] += charge(size)
        for user_id in sorted(freed):
            _add_usage(tables, user_id, -freed[user_id])
    return len(removed)


def forget_channel(tables: Tables, *, channel_key: int) -> None:
    """Note that a channel's life has ended; its files are made gone later, some at a time.

    For the store in memory: those with a database do the same beside their other statements for it.
    """
    tables.execute(_FORGET_CHANNEL, {"key": channel_key})


def condemn_some(tables: Tables, limit: int) -> bool:
    """Make some files of an ended life of a channel gone; return whether there may be more."""
    ended = tables.execute(_ENDED, {}).first()
    if ended is None:
        return False
    if tables.execute(_CONDEMN_OF_CHANNEL, {"key": ended[0], "most": limit}).rowcount < limit:
        tables.execute(_FORGOTTEN, {"key": ended[0]})
    return True

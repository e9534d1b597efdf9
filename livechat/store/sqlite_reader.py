"""Owns the reading side of the SQLite store: connections of its own, each used by one thread at a time.

It must not write. With the write-ahead log a reader sees the last commit and blocks nobody.
"""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from livechat.error import LiveError
from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import sqlite_rows as rows
from livechat.store import sqlite_statements as sql
from livechat.store.queries import Query, Range
from livechat.store.reading import ChannelGlance, answer
from livechat.store.rows import MessageRow

READ_WAIT_S: Final = 5.0
"""How long a read waits for a lock, which only recovery after a crash or a checkpoint takes."""


class SqliteReader:
    """The `Reader` of a database file; `connection_factory` is the class of its connections."""

    def __init__(self, path: Path, *, connection_factory: type[sqlite3.Connection] = sqlite3.Connection) -> None:
        self._uri = f"{path.absolute().as_uri()}?mode=ro"
        self._connection_factory = connection_factory
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = False

    def read(self, query: Query[Any]) -> object:
        """Answer a query; see `Reader.read`."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            result = answer(query, SqliteSnapshot(connection))
            connection.rollback()
        except LiveError:
            connection.rollback()
            self._give_back(connection)
            raise
        except BaseException:
            # It may be in any state, so it is not used again.
            connection.close()
            raise
        self._give_back(connection)
        return result

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return sqlite3.connect(
                self._uri,
                uri=True,
                timeout=READ_WAIT_S,
                isolation_level=None,
                check_same_thread=False,
                factory=self._connection_factory,
            )

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.put(connection)
        if self._closed:
            self.close()


class SqliteSnapshot:
    """A `Snapshot`: a connection inside a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def glance(self, channel_id: ChannelId, user_id: UserId) -> ChannelGlance | None:
        """See `Snapshot.glance`."""
        values = self._connection.execute(sql.SELECT_GLANCE, (user_id, channel_id)).fetchone()
        if values is None:
            return None
        key, owner_id, private, last_seq, role = values
        return ChannelGlance(
            key, channel_id, owner_id, bool(private), last_seq, role is not None, role == "moderator"
        )

    def before(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """See `Snapshot.before`."""
        found = self._fetch(sql.HISTORY_BEFORE, channel.channel_key, seq, limit)
        return [rows.message(values, channel.channel_id) for values in found]

    def after(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """See `Snapshot.after`."""
        found = self._fetch(sql.HISTORY_AFTER, channel.channel_key, seq, limit)
        return [rows.message(values, channel.channel_id) for values in found]

    def has_up_to(self, channel: ChannelGlance, seq: int) -> bool:
        """See `Snapshot.has_up_to`."""
        key = (channel.channel_key, seq)
        return self._connection.execute(sql.HISTORY_HAS_BEFORE, key).fetchone() is not None

    def ranges(self, ranges: Sequence[Range], limit: int) -> list[MessageRow]:
        """See `Snapshot.ranges`."""
        wanted = [[each.channel_id, each.after, each.before] for each in ranges]
        return [
            rows.message(values, channel_id)
            for channel_id, values in self._fetch(sql.SELECT_RANGES, rows.dump(wanted), limit)
        ]

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Snapshot.announcements`."""
        found = self._connection.execute(sql.SELECT_ANNOUNCEMENTS, (since_ms, now_ms, limit)).fetchall()
        return tuple([rows.announcement(values) for values in reversed(found)])

    def _fetch(self, statement: str, *parameters: object) -> list[Any]:
        """Run a query whose result is one JSON array."""
        (text,) = self._connection.execute(statement, parameters).fetchone()
        found: list[Any] = json.loads(text)
        return found

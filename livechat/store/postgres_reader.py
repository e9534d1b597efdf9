"""Owns the reading side of the PostgreSQL store: connections of its own, each used by one thread at a time.

It must not write. A transaction of its own sees one state of the database and blocks nobody.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg

from livechat.error import LiveError
from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store import postgres_rows as rows
from livechat.store import postgres_statements as sql
from livechat.store.postgres_connection import Address, Connection, Row
from livechat.store.queries import Query, Range
from livechat.store.reading import ChannelGlance, answer
from livechat.store.rows import MessageRow

RANGES_AT_ONCE: Final = 8
"""Ranges read by one statement, each up to the limit, before the next ones are looked at."""


class PostgresReader:
    """The `Reader` of a database.

    As many connections are kept as were ever needed at once. A pool that connects in the background would wait
    longer and longer between its attempts while the database is away, and then too long when it is back.
    """

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._closed = False

    def read(self, query: Query[Any]) -> object:
        """Answer a query; see `Reader.read`."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            connection, is_new = self._take()
            connection.deadline = deadline
            try:
                result = self._read_on(connection, query)
            except psycopg.Error:
                # It may have died while it was idle, and so may the others: the next one is tried, or a new one.
                has_died = connection.closed and time.monotonic() < deadline
                connection.close()
                if is_new or not has_died:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                self._give_back(connection)
                if isinstance(result, LiveError):
                    raise result
                return result

    def _read_on(self, connection: Connection, query: Query[Any]) -> object:
        """Answer a query, or return the error that refuses it."""
        connection.begin(sql.BEGIN_READ)
        result: object
        try:
            result = answer(query, PostgresSnapshot(connection))
        except LiveError as error:
            result = error.with_traceback(None)
        if connection.has_begun:
            connection.execute("ROLLBACK")
        return result

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        self._closed = True
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return

    def _take(self) -> tuple[Connection, bool]:
        """Return a connection, and whether it is a new one."""
        try:
            return self._idle.get_nowait(), False
        except queue.Empty:
            return self._address.connect(), True

    def _give_back(self, connection: Connection) -> None:
        self._idle.put(connection)
        if self._closed:
            self.close()


class PostgresSnapshot:
    """A `Snapshot`: a connection inside a transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def glance(self, channel_id: ChannelId, user_id: UserId) -> ChannelGlance | None:
        """See `Snapshot.glance`."""
        found = self._fetch(sql.SELECT_GLANCE, rows.texts([channel_id]), rows.texts([user_id]))
        if not found:
            return None
        key, owner_id, private, last_seq, role = found[0]
        return ChannelGlance(key, channel_id, owner_id, private, last_seq, role is not None, role == "moderator")

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
        return bool(self._fetch(sql.HISTORY_HAS_BEFORE, channel.channel_key, seq))

    def ranges(self, ranges: Sequence[Range], limit: int) -> list[MessageRow]:
        """See `Snapshot.ranges`."""
        messages: list[MessageRow] = []
        for start in range(0, len(ranges), RANGES_AT_ONCE):
            some = enumerate(ranges[start : start + RANGES_AT_ONCE])
            wanted = [(place, each.channel_id, each.after, each.before) for place, each in some]
            left = limit - len(messages)
            found = self._fetch(sql.SELECT_RANGES, *rows.columns(wanted), left, left)
            messages += [rows.message(values[1:], values[0]) for values in found]
            if len(messages) >= limit:
                break
        return messages

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Snapshot.announcements`."""
        found = self._fetch(sql.SELECT_ANNOUNCEMENTS, since_ms, now_ms, limit)
        return tuple([rows.announcement(values) for values in reversed(found)])

    def _fetch(self, statement: str, *parameters: object) -> list[Row]:
        return self._connection.run([(statement, parameters)])[0]

"""Owns the store that group commit is measured against: each message in a transaction of its own, in a thread.

It must not be used for anything else: it stores what livechat stores of a message (the counters of the channel,
the message, the author's read position, the nonce), on the same tables, and checks nothing.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Final

import trio

from livechat.store.operations import CreateMessage

_STATEMENTS: Final = (
    "UPDATE channel SET last_seq = last_seq + 1, last_ordinal = last_ordinal + 1 WHERE channel_id = ?"
    " RETURNING channel_key, last_seq, last_ordinal",
    "INSERT INTO message"
    " (channel_key, seq, message_id, author_id, message_type, content, nonce, timestamp, ordinal)"
    " VALUES (?, ?, ?, ?, 'TEXT', ?, ?, ?, ?)",
    "UPDATE member SET read_seq = ?, read_ordinal = ?, mention_count = 0 WHERE channel_key = ? AND user_id = ?",
    "INSERT INTO nonce (author_id, channel_id, nonce, body_digest, message_id, seq, timestamp)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)",
)


class OneByOne:
    """Sends messages over connections of their own.

    Args:
        connect: opens one (DBAPI); no transaction must be begun by itself.
        connections: how many transactions may run at a time.
        mark: the placeholder of the driver, `?` or `%s`.
    """

    def __init__(self, connect: Callable[[], Any], connections: int, mark: str = "?") -> None:
        self._limiter = trio.CapacityLimiter(connections)
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(connections):
            self._idle.put(connect())
        self._statements = [statement.replace("?", mark) for statement in _STATEMENTS]

    async def send(self, message: CreateMessage) -> None:
        """Store a message; return after the commit."""
        await trio.to_thread.run_sync(self._store, message, limiter=self._limiter)

    def close(self) -> None:
        """Close the connections."""
        while not self._idle.empty():
            self._idle.get().close()

    def _store(self, message: CreateMessage) -> None:
        connection = self._idle.get()
        cursor = connection.cursor()
        count, insert, read, keep = self._statements
        cursor.execute("BEGIN")
        cursor.execute(count, (message.channel_id,))
        key, seq, ordinal = cursor.fetchone()
        values = (key, seq, message.message_id, message.author_id, message.content, message.nonce)
        cursor.execute(insert, (*values, message.now_ms, ordinal))
        cursor.execute(read, (seq, ordinal, key, message.author_id))
        nonce = (message.author_id, message.channel_id, message.nonce, message.body_digest.hex())
        cursor.execute(keep, (*nonce, message.message_id, seq, message.now_ms))
        cursor.execute("COMMIT")
        cursor.close()
        self._idle.put(connection)

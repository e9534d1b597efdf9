"""Owns one file on its way in: its name and type are checked, its bytes counted, hashed and written as they come.

It must not decide where the bytes go, nor who may send them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from typing import Final

import trio

from livechat.error import PayloadTooLarge, ProtocolError
from livechat.files.body import Body
from livechat.files.names import clean_name
from livechat.files.settings import FileSettings
from livechat.files.types import HEAD_BYTES, check_content, check_type

GATHER_BYTES: Final = 262_144
"""So much is gathered before it is hashed and written, each of which costs a thread's 50 µs."""


class Intake:
    """A file that is being taken in.

    Args:
        body: takes the pieces of the request's body.
        write: keeps bytes of the file.
        approve_name: raises `LiveError` for a name that is not to be.
        hashing: how many threads may hash at a time.
    """

    def __init__(
        self,
        settings: FileSettings,
        body: Body,
        write: Callable[[bytes], Awaitable[None]],
        approve_name: Callable[[str], None],
        hashing: trio.CapacityLimiter,
    ) -> None:
        self.name = ""
        """Once it is known, as it is to be shown."""
        self.size = 0
        """Bytes of the file that have come."""
        self.digest = sha256()
        """Of all of them, once `run` has returned."""
        self._settings = settings
        self._body = body
        self._write = write
        self._approve_name = approve_name
        self._hashing = hashing
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._has_written = False

    async def run(self, pieces: AsyncIterator[bytes]) -> None:
        """Take all pieces of the body.

        Raises:
            ProtocolError: the body is not what it must be, or of a type that is not taken.
            PayloadTooLarge: the file is larger than one may be.
            LiveError: what `write` and `approve_name` raise.
        """
        # Where the head of the request has told name and type, nothing of its body need be read to refuse them.
        self._approve()
        async for data in pieces:
            for piece in self._body.feed_untrusted(data):
                self._approve()
                self._gather(piece)
            if self._gathered_bytes >= GATHER_BYTES:
                await self._flush()
        self._body.end_untrusted()
        self._approve()
        if not self.size:
            raise ProtocolError("file: expected some bytes, got none")
        await self._flush()

    def _approve(self) -> None:
        """Check name and type, as soon as they are known."""
        if self.name or not self._body.has_begun:
            return
        check_type(self._body.mime, self._settings.types)
        name = clean_name(self._body.name or "")
        self._approve_name(name)
        self.name = name

    def _gather(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._settings.file_bytes:
            raise PayloadTooLarge(f"file: expected at most {self._settings.file_bytes} bytes")
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)

    async def _flush(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        if not self._has_written:
            # All of the file, or far more than the first bytes that tell.
            check_content(self._body.mime, data[:HEAD_BYTES])
            self._has_written = True
        if data:
            await trio.to_thread.run_sync(self.digest.update, data, limiter=self._hashing)
            await self._write(data)

"""Owns the port to where the bytes of files are kept; an embedder may fill it with an object store.

It must not know names, owners or channels: an id and bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from livechat.protocol.types import FileId

FindKnown = Callable[[Sequence[FileId]], Awaitable[set[FileId]]]
"""Returns those of the ids that a row is stored of."""


class BlobWriter(Protocol):
    """A blob that is being written."""

    async def write(self, data: bytes) -> None:
        """Append bytes; who has many small pieces gathers them first.

        Raises:
            OSError: they cannot be kept.
        """
        ...

    async def finish(self) -> None:
        """Make all that was written durable, and readable under the blob's id. Raises as `write`."""
        ...

    def keep(self) -> None:
        """Note that the blob's row is stored: it is to stay."""
        ...

    def doubt(self) -> None:
        """Note that nobody knows whether the row is stored: the next `BlobStore.sweep` is to find out."""
        ...


class BlobReader(Protocol):
    """A part of a blob that is being read."""

    async def read(self) -> bytes:
        """Return the next bytes, of a bounded number; empty at the end of the part.

        Raises:
            OSError: they cannot be read, or the blob is shorter than the part.
        """
        ...


class BlobStore(Protocol):
    """The port. Every call gets a deadline from its caller.

    What a block raises must leave the context as it is: a nursery around it would wrap it in a group.
    """

    def create(self, file_id: FileId) -> AbstractAsyncContextManager[BlobWriter]:
        """Begin a new blob. Leaving the block removes it, unless `keep` or `doubt` was called.

        Raises:
            OSError: it cannot be begun; from entering.
        """
        ...

    def open(self, file_id: FileId, start: int, stop: int) -> AbstractAsyncContextManager[BlobReader]:
        """Open the bytes from `start` up to, not including, `stop`; one removed meanwhile may be read to its end.

        Raises:
            FileNotFoundError: there is no such blob; from entering, as is any other OSError.
        """
        ...

    async def delete(self, file_id: FileId) -> None:
        """Remove a blob; nothing happens if it is gone already.

        Raises:
            OSError: it cannot be removed.
        """
        ...

    async def sweep(self, find_known: FindKnown) -> int:
        """Remove what a crash or a commit in doubt left behind: blobs without a row whose writer is gone.

        Returns:
            How many were removed.

        Raises:
            OSError, LiveError: it could not be found out; the rest is left for the next time.
        """
        ...

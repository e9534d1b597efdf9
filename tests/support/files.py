"""Files for tests: rows, pictures, a blob store that fails when it is told to."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

import livechat
from livechat.files.blobs import BlobReader, BlobWriter, FindKnown
from livechat.files.names import new_file_id
from livechat.protocol.types import ChannelId, FileId, UserId
from livechat.store.file_rows import FileRow
from tests.support.api import calling
from tests.support.client import CREATE, JOIN, Client, identified
from tests.support.server import make_config
from tests.support.store import NOW_MS

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0"
"""How a picture begins; nobody looks further."""
LATER_MS = NOW_MS + 1000


def file_row(
    channel_key: int,
    uploader_id: str = "ann",
    *,
    size: int = 10_000,
    channel_id: str = "lobby",
    expires_at: int | None = LATER_MS,
) -> FileRow:
    return FileRow(
        file_id=new_file_id(),
        channel_key=channel_key,
        channel_id=ChannelId(channel_id),
        uploader_id=UserId(uploader_id),
        name="사진.png",
        mime="image/png",
        bytes=size,
        sha256=sha256(b"").hexdigest(),
        created_at=NOW_MS,
        expires_at=expires_at,
    )


async def pieces(data: bytes, size: int = 65_536) -> AsyncGenerator[bytes]:
    """Yield a body as a client sends it."""
    for start in range(0, len(data), size):
        await trio.lowlevel.checkpoint()
        yield data[start : start + size]


def blobs_in(folder: Path) -> dict[str, bytes]:
    """Return all that lies in the folder of a blob store, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class MemoryBlobStore:
    """A `BlobStore` of an embedder: it keeps blobs in a dict, and fails or waits where a test says so."""

    def __init__(self) -> None:
        self.blobs: dict[FileId, bytes] = {}
        self.failing: set[str] = set()
        """Of create, write, finish, open, read, delete, sweep: what raises OSError."""
        self.hanging: set[str] = set()
        """Of the same: what never returns."""
        self.doubtful: list[FileId] = []
        self.swept = 0

    async def _check(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if call in self.hanging:
            await trio.sleep_forever()
        if call in self.failing:
            raise OSError(28, "No space left on device")

    @asynccontextmanager
    async def create(self, file_id: FileId) -> AsyncGenerator[BlobWriter]:
        await self._check("create")
        writer = _MemoryWriter(self, file_id)
        # An embedder's may hold a scope of its own, which must nest with those of the server.
        with trio.CancelScope():
            try:
                yield writer
            finally:
                if not writer.stays:
                    self.blobs.pop(file_id, None)

    @asynccontextmanager
    async def open(self, file_id: FileId, start: int, stop: int) -> AsyncGenerator[BlobReader]:
        await self._check("open")
        if file_id not in self.blobs:
            raise FileNotFoundError(2, "No such file or directory")
        yield _MemoryReader(self, self.blobs[file_id][start:stop])

    async def delete(self, file_id: FileId) -> None:
        await self._check("delete")
        self.blobs.pop(file_id, None)

    async def sweep(self, find_known: FindKnown) -> int:
        await self._check("sweep")
        self.swept += 1
        known = await find_known(self.doubtful) if self.doubtful else set()
        orphans = set(self.doubtful) - known
        for file_id in orphans:
            self.blobs.pop(file_id, None)
        self.doubtful.clear()
        return len(orphans)


class _MemoryWriter:
    def __init__(self, store: MemoryBlobStore, file_id: FileId) -> None:
        self._store = store
        self._file_id = file_id
        self._data = b""
        self.stays = False

    async def write(self, data: bytes) -> None:
        await self._store._check("write")
        self._data += data

    async def finish(self) -> None:
        await self._store._check("finish")
        self._store.blobs[self._file_id] = self._data

    def keep(self) -> None:
        self.stays = True

    def doubt(self) -> None:
        self.stays = True
        self._store.doubtful.append(self._file_id)


class _MemoryReader:
    def __init__(self, store: MemoryBlobStore, data: bytes) -> None:
        self._store = store
        self._parts: Iterable[bytes] = iter([data[start : start + 1000] for start in range(0, len(data), 1000)])

    async def read(self) -> bytes:
        await self._store._check("read")
        return next(iter(self._parts), b"")


@attrs.frozen
class FileRoom:
    """A server with Alice and Bob in its channel `x`, and Carol outside."""

    server: livechat.Server
    alice: Client
    bob: Client
    http: httpx.AsyncClient
    """Alice's."""
    bobs: httpx.AsyncClient
    carols: httpx.AsyncClient
    folder: Path
    """Of the blobs."""

    async def upload(
        self, data: bytes = b"hello", name: str = "a.txt", mime: str = "text/plain", channel_id: str = "x"
    ) -> dict[str, Any]:
        """Upload as Alice; return what the server says of the file."""
        response = await self.http.post(
            "/files", params={"channel_id": channel_id, "name": name}, content=data, headers={"content-type": mime}
        )
        assert response.status_code == 201, response.text
        told: dict[str, Any] = response.json()
        return told

    async def attach(self, url: str, client: Client | None = None, **fields: Any) -> Any:
        """Send a message with a file, as Alice; return its ACK's data."""
        return await (client or self.alice).say("x", "", message_type="FILE", attachment=claimed(url), **fields)


def claimed(url: str) -> dict[str, Any]:
    """An attachment of which nothing but the URL is true."""
    return {"url": url, "name": "claimed.exe", "bytes": 1, "mime": "text/html"}


def path_of(told: dict[str, Any]) -> str:
    """Return what a client of the API asks for to get a file."""
    url: str = told["url"]
    return url.removeprefix("/api/v1")


@asynccontextmanager
async def file_room(
    data_dir: Path,
    *,
    tls: ssl.SSLContext | None = None,
    open_with: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> AsyncGenerator[FileRoom]:
    """Run a server and what is in a `FileRoom`."""
    config = make_config(data_dir, **overrides)
    with trio.fail_after(120):
        async with (
            livechat.open_server(config, **(open_with or {})) as server,
            identified(server, "alice", tls=tls) as alice,
            identified(server, "bob", tls=tls) as bob,
            calling(server, "alice", tls=tls) as http,
            calling(server, "bob", tls=tls) as bobs,
            calling(server, "carol", tls=tls) as carols,
        ):
            await alice.ack(CREATE, {"channel_id": "x"})
            await alice.ack(JOIN, {"channel_id": "x"})
            await bob.ack(JOIN, {"channel_id": "x"})
            await alice.receive()
            yield FileRoom(server, alice, bob, http, bobs, carols, data_dir / "files")

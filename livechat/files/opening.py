"""Owns where a server keeps its files: in the blob store of its embedder, or in a folder.

It must not know what is kept there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from livechat.files.blobs import BlobStore
from livechat.files.disk import DiskBlobStore
from livechat.files.service import FileService
from livechat.files.settings import FileSettings
from livechat.store.base import Store
from livechat.store.location import MemoryLocation, locate


@contextmanager
def open_files(
    settings: FileSettings, store: Store, store_url: str | None, data_dir: Path, blobs: BlobStore | None = None
) -> Iterator[FileService]:
    """Open the files of a server.

    Args:
        store: where their rows are.
        store_url: the setting that says where that is. If it is in memory, the bytes go with the block as well.
        blobs: where the bytes are; in `data_dir`, if left out.

    Raises:
        ConfigError: the folder cannot be used.
    """
    with ExitStack() as stack:
        if blobs is None:
            folder = data_dir / "files"
            if isinstance(locate(store_url, data_dir), MemoryLocation):
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="livechat-files-")))
            blobs = DiskBlobStore(folder)
        yield FileService(store, blobs, settings, _now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

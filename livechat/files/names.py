"""Owns the names and ids of files: what a client's file name becomes, what an id looks like. Pure but for new ids.

It must not touch a disk. A file's name is only told to people: where its bytes lie, its id alone says.
"""

from __future__ import annotations

import re
import secrets
from typing import Final
from unicodedata import category, normalize

from livechat.protocol.types import FileId

NAME_CHARS_MAX: Final = 255
"""Code points of a name: what an attachment's may have."""
NAME_BYTES_MAX: Final = 255
"""Bytes of a name in UTF-8: what most file systems take, so that it can be saved under it."""
FALLBACK_NAME: Final = "file"
FILE_ID: Final = re.compile(r"file_[0-9a-f]{40}")
FILES_PATH: Final = "/api/v1/files"
_EXTENSION: Final = re.compile(r"\.[^.\s]{1,16}$")
_HIDDEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Categories of characters that do not show or that turn the others round (`gpj.exe` for `exe.jpg`)."""
_JOINERS: Final = "\u200c\u200d"
"""They do not show either, but Persian and families of emoji are written with them."""


def new_file_id() -> FileId:
    """Return an unguessable id (`file_` and 160 random bits in hex)."""
    return FileId("file_" + secrets.token_hex(20))


def file_url(file_id: FileId) -> str:
    """Return where a file is, relative to the server."""
    return f"{FILES_PATH}/{file_id}"


def clean_name(raw: str) -> str:
    """Return a file name without folders, control characters and whatever else deceives; never empty.

    Some clients send whole paths, of whatever system. What is too long loses its middle: the end says what it is.
    """
    name = re.split(r"[/\\]", normalize("NFC", raw))[-1]
    name = "".join(char for char in name if char in _JOINERS or category(char) not in _HIDDEN)
    # Windows can't keep a dot or space at the end, and a dot at the start hides the file elsewhere.
    name = " ".join(name.split()).strip(". ")
    return _shorten(name) or FALLBACK_NAME


def _shorten(name: str) -> str:
    extension = _EXTENSION.search(name)
    end = extension[0] if extension is not None else ""
    stem = name[: len(name) - len(end)][: NAME_CHARS_MAX - len(end)]
    room = NAME_BYTES_MAX - len(end.encode())
    return stem.encode()[:room].decode("utf-8", "ignore").rstrip() + end

"""Owns how the bytes of a file go out: opened before the head is sent, read as the client takes them.

It must not decide who may have them.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from livechat.error import LiveError
from livechat.files.disposition import serialize_disposition
from livechat.files.ranges import Selection, Verdict
from livechat.files.service import FileService
from livechat.files.types import is_inline
from livechat.http import problems
from livechat.store.file_rows import FileRow

POLICY: Final = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "sandbox"
)
"""For who opens a file by itself: it can show, and neither run nor load anything else."""


def etag_of(row: FileRow) -> str:
    """Return a file's entity tag: bytes that differ differ in it."""
    return f'"{row.sha256}"'


def headers_of(row: FileRow) -> dict[str, str]:
    """Return what every answer about a file says of it."""
    return {
        "etag": etag_of(row),
        "accept-ranges": "bytes",
        # It never changes, but who may have it does.
        "cache-control": "private, no-cache",
    }


class FileResponse(Response):
    """A file, or a part of it."""

    def __init__(self, files: FileService, row: FileRow, selection: Selection) -> None:
        headers = {
            **headers_of(row),
            "content-type": row.mime,
            "content-length": str(selection.stop - selection.start),
            "content-disposition": serialize_disposition(row.name, inline=is_inline(row.mime)),
            "content-security-policy": POLICY,
            "x-content-type-options": "nosniff",
        }
        if selection.verdict is Verdict.PART:
            headers["content-range"] = f"bytes {selection.start}-{selection.stop - 1}/{row.bytes}"
        super().__init__(None, selection.verdict.value, headers)
        self._files = files
        self._row = row
        self._selection = selection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. What fails after the head was sent ends the connection, as HTTP has no other way to say so."""
        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        has_begun = False
        try:
            async with self._files.open(self._row, self._selection.start, self._selection.stop) as read:
                data = await read()
                has_begun = True
                await send(
                    {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                while data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    data = await read()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except LiveError as refusal:
            if has_begun:
                raise
            await problems.respond(refusal)(scope, receive, send)

"""Serves the description of the gateway's packets, for those who write clients or generate them."""

from __future__ import annotations

import json
from functools import cache
from hashlib import blake2b
from typing import Final

import trio
from starlette.responses import Response

from livechat.http.endpoint import API, Call, Endpoint
from livechat.http.pipeline import matches
from livechat.protocol.asyncapi import document

PATH: Final = f"{API}/protocol.json"
MAX_AGE_S: Final = 300
"""How long a copy may be used without asking. It changes with the version of the server only."""


@cache
def _document() -> tuple[bytes, str]:
    """Return the document and its ETag; made once."""
    body = json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{blake2b(body, digest_size=12).hexdigest()}"'


async def describe(call: Call) -> Response:
    """Return the document, or 304 to whoever has it."""
    if not _document.cache_info().currsize:
        # In a thread: it reads the docstrings from the sources.
        await trio.to_thread.run_sync(_document)
    body, tag = _document()
    headers = {"etag": tag, "cache-control": f"public, max-age={MAX_AGE_S}"}
    if matches(call.request.headers, tag):
        return Response(None, 304, headers)
    return Response(body, 200, headers, "application/json")


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        PATH,
        describe,
        "protocol",
        "Describe the packets of the gateway",
        "public",
        produces={200: "application/json"},
        etag=True,
        description="An AsyncAPI 3.0 document: every packet as JSON Schema, error codes and close codes.",
    ),
)

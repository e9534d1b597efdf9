"""Serves the description of the API itself: for programs as OpenAPI, for people as a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Final

import attrs
import trio
from starlette.responses import Response

from livechat.http import openapi, reference
from livechat.http.endpoint import API, Call, Endpoint
from livechat.http.pipeline import JSON, matches

MAX_AGE_S: Final = 300
"""How long a copy may be used without asking. It changes with the version of the server only."""


@attrs.frozen
class _Text:
    """What is sent, made once."""

    body: bytes
    media_type: str
    headers: dict[str, str]


class Description:
    """The description of some endpoints, and of the two that serve it."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints: Final = (
            Endpoint(
                "GET",
                f"{API}/openapi.json",
                self._send_document,
                "reference",
                "Describe the API for programs",
                "public",
                produces={200: JSON},
                etag=True,
                description="An OpenAPI 3.1 document, made from the classes that validate.",
            ),
            Endpoint(
                "GET",
                f"{API}/docs",
                self._send_page,
                "reference",
                "Describe the API for people",
                "public",
                produces={200: "text/html"},
                etag=True,
                description="This page.",
            ),
        )
        self._all = (*endpoints, *self.endpoints)
        self._made: dict[str, _Text] = {}
        self._making = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)

    async def _send_document(self, call: Call) -> Response:
        return await self._send(call, "document", self._make_document)

    async def _send_page(self, call: Call) -> Response:
        return await self._send(call, "page", self._make_page)

    async def _send(self, call: Call, name: str, make: Callable[[], _Text]) -> Response:
        async with self._making:
            if name not in self._made:
                # In a thread: it reads the docstrings from the sources.
                self._made[name] = await trio.to_thread.run_sync(make, limiter=self._limiter)
        text = self._made[name]
        if matches(call.request.headers, text.headers["etag"]):
            return Response(None, 304, text.headers)
        return Response(text.body, 200, text.headers, text.media_type)

    def _make_document(self) -> _Text:
        document = openapi.document(self._all)
        return _text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), JSON, {})

    def _make_page(self) -> _Text:
        policy = {"content-security-policy": reference.CONTENT_SECURITY_POLICY}
        return _text(reference.page(openapi.document(self._all)), "text/html", policy)


def _text(text: str, media_type: str, headers: dict[str, str]) -> _Text:
    body = text.encode()
    tag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    return _Text(body, media_type, {"etag": tag, "cache-control": f"public, max-age={MAX_AGE_S}", **headers})

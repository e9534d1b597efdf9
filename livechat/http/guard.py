"""Owns what browsers are told with every response: which pages may read it (CORS), and what else to keep from it.

It must not answer but to a preflight; it stands between the host and the application. A page may always send what
a form could; what CORS decides is who may read the answer, and send tokens and JSON at all.

    origin is listed in      may read      with the cookie
    gateway.allowed_origins  yes           yes
    http.cors_origins        yes           no
    neither                  no            no

Source: WHATWG Fetch, section 3.3 (CORS protocol); RFC 6454 (origins).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from livechat.gateway.head import ANY_ORIGIN
from livechat.http.host import Application, Message

METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS: Final = (
    "authorization, content-type, idempotency-key, if-match, if-none-match, if-range, last-event-id, range, "
    "traceparent, tracestate, x-user-id"
)
EXPOSED_HEADERS: Final = (
    "accept-ranges, content-disposition, content-range, etag, location, retry-after, www-authenticate"
)
PREFLIGHT_S: Final = 600
"""How long a browser may remember what a preflight said."""
DEFAULTS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
"""Of every response that does not say otherwise itself: JSON is not to be shown, framed, kept or guessed at."""

_Headers = list[tuple[bytes, bytes]]


class Guard:
    """The application, and what browsers are told of its responses.

    Args:
        with_cookies: origins whose pages may use the cookie.
        without: origins whose pages may only bring a token of their own; `*`: all.
    """

    def __init__(self, application: Application, with_cookies: tuple[str, ...], without: tuple[str, ...]) -> None:
        self._application = application
        self._with_cookies = frozenset(with_cookies)
        self._without = frozenset(without)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request; see ASGI."""
        asked = dict(scope["headers"])
        shared = list(self._sharing(asked.get(b"origin", b"").decode("latin-1")))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _completed(list(message.get("headers", ())), shared)}
            await send(message)

        if scope["method"] == "OPTIONS" and b"origin" in asked and b"access-control-request-method" in asked:
            await guarded({"type": "http.response.start", "status": 204, "headers": _preflight(bool(shared))})
            await guarded({"type": "http.response.body"})
        else:
            await self._application(scope, receive, guarded)

    def _sharing(self, origin: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield the headers that let pages of an origin read a response; none, if they may not."""
        if origin in self._with_cookies:
            yield b"access-control-allow-credentials", b"true"
        elif not origin or self._without.isdisjoint({origin, ANY_ORIGIN}):
            return
        # Named, never `*`: what is for one origin's cookie is not for all.
        yield b"access-control-allow-origin", origin.encode("latin-1")
        yield b"access-control-expose-headers", EXPOSED_HEADERS.encode()


def _preflight(is_allowed: bool) -> _Headers:
    """Return what a preflight is told; a page that may not read anything is told nothing."""
    if not is_allowed:
        return []
    return [
        (b"access-control-allow-methods", METHODS.encode()),
        (b"access-control-allow-headers", REQUEST_HEADERS.encode()),
        (b"access-control-max-age", str(PREFLIGHT_S).encode()),
    ]


def _completed(headers: _Headers, shared: _Headers) -> _Headers:
    present = {name.lower() for name, _ in headers}
    headers += [(name, value) for name, value in DEFAULTS if name not in present]
    # Also to who sent none: a cache must not hand on what one origin was told to another.
    headers.append((b"vary", b"Origin"))
    return headers + shared

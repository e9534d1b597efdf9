"""Owns what is served over HTTP: whether the server is alive, and announcing.

It must not know sockets; any ASGI host can run it. Errors are problem details (RFC 9457) with the protocol's code.
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from livechat.error import (
    BackendUnavailable,
    Forbidden,
    InvalidToken,
    LiveError,
    NotAuthenticated,
    NotPersisted,
    Overloaded,
    ProtocolError,
    ShuttingDown,
)
from livechat.handlers.announce import announce
from livechat.handlers.auth import ADMIN_SCOPE, UserIdMissing, authenticate
from livechat.handlers.node import Node
from livechat.protocol.codec import unstructure
from livechat.version import __version__

STATUSES: Final[dict[type[LiveError], int]] = {
    NotAuthenticated: 401,
    InvalidToken: 401,
    UserIdMissing: 401,
    Forbidden: 403,
    ProtocolError: 422,
    NotPersisted: 503,
    Overloaded: 503,
    ShuttingDown: 503,
    BackendUnavailable: 503,
}
"""Every error that an endpoint here can end with."""


def create_app(node: Node) -> Starlette:
    """Build the application of one server."""

    async def healthz(_request: Request) -> Response:
        """Liveness: the event loop answers. Says nothing of the store."""
        return JSONResponse({"status": "ok", "node_id": node.node_id, "server": f"livechat/{__version__}"})

    async def websocket_only(_request: Request) -> Response:
        return PlainTextResponse(
            "this is a WebSocket endpoint\n", status_code=426, headers={"upgrade": "websocket"}
        )

    async def create_announcement(request: Request) -> Response:
        """Tell everybody; see `Server.announce`. Takes the `admin` scope, or the shared secret."""
        try:
            await _check_admin(node, request)
            created = await announce(node, **_announcement_untrusted(await request.body()))
        except LiveError as refusal:
            return _problem(refusal)
        return JSONResponse(unstructure(created), status_code=201)

    return Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),
            Route("/ws", websocket_only, methods=["GET"]),
            Route("/api/v1/announcements", create_announcement, methods=["POST"]),
        ]
    )


async def _check_admin(node: Node, request: Request) -> None:
    """Raise what refuses a request whose token does not allow everything.

    Who knows the shared secret may be anybody, so also the one who may do all; it does not say who its holder is.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("authorization: expected a bearer token")
    try:
        identity = await authenticate(node.authenticator, token.strip(), None, node.now_ms)
    except UserIdMissing:
        return
    if ADMIN_SCOPE not in identity.scopes:
        raise Forbidden("announcing takes the admin scope")


_TEXTS: Final = ("title", "body", "url", "image_url", "severity")


def _announcement_untrusted(body: bytes) -> dict[str, Any]:
    """Return the arguments of `announce`.

    Raises:
        ProtocolError: it is no JSON object of the right fields.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ProtocolError("body: expected JSON") from None
    if not isinstance(document, dict):
        raise ProtocolError("body: expected an object")
    given = {name: value for name, value in document.items() if value is not None}
    for name in _TEXTS:
        if name in given and not isinstance(given[name], str):
            raise ProtocolError(f"{name}: expected a string")
    if "title" not in given:
        raise ProtocolError("title: required")
    if type(given.get("expires_at", 0)) is not int:
        raise ProtocolError("expires_at: expected an integer")
    return {
        "title": given["title"],
        "body": given.get("body", ""),
        "url": given.get("url"),
        "image_url": given.get("image_url"),
        "severity": given.get("severity", "info"),
        "expires_at": given.get("expires_at"),
    }


def _problem(refusal: LiveError) -> Response:
    status = STATUSES.get(type(refusal), 500)
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(
        {"type": "about:blank", "title": refusal.reason, "status": status, "code": refusal.code},
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )

"""Owns what is served over HTTP: for now, whether the server is alive.

It must not know sockets; any ASGI host can run it.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from livechat.version import __version__


def create_app(node_id: str) -> Starlette:
    """Build the application of one server."""

    async def healthz(_request: Request) -> Response:
        """Liveness: the event loop answers. Says nothing of the store."""
        return JSONResponse({"status": "ok", "node_id": node_id, "server": f"livechat/{__version__}"})

    async def websocket_only(_request: Request) -> Response:
        return PlainTextResponse(
            "this is a WebSocket endpoint\n", status_code=426, headers={"upgrade": "websocket"}
        )

    return Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),
            Route("/ws", websocket_only, methods=["GET"]),
        ]
    )

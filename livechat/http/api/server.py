"""Serves whether the server is alive, and says what is not HTTP here."""

from __future__ import annotations

from typing import Final, Literal

import attrs
from starlette.responses import Response

from livechat.http import problems
from livechat.http.endpoint import Answer, Call, Endpoint
from livechat.version import __version__


@attrs.frozen
class Health:
    """A sign of life."""

    status: Literal["ok"]
    node_id: str
    """The server's name among others."""
    server: str
    """`livechat/` and its version."""


async def healthz(call: Call) -> Answer:
    """Say that the event loop answers."""
    return Answer(Health("ok", call.node.node_id, f"livechat/{__version__}"))


async def websocket_only(_call: Call) -> Response:
    """Refuse what does not ask for an upgrade; the gateway takes what does."""
    refusal = problems.UpgradeRequired("upgrade: expected websocket")
    return problems.respond(refusal, {"upgrade": "websocket", "connection": "upgrade"})


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint(
        "GET",
        "/healthz",
        healthz,
        "server",
        "Tell whether the server is alive",
        "public",
        answers={200: Health},
        description="Liveness: the event loop answers. It says nothing of the store.",
    ),
    Endpoint(
        "GET",
        "/ws",
        websocket_only,
        "server",
        "Open a WebSocket",
        "public",
        answers={101: None},
        errors=(problems.UpgradeRequired,),
        description="The gateway; its packets are described at `/api/v1/protocol.json`.",
    ),
)

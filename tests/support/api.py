"""A real HTTP client (httpx) of a real server's API, plain or over TLS."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx

import livechat
from tests.support.server import DEADLINE_S, SECRET

API = "/api/v1"
PROBLEM = "application/problem+json"


def origin_of(server: livechat.Server) -> str:
    """Return where the server is, as a browser would name it."""
    return server.url.replace("ws", "http", 1).removesuffix("/ws")


@asynccontextmanager
async def calling(
    server: livechat.Server,
    user_id: str | None = "alice",
    *,
    token: str | None = SECRET,
    tls: ssl.SSLContext | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncGenerator[httpx.AsyncClient]:
    """Yield a client that calls as a user; its paths begin after `/api/v1`.

    Args:
        user_id: sent as X-User-Id; None: not sent.
        token: sent as bearer token; None: not sent.
        tls: whom to trust, for a server with TLS.
    """
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if user_id is not None:
        sent["X-User-Id"] = user_id
    async with httpx.AsyncClient(
        base_url=origin_of(server) + API, headers=sent, timeout=DEADLINE_S, verify=tls or False, trust_env=False
    ) as client:
        yield client


def is_problem(response: httpx.Response, status: int, code: int, detail: str = "") -> bool:
    """Assert that a response is the problem that it should be; it returns True so that it can be asserted."""
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["code"]) == (status, code), told
    assert response.headers["content-type"] == PROBLEM
    assert told["status"] == status
    assert told["title"]
    assert told["type"] == f"/api/v1/docs#problem-{code}"
    assert told["detail"].startswith(detail), told
    return True

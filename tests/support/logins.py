"""Owns logins over HTTP for the tests: a server with accounts, a client at it, and what it asks for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx

import livechat
from tests.integration.test_tls import authority as authority
from tests.support.accounts import PASSWORD, QUICK
from tests.support.api import calling
from tests.support.server import running_server

ORIGIN = "https://chat.example"
PROXIED = {"gateway": {"trusted_proxies": ("127.0.0.1",), "allowed_origins": (ORIGIN,)}}
"""Who asks is who a proxy says, so limits by address can be seen on loopback."""


@asynccontextmanager
async def serving(
    data_dir: Path, settings: dict[str, Any] | None = None, **overrides: Any
) -> AsyncGenerator[livechat.Server]:
    accounts = attrs.evolve(QUICK, **(settings or {}))
    overrides.setdefault("gateway", {"allowed_origins": (ORIGIN,)})
    async with running_server(data_dir, accounts=accounts, **overrides) as server:
        yield server


@asynccontextmanager
async def at(server: livechat.Server, **headers: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client without any credentials."""
    async with calling(server, None, token=None, headers=headers) as client:
        yield client


async def register(client: httpx.AsyncClient, user_id: str = "ann", **fields: Any) -> dict[str, Any]:
    response = await client.post("/auth/register", json={"user_id": user_id, "password": PASSWORD, **fields})
    assert response.status_code == 201, response.text
    return dict(response.json())


async def log_in(client: httpx.AsyncClient, user_id: str = "ann", **fields: Any) -> dict[str, Any]:
    response = await client.post("/auth/login", json={"user_id": user_id, "password": PASSWORD, **fields})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def refresh(client: httpx.AsyncClient, tokens: dict[str, Any]) -> httpx.Response:
    return await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})


def bearer(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}

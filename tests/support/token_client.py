"""Coming in with a signed token, and what is refused."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from websockets.exceptions import InvalidStatus

import livechat
from tests.support.client import NOTIFICATION, READY, Client, connected
from tests.support.server import wait_until


def auth(mode: Any = "jwt", **settings: Any) -> livechat.AuthSettings:
    """Settings; by default only signed tokens are taken."""
    return livechat.AuthSettings(mode=mode, **settings)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def next_millisecond() -> int:
    """Wait for the clock to go on; return its time then."""
    before = now_ms()
    await wait_until(lambda: now_ms() > before)
    return now_ms()


async def entered(client: Client) -> Any:
    """The payload of the READY that follows HELLO by itself."""
    return await client.expect(READY)


async def refused_with(server: livechat.Server, **options: Any) -> int:
    """The HTTP status of an upgrade that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with connected(server, **options):
            pass
    return caught.value.response.status_code


async def warning(client: Client) -> Any:
    """The payload of the next packet, which tells that the token ends soon."""
    notification = await client.expect(NOTIFICATION)
    assert notification["kind"] == "token_expiring"
    return notification


@asynccontextmanager
async def sessions_of(server: livechat.Server, *tokens: str) -> AsyncGenerator[list[Client]]:
    """A session for each token, one after the other."""
    async with trio.open_nursery() as nursery:
        clients: list[Client] = []
        leave, done = trio.Event(), trio.Semaphore(0)

        async def hold(token: str) -> None:
            async with connected(server, query=f"?token={token}") as client:
                client.ready = await entered(client)
                clients.append(client)
                done.release()
                await leave.wait()

        for token in tokens:
            nursery.start_soon(hold, token)
            await done.acquire()
        yield clients
        leave.set()

"""What clients of a push-to-talk channel say and are told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import livechat
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    FLOOR_GRANTED,
    FLOOR_IDLE,
    FLOOR_QUEUE_POS_INFO,
    FLOOR_REQUEST,
    FLOOR_REVOKE,
    FLOOR_TAKEN,
    JOIN,
    Client,
    identified,
)
from tests.support.server import running_server

OPS = {"channel_id": "ops"}
"""The channel."""


async def ask(client: Client, **fields: Any) -> None:
    """Send a FLOOR_REQUEST without an id, as Mini LiveChat's clients do."""
    await client.send(FLOOR_REQUEST, {**OPS, **fields})


async def granted(client: Client) -> None:
    """Have a client be granted the floor, without asking."""
    told = await client.expect(FLOOR_GRANTED)
    assert told == {**OPS, "user_id": told["user_id"], "duration": 30_000}


async def taken(user_id: str, *clients: Client, indicator: str = "normal") -> None:
    """Have clients be told who talks."""
    for client in clients:
        assert await client.expect(FLOOR_TAKEN) == {**OPS, "user_id": user_id, "indicator": indicator}


async def idle(*clients: Client) -> None:
    """Have clients be told that nobody talks."""
    for client in clients:
        assert await client.expect(FLOOR_IDLE) == OPS


async def at_place(client: Client, position: int, size: int) -> None:
    """Have a client be told where it waits."""
    assert await client.expect(FLOOR_QUEUE_POS_INFO) == {**OPS, "queue_position": position, "queue_size": size}


async def revoked(client: Client, cause: str) -> None:
    """Have a client be told that it has the floor no more."""
    assert await client.expect(FLOOR_REVOKE) == {**OPS, "cause": cause}


@asynccontextmanager
async def talking(
    data_dir: Path, *users: str, **options: Any
) -> AsyncGenerator[tuple[livechat.Server, list[Client]]]:
    """A server, and users in a push-to-talk channel that the first of them owns."""
    async with running_server(data_dir, **options) as server, AsyncExitStack() as stack:
        clients: list[Client] = []
        for user in users:
            client = await stack.enter_async_context(identified(server, user))
            if not clients:
                await client.ack(CREATE, {**OPS, "freq": 145.5, "durable": True})
            await client.ack(JOIN, OPS)
            for other in clients:
                await other.expect(CHANNEL_EVENT)
            clients.append(client)
        yield server, clients

"""A client and the gateway's end of its connection, for tests of what lies between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from livechat.client.client import Client, open_client
from livechat.client.settings import ClientSettings
from tests.support.fake_gateway import DEADLINE_S, FakeConnection, FakeGateway, channel, fake_gateway, ready

URL = "ws://gateway.test/ws"
Script = Callable[[FakeGateway], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncGenerator[FakeGateway]:
    """A gateway that does what the script says, once, while the block runs."""
    async with fake_gateway() as gateway, trio.open_nursery() as nursery:
        nursery.start_soon(script, gateway)
        yield gateway
        nursery.cancel_scope.cancel()


@attrs.frozen
class Pair:
    """A client that is online, and the gateway's end of its connection."""

    client: Client
    server: FakeConnection
    gateway: FakeGateway


@asynccontextmanager
async def online(
    *channels: dict[str, Any], settings: ClientSettings | None = None, **options: Any
) -> AsyncGenerator[Pair]:
    """A client in `den`, or in these channels."""
    servers: list[FakeConnection] = []

    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready(*(channels or (channel("den", 5),))))
        servers.append(server)

    async with (
        scripted(script) as gateway,
        open_client(URL, "token", settings=settings, dial=gateway.dial, **options) as client,
    ):
        yield Pair(client, servers[0], gateway)


async def next_of(events: Any, kind: type[Any], **facts: Any) -> Any:
    """Return the next event of a kind."""
    with trio.fail_after(DEADLINE_S):
        async for event in events:
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in facts.items()):
                return event
    raise AssertionError("the events have ended")

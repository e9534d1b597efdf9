"""What a connection keeps while nothing happens, and that nothing of it is left once it is over."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

import livechat
from tests.support.raw import CLOSE, RawClient, close_payload, masked, raw_connected
from tests.support.server import SECRET, running_server, wait_until

CLIENTS = 20
TASKS_MAX = 1
"""Of a connection that does nothing; who writes what did not go at once ends after it."""
TRACKED_MAX = 78
"""Objects of one connection that the garbage collector walks, with those of its client here."""
OURS = {
    "Connection",
    "Conversation",
    "EgressQueue",
    "Ingress",
    "GatewayStream",
    "UpgradeStream",
    "Opening",
    "Session",
}
THEIRS = {"WebSocketConnection", "WSConnection", "Task", "Nursery"}
THEIRS_FOR_FRAMES = {"WebSocketConnection", "WSConnection", "GatewayStream", "UpgradeStream"}
"""What only a client needs that has sent more than whole messages and pings."""
OF_TRIO = {"CancelScope", "tuple"}
"""Of each deadline that was met Trio keeps one for a while; most are our client's here."""
PING, PONG, TEXT = 0x89, 0x8A, 0x81


def held() -> Counter[str]:
    """Count what the garbage collector knows, by the name of its type."""
    return Counter(type(thing).__name__ for thing in gc.get_objects())


async def identified(stack: AsyncExitStack, server: livechat.Server, number: int) -> RawClient:
    client = await stack.enter_async_context(raw_connected(server, f"?user_id=user{number}&token={SECRET}"))
    await client.frame()
    ready = await client.frame()
    assert ready is not None
    assert b"sess_" in ready[1]
    return client


async def test_a_connection_that_does_nothing_is_few_objects_and_hardly_a_task(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, AsyncExitStack() as stack:
        await identified(stack, server, 0)
        await trio.testing.wait_all_tasks_blocked(0.01)
        gc.collect()
        before, deadlines = held(), len(server._node.deadlines)
        for number in range(1, CLIENTS + 1):
            client = await identified(stack, server, number)
            # What clients keep alive by.
            await client.send(masked(PING, b"there?") + masked(TEXT, b'{"op":1,"d":null}'))
            assert await client.frame() == (PONG, b"there?")
            assert await client.frame() == (TEXT, b'{"op":2,"d":null}')
        await trio.testing.wait_all_tasks_blocked(0.01)
        gc.collect()
        each = {name: count / CLIENTS for name, count in (held() - before).items()}
        assert each["Task"] <= TASKS_MAX
        assert {"RequestHead", "Opening", "Ping"}.isdisjoint(each)
        assert THEIRS_FOR_FRAMES.isdisjoint(each)
        assert sum(each[name] for name in each.keys() - OF_TRIO) <= TRACKED_MAX
        assert len(server._node.deadlines) == deadlines + CLIENTS


async def test_nothing_of_a_connection_is_left_once_it_has_ended(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        before: Counter[str] = Counter()
        deadlines = 0
        for turn in range(3):
            async with AsyncExitStack() as stack:
                for number in range(CLIENTS):
                    client = await identified(stack, server, number)
                    await client.send(masked(CLOSE, close_payload(1000)))
                    assert await client.closed() == 1000
            await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)
            await trio.testing.wait_all_tasks_blocked(0.01)
            gc.collect()
            if turn:
                grown = held() - before
                assert {name: grown[name] for name in OURS | THEIRS if grown[name]} == {}
                assert len(server._node.deadlines) == deadlines
            before, deadlines = held(), len(server._node.deadlines)


@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_what_a_connection_held_is_freed_at_its_end_without_the_garbage_collector(
    tmp_path: Path, says_goodbye: bool
) -> None:
    async with running_server(tmp_path) as server, AsyncExitStack() as stack:
        clients = [await identified(stack, server, number) for number in range(CLIENTS)]
        alive = [weakref.ref(connection) for connection in server._front.connections]
        assert len(alive) == CLIENTS
        gc.disable()
        stack.callback(gc.enable)
        for client in clients:
            if says_goodbye:
                await client.send(masked(CLOSE, close_payload(1000)))
                assert await client.closed() == 1000
            else:
                client.reset()
        await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)
        # The store keeps the last thing that it was asked until it is asked another.
        await identified(stack, server, CLIENTS)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert [connection for each in alive if (connection := each()) is not None] == []

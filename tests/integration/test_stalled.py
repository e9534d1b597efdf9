"""Clients that do not read, among others that do: each ends as it must, and nothing is left of it."""

from __future__ import annotations

import json
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from tests.support.client import CREATE, JOIN, MESSAGE_EVENT, Client, identified
from tests.support.raw import TEXT, RawClient, masked, raw_connected
from tests.support.server import SECRET, counted, running_server, wait_until

STALLED = 5
CONTENT = "x" * 2000


async def join(victim: RawClient, channel_id: str) -> None:
    packet = {"op": JOIN, "d": {"channel_id": channel_id}}
    await victim.send(masked(TEXT, json.dumps(packet).encode()))


async def heard(hearer: Client) -> int:
    """Return the seq of the next message that came; other events are passed over."""
    while True:
        packet = await hearer.receive()
        if packet["op"] == MESSAGE_EVENT:
            seq: int = packet["d"]["seq"]
            return seq


async def test_those_that_never_read_are_closed_and_those_that_keep_up_lose_nothing(tmp_path: Path) -> None:
    gateway = {"egress_bytes": 65_536, "resume_window_ms": 1}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(tmp_path, gateway=gateway))
        witness = await stack.enter_async_context(identified(server, "witness"))
        hearer = await stack.enter_async_context(identified(server, "hearer"))
        for channel_id in ("loud", "quiet"):
            await witness.ack(CREATE, {"channel_id": channel_id})
            await witness.ack(JOIN, {"channel_id": channel_id})
        await hearer.ack(JOIN, {"channel_id": "loud"})
        stalled = []
        for number, channel_id in enumerate(["loud"] * STALLED + ["quiet"]):
            query = f"?token={SECRET}&user_id=victim-{number}"
            victim = await stack.enter_async_context(raw_connected(server, query, receive_buffer=4096))
            await join(victim, channel_id)
            stalled.append(victim)
        await wait_until(lambda: counted(server)["subscriptions"] == 2 + 1 + STALLED + 1)

        await witness.say("quiet", "hello")
        while counted(server)["connections"] > 3:
            for _ in range(20):
                sent = await witness.say("loud", CONTENT)
                assert await heard(hearer) == sent["seq"]
        assert {await victim.closed() for victim in stalled[:STALLED]} <= {4001, None}
        # The one in the quiet room reads nothing either; but nothing much waits for it.
        assert server.statistics()["gateway"]["connections"] == 3
        # Nothing is left of those that were closed.
        await wait_until(lambda: counted(server)["sessions"] == 3)
        assert counted(server) | {"channels": 0} == {
            "connections": 3,
            "sessions": 3,
            "sessions_parked": 0,
            "channels": 0,
            "subscriptions": 4,
            "peers": 0,
        }
        closes = server._node.instruments.counters.closes
        assert closes == {4001: STALLED}


async def test_the_socket_of_a_connection_is_set_as_the_settings_say(tmp_path: Path) -> None:
    gateway = {"heartbeat_interval_ms": 20_000}
    async with running_server(tmp_path, gateway=gateway) as server, identified(server, "alice"):
        (connection,) = server._front.connections
        sock = connection._egress._transport.socket
        assert isinstance(sock, socket.socket)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536

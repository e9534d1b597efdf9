"""Losing a connection and going on with its session on another."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

import livechat
from livechat.gateway.connection import Connection
from livechat.protocol.types import SessionId
from tests.support.client import (
    ERROR,
    INVALID_SESSION,
    MESSAGE,
    MESSAGE_EVENT,
    RESUME,
    RESUMED,
    Client,
    Packet,
    connected,
)
from tests.support.raw import CLOSE, RawClient, raw_connected
from tests.support.server import SECRET, counted, wait_until


async def drop(client: Client) -> None:
    """Lose the TCP connection without a close frame."""
    await client.ws.stream.aclose()


async def park(server: livechat.Server, client: Client) -> str:
    """Lose a client's connection and wait until its session is parked; return the session's id."""
    parked = counted(server)["sessions_parked"]
    await drop(client)
    await wait_until(lambda: counted(server)["sessions_parked"] == parked + 1)
    session_id: str = client.ready["session_id"]
    return session_id


async def resumed(
    client: Client, session_id: str, *, token: str = SECRET, **fields: Any
) -> tuple[list[Packet], Packet]:
    """RESUME; return the packets before RESUMED, and its payload."""
    await client.send(RESUME, {"session_id": session_id, "token": token, **fields})
    return await until_resumed(client)


async def until_resumed(client: Client) -> tuple[list[Packet], Packet]:
    """Return the packets that come before RESUMED, and its payload."""
    before: list[Packet] = []
    while True:
        packet = await client.receive()
        if packet["op"] == RESUMED:
            return before, packet["d"]
        assert packet["op"] not in (ERROR, INVALID_SESSION), packet
        before.append(packet)


async def resume_on(server: livechat.Server, session_id: str, **fields: Any) -> tuple[list[Packet], Packet]:
    """RESUME on a connection of its own, which ends there; the session is parked again."""
    async with connected(server) as client:
        found = await resumed(client, session_id, **fields)
        await drop(client)
    return found


def seqs(packets: list[Packet], channel_id: str) -> list[int]:
    """Return the seqs of a channel's events among packets, in their order."""
    payloads = [packet["d"] for packet in packets if packet["d"].get("channel_id") == channel_id]
    return [payload["seq"] for payload in payloads if "seq" in payload]


class StuckClient:
    """A client that identified and then reads nothing, until it reads all that was sent to it."""

    def __init__(self, raw: RawClient, session_id: str) -> None:
        self.raw = raw
        self.session_id = session_id
        self.last_heard: dict[str, int] = {}
        """The seq of each channel's last event that has come whole."""

    async def read_to_the_end(self) -> int | None:
        """Read up to the end of the stream; return the code of the close frame, if there was one."""
        while (frame := await self.raw.frame()) is not None:
            if frame[0] == CLOSE:
                return int.from_bytes(frame[1][:2], "big")
            payload = json.loads(frame[1])["d"]
            if payload is not None and "seq" in payload:
                channel_id, seq = payload["channel_id"], payload["seq"]
                assert seq == self.last_heard.get(channel_id, seq - 1) + 1
                self.last_heard[channel_id] = seq
        return None


@asynccontextmanager
async def stuck_client(server: livechat.Server, user_id: str) -> AsyncGenerator[StuckClient]:
    """Connect a client with a small receive buffer; HELLO and READY are the last that it reads for now."""
    async with raw_connected(server, f"?token={SECRET}&user_id={user_id}", receive_buffer=4096) as raw:
        await raw.frame()
        ready = await raw.frame()
        assert ready is not None
        yield StuckClient(raw, json.loads(ready[1])["d"]["session_id"])


def queued_frames(server: livechat.Server, session_id: str) -> int:
    """Return how many frames wait in the egress queue of a session's connection; 0 if it has none."""
    session = server._node.users.get(SessionId(session_id))
    outlet = None if session is None else session.outlet
    return outlet._egress.queued_frames if isinstance(outlet, Connection) else 0


async def talk_until(client: Client, channel_id: str, condition: Callable[[], bool]) -> int:
    """Send large messages until a condition holds; return the last one's seq."""
    seq = 0
    with trio.fail_after(60):
        while not condition():
            for _ in range(50):
                await client.send(MESSAGE, {"channel_id": channel_id, "content": "x" * 2000})
            for _ in range(50):
                seq = (await client.expect(MESSAGE_EVENT))["seq"]
    return seq

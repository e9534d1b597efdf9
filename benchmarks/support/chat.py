"""Owns the load of chat: members of channels who say something in turn, and all hear it.

It must not measure; it notes what arrives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

import trio

from benchmarks.support.arrivals import Arrivals, Drain
from benchmarks.support.gateway import (
    CHANNEL_CREATE,
    CHANNEL_INFO,
    CHANNEL_JOIN,
    MESSAGE_CREATE,
    GatewayClient,
    OnMessage,
    frame,
)
from benchmarks.support.load import Tell
from benchmarks.support.scenario import Assignment

CONTENT_CHARS: Final = 200
SENDER_RATE_MAX_HZ: Final = 40.0
"""What one member says at most; a server allows 50/s by default. More members are had by more channels."""
CONNECT_AT_ONCE: Final = 32

_MARK: Final = b"benchmark-"
"""Begins the content; a number of `_DIGITS` digits follows. So an event need not be decoded to be known."""
_DIGITS: Final = 10
_OP: Final = b"101"
_OP_END: Final = 16
"""A packet begins with its op, and MESSAGE_EVENT's is found within so many bytes."""


class ChatLoad:
    """`fan_out` members in each of as many channels as it takes; every message is heard by its whole channel."""

    def __init__(self, assignment: Assignment, drain: Drain) -> None:
        scenario = assignment.scenario
        self.fan_out = scenario.fan_out
        self.clients: list[GatewayClient] = []
        self.arrivals: list[Arrivals] = []
        self._assignment = assignment
        self._channels = [
            f"channel-{number}"
            for number in range(max(1, math.ceil(scenario.rate_hz / (self.fan_out * SENDER_RATE_MAX_HZ))))
        ]
        # Neighbours in this list are in different channels, so messages go round the channels.
        for member in range(self.fan_out):
            for channel in self._channels:
                arrivals = Arrivals()
                self.arrivals.append(arrivals)
                self.clients.append(GatewayClient(drain, f"{channel}-member-{member}", noting(arrivals)))
        self._first = 0
        self._frames: list[bytes] = []
        self._before = 0
        """Sequence numbers given out before the first message."""
        self._messages = 0

    async def set_up(self, tell: Tell) -> None:
        """Connect everyone, make the channels, and join them."""
        url, token = self._assignment.url, self._assignment.token
        await each((partial(client.connect, url, token) for client in self.clients), "connected", tell)
        for client, channel in zip(self.clients, self._channels, strict=False):
            await client.request(CHANNEL_CREATE, {"channel_id": channel, "capacity": self.fan_out})
        joins = (
            partial(client.request, CHANNEL_JOIN, {"channel_id": self._channels[number % len(self._channels)]})
            for number, client in enumerate(self.clients)
        )
        await each(joins, "joined", tell)
        self._before = await self._last_seqs()

    def prepare(self, first: int, count: int) -> None:
        """Make the frames."""
        self._first = first
        self._frames = [
            message_frame(self._channels[index % len(self._channels)], index)
            for index in range(first, first + count)
        ]
        self._messages += count

    async def send(self, index: int) -> None:
        """Have the next member in turn say something."""
        await self.clients[index % len(self.clients)].send(self._frames[index - self._first])

    async def facts(self) -> dict[str, Any]:
        """Report whether the store has every message: each took one sequence number of its channel."""
        refused = [text for client in self.clients for text in client.refused]
        return {
            "channels": len(self._channels),
            "content_chars": CONTENT_CHARS,
            "all_committed": await self._last_seqs() - self._before == self._messages,
            "refused": len(refused),
            "refused_because": sorted(set(refused))[:5],
        }

    async def _last_seqs(self) -> int:
        total = 0
        for client, channel in zip(self.clients, self._channels, strict=False):
            total += (await client.request(CHANNEL_INFO, {"channel_id": channel}))["last_seq"]
        return total


def message_frame(channel_id: str, index: int) -> bytes:
    """Return a MESSAGE_CREATE as careful clients send it: with an id, to be acknowledged, and a nonce."""
    content = f"{_MARK.decode()}{index:0{_DIGITS}}".ljust(CONTENT_CHARS, ".")
    d = {"channel_id": channel_id, "content": content, "nonce": f"n{index}"}
    return frame(json.dumps({"op": MESSAGE_CREATE, "d": d, "id": f"m{index}"}, separators=(",", ":")).encode())


def noting(arrivals: Arrivals) -> OnMessage:
    """Return what notes the messages among the packets that one member gets."""

    def on_message(payload: bytes, now_ns: int) -> bool:
        start = payload.find(_MARK)
        if start < 0 or _OP not in payload[:_OP_END]:
            return False
        start += len(_MARK)
        arrivals.note(int(payload[start : start + _DIGITS]), now_ns)
        return True

    return on_message


async def each(calls: Iterable[Callable[[], Awaitable[object]]], doing: str, tell: Tell) -> None:
    """Make all calls, some at a time, and tell how far it is."""
    waiting = list(calls)
    total, done = len(waiting), 0
    waiting.reverse()

    async def work() -> None:
        nonlocal done
        while waiting:
            await waiting.pop()()
            done += 1
            if done % CONNECT_AT_ONCE == 0 or done == total:
                tell((doing, done, total))

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECT_AT_ONCE):
            nursery.start_soon(work)

"""livechat inside another Trio program: the host keeps its own task running, and decides itself who may come in.

    python examples/embed.py             one guest comes, talks, leaves; then it ends
    python examples/embed.py --forever   the same, and then it stays until Ctrl-C

The server is an asynchronous context manager. Within the block it is bound and serving; leaving the block ends
it in order. It has no global state, reads no environment and installs no signal handlers: all that stays with
the host program.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import signal
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

import livechat

IDENTIFY, READY, CHANNEL_CREATE, CHANNEL_JOIN, MESSAGE_CREATE, MESSAGE_EVENT, ERROR = 3, 4, 10, 11, 20, 101, 201
REPORT_INTERVAL_S = 0.1
DEADLINE_S = 10.0


class TicketOffice:
    """An `Authenticator` of our own: a token is a ticket, and the ticket says who its holder is."""

    def __init__(self, holders: Mapping[str, str]) -> None:
        self._holders = holders

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        """Return the holder of the ticket, whatever name the client states.

        A real one would await its database here; other connections are served meanwhile.
        """
        holder = self._holders.get(token)
        if holder is None:
            raise livechat.InvalidToken("token: expected a ticket that was issued here")
        return livechat.Identity(livechat.UserId(holder))


async def report(server: livechat.Server) -> None:
    """Do the host program's own work, next to the server: here, to look at its counters now and then."""
    while True:
        gateway = server.statistics()["gateway"]
        print(f"host:  {gateway['connections']:.0f} connected, {gateway['events_delivered']:.0f} events delivered")
        await trio.sleep(REPORT_INTERVAL_S)


async def visit(url: str, ticket: str) -> None:
    """Come as any client would, from any language: identify, join a channel, say something, hear it."""
    async with open_websocket_url(url) as ws:
        await send(ws, IDENTIFY, {"token": "forged"})
        print(f"guest: with a forged ticket: {(await receive(ws, ERROR))['reason']}")
        await send(ws, IDENTIFY, {"token": ticket})
        print(f"guest: with a real one: welcome, {(await receive(ws, READY))['user_id']}")
        await send(ws, CHANNEL_CREATE, {"channel_id": "foyer"})
        await send(ws, CHANNEL_JOIN, {"channel_id": "foyer"})
        for text in ("good evening", "is this the right door?", "good night"):
            await send(ws, MESSAGE_CREATE, {"channel_id": "foyer", "content": text})
            heard = await receive(ws, MESSAGE_EVENT)
            print(f"guest: heard message {heard['seq']} of {heard['channel_id']}: {heard['content']!r}")
            await trio.sleep(REPORT_INTERVAL_S)


async def send(ws: WebSocketConnection, op: int, d: dict[str, Any]) -> None:
    """Send one packet."""
    await ws.send_message(json.dumps({"op": op, "d": d}))


async def receive(ws: WebSocketConnection, op: int) -> Any:
    """Return the payload of the next packet with this op; others are skipped."""
    with trio.fail_after(DEADLINE_S):
        while True:
            packet = json.loads(await ws.get_message())
            if packet["op"] == op:
                return packet["d"]


async def main(*, forever: bool) -> None:
    """Run the host program."""
    ticket = secrets.token_urlsafe(16)
    office = TicketOffice({ticket: "alice"})
    stop = trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM)
    with tempfile.TemporaryDirectory() as folder, stop as signals:
        config = livechat.Config(port=0, udp_port=0, data_dir=Path(folder))
        async with livechat.open_server(config, authenticator=office) as server:
            print(f"host:  livechat {livechat.__version__} serves {server.url}")
            # The host's tasks end before the server does, as they use it.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(report, server)
                await visit(server.url, ticket)
                if forever:
                    print(f"host:  come in with {server.url}?token={ticket}; Ctrl-C stops")
                    await anext(signals)
                nursery.cancel_scope.cancel()
    print("host:  the server is closed, the program goes on")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run livechat inside another Trio program.")
    parser.add_argument("--forever", action="store_true", help="stay after the guest has left, until Ctrl-C")
    arguments = parser.parse_args()
    # The library logs by structlog and leaves it to the host where that goes; this one wants problems only.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    trio.run(partial(main, forever=arguments.forever))

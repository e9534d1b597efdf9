"""A bot that repeats what others say: the whole life of a client, with nothing but trio-websocket.

    livechat serve &
    python examples/echo_bot.py ws://127.0.0.1:8080/ws --user-id parrot --channel lobby \\
        --token-file livechat-data/secret

The token is the server's shared secret: from --token-file, or else from LIVECHAT_SECRET in the environment.
Ctrl-C (or SIGTERM) ends it in order. It does not reconnect; see the close codes in the protocol for when a
client should.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    open_websocket_url,
)

HELLO, HEARTBEAT, IDENTIFY, READY = 0, 1, 3, 4
CHANNEL_CREATE, CHANNEL_JOIN, MESSAGE_CREATE = 10, 11, 20
MESSAGE_EVENT, ACK, ERROR = 101, 200, 201
CHANNEL_EXISTS = 2005

NONCE_PREFIX = "echo:"
"""Marks what an echo bot said, so that two of them in one channel do not talk for ever."""
REPLY_TIMEOUT_S = 10.0


class Refused(Exception):
    """The server answered ERROR."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']} {error['reason']}")
        self.code: int = error["code"]


class Bot:
    """One connection and the session on it."""

    def __init__(self, ws: WebSocketConnection, user_id: str, channel_id: str) -> None:
        self._ws = ws
        self._user_id = user_id
        self._channel_id = channel_id
        self._ids = itertools.count(1)

    async def run(self, token: str) -> None:
        """Identify, join, and echo until cancelled.

        Raises:
            Refused: the server will not have us, or not in this channel.
            ConnectionClosed: it closed the connection.
        """
        hello = (await self._receive())["d"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._heartbeat, hello["heartbeat_interval"] / 1000)
            with trio.fail_after(REPLY_TIMEOUT_S):
                await self._enter(token)
            print(f"{self._user_id} listens in {self._channel_id}", flush=True)
            while True:
                packet = await self._receive()
                if packet["op"] == MESSAGE_EVENT:
                    await self._answer(packet["d"])
                elif packet["op"] == ERROR:
                    # Of a message that was not taken (too many at once, say); the session goes on.
                    print(f"refused: {Refused(packet['d'])}", file=sys.stderr)

    async def _enter(self, token: str) -> None:
        await self._send(IDENTIFY, {"token": token, "user_id": self._user_id, "device": "echo bot"})
        while (packet := await self._receive())["op"] != READY:
            if packet["op"] == ERROR:
                raise Refused(packet["d"])
        try:
            await self._request(CHANNEL_CREATE, {"channel_id": self._channel_id})
        except Refused as exc:
            if exc.code != CHANNEL_EXISTS:
                raise
        await self._request(CHANNEL_JOIN, {"channel_id": self._channel_id})

    async def _answer(self, message: dict[str, Any]) -> None:
        from_a_bot = message.get("nonce", "").startswith(NONCE_PREFIX)
        if message["channel_id"] != self._channel_id or message["author_id"] == self._user_id or from_a_bot:
            return
        print(f"{message['author_id']}: {message['content']}", flush=True)
        answer = {
            "channel_id": self._channel_id,
            "content": message["content"],
            # The server takes a nonce only once: however often we see a message, it gets one answer.
            "nonce": NONCE_PREFIX + message["message_id"],
        }
        await self._send(MESSAGE_CREATE, answer)

    async def _heartbeat(self, interval_s: float) -> None:
        """Tell the server that we are alive; it closes connections that say nothing for 1.5 intervals."""
        while True:
            await trio.sleep(interval_s)
            await self._send(HEARTBEAT, None)

    async def _request(self, op: int, d: dict[str, Any]) -> Any:
        """Send a request and return its ACK's data; events that come before it are not for us yet."""
        request_id = next(self._ids)
        await self._send(op, d, id=request_id)
        while True:
            packet = await self._receive()
            if packet.get("id") != request_id:
                continue
            if packet["op"] == ERROR:
                raise Refused(packet["d"])
            return packet["d"]["data"]

    async def _send(self, op: int, d: dict[str, Any] | None, **envelope: Any) -> None:
        await self._ws.send_message(json.dumps({"op": op, "d": d, **envelope}))

    async def _receive(self) -> dict[str, Any]:
        packet: dict[str, Any] = json.loads(await self._ws.get_message())
        return packet


async def main(url: str, user_id: str, channel_id: str, token: str) -> None:
    """Run the bot until a signal comes."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_websocket_url(url) as ws, trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                await anext(signals)
                # Leaving `open_websocket_url` closes with 1000: the server ends the session at once.
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_on_signal)
            await Bot(ws, user_id, channel_id).run(token)


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `token` is there in the end, or the program is not."""
    parser = argparse.ArgumentParser(description="Repeat what others say in a channel.")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8080/ws", help="the gateway  [%(default)s]")
    parser.add_argument("--user-id", default="echo", help="who to be  [%(default)s]")
    parser.add_argument("--channel", default="lobby", help="where to listen; made if missing  [%(default)s]")
    parser.add_argument("--token-file", type=Path, help="file with the secret, such as livechat-data/secret")
    parser.add_argument("--token", default=os.environ.get("LIVECHAT_SECRET"), help="[$LIVECHAT_SECRET]")
    arguments = parser.parse_args()
    if arguments.token_file is not None:
        try:
            arguments.token = arguments.token_file.read_text().strip()
        except OSError as exc:
            parser.error(f"--token-file: cannot read {arguments.token_file}: {exc.strerror}")
    if not arguments.url.startswith(("ws://", "wss://")):
        parser.error(f"url: expected ws://… or wss://…, got {arguments.url!r}")
    if not arguments.token:
        parser.error("expected a token: set LIVECHAT_SECRET, or give --token-file livechat-data/secret")
    return arguments


def describe(exc: BaseException) -> str:
    """Say what went wrong; what several tasks raised comes in groups."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in exc.exceptions)
    if isinstance(exc, ConnectionClosed) and exc.reason is not None:
        return f"the server closed the connection: {exc.reason.code} {exc.reason.reason or ''}"
    if isinstance(exc, ConnectionRejected):
        return f"cannot connect: HTTP {exc.status_code}"
    if isinstance(exc, HandshakeError) and exc.__context__ is not None:
        return f"cannot connect: {exc.__context__}"
    return str(exc) or type(exc).__name__


if __name__ == "__main__":
    arguments = parse_arguments()
    try:
        trio.run(main, arguments.url, arguments.user_id, arguments.channel, arguments.token)
    except* KeyboardInterrupt:
        sys.exit(130)  # a second Ctrl-C, while the first was being obeyed
    except* (Refused, ConnectionClosed, HandshakeError, trio.TooSlowError, OSError) as group:
        sys.exit(f"echo bot: {describe(group)}")

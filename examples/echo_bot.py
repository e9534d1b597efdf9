"""A bot that repeats what others say: what a program on livechat's client looks like.

    livechat serve &
    python examples/echo_bot.py ws://127.0.0.1:8080/ws --user-id parrot --channel lobby \\
        --token-file livechat-data/secret

The token is the server's shared secret: from --token-file, or else from LIVECHAT_SECRET in the environment.
Ctrl-C (or SIGTERM) ends it in order. If the connection is lost it comes back by itself, and has missed nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import trio

import livechat
from livechat.error import ChannelExists

NONCE_PREFIX = "echo:"
"""Marks what an echo bot said, so that two of them in one channel do not talk for ever."""


async def run(client: livechat.Client, channel_id: str) -> None:
    """Join, and echo until cancelled."""
    try:
        await client.create_channel(channel_id)
    except ChannelExists:
        pass
    await client.join(channel_id)
    messages = client.messages(channel_id)
    print(f"{client.user_id} listens in {channel_id}", flush=True)
    async for message in messages:
        from_a_bot = (message.nonce or "").startswith(NONCE_PREFIX)
        if message.author_id == client.user_id or from_a_bot:
            continue
        print(f"{message.author_id}: {message.content}", flush=True)
        # The server takes a nonce only once: however often we see a message, it gets one answer.
        await answer(client, channel_id, message.content, NONCE_PREFIX + message.message_id)


async def answer(client: livechat.Client, channel_id: str, content: str, nonce: str) -> None:
    """Say something once."""
    try:
        await client.send_message(channel_id, content, nonce=nonce)
    except livechat.LiveError as exc:
        # Too many at once, say; the session goes on.
        print(f"refused: {describe(exc)}", file=sys.stderr)


async def main(url: str, user_id: str, channel_id: str, token: str) -> None:
    """Run the bot until a signal comes."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with livechat.open_client(url, token, user_id=user_id) as client, trio.open_nursery() as nursery:
            nursery.start_soon(run, client, channel_id)
            await anext(signals)
            # Leaving `open_client` closes with 1000: the server ends the session at once.
            nursery.cancel_scope.cancel()


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
    if isinstance(exc, livechat.LiveError):
        return f"{exc.code} {exc}"
    return str(exc) or type(exc).__name__


if __name__ == "__main__":
    arguments = parse_arguments()
    try:
        trio.run(main, arguments.url, arguments.user_id, arguments.channel, arguments.token)
    except* KeyboardInterrupt:
        sys.exit(130)  # a second Ctrl-C, while the first was being obeyed
    except* (livechat.ClientError, livechat.LiveError, trio.TooSlowError) as group:
        sys.exit(f"echo bot: {describe(group)}")

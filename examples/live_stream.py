"""Video over the WebSocket: one program publishes fragmented MP4 to a channel, others watch it, wherever they are.

    livechat serve &
    python examples/live_stream.py watch - | ffplay -i -
    ffmpeg -re -i film.mp4 -c:v libx264 -b:v 800k -g 25 -c:a aac \\
        -movflags frag_keyframe+empty_moov+default_base_moof -f mp4 - | python examples/live_stream.py publish -

A file that was made so is published by its name, with a pause after each fragment (`--pause`). What a decoder
needs first (`ftyp`, `moov`) goes as an `init` chunk, which the server keeps for those who come later; each
fragment (`moof`, `mdat`) is a chunk that begins with a keyframe. Who reads too slowly loses some, and goes on
with a later one.

The token is the server's shared secret: from --token-file (by itself livechat-data/secret), or from
LIVECHAT_SECRET in the environment. Ctrl-C (or SIGTERM) ends it in order.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import trio

import livechat
from livechat.client.error import ConnectionLost, SubscriberTooSlow
from livechat.error import ChannelExists, RateLimited

MIME = "video/mp4"
STREAM = "video"
READ_BYTES = 65536
SECRET_FILE = Path("livechat-data/secret")
HEAD_BYTES = 8
"""Of a box: its size, big-endian, then its type (ISO/IEC 14496-12, section 4.2)."""
T = TypeVar("T")


class Failed(Exception):
    """It did not work; the text says why."""


# --- fragmented MP4 ---------------------------------------------------------------------------------------


class Splitter:
    """Cuts fragmented MP4 into what is sent: what a decoder needs first, then fragment by fragment.

    Args:
        bytes_max: how large a piece may be.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._received = bytearray()
        self._place = 0
        """Where the next box begins."""
        self._is_fragment = False
        self._has_begun = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Take more of it; yield (piece, whether it is the one that is needed first).

        Raises:
            Failed: it is not fragmented MP4, or a piece is too large.
        """
        self._received += data
        while len(self._received) >= self._place + HEAD_BYTES:
            size = int.from_bytes(self._received[self._place : self._place + 4], "big")
            kind = bytes(self._received[self._place + 4 : self._place + HEAD_BYTES])
            if size < HEAD_BYTES or not kind.isalnum():
                raise Failed("expected fragmented MP4 (-movflags frag_keyframe+empty_moov+default_base_moof)")
            if self._place + size > self._bytes_max:
                raise Failed(f"a piece has more than {self._bytes_max} bytes: lower the bit rate, or -g")
            if len(self._received) < self._place + size:
                return
            self._place += size
            if kind == b"mdat" and not (self._has_begun and self._is_fragment):
                raise Failed("expected fragmented MP4, got one that is in one piece")
            self._is_fragment |= kind == b"moof"
            if kind in (b"moov", b"mdat"):
                self._has_begun, self._is_fragment = True, False
                yield bytes(self._received[: self._place]), kind == b"moov"
                del self._received[: self._place]
                self._place = 0


# --- publishing -------------------------------------------------------------------------------------------


class Publisher:
    """Numbers the chunks of a stream, and begins it anew in a new session."""

    def __init__(self, client: livechat.Client, channel_id: str) -> None:
        self._client = client
        self._channel_id = channel_id
        self._session_id = client.session_id
        self._init = b""
        self._next_seq = 0

    async def send(self, data: bytes, *, is_init: bool) -> None:
        """Send a piece of the stream."""
        if is_init:
            self._init = data
        elif self._client.session_id != self._session_id:
            # The server knows nothing of the stream any more: as for a new one, this comes first.
            await self._send(self._init, is_init=True)
        await self._send(data, is_init=is_init)

    async def _send(self, data: bytes, *, is_init: bool) -> None:
        self._session_id, seq = self._client.session_id, self._next_seq
        self._next_seq += 1
        send = partial(self._client.send_chunk, self._channel_id, STREAM, seq, data, mime=MIME)
        while True:
            try:
                await send(init=is_init, keyframe=not is_init)
                return
            except RateLimited as exc:
                # It was not taken: a file is read faster than the server lets us send it.
                await trio.sleep((exc.retry_after_ms or 100) / 1000)
            except ConnectionLost:
                say(f"chunk {seq} may have arrived or not")
                if not is_init:  # without that one nobody could go on
                    return


async def publish(client: livechat.Client, channel_id: str, source: BinaryIO, pause_s: float) -> None:
    """Send a file, or what comes by a pipe, to its end."""
    publisher, splitter = Publisher(client, channel_id), Splitter(client.limits.chunk_bytes)
    say(f"{client.user_id} publishes in {channel_id}")
    pieces = 0
    while data := await in_thread(partial(source.read, READ_BYTES)):
        for piece, is_init in splitter.feed(data):
            await publisher.send(piece, is_init=is_init)
            pieces += 1
            if not is_init:
                await trio.sleep(pause_s)
    say(f"the end, after {pieces} chunks")


# --- watching ---------------------------------------------------------------------------------------------


async def watch(client: livechat.Client, channel_id: str, target: BinaryIO, silence_s: float) -> None:
    """Write what comes, as it can be played, until nothing has come for so long."""
    say(f"{client.user_id} watches {channel_id}")
    chunks = client.chunks(channel_id, stream_id=STREAM)
    publisher, init = None, b""
    while True:
        try:
            with trio.move_on_after(silence_s) as patience:
                event = await anext(chunks)
        except SubscriberTooSlow:
            say("the file takes it too slowly; goes on with what comes next")
            chunks = client.chunks(channel_id, stream_id=STREAM)
            continue
        if patience.cancelled_caught:
            say("nothing comes any more")
            return
        if publisher not in (None, event.user_id):
            continue  # two streams would not fit into one file
        publisher = event.user_id
        if isinstance(event, livechat.ChunkGap):
            say(f"lost {event.before - event.after - 1}, goes on with {event.before}")
        elif not event.init:
            await in_thread(partial(target.write, event.data))
            await in_thread(target.flush)
        elif event.data != init:
            # It is told again after every loss and every reconnect.
            init = event.data
            await in_thread(partial(target.write, init))


# --- the program ------------------------------------------------------------------------------------------


async def in_thread(function: Callable[[], T]) -> T:
    """Run what may block; cancelled, it is left alone: a pipe may be silent for ever."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


def say(text: str) -> None:
    """Tell people something; standard output may be the film."""
    print(text, file=sys.stderr, flush=True)


async def enter(client: livechat.Client, channel_id: str) -> None:
    """Join the channel, which is made if it is missing."""
    try:
        await client.create_channel(channel_id)
    except ChannelExists:
        pass
    await client.join(channel_id)


async def main(given: argparse.Namespace, work: Callable[[livechat.Client], Awaitable[None]]) -> None:
    """Do the work until it is done or a signal comes."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        client_of_user = livechat.open_client(given.url, given.token, user_id=given.user_id)
        async with client_of_user as client, trio.open_nursery() as nursery:

            async def work_to_the_end() -> None:
                await enter(client, given.channel)
                await work(client)
                nursery.cancel_scope.cancel()

            nursery.start_soon(work_to_the_end)
            await anext(signals)
            # Leaving `open_client` closes with 1000: the server ends the session, and the stream, at once.
            nursery.cancel_scope.cancel()


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `token` is there in the end, or the program is not."""
    parser = argparse.ArgumentParser(description="Publish and watch fragmented MP4 in a channel.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default="ws://127.0.0.1:8080/ws", help="the gateway  [%(default)s]")
    common.add_argument("--channel", default="cinema", help="made if missing  [%(default)s]")
    common.add_argument("--token-file", type=Path, help=f"file with the secret  [{SECRET_FILE}, if there is one]")
    common.add_argument("--token", default=os.environ.get("LIVECHAT_SECRET"), help="[$LIVECHAT_SECRET]")
    commands = parser.add_subparsers(dest="command", required=True)
    publishing = commands.add_parser("publish", parents=[common], help="send a file to all who are there")
    publishing.add_argument("file", help="fragmented MP4; -: standard input")
    publishing.add_argument("--user-id", default="camera", help="who to be  [%(default)s]")
    publishing.add_argument("--pause", type=float, default=0.0, help="seconds after each fragment  [%(default)g]")
    watching = commands.add_parser("watch", parents=[common], help="write what is sent to a file")
    watching.add_argument("file", help="where to; -: standard output")
    watching.add_argument("--user-id", default="viewer", help="who to be  [%(default)s]")
    watching.add_argument("--silence", type=float, default=float("inf"), help="end after so many silent seconds")
    arguments = parser.parse_args()
    path = arguments.token_file or (SECRET_FILE if not arguments.token and SECRET_FILE.exists() else None)
    if path is not None:
        try:
            arguments.token = path.read_text().strip()
        except OSError as exc:
            parser.error(f"--token-file: cannot read {path}: {exc.strerror}")
    if not arguments.token:
        parser.error(f"expected a token: set LIVECHAT_SECRET, or give --token-file {SECRET_FILE}")
    return arguments


def open_file(arguments: argparse.Namespace) -> BinaryIO:
    """Open what is published, or where to write."""
    is_input = arguments.command == "publish"
    if arguments.file == "-":
        # Unbuffered: what has come goes on at once.
        return open((sys.stdin if is_input else sys.stdout).fileno(), "rb" if is_input else "wb", 0, closefd=False)
    return open(arguments.file, "rb" if is_input else "wb", 0)


def describe(exc: BaseException) -> str:
    """Say what went wrong; what several tasks raised comes in groups."""
    if isinstance(exc, BaseExceptionGroup):
        return "; ".join(describe(inner) for inner in exc.exceptions)
    if isinstance(exc, livechat.LiveError):
        return f"{exc.code} {exc}"
    return str(exc) or type(exc).__name__


if __name__ == "__main__":
    given = parse_arguments()
    try:
        with open_file(given) as file:
            if given.command == "publish":
                trio.run(main, given, lambda client: publish(client, given.channel, file, given.pause))
            else:
                trio.run(main, given, lambda client: watch(client, given.channel, file, given.silence))
    except* KeyboardInterrupt:
        sys.exit(130)  # a second Ctrl-C, while the first was being obeyed
    except* (Failed, livechat.ClientError, livechat.LiveError, OSError, ValueError, trio.TooSlowError) as group:
        sys.exit(f"live stream: {describe(group)}")

"""Cases of WebSocket conformance as tables: what a client sends, what comes back, and how it ends.

They are those of Autobahn's suite, by its numbers where a case is one of its own. Each is tried at the echo, with
all that comes back compared, and at the gateway, where what comes back but for pongs and the close is its own.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

import livechat
from livechat.gateway.echo import ECHO_PATH
from tests.support.raw import BINARY, CLOSE, PING, TEXT, RawClient, masked, raw_connected
from tests.support.server import running_server, wait_until

CONTINUATION, PONG, FIN = 0x00, 0x8A, 0x80
OCTETS_MAX = 300
"""Cases up to this size are sent octet by octet as well."""

Frame = tuple[int, bytes]
"""The first byte of its head, and its payload."""

GOODBYE = masked(CLOSE, struct.pack("!H", 1000))


@attrs.frozen
class Case:
    """One conversation.

    A case that says nothing about the end goes on to a normal close, which must be answered: so the connection is
    shown to be still good.
    """

    name: str
    said: bytes = attrs.field(repr=False)
    answered: Sequence[Frame] = ()
    """Frames of the echo before its close frame."""
    code: int | None = None
    """Of the close frame at the end; None: the connection is good at the end."""
    reason: bytes | None = None
    """Of the same; None: any."""


def echoed(name: str, *frames: bytes, answered: Sequence[Frame]) -> Case:
    """Build a case of frames that are all right."""
    return Case(name, b"".join(frames), answered)


def refused(name: str, *frames: bytes, code: int = 1002, answered: Sequence[Frame] = ()) -> Case:
    """Build a case of frames that end the connection."""
    return Case(name, b"".join(frames), answered, code)


@asynccontextmanager
async def echoing(data_dir: Path) -> AsyncGenerator[livechat.Server]:
    """Run a server with the echo; at the end nothing of a client is left."""
    async with running_server(data_dir, gateway={"debug_echo": True}) as server:
        yield server
        await wait_until(lambda: not server._front.echoes and not server._front.connections)


async def check_all(server: livechat.Server, cases: Sequence[Case]) -> None:
    """Try every case at the echo and at the gateway, in one piece and octet by octet."""
    wrong: list[str] = []
    for case in cases:
        # In TCP's own pieces, and in the smallest there are; the server runs between any two of them.
        for step in (len(case.said) + len(GOODBYE), *([1] if len(case.said) <= OCTETS_MAX else [])):
            wrong += await _check(server, case, step)
    assert not wrong, "\n".join(wrong)


async def _check(server: livechat.Server, case: Case, step: int) -> list[str]:
    code = 1000 if case.code is None else case.code
    wrong = []
    for path in (ECHO_PATH, "/ws"):
        frames = await conversation(server, path, case, step)
        ends = [payload for first, payload in frames if first == CLOSE]
        code_sent = int.from_bytes(ends[0][:2], "big") if ends and ends[0] else 1005 if ends else None
        if code_sent != code or len(ends) != 1 or frames[-1][0] != CLOSE:
            wrong.append(
                f"{case.name} at {path} by {step}: closed with {code_sent}, not {code}: {frames[-2:]!r:.200}"
            )
        elif case.reason is not None and ends[0][2:] != case.reason:
            wrong.append(f"{case.name} at {path} by {step}: the reason is {ends[0][2:]!r}")
        heard, expected = frames[:-1], list(case.answered)
        if path != ECHO_PATH:
            heard = [frame for frame in heard if frame[0] == PONG]
            expected = [frame for frame in expected if frame[0] == PONG]
        if heard != expected:
            wrong.append(f"{case.name} at {path} by {step}: answered {heard!r:.200}")
    return wrong


async def conversation(server: livechat.Server, path: str, case: Case, step: int) -> list[Frame]:
    """Hold one conversation; return all frames up to the end of the stream, which is the server's to make."""
    said = case.said + (GOODBYE if case.code is None else b"")
    frames: list[Frame] = []
    async with raw_connected(server, path=path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(partial(_say, client, said, step))
        while (frame := await client.frame()) is not None:
            frames.append(frame)
        nursery.cancel_scope.cancel()
    return frames


async def _say(client: RawClient, said: bytes, step: int) -> None:
    try:
        for start in range(0, len(said), step):
            await client.send(said[start : start + step])
            if step == 1:
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
    except trio.BrokenResourceError:
        pass  # the server ended it, as it may have had to


def text(payload: bytes) -> bytes:
    """Build a client's text frame."""
    return masked(TEXT, payload)


def binary(payload: bytes) -> bytes:
    """Build a client's binary frame."""
    return masked(BINARY, payload)


def ping(payload: bytes) -> bytes:
    """Build a client's ping."""
    return masked(PING, payload)

"""The seam to trio-websocket: what comes by way of it, and that it does as if it had been there from the start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from trio_websocket import ConnectionClosed, wrap_server_stream

from livechat.gateway.ingress import Ingress
from livechat.gateway.stream import UPGRADE, GatewayStream
from livechat.protocol.frames import serialize_pong
from tests.support.egress import Egress, frame
from tests.support.frame_streams import streams
from tests.support.raw import close_payload, masked
from tests.support.transport import ScriptedTransport

PING = masked(0x89, b"ping")
PONG = b"\x8a\x04ping"
ONE = masked(0x01, b"one")
PONGS = masked(0x8A, b"late") + masked(0x8A, b"")
MESSAGE_BYTES_MAX = 1_000_000
Outcome = tuple[list[str | bytes], int, bytes]
"""Of a stream: the messages, the code that it ended with, and what was sent."""


class Client:
    """What one client sends, served as a connection does it, and what came of it."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.messages: list[str | bytes] = []
        self.ends = 0
        transport = ScriptedTransport()
        transport.feed(*chunks)
        self.egress = Egress(transport)
        self.ingress = Ingress(transport, self, received=b"", message_bytes_max=MESSAGE_BYTES_MAX)
        self.stream: GatewayStream | None = None
        """None: trio-websocket was not needed."""

    async def serve(self) -> Outcome:
        """Serve until the stream is over."""
        async with trio.open_nursery() as nursery:
            data = await self.ingress.receive()
            if data:
                self.stream = GatewayStream(self.ingress, self.egress.queue, self, data)
                await self.stream.serve(nursery, message_bytes_max=MESSAGE_BYTES_MAX)
            nursery.cancel_scope.cancel()
        code = 1006 if self.stream is None else self.stream.ending()[0]
        return self.messages, code, bytes(self.egress.transport.sent)

    def heard(self) -> None:
        """See `IngressOwner`."""

    def take(self, message: str | bytes) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        self.messages.append(message)
        return None

    def take_ping(self, payload: bytes) -> None:
        """See `IngressOwner`."""
        self.egress.queue.push_control(serialize_pong(payload))

    async def take_passed(self) -> None:
        """See `IngressOwner`."""
        assert self.stream is not None
        try:
            self.messages.append(await self.stream.get_message())
        except ConnectionClosed:
            await trio.lowlevel.checkpoint()

    def close(self, code: int) -> None:
        """See `IngressOwner`."""
        raise AssertionError(f"nothing is too large, and yet: {code}")

    def failed(self) -> None:
        """See `IngressOwner`."""

    def before_push(self) -> None:
        """See `StreamOwner`."""

    def ended(self) -> None:
        """See `StreamOwner`."""
        self.ends += 1


class Stock(trio.abc.Stream):
    """A stream of a client's that trio-websocket reads from the upgrade on."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = [UPGRADE, *chunks]
        self._sent: list[bytes] = []

    async def serve(self) -> Outcome:
        """Serve until the stream is over."""
        messages: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, self, max_message_size=MESSAGE_BYTES_MAX)
            ws = await request.accept()
            try:
                while True:
                    messages.append(await ws.get_message())
            except ConnectionClosed:
                pass
        assert ws.closed is not None
        return messages, ws.closed.code, b"".join(self._sent[1:])

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._sent.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while self._chunks[0] is not UPGRADE and not self._sent:
            # wsproto takes no frames before it has answered.
            await trio.lowlevel.checkpoint()
        return self._chunks.pop(0)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@settings(deadline=None, max_examples=100)
@given(streams())
async def test_it_comes_to_the_same_as_with_trio_websocket_from_the_start(chunks: list[bytes]) -> None:
    with trio.fail_after(20):
        chunks = [*filter(None, chunks), b""]
        assert await Client(chunks).serve() == await Stock(chunks).serve()


async def test_who_sends_what_is_ours_alone_needs_no_trio_websocket() -> None:
    client = Client([masked(0x81, b"a"), masked(0x82, b"b") + PING, PING[:3], PING[3:], PONGS, b""])
    assert await client.serve() == (["a", b"b"], 1006, PONG * 2)
    assert client.stream is None


@pytest.mark.parametrize(
    ("first", "rest", "messages"),
    [
        (masked(0x01, b""), masked(0x8A, b"pong") + masked(0x80, b"two"), 3),
        (ONE[:3], ONE[3:] + masked(0x80, b"two"), 3),
        (masked(0x01, b"in "), PING + masked(0x80, b"two"), 3),
        (masked(0x81, b"x" * 70_000), b"", 3),
    ],
    ids=["around a pong", "in parts", "fragments", "a large message"],
)
async def test_the_first_frame_that_is_for_trio_websocket_has_it_made(
    first: bytes, rest: bytes, messages: int
) -> None:
    client = Client([masked(0x81, b"a") + first, rest + masked(0x81, b"z") + PING, b""])
    taken, code, sent = await client.serve()
    assert client.stream is not None
    assert (taken[0], taken[-1], len(taken), code) == ("a", "z", messages, 1006)
    assert sent == PONG * (2 if PING in rest else 1)


async def test_its_close_is_answered_and_told_once() -> None:
    client = Client([PING, masked(0x88, close_payload(1000)), masked(0x81, b"late")])
    assert await client.serve() == ([], 1000, PONG + b"\x88\x02\x03\xe8")
    assert client.ends == 1
    assert client.stream is not None
    assert client.stream.ending() == (1000, True)


async def test_its_answer_to_the_upgrade_goes_nowhere() -> None:
    egress = Egress(ScriptedTransport())
    await egress.upgrade()
    assert egress.payloads == []
    await egress.stream.send_all(frame(1))
    assert egress.payloads == [b"1"]


async def test_closing_by_trio_websocket_leaves_the_queue_to_be_sent() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    await egress.stream.aclose()
    egress.transport.open()
    egress.transport.feed(b"")
    await egress.queue.finish()
    assert egress.payloads == [b"1"]


async def test_to_trio_websocket_sending_never_blocks() -> None:
    egress = Egress(ScriptedTransport(0))
    await egress.upgrade()
    for send in (egress.stream.wait_send_all_might_not_block, partial(egress.stream.send_all, b"")):
        await send()
    await egress.stream.send_all(bytearray(frame(1)))
    await egress.stream.send_all(memoryview(frame(2)))
    assert egress.queue.queued_frames == 2

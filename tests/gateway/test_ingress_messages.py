"""Messages that the ingress hands out itself, and their order with those that go by trio-websocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from hypothesis import given, settings
from trio.testing import wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, wrap_server_stream

from livechat.gateway.ingress import FRAMES_AT_ONCE, Ingress
from livechat.gateway.stream import GatewayStream
from tests.support.egress import Egress
from tests.support.frame_streams import streams
from tests.support.raw import masked
from tests.support.transport import ScriptedTransport

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEAD = b"GET /ws HTTP/1.1\r\n\r\n"


class Stage:
    """An ingress after the handshake, and what it did."""

    def __init__(self, *chunks: bytes, is_plain: bool = False, head: bytes = HEAD) -> None:
        self.messages: list[str | bytes] = []
        self.followed: list[bool] = []
        """Whether each message was said to be followed by another."""
        self.signs_of_life = 0
        self.violations: list[int] = []
        self.wait: Callable[[], Awaitable[None]] | None = None
        self.transport = ScriptedTransport()
        self.transport.feed(*chunks)
        self.ingress = Ingress(
            self.transport,
            received=head,
            on_frames=self._on_frames,
            on_violation=self.violations.append,
            on_message=None if is_plain else self._on_message,
            message_bytes_max=1_000_000,
        )

    async def upgrade(self) -> None:
        await self.ingress.receive()
        self.ingress.upgraded()

    def _on_frames(self) -> None:
        self.signs_of_life += 1

    def _on_message(self, message: str | bytes) -> Callable[[], Awaitable[None]] | None:
        self.messages.append(message)
        self.followed.append(self.ingress.has_more)
        return self.wait


async def test_nothing_is_handed_out_before_the_connection_was_opened(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"a") + masked(0x82, b"b"), masked(0x81, b"c"))
    await stage.upgrade()
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert (stage.messages, stage.signs_of_life) == ([], 0)
    stage.ingress.consumed()
    await wait_all_tasks_blocked()
    assert (stage.messages, stage.signs_of_life) == (["a", b"b", "c"], 2)
    assert stage.followed == [True, False, False]
    nursery.cancel_scope.cancel()


async def test_what_follows_a_message_passed_on_waits_until_that_was_taken(nursery: trio.Nursery) -> None:
    slow = masked(0x01, b"a") + masked(0x80, b"b")
    stage = Stage(masked(0x81, b"first") + slow + masked(0x81, b"last"))
    await stage.upgrade()
    stage.ingress.consumed()
    assert await stage.ingress.receive() + await stage.ingress.receive() == slow
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert stage.messages == ["first"]
    stage.ingress.consumed()
    await wait_all_tasks_blocked()
    assert stage.messages == ["first", "last"]
    nursery.cancel_scope.cancel()


async def test_nothing_is_read_while_a_message_is_waited_for(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"a") * 2, masked(0x89, b""))
    room = trio.Event()
    stage.wait = room.wait
    await stage.upgrade()
    stage.ingress.consumed()
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert stage.messages == ["a"]
    assert not stage.ingress.has_more
    room.set()
    await wait_all_tasks_blocked()
    assert stage.messages == ["a", "a"]


async def test_others_get_their_turn_among_many_messages(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"x") * (FRAMES_AT_ONCE * 3) + masked(0x88, b""))
    await stage.upgrade()
    stage.ingress.consumed()
    nursery.start_soon(stage.ingress.receive)
    seen = []
    while len(stage.messages) < FRAMES_AT_ONCE * 3:
        await trio.lowlevel.checkpoint()
        seen.append(len(stage.messages))
    assert {FRAMES_AT_ONCE, FRAMES_AT_ONCE * 2} & set(seen)


async def test_a_stream_that_trio_websocket_gave_up_waits_for_nobody() -> None:
    stage = Stage(masked(0x81, b"\xff"), masked(0x81, b"late"), b"")
    await stage.upgrade()
    stage.ingress.consumed()
    await stage.ingress.receive()
    stage.ingress.refused()
    assert await stage.ingress.receive() != b""
    assert await stage.ingress.receive() == b""
    assert stage.messages == []


async def test_the_end_of_the_stream_within_a_frame_is_its_end() -> None:
    stage = Stage(masked(0x81, b"cut")[:-1], b"")
    await stage.upgrade()
    stage.ingress.consumed()
    assert await stage.ingress.receive() == b""
    assert (stage.messages, stage.signs_of_life) == ([], 0)


async def served(chunks: list[bytes], *, is_plain: bool) -> tuple[list[str | bytes], int | None]:
    """Serve a stream by trio-websocket; return the messages and the code that it ended with."""
    stage = Stage(*chunks, b"", is_plain=is_plain, head=UPGRADE)
    egress = Egress(stage.transport).queue
    async with trio.open_nursery() as nursery:
        stream = GatewayStream(stage.ingress, egress, before_push=lambda: None)
        request = await wrap_server_stream(nursery, stream, message_queue_size=2)
        ws = await request.accept()
        try:
            while True:
                stage.ingress.consumed()
                stage.messages.append(await ws.get_message())
        except ConnectionClosed:
            nursery.cancel_scope.cancel()
    return stage.messages, None if ws.closed is None else ws.closed.code


@settings(deadline=None, max_examples=60)
@given(streams())
async def test_under_trio_websocket_both_ways_come_to_the_same(chunks: list[bytes]) -> None:
    with trio.fail_after(20):
        assert await served(chunks, is_plain=False) == await served(chunks, is_plain=True)


@pytest.mark.parametrize("is_plain", [False, True])
async def test_a_close_comes_after_the_messages_before_it(is_plain: bool) -> None:
    chunks = [masked(0x81, b"a") * 100 + masked(0x88, b"\x03\xe8")]
    assert await served(chunks, is_plain=is_plain) == (["a"] * 100, 1000)

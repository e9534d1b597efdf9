"""Messages that the ingress hands out itself, and their order with those that go by trio-websocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.ingress import FRAMES_AT_ONCE, Ingress
from tests.support.raw import masked
from tests.support.transport import ScriptedTransport


class Stage:
    """An ingress after the handshake, and what it did."""

    def __init__(self, *chunks: bytes, is_plain: bool = False) -> None:
        self.messages: list[str | bytes] = []
        self.pings: list[bytes] = []
        self.followed: list[bool] = []
        """Whether each message was said to be followed by another."""
        self.signs_of_life = 0
        self.violations: list[int] = []
        self.wait: Callable[[], Awaitable[None]] | None = None
        self.next_passed: Callable[[], Awaitable[str | bytes]] = self._wait_for_ever
        self.transport = ScriptedTransport()
        self.transport.feed(*chunks)
        self.ingress = Ingress(self.transport, self, received=b"", message_bytes_max=1_000_000, is_plain=is_plain)

    async def _wait_for_ever(self) -> str | bytes:
        await trio.sleep_forever()
        raise AssertionError

    def heard(self) -> None:
        """See `IngressOwner`."""
        self.signs_of_life += 1

    def take(self, message: str | bytes) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        self.messages.append(message)
        self.followed.append(self.ingress.has_more)
        return self.wait

    def take_ping(self, payload: bytes) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        self.pings.append(payload)
        return self.wait

    async def take_passed(self) -> None:
        """See `IngressOwner`."""
        self.messages.append(await self.next_passed())

    def close(self, code: int) -> None:
        """See `IngressOwner`."""
        self.violations.append(code)

    def failed(self) -> None:
        """See `IngressOwner`."""


async def test_messages_are_handed_out_as_they_come(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"a") + masked(0x82, b"b"), masked(0x81, b"c"))
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert (stage.messages, stage.signs_of_life) == (["a", b"b", "c"], 2)
    assert stage.followed == [True, False, False]
    nursery.cancel_scope.cancel()


async def test_what_follows_a_message_passed_on_waits_until_that_was_taken(nursery: trio.Nursery) -> None:
    slow = masked(0x01, b"a") + masked(0x80, b"b")
    stage = Stage(masked(0x81, b"first") + slow + masked(0x81, b"last"))
    assert await stage.ingress.receive() + await stage.ingress.receive() == slow
    come = trio.Event()

    async def passed() -> str:
        await come.wait()
        return "ab"

    stage.next_passed = passed
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert stage.messages == ["first"]
    come.set()
    await wait_all_tasks_blocked()
    assert stage.messages == ["first", "ab", "last"]
    nursery.cancel_scope.cancel()


async def test_a_ping_is_answered_among_the_messages_and_is_a_sign_of_life(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"a") + masked(0x89, b"ping"), masked(0x89, b""))
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert (stage.messages, stage.pings, stage.signs_of_life) == (["a"], [b"ping", b""], 2)
    assert stage.followed == [True]
    nursery.cancel_scope.cancel()


async def test_nothing_is_read_while_a_message_is_waited_for(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"a") * 2, masked(0x8A, b""))
    room = trio.Event()
    stage.wait = room.wait
    nursery.start_soon(stage.ingress.receive)
    await wait_all_tasks_blocked()
    assert stage.messages == ["a"]
    assert not stage.ingress.has_more
    room.set()
    await wait_all_tasks_blocked()
    assert stage.messages == ["a", "a"]


async def test_others_get_their_turn_among_many_messages(nursery: trio.Nursery) -> None:
    stage = Stage(masked(0x81, b"x") * (FRAMES_AT_ONCE * 3) + masked(0x88, b""))
    nursery.start_soon(stage.ingress.receive)
    seen = []
    while len(stage.messages) < FRAMES_AT_ONCE * 3:
        await trio.lowlevel.checkpoint()
        seen.append(len(stage.messages))
    assert {FRAMES_AT_ONCE, FRAMES_AT_ONCE * 2} & set(seen)


async def test_a_stream_that_trio_websocket_gave_up_waits_for_nobody() -> None:
    stage = Stage(masked(0x81, b"\xff"), masked(0x81, b"late"), b"")
    await stage.ingress.receive()
    stage.ingress.refused()
    assert await stage.ingress.receive() != b""
    assert await stage.ingress.receive() == b""
    assert stage.messages == []


async def test_the_end_of_the_stream_within_a_frame_is_its_end() -> None:
    stage = Stage(masked(0x81, b"cut")[:-1], b"")
    assert await stage.ingress.receive() == b""
    assert (stage.messages, stage.signs_of_life) == ([], 0)

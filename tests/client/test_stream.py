from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from livechat.client.stream import QUEUED_BYTES_MAX, GatheringStream


class Wire(trio.abc.Stream):
    """A stream whose writes a test lets through one by one, or all."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.writes: list[bytes] = []
        self.times: list[float] = []
        self.incoming: list[bytes] = []
        self.is_closed = False
        self._is_open = is_open
        self._fails = False
        self._lot = trio.lowlevel.ParkingLot()

    def let_through(self) -> None:
        self._is_open = True
        self._lot.unpark_all()

    def fail(self) -> None:
        self._fails = True
        self.let_through()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append(bytes(data))
        self.times.append(trio.current_time())
        while not self._is_open:
            await self._lot.park()
        if self._fails:
            raise trio.BrokenResourceError("reset")

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError("nobody asks")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.is_closed:
            raise trio.ClosedResourceError
        return self.incoming.pop(0) if self.incoming else b""

    async def aclose(self) -> None:
        self.is_closed = True
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def gathering(wire: Wire, *, linger_s: float = 0.0, frames_max: int = 50) -> AsyncGenerator[GatheringStream]:
    stream = GatheringStream(wire, linger_s=linger_s, frames_max=frames_max)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.write_loop)
        yield stream
        nursery.cancel_scope.cancel()


async def test_a_lone_frame_goes_at_once(autojump_clock: MockClock) -> None:
    wire = Wire()
    async with gathering(wire) as stream:
        await stream.send_all(b"one")
        await stream.flush()
    assert (wire.writes, wire.times) == ([b"one"], [0.0])


async def test_what_comes_during_a_write_goes_by_the_next_one() -> None:
    wire = Wire(is_open=False)
    async with gathering(wire) as stream:
        await stream.send_all(b"first")
        await wait_all_tasks_blocked()
        for frame in (b"a", b"b", b"c"):
            await stream.send_all(frame)
        wire.let_through()
        await stream.flush()
    assert wire.writes == [b"first", b"abc"]


async def test_a_burst_is_written_together() -> None:
    wire = Wire()
    async with gathering(wire) as stream:
        with stream.burst():
            for frame in (b"a", b"b", b"c"):
                await stream.send_all(frame)
                await wait_all_tasks_blocked()
        await stream.flush()
    assert wire.writes == [b"abc"]


async def test_so_many_frames_at_most_are_joined() -> None:
    wire = Wire()
    async with gathering(wire, frames_max=50) as stream:
        with stream.burst():
            for _ in range(120):
                await stream.send_all(b"x")
        await stream.flush()
    assert [len(write) for write in wire.writes] == [50, 50, 20]


async def test_linger_waits_for_more(autojump_clock: MockClock) -> None:
    wire = Wire()
    async with gathering(wire, linger_s=0.1) as stream:
        await stream.send_all(b"a")
        await trio.sleep(0.06)
        await stream.send_all(b"b")
        await stream.flush()
        await stream.send_all(b"c")
        await stream.flush()
    assert wire.writes == [b"ab", b"c"]
    assert wire.times == pytest.approx([0.1, 0.2])


async def test_linger_does_not_wait_for_more_than_go_together(autojump_clock: MockClock) -> None:
    wire = Wire()
    async with gathering(wire, linger_s=0.1, frames_max=3) as stream:
        for _ in range(3):
            await stream.send_all(b"x")
        await stream.flush()
    assert (wire.writes, wire.times) == ([b"xxx"], [0.0])


async def test_who_sends_too_much_waits() -> None:
    wire = Wire(is_open=False)
    async with gathering(wire) as stream, trio.open_nursery() as nursery:
        await stream.send_all(bytes(QUEUED_BYTES_MAX))
        sent = trio.Event()

        async def send() -> None:
            await stream.wait_send_all_might_not_block()
            await stream.send_all(b"more")
            sent.set()

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert not sent.is_set()
        wire.let_through()
        await sent.wait()
        await stream.flush()
    assert wire.writes[-1] == b"more"


async def test_a_broken_connection_is_told_to_both_directions() -> None:
    wire = Wire(is_open=False)
    async with gathering(wire) as stream:
        await stream.send_all(b"a")
        await wait_all_tasks_blocked()
        wire.fail()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"b")
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()
        await stream.flush()
        assert stream.handshake.cancel_called


async def test_a_connection_that_breaks_during_a_write_is_no_more_written_to() -> None:
    wire = Wire(is_open=False)
    async with gathering(wire) as stream:
        await stream.send_all(b"a")
        await wait_all_tasks_blocked()
        await stream.aclose()
        wire.let_through()
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"b")
    assert wire.writes == [b"a"]


async def test_the_end_of_the_stream_ends_a_handshake_that_waits() -> None:
    wire = Wire()
    wire.incoming.append(b"data")
    async with gathering(wire) as stream:
        assert await stream.receive_some() == b"data"
        assert not stream.handshake.cancel_called
        assert await stream.receive_some() == b""
        assert stream.handshake.cancel_called


async def test_closing_drops_what_is_queued() -> None:
    wire = Wire(is_open=False)
    async with gathering(wire) as stream:
        await stream.send_all(b"a")
        await stream.aclose()
        await stream.flush()
    assert wire.is_closed

"""Owns how frames are joined: the stream beneath trio-websocket, which gathers sends and writes them together.

It must not know packets or WebSocket, but that every `send_all` is one whole frame: trio-websocket calls it so,
for our messages as for its own handshake, pongs and close frames, and they leave in that order.

    send_all ──► queue ──► write_loop: join so many frames ──► the real stream
                  ▲ more come in: while the caller has more to say (`burst`), for `linger_s`, and during a write
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import trio

QUEUED_BYTES_MAX: Final = 1 << 20
"""Beyond it `send_all` waits."""


class GatheringStream(trio.abc.Stream):
    """A stream whose sends are written together.

    Args:
        stream: the connection.
        linger_s: how long the first frame waits for more; 0: not at all.
        frames_max: frames that are joined into one write.
    """

    def __init__(self, stream: trio.abc.Stream, *, linger_s: float, frames_max: int) -> None:
        self._stream = stream
        self._linger_s = linger_s
        self._frames_max = frames_max
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._bursts = 0
        self._is_broken = False
        self._arrived = trio.lowlevel.ParkingLot()
        self._left = trio.lowlevel.ParkingLot()
        self.handshake = trio.CancelScope()
        """Cancelled when the stream ends: before the handshake is answered trio-websocket would wait for ever."""

    @contextmanager
    def burst(self) -> Generator[None]:
        """Say that more frames follow at once: they are written together once the block is left."""
        self._bursts += 1
        try:
            yield
        finally:
            self._bursts -= 1
            self._arrived.unpark_all()

    async def write_loop(self) -> None:
        """Write what is queued, until the stream breaks."""
        while not self._is_broken:
            if not self._queue:
                await self._arrived.park()
                continue
            if self._linger_s:
                with trio.move_on_after(self._linger_s):
                    while not self._is_full:
                        await self._arrived.park()
            if self._bursts and not self._is_full:
                await self._arrived.park()
                continue
            await self._write()

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= self._frames_max or self._queued_bytes >= QUEUED_BYTES_MAX or self._is_broken

    async def _write(self) -> None:
        frames = list(islice(self._queue, self._frames_max))
        data = b"".join(frames)
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break()
            # Whoever reads notices it too: the connection is over, not only this direction.
            await trio.aclose_forcefully(self._stream)
            return
        if self._is_broken:
            return  # the reader found out during the write, and the queue is empty
        for _ in frames:
            self._queue.popleft()
        self._queued_bytes -= len(data)
        self._left.unpark_all()

    async def flush(self) -> None:
        """Wait until everything is written, or can't be."""
        while self._queue and not self._is_broken:
            await self._left.park()

    def _break(self) -> None:
        self._is_broken = True
        self._queue.clear()
        self._queued_bytes = 0
        self._left.unpark_all()
        self._arrived.unpark_all()
        self.handshake.cancel()

    # --- trio.abc.Stream, for trio-websocket ----------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue one frame; wait only while too much is queued.

        Cancellation:
            The frame was not queued.
        """
        await trio.lowlevel.checkpoint()
        while self._queued_bytes >= QUEUED_BYTES_MAX:
            await self._left.park()
        if self._is_broken:
            raise trio.BrokenResourceError("the connection failed")
        if data:
            self._queue.append(bytes(data))
            self._queued_bytes += len(data)
            self._arrived.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait while too much is queued."""
        await trio.lowlevel.checkpoint()
        while self._queued_bytes >= QUEUED_BYTES_MAX:
            await self._left.park()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read from the connection."""
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._break()
            raise
        if not data:
            self.handshake.cancel()
        return data

    async def aclose(self) -> None:
        """Close the connection; what is still queued is dropped."""
        self._break()
        await self._stream.aclose()

"""A transport in memory whose socket buffer opens and closes as a test says, and a reader of server frames."""

from __future__ import annotations

import errno

import trio

UNLIMITED = 1 << 40


class ScriptedSocket:
    """The socket of a transport in memory, as far as it is sent to past it."""

    def __init__(self, transport: ScriptedTransport) -> None:
        self._transport = transport

    def send(self, data: bytes, /) -> int:
        """Send as a socket does."""
        taken = self._transport.send_nowait(data)
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "the buffer is full")
        return taken


class ScriptedTransport:
    """A `livechat.gateway.transport.Transport` without a socket.

    Args:
        room: how many bytes the peer's side takes before it is full.
        most: how many bytes one send takes at most.
    """

    is_tls = False
    local_host = "127.0.0.1"
    peer_host = "127.0.0.1"
    unsent_bytes = 0
    withheld_bytes = 0

    def __init__(self, room: int = UNLIMITED, *, most: int = UNLIMITED) -> None:
        self.room = room
        self.most = most
        self.sent = bytearray()
        self.sends: list[int] = []
        """The size of each send that took something."""
        self.log: list[str] = []
        """`flush`, `eof` and `abort`, in order."""
        self._incoming: list[bytes] = []
        self._failed = False
        self._waiting = trio.lowlevel.ParkingLot()
        self.socket = ScriptedSocket(self)

    # --- what a test does ------------------------------------------------------------------------------

    def open(self, room: int = UNLIMITED) -> None:
        """Let the peer take so many bytes more."""
        self.room += room
        self._waiting.unpark_all()

    def fail(self, *, silently: bool = False) -> None:
        """Break the connection, as a reset would.

        Args:
            silently: who waits for it is not woken; only who tries it is told.
        """
        self._failed = True
        if not silently:
            self._waiting.unpark_all()

    def feed(self, *chunks: bytes) -> None:
        """Have the peer send something; an empty chunk is its end of stream."""
        self._incoming.extend(chunks)
        self._waiting.unpark_all()

    # --- the transport ---------------------------------------------------------------------------------

    def send_nowait(self, data: bytes) -> int:
        self._check()
        assert data, "an empty send tells nothing"
        taken = min(len(data), self.room, self.most)
        if taken:
            self.sent += data[:taken]
            self.sends.append(taken)
            self.room -= taken
        return taken

    async def send(self, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        while not (taken := self.send_nowait(data)):
            await self._waiting.park()
        return taken

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        while not self.room:
            await self._waiting.park()
            self._check()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.log.append("flush")

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            self._check()
            if self._incoming:
                return self._incoming.pop(0)
            await self._waiting.park()

    def send_eof(self) -> None:
        self.log.append("eof")

    def abort(self) -> None:
        self.log.append("abort")
        self._failed = True
        self._waiting.unpark_all()

    def _check(self) -> None:
        if self._failed:
            raise OSError(errno.ECONNRESET, "the peer went away")


def split_frames(stream: bytes, *, compressed: bool = False) -> list[tuple[int, bytes]]:
    """Cut a server's byte stream into frames (first byte, payload); it must end where a frame ends.

    Source: RFC 6455, section 5.2.
    """
    frames = []
    while stream:
        first, size, head = stream[0], stream[1], 2
        assert size < 128, "servers do not mask"
        if size >= 126:
            head += 2 if size == 126 else 8
            size = int.from_bytes(stream[2:head], "big")
        assert len(stream) >= head + size, "the stream ends within a frame"
        assert first in (0x81, 0x82, 0x88, 0x8A) or (compressed and first in (0xC1, 0xC2)), (
            f"no frame begins with {first:#x}"
        )
        frames.append((first, bytes(stream[head : head + size])))
        stream = stream[head + size :]
    return frames

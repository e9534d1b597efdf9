"""Owns one connection's egress queue: the stream beneath trio-websocket, which is the queue itself.

It must not know packets or sessions. Whole frames go in (`push`), from the fan-out as from trio-websocket's own
handshake, pongs and close; they leave in that order. While the queue is empty a frame is sent at once,
without a task switch; else one parked writer joins what has gathered. The publisher never waits.

    push ──► queue empty? ──► socket            (no switch)
                  │ no, or the socket is full
                  ▼
             deque, bytes and frames bounded ──► write_loop ──► socket
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

from livechat.gateway.head import END_OF_HEAD
from livechat.gateway.transport import Transport
from livechat.hub.users import Mark
from livechat.protocol.frames import CLOSE_HEAD, FrameScanner, serialize_close
from livechat.protocol.opcodes import CloseCode
from livechat.telemetry.counters import Counters, DropReason

JOIN_FRAMES_MAX: Final = 64
JOIN_BYTES_MAX: Final = 262_144
"""How much the writer joins into one send."""
CROWDED_SHARE: Final = 0.25
FRAMES_AT_ONCE: Final = 64
"""Frames given to trio-websocket before other tasks get their turn: it handles pongs, pings and fragments
without a checkpoint, and 64 KiB may hold ten thousand of them."""
FRAGMENTS_MAX: Final = 4096
"""Frames that one message may come in; empty ones would grow no other count."""
LINGER_BYTES_MAX: Final = 1 << 20
"""How much a closing connection still reads before it is cut."""


@attrs.frozen
class EgressLimits:
    """When a client counts as a slow consumer."""

    bytes_max: int = 1 << 20
    """Bytes that wait in one connection's queue."""
    frames_max: int = 4096
    """Frames that wait in one connection's queue."""


class EgressStream(trio.abc.Stream):
    """The stream given to trio-websocket.

    Args:
        transport: the connection.
        limits: past either, `on_overflow` is called once and the queue takes no more.
        received: what was read already, and is to be read again.
        on_frames: called when complete frames have come from the client.
        on_overflow: called when the client has become a slow consumer.
        on_violation: called when the client announces a message that is too large or too fragmented.
        message_bytes_max: the largest message; may be changed later.
        counters: where bytes and drops are counted.
    """

    def __init__(
        self,
        transport: Transport,
        limits: EgressLimits,
        *,
        received: bytes,
        on_frames: Callable[[], None],
        on_overflow: Callable[[], None],
        on_violation: Callable[[CloseCode], None],
        message_bytes_max: int,
        counters: Counters | None = None,
    ) -> None:
        self._counters = Counters() if counters is None else counters
        self._transport = transport
        self._limits = limits
        self._crowded_frames = int(limits.frames_max * CROWDED_SHARE)
        self._crowded_bytes = int(limits.bytes_max * CROWDED_SHARE)
        head, end, rest = received.partition(END_OF_HEAD)
        self._counters.bytes_in += len(received)
        self._head: bytes | None = head + end
        self._held = rest
        """Read from the transport, and not yet given to trio-websocket."""
        self.message_bytes_max = message_bytes_max
        self._upgraded = trio.Event()
        self.handshake = trio.CancelScope()
        """Cancelled when trio-websocket closes the stream, which before the handshake means that it refused it."""
        self._on_frames = on_frames
        self._on_overflow = on_overflow
        self._on_violation = on_violation
        self._scanner = FrameScanner()
        self._queue: deque[bytes] = deque()
        self._marks: deque[Mark | None] = deque()
        """What each frame of the queue carries that must be told again if it is not sent."""
        self._unsent: list[Mark] = []
        """Of frames that were taken and never sent whole."""
        self._queued_bytes = 0
        self._pinned = 0
        """Frames at the head of the queue that must stay: the first went in part, or the writer has them."""
        self._writer = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self.close_sent = False
        """A close frame was pushed: nothing may follow it (RFC 6455, section 5.5.1)."""
        self.broken = False
        """The connection failed; there is nobody to write to."""
        self.overflowed = False

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""
        return self._queued_bytes

    @property
    def queued_frames(self) -> int:
        """Frames that wait."""
        return len(self._queue)

    @property
    def is_crowded(self) -> bool:
        """Whether a share of the limits is used up that what can wait should leave to what can't."""
        return len(self._queue) > self._crowded_frames or self._queued_bytes > self._crowded_bytes

    async def wait_room(self) -> None:
        """Wait until it is not crowded."""
        await trio.lowlevel.checkpoint()
        while self.is_crowded:
            await self._room.park()

    # --- in ---------------------------------------------------------------------------------------

    def push(self, frame: bytes, mark: Mark | None = None) -> None:
        """Send a frame now or queue it; never waits, never raises.

        Args:
            mark: what it carries that must be told again if it is not sent; see `cut`.
        """
        if self.close_sent or self.broken or self.overflowed:
            self._note_unsent(mark, self._why_closed())
            return
        if frame[0] == CLOSE_HEAD:
            self.close_sent = True
        self._put(frame, mark)

    def push_later(self, frame: bytes, mark: Mark | None = None) -> None:
        """Queue a frame for the writer, which joins it with what follows: many small ones cost few sends."""
        if self._queue or self.close_sent or self.broken or self.overflowed:
            self.push(frame, mark)
        else:
            self._append(frame, mark)

    def _why_closed(self) -> DropReason:
        if self.overflowed:
            return "slow_consumer"
        return "connection_lost" if self.broken else "connection_closed"

    def _note_unsent(self, mark: Mark | None, reason: DropReason) -> None:
        if mark is None:
            self._counters.drops["transient", reason] += 1
        else:
            self._counters.drops["durable", reason] += 1
            self._unsent.append(mark)

    def cut(self) -> list[Mark]:
        """Send no more frames that have a mark; return the marks of all that were never sent whole."""
        if any(self._marks):
            self.abort()
        return self._unsent

    def push_close(self, code: int, reason: str, *, drop_queue: bool = False) -> None:
        """Queue the close frame; with `drop_queue` ahead of everything that has not begun to leave."""
        if self.close_sent or self.broken:
            return
        if drop_queue:
            dropped: list[Mark | None] = []
            while len(self._queue) > self._pinned:
                self._queued_bytes -= len(self._queue.pop())
                dropped.append(self._marks.pop())
            for mark in reversed(dropped):
                self._note_unsent(mark, self._why_closed())
        self.close_sent = True
        self._put(serialize_close(code, reason), None)

    def _put(self, frame: bytes, mark: Mark | None) -> None:
        if not self._queue:
            try:
                sent = self._transport.send_nowait(frame)
            except OSError:
                self.broken = True
                self._note_unsent(mark, "connection_lost")
                self._writer.unpark_all()
                return
            self._counters.bytes_out += sent
            if sent == len(frame):
                if self._transport.has_unsent:
                    self._writer.unpark_all()
                return
            if sent:
                frame = frame[sent:]
                self._pinned = 1
            self._append(frame, mark)
            return
        self._append(frame, mark)
        if len(self._queue) > self._limits.frames_max or self._queued_bytes > self._limits.bytes_max:
            self._overflow()

    def _append(self, frame: bytes, mark: Mark | None) -> None:
        self._queue.append(frame)
        self._marks.append(mark)
        self._queued_bytes += len(frame)
        self._writer.unpark_all()

    def _overflow(self) -> None:
        if not self.overflowed and not self.close_sent:
            self.overflowed = True
            self._on_overflow()

    # --- out --------------------------------------------------------------------------------------

    async def write_loop(self) -> None:
        """Send what is queued, for ever; return when the connection is broken."""
        while not self.broken:
            if self._queue:
                await self._write_some()
            elif self._transport.has_unsent:
                # TLS took the last frame whole, the socket did not; there may be no next one to push it on.
                await self._flush()
            else:
                await self._writer.park()

    async def _flush(self) -> None:
        try:
            await self._transport.flush()
        except (OSError, trio.ClosedResourceError):
            self.broken = True

    async def _write_some(self) -> None:
        frames = 0
        size = 0
        for frame in self._queue:
            if frames == JOIN_FRAMES_MAX or (frames and size + len(frame) > JOIN_BYTES_MAX):
                break
            frames += 1
            size += len(frame)
        queue = self._queue
        data = queue[0] if frames == 1 else b"".join([queue[i] for i in range(frames)])
        # Pinned first: while the transport waits, `push_close` must not drop what is being sent.
        pinned_before, self._pinned = self._pinned, frames
        sent = 0
        try:
            sent = await self._transport.send(data)
        except (OSError, trio.ClosedResourceError):
            self.broken = True
        finally:
            self._pinned = min(pinned_before, 1)
            self._consume(sent)

    def _consume(self, sent: int) -> None:
        if not sent:
            return
        self._pinned = 0
        self._counters.bytes_out += sent
        self._queued_bytes -= sent
        queue = self._queue
        while queue and sent >= len(queue[0]):
            sent -= len(queue.popleft())
            self._marks.popleft()
        if sent:
            queue[0] = queue[0][sent:]
            self._pinned = 1
        if not self.is_crowded:
            self._room.unpark_all()

    async def finish(self) -> None:
        """Send what is left and wait for the peer to close; the caller sets the deadline.

        Closing a socket with unread bytes in it sends a reset, which may take our close frame along; so the
        peer's last bytes are read, up to its own end of stream.
        """
        try:
            while self._queue and not self.broken:
                await self._write_some()
            if self.broken:
                return
            await self._transport.flush()
            self._transport.send_eof()
            left = LINGER_BYTES_MAX
            while left > 0 and (data := await self._transport.receive()):
                left -= len(data)
        except (OSError, trio.ClosedResourceError):
            self.broken = True

    def abort(self) -> None:
        """Close the socket at once and forget the queue."""
        for mark in self._marks:
            self._note_unsent(mark, self._why_closed())
        self._queue.clear()
        self._marks.clear()
        self._queued_bytes = 0
        self.broken = True
        self._writer.unpark_all()
        self._transport.abort()

    # --- trio.abc.Stream, for trio-websocket ---------------------------------------------------------

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue trio-websocket's handshake, pong or close: always whole frames, so they keep their order."""
        await trio.lowlevel.checkpoint()
        self._upgraded.set()
        if data:
            self.push(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Sending never blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes from the client; empty at the end of the stream."""
        if self._head is not None:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, None
            return head
        # wsproto takes no frames before the handshake is answered; some clients send them at once.
        await self._upgraded.wait()
        if self._held:
            await trio.lowlevel.checkpoint()
        else:
            try:
                self._held = await self._transport.receive()
            except OSError as exc:
                self.broken = True
                raise trio.BrokenResourceError("the connection failed") from exc
            self._counters.bytes_in += len(self._held)
        return self._take_frames()

    def _take_frames(self) -> bytes:
        """Take the next few frames, or what has come of one, from what was received."""
        scanner = self._scanner
        frames_before = scanner.frames
        size = scanner.scan(self._held, FRAMES_AT_ONCE)
        data, self._held = self._held[:size], self._held[size:]
        if scanner.frames > frames_before:
            self._on_frames()
        if scanner.message_bytes > self.message_bytes_max:
            self._on_violation(CloseCode.MESSAGE_TOO_BIG)
        elif scanner.fragments > FRAGMENTS_MAX:
            self._on_violation(CloseCode.PROTOCOL_ABUSE)
        return data

    async def aclose(self) -> None:
        """Only end the handshake: the connection still has to flush the queue, and closes by `finish`, `abort`."""
        self.handshake.cancel()
        await trio.lowlevel.checkpoint()

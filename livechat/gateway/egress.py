"""Owns one connection's egress queue: what is sent at once, what waits (`backlog`), and who sends that.

It must not know packets, sessions or what the client sends (`ingress`). Whole frames go in (`push`), from the
fan-out as from trio-websocket's own handshake, pongs and close (`stream`). While nothing waits a frame is sent at
once, without a task switch; else a writer, there only as long as something waits, joins what has gathered. The
publisher never waits.

    push ──► nothing waits? ──► socket                        (no switch)
                  │ no, or the socket is full
                  ▼
             Backlog, bounded by class ──► write_loop ──► socket

What goes is decided only when the socket has room: until then a newer frame may make another needless, chunks may
be dropped, and a close frame may go ahead of all but the rest of a frame that has left in part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import trio

from livechat.gateway.backlog import Backlog
from livechat.gateway.budget import EgressPool
from livechat.gateway.closing import NOBODY
from livechat.gateway.transport import Transport
from livechat.hub.users import Mark
from livechat.protocol.codec import JSON, Codec
from livechat.protocol.delivery import StateMark
from livechat.protocol.frames import CLOSE_HEAD, serialize_close
from livechat.protocol.outgoing import ChunkMark, Tag, is_mark
from livechat.protocol.types import ChannelId, StreamKey
from livechat.telemetry.counters import DropReason

LINGER_BYTES_MAX: Final = 1 << 20
"""How much a closing connection still reads before it is cut."""


class EgressOwner(Protocol):
    """Whose queue it is: the connection."""

    def start_writer(self) -> None:
        """Run `write_loop` in a task; if none can be run any more, `finish` sends what is left.

        Called as well when the connection has broken: then `write_loop` returns at once.
        """
        ...

    def overflow(self) -> None:
        """Close the connection, whose client has become a slow consumer. Called once."""
        ...


class EgressQueue:
    """What waits for one client, and the way it leaves.

    Args:
        transport: the connection.
        pool: limits, counters and the budget, which it shares with all other queues.
    """

    __slots__ = (
        "_backlog",
        "_counters",
        "_has_writer",
        "_is_shut",
        "_owner",
        "_pool",
        "_room",
        "_socket",
        "_taken",
        "_transport",
        "_unsent",
        "_writing",
        "broken",
        "chunks_dropped",
        "close_sent",
        "codec",
        "held_bytes",
        "overflowed",
    )

    def __init__(self, transport: Transport, pool: EgressPool, owner: EgressOwner) -> None:
        self._transport = transport
        self._socket = transport.socket
        self.codec: Codec = JSON
        """What the frames are written in that it is pushed."""
        self._pool = pool
        self._counters = pool.counters
        self._owner = owner
        self._backlog: Backlog | None = None
        """None while nothing waits: most queues, most of the time."""
        self._unsent: list[Mark] | None = None
        """Of frames that were taken and never sent whole."""
        self._taken: Sequence[tuple[int, Tag | None]] = ()
        """Size and tag of the frames of the last send, where the transport has taken more than it could send."""
        self._room: trio.lowlevel.ParkingLot | None = None
        self._has_writer = False
        self._writing: trio.CancelScope | None = None
        """Of the writer, while it runs."""
        self._is_shut = False
        """Nothing is taken any more, for one of the next three."""
        self.close_sent = False
        """A close frame was pushed: nothing may follow it (RFC 6455, section 5.5.1)."""
        self.broken = False
        """The connection failed; there is nobody to write to."""
        self.overflowed = False
        self.chunks_dropped = 0
        """Chunks that this client has not got as it reads too slowly."""
        self.held_bytes = 0
        """What the budget was told last."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""
        return 0 if self._backlog is None else self._backlog.waiting_bytes

    @property
    def queued_frames(self) -> int:
        """Frames that wait."""
        return 0 if self._backlog is None else self._backlog.waiting_frames

    @property
    def droppable_bytes(self) -> int:
        """Bytes of chunks that wait."""
        return 0 if self._backlog is None else self._backlog.droppable_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether a share of the limits is used up that what can wait should leave to what can't."""
        backlog = self._backlog
        return backlog is not None and self._pool.limits.are_neared(backlog.durable_frames, backlog.durable_bytes)

    async def wait_room(self) -> None:
        """Wait until it is not crowded."""
        await trio.lowlevel.checkpoint()
        while self.is_crowded:
            if self._room is None:
                self._room = trio.lowlevel.ParkingLot()
            await self._room.park()

    # --- in ---------------------------------------------------------------------------------------

    def push(self, frame: bytes, tag: Tag | None = None) -> None:
        """Send a data frame now or queue it; never waits, never raises.

        Args:
            tag: its delivery class, and what it carries that must be told again if it is not sent; see `cut`.
        """
        if self._backlog is not None or self._is_shut:
            self._push_behind(frame, tag)
            return
        try:
            sent = self._transport.send_nowait(frame)
        except OSError:
            self.fail()
            self._note_unsent(tag)
            return
        self._counters.bytes_out += sent
        if sent == len(frame):
            if self._transport.unsent_bytes:
                self._taken = ((sent, tag),)
                self._settle()
        elif sent:
            self._begin(frame[sent:], tag)
        else:
            self._backlog = Backlog()
            self._append(frame, tag)

    def push_all(self, joined: bytes, frames: Sequence[bytes], tags: Sequence[Tag | None]) -> None:
        """Send several data frames now, in one piece, or queue them; never waits, never raises.

        Args:
            joined: all of `frames`, one after another; made once for all who get them.
            tags: of each frame; see `push`.
        """
        if self._backlog is not None or self._is_shut:
            for frame, tag in zip(frames, tags, strict=True):
                self.push(frame, tag)
            return
        try:
            sent = self._transport.send_nowait(joined)
        except OSError:
            self._fail_with(tags)
            return
        self._counters.bytes_out += sent
        if sent < len(joined):
            self._queue_rest(sent, frames, tags)
        elif self._transport.unsent_bytes:
            self._taken = [(len(frame), tag) for frame, tag in zip(frames, tags, strict=True)]
            self._settle()

    def _fail_with(self, tags: Sequence[Tag | None]) -> None:
        """Note that the connection failed as frames were to be sent."""
        self.fail()
        for tag in tags:
            self._note_unsent(tag)

    def _queue_rest(self, sent: int, frames: Sequence[bytes], tags: Sequence[Tag | None]) -> None:
        """Queue what did not go of several frames that were sent in one piece.

        Each on its own again: what has not begun to leave may yet be superseded or cut.
        """
        for frame, tag in zip(frames, tags, strict=True):
            if sent >= len(frame):
                sent -= len(frame)
            elif sent:
                self._begin(frame[sent:], tag)
                sent = 0
            elif self._backlog is None and not self._is_shut:
                self._backlog = Backlog()
                self._append(frame, tag)
            else:
                self._push_behind(frame, tag)

    def push_later(self, frame: bytes, tag: Tag | None = None) -> None:
        """Queue a frame for the writer, which joins it with what follows: many small ones cost few sends."""
        if self._backlog is not None or self._is_shut:
            self._push_behind(frame, tag)
        else:
            self._backlog = Backlog()
            self._append(frame, tag)

    def push_control(self, data: bytes) -> None:
        """Send or queue trio-websocket's handshake, a pong or a close; never waits, never raises."""
        if data[0] != CLOSE_HEAD:
            self.push(data)
        elif not self._is_shut:
            self._put_close(data)

    def push_close(self, code: int, reason: str, *, drop_queue: bool = False) -> None:
        """Queue the close frame; with `drop_queue` ahead of everything that has not begun to leave."""
        if self.close_sent or self.broken:
            return
        if drop_queue and self._backlog is not None:
            self._drop_line(self._backlog)
        self._put_close(serialize_close(code, reason))

    def _put_close(self, frame: bytes) -> None:
        if self._backlog is not None:
            # They would come after it.
            self._counters.drops["droppable", self._why_shut()] += self._backlog.drop_chunks()
            if self._backlog.is_empty:
                self._backlog = None
        # Before it is pushed, as it must not count as an overflow; and it goes to a slow consumer as well.
        self.close_sent = True
        self._is_shut = False
        self.push(frame)
        self._is_shut = True
        if not self.broken:
            self._settle()

    def _push_behind(self, frame: bytes, tag: Tag | None) -> None:
        """Queue a frame where others wait, or refuse it."""
        if self._is_shut:
            self._note_unsent(tag)
            return
        assert self._backlog is not None
        # If nothing waits, it is there for streams with a gap alone.
        self._append(frame, tag, may_go=self._backlog.is_empty)

    def _begin(self, rest: bytes, tag: Tag | None) -> None:
        self._backlog = Backlog()
        self._backlog.begin(rest, tag)
        self._settle()

    def _append(self, frame: bytes, tag: Tag | None, *, may_go: bool = False) -> None:
        backlog, limits = self._backlog, self._pool.limits
        assert backlog is not None
        if type(tag) is ChunkMark:
            dropped = backlog.append_chunk(
                frame, tag, bytes_max=limits.chunk_bytes_max, frames_max=limits.chunk_frames_max
            )
            if dropped:
                self._note_dropped(dropped)
        elif backlog.append(frame, tag):
            self._counters.superseded += 1
        if may_go and not self._send_waiting():
            return
        if limits.are_passed(backlog.durable_frames, backlog.durable_bytes):
            self._overflow()
        self._settle()

    def _overflow(self) -> None:
        if not self.overflowed and not self.close_sent:
            self.overflowed = self._is_shut = True
            self._owner.overflow()

    def _settle(self) -> None:
        """Tell the budget what is held by now, and see to it that somebody sends it. Comes last: it may evict."""
        backlog = self._backlog
        if backlog is not None and backlog.is_over:
            backlog = self._backlog = None
        if self._taken and not self._transport.unsent_bytes:
            self._taken = ()
        before = self.held_bytes
        self.held_bytes = now = self._transport.unsent_bytes + (0 if backlog is None else backlog.waiting_bytes)
        if now and not self._has_writer:
            self._start_writer()
        if now != before:
            self._pool.budget.note(self, before, now)

    def _start_writer(self) -> None:
        if not self._has_writer:
            self._has_writer = True
            self._owner.start_writer()

    # --- what is not sent -------------------------------------------------------------------------

    def _why_shut(self) -> DropReason:
        if self.overflowed:
            return "slow_consumer"
        return "connection_lost" if self.broken else "connection_closed"

    def _note_unsent(self, tag: Tag | None) -> None:
        """Count a frame that will never be sent whole, and keep what must be told again."""
        reason = self._why_shut()
        if isinstance(tag, ChunkMark):
            self._counters.drops["droppable", reason] += 1
        elif tag is None or isinstance(tag, StateMark):
            self._counters.drops["transient", reason] += 1
        else:
            self._counters.drops["durable", reason] += 1
            if self._unsent is None:
                self._unsent = []
            self._unsent.append(tag)

    def _note_dropped(self, chunks: int) -> None:
        self.chunks_dropped += chunks
        self._counters.drops["droppable", "queue_full"] += chunks

    def _drop_line(self, backlog: Backlog) -> None:
        for tag in backlog.drop_line():
            self._note_unsent(tag)

    def cut(self) -> Sequence[Mark]:
        """Send no more frames that must be told again; return the marks of all that were never sent whole."""
        waiting = () if self._backlog is None else self._backlog.tags()
        if any(is_mark(tag) for tag in (*self._withheld(), *waiting)):
            self.abort()
        return self._unsent or ()

    def _withheld(self) -> list[Tag | None]:
        """Return the tags of the frames that the transport has taken, and the peer can't have got whole."""
        tags = []
        left = self._transport.withheld_bytes
        for size, tag in reversed(self._taken):
            if left <= 0:
                break
            tags.append(tag)
            left -= size
        return tags[::-1]

    def drop_chunks(self, channel_id: ChannelId | None = None) -> None:
        """Drop the chunks that have not begun to leave, or those of one channel: nobody misses those of that."""
        if self._backlog is not None:
            dropped = self._backlog.drop_chunks(channel_id)
            if channel_id is None:
                self._note_dropped(dropped)
            self._settle()

    def forget_stream(self, stream: StreamKey) -> None:
        """Forget what was dropped of a stream that is over."""
        if self._backlog is not None:
            self._backlog.forget_stream(stream)
            self._settle()

    def evict(self) -> None:
        """Close the connection as that of a slow consumer: all queues together hold too much, this one most."""
        if self.close_sent or self.broken:
            # What it holds is on its way out already, too slowly.
            self.abort()
            return
        self._overflow()
        if self._backlog is not None and not self.close_sent:
            self._drop_line(self._backlog)
            self._note_dropped(self._backlog.drop_chunks())
        self._settle()

    # --- out --------------------------------------------------------------------------------------

    async def write_loop(self) -> None:
        """Send until nothing waits any more, or the connection is broken."""
        try:
            with trio.CancelScope() as self._writing:
                while not self.broken and self.held_bytes:
                    await self._write_some()
        finally:
            self._has_writer, self._writing = False, None

    async def _write_some(self) -> None:
        try:
            await self._transport.wait_writable()
            # Only now, and with no wait from here on.
            if not self._send_waiting():
                return
        except (OSError, trio.ClosedResourceError):
            self.fail()
            return
        self._settle()
        if self._room is not None and not self.is_crowded:
            self._room.unpark_all()

    def _send_waiting(self) -> bool:
        """Send of what waits as much as the socket takes; return False if the connection is broken."""
        backlog = self._backlog
        if backlog is None or backlog.is_empty:
            return True
        try:
            sent = self._transport.send_nowait(backlog.join())
        except OSError:
            self.fail()
            return False
        self._counters.bytes_out += sent
        if sent and self._transport.unsent_bytes:
            self._taken = list(backlog.first(sent))
        backlog.consume(sent)
        return True

    def fail(self) -> None:
        """Note that the connection failed: nothing goes out any more.

        Our writer ends at once, though the system may not say yet that the socket is dead.
        """
        self.broken = self._is_shut = True
        if self._writing is not None:
            self._writing.cancel()
        self._start_writer()

    async def finish(self) -> None:
        """Send what is left and wait for the peer to close; the caller sets the deadline.

        Closing a socket with unread bytes in it sends a reset, which may take our close frame along; so the
        peer's last bytes are read, up to its own end of stream.
        """
        self._has_writer = True  # this is it from now on
        try:
            while self.queued_frames and not self.broken:
                await self._write_some()
            if self.broken:
                return
            await self._transport.flush()
            self._settle()
            self._transport.send_eof()
            left = LINGER_BYTES_MAX
            while left > 0 and (data := await self._transport.receive()):
                left -= len(data)
        except (OSError, trio.ClosedResourceError):
            self.fail()

    def abort(self) -> None:
        """Close the socket at once and forget the queue."""
        backlog, self._backlog = self._backlog, None
        withheld, self._taken = self._withheld(), ()
        for tag in withheld:
            self._note_unsent(tag)
        if backlog is not None:
            for tag in backlog.tags():
                self._note_unsent(tag)
            self._counters.drops["droppable", self._why_shut()] += backlog.drop_chunks()
        self._transport.abort()
        self.broken = self._is_shut = True
        self._owner = NOBODY
        before, self.held_bytes = self.held_bytes, 0
        if before:
            self._pool.budget.note(self, before, 0)
        if self._room is not None:
            self._room.unpark_all()


def push_to_all(
    queues: Sequence[EgressQueue], joined: bytes, frames: Sequence[bytes], tags: Sequence[Tag | None]
) -> None:
    """Push the same frames to many queues, to each as `EgressQueue.push_all` does; never waits, never raises.

    In one loop that, where nothing waits, looks at nothing but the queue and its socket: per connection that takes
    a quarter of the time of a call to each.
    """
    size, sent_bytes = len(joined), 0
    for queue in queues:
        sock = queue._socket
        if sock is None or queue._backlog is not None or queue._is_shut:
            queue.push_all(joined, frames, tags)
            continue
        try:
            sent = sock.send(joined)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            queue._fail_with(tags)
            continue
        sent_bytes += sent
        if sent != size:
            queue._queue_rest(sent, frames, tags)
    if queues:
        queues[0]._counters.bytes_out += sent_bytes

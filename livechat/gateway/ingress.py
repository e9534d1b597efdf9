"""Owns what one client sends, on its way to whoever takes its messages: the bytes, and how many at a time.

It must not know packets or sessions, nor send anything (`egress`). It finds where frames end, which are the signs
of life, and what a message will take before its bytes have come.

    socket ──► Demux ──► on_message                                    nearly all, in trio-websocket's reader task
                   └───► trio-websocket ──► get_message, `consumed`    the rest; until that, no others are taken
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from livechat.gateway.demux import FAST_BYTES_MAX, Demux, Message
from livechat.gateway.head import END_OF_HEAD
from livechat.gateway.transport import Transport
from livechat.protocol.deflate import Inflater
from livechat.protocol.frames import PAYLOAD_BYTES_END
from livechat.protocol.opcodes import CloseCode
from livechat.telemetry.counters import Counters

FRAMES_AT_ONCE: Final = 64
"""Frames taken before other tasks get their turn: trio-websocket handles pongs, pings and fragments without a
checkpoint, as we do messages, and 64 KiB may hold ten thousand of them."""
FRAGMENTS_MAX: Final = 4096
"""Frames that one message may come in; empty ones would grow no other count."""

OnMessage = Callable[[Message], Callable[[], Awaitable[None]] | None]
"""Takes a message; returns what to await before the next one, if anything."""


class Ingress:
    """The bytes of one client.

    Args:
        transport: the connection.
        received: what was read already, and is to be read again: the head of the upgrade, and what followed it.
        on_frames: called when complete frames have come from the client.
        on_violation: called when the client announces a message that is too large or too fragmented.
        on_message: takes messages from now on where `consumed` was called; None: trio-websocket gets all.
        on_passed: takes a message that was passed on, from trio-websocket, before it is given anything more;
            None: whoever does will call `consumed`.
        message_bytes_max: the largest message; may be changed later.
        fragments_max: frames that one message may come in.
        counters: where bytes are counted.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        received: bytes,
        on_frames: Callable[[], None],
        on_violation: Callable[[CloseCode], None],
        message_bytes_max: int,
        on_message: OnMessage | None = None,
        on_passed: Callable[[], Awaitable[None]] | None = None,
        fragments_max: int = FRAGMENTS_MAX,
        counters: Counters | None = None,
    ) -> None:
        self._counters = Counters() if counters is None else counters
        self._transport = transport
        head, end, rest = received.partition(END_OF_HEAD)
        self._counters.bytes_in += len(received)
        self._head: bytes | None = head + end
        self._demux = Demux(is_plain=on_message is None)
        self._rest = rest
        """What came along with the head; nothing is made of it before it was answered."""
        self._inflater: Inflater | None = None
        self.message_bytes_max = message_bytes_max
        self._is_upgraded = False
        self._fragments_max = fragments_max
        self._on_frames = on_frames
        self._on_violation = on_violation
        self._on_message = on_message
        self._on_passed = on_passed
        self._is_opened = False
        self._owed = 0 if on_message is None else 1
        """What somebody else has to take first: at the beginning the opening, later a message passed on."""
        self.has_more = False
        """While a message is being taken: another one follows at once, so answers may wait for each other."""
        self._settled: trio.lowlevel.ParkingLot | None = None
        """Where it is waited for others; made when it is."""

    @property
    def message_bytes_max(self) -> int:
        """The largest message."""
        return self._message_bytes_max

    @message_bytes_max.setter
    def message_bytes_max(self, value: int) -> None:
        self._message_bytes_max = value
        self._demux.bytes_max = min(value, FAST_BYTES_MAX)
        if self._inflater is not None:
            self._inflater.message_bytes_max = value

    def upgraded(self) -> None:
        """Note that the upgrade was answered; wsproto takes no frames before, and some clients hurry."""
        if not self._is_upgraded:
            rest, self._rest = self._rest, b""
            self._feed(rest)
            self._is_upgraded = True
            self._unpark()

    def inflate(self) -> None:
        """Expect compressed messages; to be called before the upgrade is answered."""
        self._inflater = Inflater(self._message_bytes_max, self._fragments_max)

    @property
    def close_payload(self) -> bytes | None:
        """What the client's first close frame said; None: there was none yet, or none as it must be."""
        return self._demux.scanner.close_payload

    def consumed(self) -> None:
        """Note that whoever opens the connection has done so, or has dealt with a message of trio-websocket's."""
        self._owed -= 1
        self._is_opened = True
        self._unpark()

    def refused(self) -> None:
        """Note that trio-websocket has given up the stream: no message comes of it any more."""
        self._demux.is_plain = True
        self._unpark()

    async def _park(self) -> None:
        if self._settled is None:
            self._settled = trio.lowlevel.ParkingLot()
        await self._settled.park()

    def _unpark(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled.unpark_all()

    async def receive(self) -> bytes:
        """Wait for bytes that are for trio-websocket, and meanwhile hand out messages; empty at the stream's end.

        Raises:
            OSError: the connection is broken.
            trio.ClosedResourceError: it was aborted meanwhile.
        """
        if self._head is not None:
            await trio.lowlevel.checkpoint()
            head, self._head = self._head, None
            return head
        while not self._is_upgraded:
            await self._park()
        demux = self._demux
        while True:
            while self._owed > 0 and not demux.is_plain:
                if self._on_passed is None or not self._is_opened:
                    await self._park()
                else:
                    await self._on_passed()
                    self._owed -= 1
            if demux.is_starved and self._inflater is not None and self._inflater.has_more:
                await trio.lowlevel.checkpoint()
                self._feed(b"")
            elif demux.is_starved:
                data = await self._receive_more()
                if not data:
                    return data
                self._feed(data)
            else:
                await trio.lowlevel.checkpoint()
            passed_before = demux.passed
            frames_before = demux.scanner.frames
            messages, data = demux.take(FRAMES_AT_ONCE)
            self._owed += demux.passed - passed_before
            if messages or demux.scanner.frames > frames_before:
                self._on_frames()
            if messages:
                await self._hand_out(messages)
            if data:
                self._check_announced()
                return data

    async def _receive_more(self) -> bytes:
        if self._inflater is not None and self._inflater.violation is not None:
            # Only now: what came before it was taken.
            self._on_violation(self._inflater.violation)
            await trio.lowlevel.checkpoint()
            return b""
        data = await self._transport.receive()
        self._counters.bytes_in += len(data)
        return data

    def _feed(self, data: bytes) -> None:
        inflater = self._inflater
        if inflater is not None:
            frames_before = inflater.frames
            data = inflater.feed(data)
            if inflater.frames > frames_before:
                self._on_frames()
        self._demux.feed(data)

    async def _hand_out(self, messages: list[Message]) -> None:
        take = self._on_message
        assert take is not None
        left = len(messages)
        for message in messages:
            left -= 1
            self.has_more = left > 0
            wait = take(message)
            if wait is not None:
                self.has_more = False
                await wait()
        self.has_more = False

    def _check_announced(self) -> None:
        """Tell if what a client has passed on or announced is too much."""
        scanner = self._demux.scanner
        if scanner.message_bytes > self._message_bytes_max:
            # A length of 64 bits "MUST" leave the highest one zero (RFC 6455, section 5.2).
            is_length = scanner.message_bytes < PAYLOAD_BYTES_END
            self._on_violation(CloseCode.MESSAGE_TOO_BIG if is_length else CloseCode.PROTOCOL_VIOLATION)
        elif scanner.fragments > self._fragments_max:
            self._on_violation(CloseCode.PROTOCOL_ABUSE)

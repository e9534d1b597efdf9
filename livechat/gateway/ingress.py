"""Owns what one client sends, on its way to whoever takes its messages: the bytes, and how many at a time.

It must not know packets or sessions, nor send anything (`egress`). It finds where frames end, which are the signs
of life, and what a message will take before its bytes have come.

    socket ──► Demux ──► take                             nearly all
                   └───► trio-websocket ──► take_passed   the rest; until that was taken, no others are
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from livechat.gateway.demux import FAST_BYTES_MAX, Demux, Message, Ping, Pong
from livechat.gateway.head import END_OF_HEAD
from livechat.gateway.transport import Transport, UnreadAnswers
from livechat.protocol.deflate import Inflater
from livechat.protocol.frames import PAYLOAD_BYTES_END
from livechat.protocol.opcodes import CloseCode
from livechat.telemetry.counters import Counters

FRAMES_AT_ONCE: Final = 64
"""Frames taken before other tasks get their turn: trio-websocket handles pongs, pings and fragments without a
checkpoint, as we do messages, and 64 KiB may hold ten thousand of them."""
FRAGMENTS_MAX: Final = 4096
"""Frames that one message may come in; empty ones would grow no other count."""


class IngressOwner(Protocol):
    """Whose bytes they are: the connection."""

    def heard(self) -> None:
        """Note that complete frames have come from the client."""
        ...

    def take(self, message: Message) -> Callable[[], Awaitable[None]] | None:
        """Take a message; return what to await before the next one, if anything."""
        ...

    def take_ping(self, payload: bytes) -> Callable[[], Awaitable[None]] | None:
        """Answer a ping; return as `take`."""
        ...

    async def take_passed(self) -> None:
        """Take a message that was passed on, from trio-websocket, before that is given anything more."""
        ...

    def close(self, code: CloseCode) -> None:
        """End the connection.

        The client has announced a message that is too large, for one, or makes TLS answer and reads nothing.
        """
        ...

    def failed(self) -> None:
        """Note that the connection is broken."""
        ...


class Ingress:
    """The bytes of one client, after the head of its upgrade.

    Args:
        transport: the connection.
        owner: takes the messages.
        received: what was read already: the head of the upgrade, and what came along with it.
        message_bytes_max: the largest message; may be changed later.
        fragments_max: frames that one message may come in.
        counters: where bytes are counted.
        is_plain: trio-websocket gets all messages.
    """

    __slots__ = (
        "_counters",
        "_demux",
        "_fragments_max",
        "_inflater",
        "_message_bytes_max",
        "_owed",
        "_owner",
        "_rest",
        "_transport",
        "has_more",
    )

    def __init__(
        self,
        transport: Transport,
        owner: IngressOwner,
        *,
        received: bytes,
        message_bytes_max: int,
        fragments_max: int = FRAGMENTS_MAX,
        counters: Counters | None = None,
        is_plain: bool = False,
    ) -> None:
        self._counters = Counters() if counters is None else counters
        self._transport = transport
        self._owner = owner
        self._counters.bytes_in += len(received)
        self._demux = Demux(is_plain=is_plain)
        self._rest = received.partition(END_OF_HEAD)[2]
        """What came along; nothing is made of it before the head was answered: some clients hurry."""
        self._inflater: Inflater | None = None
        self.message_bytes_max = message_bytes_max
        self._fragments_max = fragments_max
        self._owed = 0
        """Messages passed on that are to be taken before any other."""
        self.has_more = False
        """While a message is being taken: another one follows at once, so answers may wait for each other."""

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

    def let_go(self) -> None:
        """Let go of the owner: nothing will be received any more."""
        del self._owner

    def inflate(self) -> None:
        """Expect compressed messages; to be called before anything is received."""
        self._inflater = Inflater(self._message_bytes_max, self._fragments_max)

    @property
    def close_payload(self) -> bytes | None:
        """What the client's first close frame said; None: there was none yet, or none as it must be."""
        return self._demux.scanner.close_payload

    def refused(self) -> None:
        """Note that trio-websocket has given up the stream: no message comes of it any more."""
        self._demux.is_plain = True

    async def receive(self) -> bytes:
        """Wait for bytes that are for trio-websocket, and meanwhile hand out messages; empty at the stream's end.

        Raises:
            trio.BrokenResourceError: the connection is broken.
            trio.ClosedResourceError: it was aborted meanwhile.
        """
        if self._rest:
            rest, self._rest = self._rest, b""
            self._feed(rest)
        demux = self._demux
        while True:
            while self._owed > 0 and not demux.is_plain:
                await self._owner.take_passed()
                self._owed -= 1
            if demux.is_starved and self._inflater is not None and self._inflater.has_more:
                await trio.lowlevel.checkpoint()
                self._feed(b"")
            elif demux.is_starved:
                if self._inflater is not None and self._inflater.violation is not None:
                    # Only now: what came before it was taken.
                    self._owner.close(self._inflater.violation)
                    await trio.lowlevel.checkpoint()
                    return b""
                # Here, not in a function of its own: idle connections wait in it.
                try:
                    data = await self._transport.receive()
                except UnreadAnswers:
                    # Not even the close frame may get through, but that is said first, the session stays.
                    self._owner.close(CloseCode.SLOW_CONSUMER)
                    await trio.lowlevel.checkpoint()
                    return b""
                except OSError as exc:
                    self._owner.failed()
                    raise trio.BrokenResourceError("the connection failed") from exc
                if not data:
                    return data
                self._counters.bytes_in += len(data)
                self._feed(data)
            else:
                await trio.lowlevel.checkpoint()
            passed_before = demux.passed
            frames_before = demux.scanner.frames
            messages, data = demux.take(FRAMES_AT_ONCE)
            self._owed += demux.passed - passed_before
            if messages or demux.scanner.frames > frames_before:
                self._owner.heard()
            if messages:
                await self._hand_out(messages)
            # Not kept until the next ones come.
            del messages
            if data:
                self._check_announced()
                return data

    def _feed(self, data: bytes) -> None:
        inflater = self._inflater
        if inflater is not None:
            frames_before = inflater.frames
            data = inflater.feed(data)
            if inflater.frames > frames_before:
                self._owner.heard()
        self._demux.feed(data)

    async def _hand_out(self, messages: list[Message]) -> None:
        take, take_ping = self._owner.take, self._owner.take_ping
        left = len(messages)
        for message in messages:
            left -= 1
            self.has_more = left > 0
            if type(message) is Pong:
                continue
            wait = take_ping(message) if type(message) is Ping else take(message)
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
            self._owner.close(CloseCode.MESSAGE_TOO_BIG if is_length else CloseCode.PROTOCOL_VIOLATION)
        elif scanner.fragments > self._fragments_max:
            self._owner.close(CloseCode.PROTOCOL_ABUSE)

"""Owns the bytes of one TCP connection, plain or TLS, with a send that does not wait.

It must not know WebSocket or HTTP. Both transports sit on a non-blocking stdlib socket: an awaited send costs
eight times as much as a direct one, and TLS over our own memory BIOs can be cancelled at any point without
tearing a record in two.
"""

from __future__ import annotations

import socket
import ssl
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

import attrs
import trio
from trio.lowlevel import notify_closing, wait_readable, wait_writable

RECEIVE_BYTES: Final = 65536
RECORD_BYTES: Final = 16384
"""Plaintext of one TLS record, at most (RFC 8446, section 5.1); nothing of it can be read before it came whole."""
ANSWER_BYTES_MAX: Final = 16384
"""How much of what TLS itself answers may wait, to key updates for one: hundreds, of which nobody needs many."""
UNSENT_BYTES_MAX: Final = 65536
"""How much that is not sent yet may wait in the operating system for one peer (TCP_NOTSENT_LOWAT). Who reads is
not slowed down by it, as bytes on their way do not count; for who reads nothing Linux would keep 4 MB beside our
own queue, which nobody counts."""

USER_TIMEOUT_MS_MAX: Final = (1 << 31) - 1
"""What the option's type holds."""


class UnreadAnswers(OSError):
    """The peer keeps asking for answers below the level of its data, and reads none."""


class Sendable(Protocol):
    """A non-blocking socket, as far as it is sent to past its transport."""

    def send(self, data: bytes, /) -> int:
        """Send some of the data; see `socket.socket.send`."""
        ...


class Transport(Protocol):
    """A connected byte stream. Once `abort` was called every other method raises."""

    local_host: str
    """The IP literal at which the peer reached us."""
    peer_host: str
    """The peer's IP literal."""
    is_tls: bool

    @property
    def socket(self) -> Sendable | None:
        """Where bytes can be sent as they are, by who sends the same to many; None: only by `send_nowait`."""
        ...

    @property
    def unsent_bytes(self) -> int:
        """How much was taken and still waits for room in the socket: somebody has to `flush` it."""
        ...

    @property
    def withheld_bytes(self) -> int:
        """Of the last bytes that a send has taken, how many the peer can't get to see before a `flush`."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Take as many bytes as can go without waiting; return how many (0: try `send`).

        Raises:
            OSError: the connection is broken.
        """
        ...

    async def send(self, data: bytes) -> int:
        """Wait until some bytes can be taken, and take them; return how many (at least 1).

        Raises:
            OSError: the connection is broken.
            trio.ClosedResourceError: it was aborted meanwhile.

        Cancellation:
            Nothing was taken.
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until `send_nowait` may take something. Raises as `send`; a checkpoint in any case."""
        ...

    async def flush(self) -> None:
        """Wait until all that was taken is with the operating system. Raises as `send`."""
        ...

    async def receive(self) -> bytes:
        """Wait for bytes; empty at the end of the stream. Raises as `send`; cancelled, it took nothing.

        Raises:
            UnreadAnswers: no more is read, as no more can be answered; what was taken may still be sent.
        """
        ...

    def send_eof(self) -> None:
        """Tell the peer that nothing more comes. Does not wait, does not fail.

        What is received from then on says only that the peer has not ended its side: it may be ciphertext.
        """
        ...

    def abort(self) -> None:
        """Close the socket at once; safe to call twice."""
        ...


async def send_all(transport: Transport, data: bytes) -> None:
    """Wait until all of `data` is with the operating system. Raises as `Transport.send`."""
    while data:
        data = data[await transport.send(data) :]
    await transport.flush()


@attrs.frozen
class SocketOptions:
    """How the socket of each connection is set, where the platform has these options.

    Not by SO_KEEPALIVE: whoever is connected and has nothing unacknowledged is found by its missing heartbeat, and
    an idle HTTP connection by its deadline, both sooner than by probes.
    """

    user_timeout_ms: int = 0
    """It is broken once bytes wait for so long for a peer that takes none; 0: the system's own time."""
    unsent_bytes_max: int = UNSENT_BYTES_MAX

    def apply(self, sock: socket.socket) -> None:
        """Set them.

        Raises:
            OSError: the connection is gone already.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, self.unsent_bytes_max)
        if self.user_timeout_ms and hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_ms = min(self.user_timeout_ms, USER_TIMEOUT_MS_MAX)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)


DEFAULT_OPTIONS: Final = SocketOptions()


class PlainTransport:
    """TCP."""

    is_tls = False
    unsent_bytes = 0
    withheld_bytes = 0

    def __init__(self, sock: socket.socket, options: SocketOptions = DEFAULT_OPTIONS) -> None:
        sock.setblocking(False)
        options.apply(sock)
        self.socket = sock
        self.local_host = sock.getsockname()[0]
        self.peer_host = sock.getpeername()[0]

    def send_nowait(self, data: bytes) -> int:
        """See `Transport`."""
        try:
            return self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    async def send(self, data: bytes) -> int:
        """See `Transport`."""
        while True:
            await self.wait_writable()
            sent = self.send_nowait(data)
            if sent:
                return sent

    async def wait_writable(self) -> None:
        """See `Transport`."""
        await wait_writable(self._open_socket())

    async def flush(self) -> None:
        """See `Transport`. What was taken is with the operating system already."""
        await trio.lowlevel.checkpoint_if_cancelled()

    async def receive(self) -> bytes:
        """See `Transport`."""
        while True:
            await wait_readable(self._open_socket())
            try:
                return self.socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                continue

    def send_eof(self) -> None:
        """See `Transport`."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def abort(self) -> None:
        """See `Transport`."""
        if self.socket.fileno() >= 0:
            notify_closing(self.socket)
            self.socket.close()

    def _open_socket(self) -> socket.socket:
        # Trio's epoll would raise ValueError for a closed one and keep a trace of the attempt.
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError("the connection was aborted")
        return self.socket


class TlsTransport:
    """TLS over another transport. Call `handshake` first."""

    is_tls = True
    socket = None

    def __init__(self, plain: Transport, context: ssl.SSLContext) -> None:
        self._plain = plain
        self.local_host = self._plain.local_host
        self.peer_host = self._plain.peer_host
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = b""
        """Ciphertext the socket has not taken; new plaintext waits until it is gone."""
        self._answer_bytes = 0
        """How much of that TLS has written by itself, on reading."""
        self._flushed_bytes = 0
        """Ciphertext the socket has taken, ever."""
        self._record_ends: Sequence[int] = ()
        """Where in all the ciphertext each record of the last write ends, if that did not go at once."""
        self._written_bytes = 0
        """Plaintext of that write."""
        self._is_ended = False

    @property
    def unsent_bytes(self) -> int:
        """See `Transport`."""
        return len(self._unsent)

    @property
    def withheld_bytes(self) -> int:
        """See `Transport`. Where the peer asked for smaller records, some of it may have got there."""
        whole = bisect_right(self._record_ends, self._flushed_bytes)
        return 0 if whole == len(self._record_ends) else self._written_bytes - whole * RECORD_BYTES

    async def handshake(self, before_step: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint) -> None:
        """Do the TLS handshake.

        Args:
            before_step: awaited before what the peer sent is worked on: that costs a processor a millisecond.

        Raises:
            OSError: the peer does not speak TLS as we do (`ssl.SSLError` is one), or went away.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send_ciphertext()
                await self._receive_ciphertext()
                await before_step()
            except ssl.SSLError:
                # The alert tells the peer what was wrong.
                self._flush_nowait()
                raise
            else:
                await self._send_ciphertext()
                return

    def send_nowait(self, data: bytes) -> int:
        """See `Transport`. Takes all or nothing: at most one write's ciphertext waits.

        Encrypting here, in the fan-out's own loop, takes 11 µs for a frame and 13 µs for sixteen in one piece, per
        connection; by waking its writer task it was 20 and 43 µs, and sixteen frames one by one took 108 µs.
        """
        self._flush_nowait()
        if self._unsent:
            return 0
        self._record_ends = ()
        ends = self._write(data)
        # Should it fail, nothing of this was taken.
        self._flush_nowait()
        self._answer_bytes = 0
        if self.unsent_bytes:
            self._record_ends, self._written_bytes = ends, len(data)
        return len(data)

    def _write(self, data: bytes) -> Sequence[int]:
        """Encrypt; return where each record ends in all the ciphertext."""
        before = self._flushed_bytes
        if len(data) <= RECORD_BYTES:
            self._tls.write(data)
            return (before + self._outgoing.pending,)
        ends, view = [], memoryview(data)
        for start in range(0, len(data), RECORD_BYTES):
            self._tls.write(view[start : start + RECORD_BYTES])
            ends.append(before + self._outgoing.pending)
        return ends

    async def send(self, data: bytes) -> int:
        """See `Transport`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            sent = self.send_nowait(data)
            if sent:
                return sent
            await self._send_ciphertext()

    async def wait_writable(self) -> None:
        """See `Transport`. With nothing unsent the next write is taken whole."""
        await trio.lowlevel.checkpoint()
        await self._send_ciphertext()

    async def flush(self) -> None:
        """See `Transport`."""
        await self._send_ciphertext()

    async def receive(self) -> bytes:
        """See `Transport`."""
        # Before the read: cancelled after it, its data would be lost.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._is_ended:
            # OpenSSL reads no more once it has said so. What comes is counted only, as it came.
            return await self._plain.receive()
        while True:
            try:
                return self._tls.read(RECEIVE_BYTES)
            except ssl.SSLWantReadError:
                # What the peer does not read of those must not gather for ever.
                self._flush_nowait()
                if self._answer_bytes > ANSWER_BYTES_MAX:
                    raise UnreadAnswers(f"none of {self._answer_bytes} bytes of answers was read") from None
                await self._receive_ciphertext()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                # Some peers close TCP without closing TLS; WebSocket and HTTP/1.1 frame their own ends.
                return b""

    def send_eof(self) -> None:
        """See `Transport`."""
        self._is_ended = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass
        try:
            self._flush_nowait()
        except OSError:
            pass
        self._plain.send_eof()

    def abort(self) -> None:
        """See `Transport`."""
        self._plain.abort()

    def _flush_nowait(self) -> None:
        if self._outgoing.pending:
            self._answer_bytes += self._outgoing.pending
            self._unsent += self._outgoing.read()
        if self._unsent:
            sent = self._plain.send_nowait(self._unsent)
            self._flushed_bytes += sent
            self._unsent = self._unsent[sent:]
            if not self._unsent:
                self._answer_bytes = 0

    async def _send_ciphertext(self) -> None:
        self._flush_nowait()
        while self._unsent:
            # The reader may flush as well while this waits, so what is unsent is looked at only afterwards.
            await self._plain.wait_writable()
            self._flush_nowait()

    async def _receive_ciphertext(self) -> None:
        data = await self._plain.receive()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

"""Owns the TCP port: it binds, accepts, and tells a WebSocket from plain HTTP by the head of its first request.

It must not speak either protocol; the connection and the HTTP host do. Only errors of overload are caught
while accepting; everything else is a bug and ends the server loudly.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
import trio

from livechat.error import ConfigError
from livechat.gateway.entrance import Entrance
from livechat.gateway.head import END_OF_LINES, HEAD_BYTES_MAX, RequestHead, parse_head_untrusted
from livechat.gateway.transport import DEFAULT_OPTIONS, PlainTransport, SocketOptions, TlsTransport, Transport
from livechat.limits.addresses import Refusal
from livechat.protocol.types import Address
from livechat.telemetry.counters import Counters

log = structlog.get_logger("livechat.listener")

BACKLOG: Final = 4096
ACCEPT_AT_ONCE: Final = 64
"""Connections accepted before the socket is waited for again."""
ENTRIES_AT_ONCE: Final = 2
"""Where nobody says otherwise; see `GatewaySettings.entries_at_once`."""
OVERLOAD_PAUSE_S: Final = 0.1
OVERLOAD_ERRNOS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
LOG_INTERVAL_S: Final = 60.0
"""How often overload, and addresses that connect too often, are spoken of at most."""
PASSING_ERRNOS: Final = {
    errno.EPERM,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.ECONNABORTED,
}
"""What a connection suffered before it was accepted; accept(2) says to go on as if it had never come."""

ServeHead = Callable[[Transport, RequestHead | None, bytes], Awaitable[None]]
"""Serves a connection whose first request's head was read: (transport, head if it parses, bytes read)."""


class Doorkeeper(Protocol):
    """Decides who may connect, by the address alone."""

    def connect(self, host: str) -> Refusal | None:
        """Count a connection that was accepted; None: it may stay, until `disconnect`."""
        ...

    def disconnect(self, host: str) -> None:
        """Note the end of a connection that might stay."""
        ...

    async def refuse(self, transport: Transport, refusal: Refusal) -> None:
        """Answer a client that may not stay; the caller closes."""
        ...

    async def refuse_slow(self, transport: Transport) -> None:
        """Answer a client whose first request did not come whole in time; the caller closes."""
        ...


def bind(host: str, port: int) -> list[socket.socket]:
    """Take every address that `host` means, all on one port; `listen` then opens them.

    Args:
        host: a name or IP literal; `::` listens on IPv4 as well.
        port: 0 lets the operating system choose.

    Raises:
        ConfigError: the name means nothing here, or the port is taken or not ours to take.
    """
    sockets: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(infos):
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            chosen = sockets[0].getsockname()[1] if port == 0 and len(sockets) > 1 else port
            sock.bind((address[0], chosen, *address[2:]))
    except (OSError, UnicodeError) as exc:
        for sock in sockets:
            sock.close()
        raise ConfigError(f"cannot listen on {host}:{port} (TCP): {_reason(exc)}") from exc
    return sockets


def listen(sockets: list[socket.socket]) -> None:
    """Let clients connect to what `bind` bound; until then they are refused.

    Raises:
        ConfigError: another program bound the same port meanwhile and was first to listen.
    """
    for sock in sockets:
        try:
            sock.listen(BACKLOG)
        except OSError as exc:
            host, port = sock.getsockname()[:2]
            raise ConfigError(f"cannot listen on {host}:{port} (TCP): {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "strerror", None) or exc).lower()


def addresses(sockets: list[socket.socket]) -> tuple[Address, ...]:
    """Return where the sockets are bound."""
    return tuple((sock.getsockname()[0], sock.getsockname()[1]) for sock in sockets)


class Listener:
    """Accepts connections and hands each to `serve_head` in a task of its own.

    Args:
        sockets: from `bind`, and listening; closed when `run` ends.
        tls: asked for the context of each handshake; None for plain TCP.
        doorkeeper: None: everybody may connect.
        head_timeout_s: for the TLS handshake and for the head of the first request, each.
        connections_max: beyond it, connections wait in the kernel's backlog.
        counters: where the connections are counted that came to nothing.
        entrance: says when one more may be accepted; shared with who serves them further.
        options: of each connection's socket.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        serve_head: ServeHead,
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        head_timeout_s: float,
        connections_max: int,
        doorkeeper: Doorkeeper | None = None,
        counters: Counters | None = None,
        entrance: Entrance | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._refused = (Counters() if counters is None else counters).refused
        self._sockets = sockets
        self._serve_head = serve_head
        self._tls = tls
        self._head_timeout_s = head_timeout_s
        self._room = trio.Semaphore(connections_max)
        self._doorkeeper = doorkeeper
        self._entrance = Entrance(ENTRIES_AT_ONCE) if entrance is None else entrance
        self._options = options
        self.accepted = 0
        """Connections so far."""
        self.refused = 0
        """Of these, how many were of addresses that connect too often."""
        self._log_after: dict[str, float] = {}

    async def run(self, connections: trio.Nursery) -> None:
        """Accept until cancelled; then the sockets are closed.

        Args:
            connections: where the connections' tasks run. They outlive this one, so that a drain can stop
                accepting first.
        """
        try:
            async with trio.open_nursery() as nursery:
                for sock in self._sockets:
                    nursery.start_soon(self._accept, sock, connections)
        finally:
            for sock in self._sockets:
                trio.lowlevel.notify_closing(sock)
                sock.close()

    async def _accept(self, listening: socket.socket, connections: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            for _ in range(ACCEPT_AT_ONCE):
                await self._room.acquire()
                await self._entrance.wait_open()
                try:
                    sock, address = listening.accept()
                except OSError as exc:
                    self._room.release()
                    if isinstance(exc, BlockingIOError):
                        break
                    if exc.errno in OVERLOAD_ERRNOS:
                        self._log("cannot accept", error=exc.strerror)
                        await trio.sleep(OVERLOAD_PAUSE_S)
                        break
                    if exc.errno in PASSING_ERRNOS:
                        continue
                    raise
                self.accepted += 1
                self._entrance.accepted()
                self._begin(sock, address[0], connections)

    def _begin(self, sock: socket.socket, host: str, connections: trio.Nursery) -> None:
        """Serve a connection in a task of its own, or refuse it in one, or drop it."""
        refusal = None if self._doorkeeper is None else self._doorkeeper.connect(host)
        if refusal is not None:
            self.refused += 1
            self._refused["limit"] += 1
            self._log("connections refused", peer=host)
            if refusal.is_flood:
                sock.close()
                self._room.release()
                return
        connections.start_soon(self._receive, sock, host, refusal, connections)

    def _log(self, event: str, **said: object) -> None:
        """Warn, but not all the time."""
        now = trio.current_time()
        if now >= self._log_after.get(event, -math.inf):
            self._log_after[event] = now + LOG_INTERVAL_S
            log.warning(event, **said)

    async def _receive(
        self, sock: socket.socket, host: str, refusal: Refusal | None, connections: trio.Nursery
    ) -> None:
        """Open a connection and read the head of its first request; a task of its own serves it then.

        It may be served for days, and would keep alive all that this one holds.
        """
        transport: Transport | None = None
        request = b""
        try:
            transport = await self._open(sock)
            if transport is not None:
                request = await self._request(transport, refusal)
                if request:
                    connections.start_soon(self._serve, transport, host, request)
        except Exception:
            log.exception("connection failed")
        finally:
            if not request:
                self._end(sock if transport is None else transport, host if refusal is None else None)

    async def _serve(self, transport: Transport, host: str, request: bytes) -> None:
        try:
            serving = self._serve_head(transport, parse_head_untrusted(request), request)
            # A head may hold tokens, and much else that nobody needs while the connection lasts.
            del request
            await serving
        except Exception:
            # The outermost boundary of one connection: a bug in serving it must not reach the others.
            log.exception("connection failed")
        finally:
            self._end(transport, host)

    def _end(self, connection: Transport | socket.socket, host: str | None) -> None:
        """Close a connection, and let another one in.

        Args:
            host: by which it was counted; None: it was not.
        """
        if isinstance(connection, socket.socket):
            connection.close()
        else:
            connection.abort()
        if self._doorkeeper is not None and host is not None:
            self._doorkeeper.disconnect(host)
        self._room.release()

    async def _open(self, sock: socket.socket) -> Transport | None:
        """Do the TLS handshake, if any; None if the peer went away or spoke something else."""
        try:
            if self._tls is None:
                return PlainTransport(sock, self._options)
            transport = TlsTransport(PlainTransport(sock, self._options), self._tls())
        except OSError:
            return None
        try:
            with trio.fail_after(self._head_timeout_s):
                await transport.handshake(self._entrance.turn)
        except (OSError, trio.TooSlowError):
            self._refused["tls"] += 1
            transport.abort()
            return None
        except BaseException:
            transport.abort()
            raise
        return transport

    async def _request(self, transport: Transport, refusal: Refusal | None) -> bytes:
        """Return the head of the first request, and what came with it; empty: there is nothing to serve."""
        head = bytearray()
        try:
            with trio.move_on_after(self._head_timeout_s) as patience:
                await _read_head(transport, head)
        except OSError:
            self._refused["no_request"] += 1
            return b""
        if patience.cancelled_caught:
            self._refused["no_request"] += 1
            if head and self._doorkeeper is not None:
                await self._doorkeeper.refuse_slow(transport)
            return b""
        received = bytes(head)
        if refusal is not None:
            # Only now: a client that has not asked yet would take the answer for a mistake.
            assert self._doorkeeper is not None
            await self._doorkeeper.refuse(transport, refusal)
            return b""
        end = END_OF_LINES.search(received)
        if end is not None and end.start() > HEAD_BYTES_MAX:
            # It came in one piece with its end; cut off there, it is refused like any other that is too long.
            received = received[: HEAD_BYTES_MAX + 1]
        return received


async def _read_head(transport: Transport, received: bytearray) -> None:
    """Read up to the end of the first request's head, or as much as a head may have."""
    while END_OF_LINES.search(received) is None and len(received) <= HEAD_BYTES_MAX:
        data = await transport.receive()
        if not data:
            return
        received += data

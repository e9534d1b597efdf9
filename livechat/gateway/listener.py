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
from typing import Final

import structlog
import trio

from livechat.error import ConfigError
from livechat.gateway.head import END_OF_HEAD, HEAD_BYTES_MAX, RequestHead, parse_head_untrusted
from livechat.gateway.transport import PlainTransport, TlsTransport, Transport
from livechat.protocol.types import Address

log = structlog.get_logger("livechat.listener")

BACKLOG: Final = 4096
ACCEPT_AT_ONCE: Final = 64
"""Connections accepted before other tasks get their turn."""
OVERLOAD_PAUSE_S: Final = 0.1
OVERLOAD_ERRNOS: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
OVERLOAD_LOG_INTERVAL_S: Final = 60.0
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
        tls: None for plain TCP.
        head_timeout_s: for the TLS handshake and for the head of the first request, each.
        connections_max: beyond it, connections wait in the kernel's backlog.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        serve_head: ServeHead,
        *,
        tls: ssl.SSLContext | None,
        head_timeout_s: float,
        connections_max: int,
    ) -> None:
        self._sockets = sockets
        self._serve_head = serve_head
        self._tls = tls
        self._head_timeout_s = head_timeout_s
        self._room = trio.Semaphore(connections_max)
        self.accepted = 0
        """Connections so far."""
        self._log_after = -math.inf

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
                try:
                    sock, _address = listening.accept()
                except OSError as exc:
                    self._room.release()
                    if isinstance(exc, BlockingIOError):
                        break
                    if exc.errno in OVERLOAD_ERRNOS:
                        self._log_overload(exc)
                        await trio.sleep(OVERLOAD_PAUSE_S)
                        break
                    if exc.errno in PASSING_ERRNOS:
                        continue
                    raise
                self.accepted += 1
                connections.start_soon(self._serve, sock)

    def _log_overload(self, exc: OSError) -> None:
        now = trio.current_time()
        if now >= self._log_after:
            self._log_after = now + OVERLOAD_LOG_INTERVAL_S
            log.warning("cannot accept", error=exc.strerror)

    async def _serve(self, sock: socket.socket) -> None:
        transport: Transport | None = None
        try:
            transport = await self._open(sock)
            if transport is not None:
                await self._dispatch(transport)
        except Exception:
            # The outermost boundary of one connection: a bug in serving it must not reach the others.
            log.exception("connection failed")
        finally:
            if transport is None:
                sock.close()
            else:
                transport.abort()
            self._room.release()

    async def _open(self, sock: socket.socket) -> Transport | None:
        """Do the TLS handshake, if any; None if the peer went away or spoke something else."""
        try:
            if self._tls is None:
                return PlainTransport(sock)
            transport = TlsTransport(sock, self._tls)
        except OSError:
            return None
        try:
            with trio.fail_after(self._head_timeout_s):
                await transport.handshake()
        except (OSError, trio.TooSlowError):
            transport.abort()
            return None
        except BaseException:
            transport.abort()
            raise
        return transport

    async def _dispatch(self, transport: Transport) -> None:
        try:
            with trio.fail_after(self._head_timeout_s):
                received = await _read_head(transport)
        except (OSError, trio.TooSlowError):
            return
        if received.find(END_OF_HEAD) > HEAD_BYTES_MAX:
            # It came in one piece with its end; cut off there, it is refused like any other that is too long.
            received = received[: HEAD_BYTES_MAX + 1]
        if received:
            await self._serve_head(transport, parse_head_untrusted(received), received)


async def _read_head(transport: Transport) -> bytes:
    """Read up to the end of the first request's head, or as much as a head may have; empty if none came."""
    received = b""
    while END_OF_HEAD not in received and len(received) <= HEAD_BYTES_MAX:
        data = await transport.receive()
        if not data:
            return received
        received += data
    return received

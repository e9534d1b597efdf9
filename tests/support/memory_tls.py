"""The client's side of a scripted socket, behind TLS or not, and a TLS handshake over one in memory."""

from __future__ import annotations

import ssl

import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.transport import TlsTransport
from tests.support.sockets import tls_contexts
from tests.support.transport import UNLIMITED, ScriptedTransport


class Peer:
    """The client's side of a scripted socket, behind TLS or not."""

    def __init__(self, socket: ScriptedTransport, context: ssl.SSLContext | None = None) -> None:
        self._socket = socket
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        if context is not None:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._taken = 0
        self._read = bytearray()

    def received(self) -> bytes:
        """Return the plaintext that has come so far."""
        fresh = self._fresh()
        if self._tls is None:
            self._read += fresh
            return bytes(self._read)
        self._incoming.write(fresh)
        try:
            while data := self._tls.read(65536):
                self._read += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return bytes(self._read)

    def shake_hands(self) -> None:
        """Answer what has come of a TLS handshake."""
        assert self._tls is not None
        self._incoming.write(self._fresh())
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        if self._outgoing.pending:
            self._socket.feed(self._outgoing.read())

    def _fresh(self) -> bytes:
        fresh = bytes(self._socket.sent[self._taken :])
        self._taken += len(fresh)
        return fresh


async def tls_pair(
    socket: ScriptedTransport, client_context: ssl.SSLContext | None = None
) -> tuple[TlsTransport, Peer]:
    """Do a TLS handshake in memory, over a socket that then is as its script says.

    Args:
        client_context: the client's; None: one that is as usual.
    """
    server_context, usual_context = tls_contexts()
    transport, peer = TlsTransport(socket, server_context), Peer(socket, client_context or usual_context)
    room, most = socket.room, socket.most
    socket.room = socket.most = UNLIMITED
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.handshake)
        for _ in range(3):
            peer.shake_hands()
            await wait_all_tasks_blocked()
    socket.room, socket.most = room, most
    return transport, peer

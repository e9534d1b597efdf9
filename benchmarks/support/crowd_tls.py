"""Owns TLS for a connection of the crowd: a socket that never blocks, whose bytes are encrypted.

It must not check who the server is: its certificate was made for the measurement.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final

RECEIVE_BYTES: Final = 65_536


def trusting_context() -> ssl.SSLContext:
    """Return what takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class TlsSocket:
    """A socket that is connected, or about to be; call `shake_hands` until it is done."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._unsent = b""

    def fileno(self) -> int:
        """See `socket.socket.fileno`."""
        return self._sock.fileno()

    def close(self) -> None:
        """Drop it, without a word."""
        self._sock.close()

    def shake_hands(self, *, is_first: bool = False) -> bool:
        """Go on with the handshake by what has come; tell whether it is done.

        Args:
            is_first: nothing can have come yet.

        Raises:
            OSError: it failed (`ssl.SSLError` is one).
        """
        if not is_first:
            self._take(self._sock.recv(RECEIVE_BYTES))
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        self._flush()
        return True

    def send(self, data: bytes) -> int:
        """Send all of it, some of it later perhaps.

        Raises:
            OSError: the connection is broken.
        """
        self._tls.write(data)
        self._flush()
        return len(data)

    def recv(self, size: int) -> bytes:
        """Return what has come, decrypted; empty at the end.

        Raises:
            BlockingIOError: nothing, or only part of a record.
            OSError: the connection is broken.
        """
        data = self._sock.recv(size)
        if not data:
            return b""
        self._take(data)
        parts = []
        try:
            while part := self._tls.read(RECEIVE_BYTES):
                parts.append(part)
        except ssl.SSLWantReadError:
            if not parts:
                raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            pass
        self._flush()
        return b"".join(parts)

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("it ended during the handshake")
        self._incoming.write(data)

    def _flush(self) -> None:
        self._unsent += self._outgoing.read()
        try:
            self._unsent = self._unsent[self._sock.send(self._unsent) :] if self._unsent else b""
        except BlockingIOError:
            pass

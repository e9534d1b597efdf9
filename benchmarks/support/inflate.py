"""Owns what a client reads of a connection that agreed on permessage-deflate. Pure.

It must not judge what the server sends. Source: RFC 7692, section 7.
"""

from __future__ import annotations

import zlib
from typing import Final

from benchmarks.support.frames import payload_at

OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
_RSV1: Final = 0x40
_TAIL: Final = b"\0\0\xff\xff"
"""The end of every message, which is not sent (section 7.2.1)."""


class Inflater:
    """The messages of one connection, each in a frame of its own.

    Args:
        head: of the server's answer to the upgrade.
    """

    def __init__(self, head: bytes) -> None:
        lines = head.lower().split(b"\r\n")
        agreed = b"".join(line for line in lines if line.startswith(b"sec-websocket-extensions:"))
        self.is_agreed = b"permessage-deflate" in agreed
        self._keeps_window = b"server_no_context_takeover" not in agreed
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Return what the frames say that are whole now, one after another."""
        data = self._rest + data
        said, position = [], 0
        while (place := payload_at(data, position)) is not None:
            start, end = place
            payload = data[start:end]
            said.append(self._inflated(payload) if data[position] & _RSV1 else payload)
            position = end
        self._rest = data[position:]
        return b"".join(said)

    def _inflated(self, payload: bytes) -> bytes:
        if not self._keeps_window:
            self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return self._inflate.decompress(payload + _TAIL)

"""Owns the WebSocket frame header (RFC 6455, section 5.2) as far as the egress queue needs it.

It must not unmask or interpret what clients send; wsproto does. It writes the server's own frames, so that one
`bytes` serves every receiver (server frames are not masked), and finds where a client's frames end.

    +------------+--------------------------------+---------------------+----------------+---------+
    | FIN RSV op | MASK, length (7 bits)          | length if 126 / 127 | masking key    | payload |
    | 1 byte     | 1 byte                         | 0, 2 or 8 bytes     | 0 or 4 bytes   |         |
    +------------+--------------------------------+---------------------+----------------+---------+
"""

from __future__ import annotations

import struct
from typing import Final

FIN: Final = 0x80
CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
CLOSE_HEAD: Final = FIN | CLOSE
PONG_HEAD: Final = FIN | 0xA
CONTROL_PAYLOAD_MAX: Final = 125
HEAD_BYTES_MAX: Final = 14
MASK_BYTES: Final = 4
PAYLOAD_BYTES_END: Final = 1 << 63
"""From here on a number is no length."""

_HEAD_16: Final = struct.Struct("!BBH")
_HEAD_64: Final = struct.Struct("!BBQ")
_CODE: Final = struct.Struct("!H")
_TEXT_HEADS: Final = tuple([bytes((FIN | TEXT, size)) for size in range(126)])
_BINARY_HEADS: Final = tuple([bytes((FIN | BINARY, size)) for size in range(126)])
"""Of frames that are no longer than that, which most are."""


def serialize_frame(payload: bytes, *, binary: bool) -> bytes:
    """Build one complete, unmasked data frame."""
    size = len(payload)
    if size < 126:
        return (_BINARY_HEADS if binary else _TEXT_HEADS)[size] + payload
    first = FIN | (BINARY if binary else TEXT)
    if size < 65536:
        return _HEAD_16.pack(first, 126, size) + payload
    return _HEAD_64.pack(first, 127, size) + payload


def serialize_close(code: int, reason: str) -> bytes:
    """Build a close frame; the reason is cut so that it fits a control frame (RFC 6455, section 5.5)."""
    cut = reason.encode()[: CONTROL_PAYLOAD_MAX - _CODE.size]
    # The cut may have split a character; a client must fail the connection over text that is not UTF-8.
    payload = _CODE.pack(code) + cut.decode(errors="ignore").encode()
    return bytes((CLOSE_HEAD, len(payload))) + payload


def serialize_pong(payload: bytes) -> bytes:
    """Build the answer to a ping (RFC 6455, section 5.5.3).

    Args:
        payload: the ping's, of at most 125 bytes.
    """
    return bytes((PONG_HEAD, len(payload))) + payload


class FrameScanner:
    """Finds where a client's frames end, without keeping their payloads.

    Only a complete frame is a sign of life: a peer that drips single bytes must not look alive. And it tells what
    a message will take before its bytes have come.
    """

    __slots__ = ("_close", "_head", "_in_close", "_payload_left", "fragments", "frames", "message_bytes")

    def __init__(self) -> None:
        self.frames = 0
        """Complete frames so far, control frames included."""
        self.message_bytes = 0
        """What the newest data message has announced so far, over all its fragments."""
        self.fragments = 0
        """In how many frames it came so far."""
        self._close: bytearray | None = None
        """The masking key and payload of the first close frame, as far as they have come."""
        self._in_close = False
        self._head = b""
        """The bytes of a frame header that has not come whole."""
        self._payload_left = 0

    @property
    def close_payload(self) -> bytes | None:
        """What the client's first close frame said; None: there was none yet, or none as it must be."""
        if self._close is None or self._in_close:
            return None
        return unmask(bytes(self._close[MASK_BYTES:]), bytes(self._close[:MASK_BYTES]))

    def feed(self, data: bytes) -> int:
        """Take the next bytes of the stream; return how many frames they complete."""
        before = self.frames
        self.scan(data, len(data) + 1)
        return self.frames - before

    @property
    def is_between_frames(self) -> bool:
        """Whether what comes next is the first byte of a frame."""
        return not (self._payload_left or self._head)

    def scan(self, data: bytes, frames_max: int, start: int = 0) -> int:
        """Take the next bytes of the stream, up to the end of so many frames; return how many bytes that were.

        Args:
            start: where in the data they begin.
        """
        until = self.frames + frames_max
        position = start
        end = len(data)
        while position < end and self.frames < until:
            if self._payload_left:
                step = min(self._payload_left, end - position)
                self._payload_left -= step
                if self._in_close:
                    assert self._close is not None
                    self._close += data[position : position + step]
                    self._in_close = self._payload_left > 0
                position += step
                self.frames += self._payload_left == 0
                continue
            buffered = len(self._head)
            head = self._head + data[position : position + HEAD_BYTES_MAX - buffered]
            size = header_size(head)
            if size is None:
                self._head = head
                return end - start
            self._head = b""
            position += size - buffered
            self._payload_left = payload_size(head)
            self._note(head[0] & 0x0F, self._payload_left)
            if head[0] == CLOSE_HEAD and self._close is None and 0x80 <= head[1] <= 0x80 | CONTROL_PAYLOAD_MAX:
                self._close = bytearray(head[2:size])
                self._in_close = self._payload_left > 0
            self.frames += self._payload_left == 0
        return position - start

    def _note(self, opcode: int, size: int) -> None:
        if opcode >= CLOSE:
            return  # control frames come between the fragments of a message
        if opcode != CONTINUATION:
            self.message_bytes = self.fragments = 0
        self.message_bytes += size
        self.fragments += 1


def header_size(head: bytes) -> int | None:
    """Return the length of the frame header that `head` begins with, or None if it is cut short."""
    if len(head) < 2:
        return None
    size = 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)
    return size if len(head) >= size else None


def payload_size(head: bytes) -> int:
    """Return the length of the payload that follows a whole frame header."""
    short = head[1] & 0x7F
    if short == 126:
        return int.from_bytes(head[2:4], "big")
    if short == 127:
        return int.from_bytes(head[2:10], "big")
    return short


def unmask(masked: bytes, key: bytes) -> bytes:
    """Take a client's mask off, or put it on (RFC 6455, section 5.3)."""
    size = len(masked)
    # One XOR of two large integers: Python has no faster way without a C extension.
    pad = (key * (size // MASK_BYTES + 1))[:size]
    return (int.from_bytes(masked, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")

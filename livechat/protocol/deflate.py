"""Owns permessage-deflate: what is agreed, frames deflated for all who agreed, and a client's inflated. Pure.

It must not send, nor judge frames that are not compressed: they pass as they came, for wsproto to take or refuse.
Neither side keeps its window from one message to the next, so one deflated frame serves every receiver, and a
connection takes no memory for it. Source: RFC 7692.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from livechat.protocol.codec import JSON, MSGPACK, Codec
from livechat.protocol.frames import (
    BINARY,
    FIN,
    MASK_BYTES,
    TEXT,
    header_size,
    payload_size,
    serialize_frame,
    unmask,
)
from livechat.protocol.opcodes import CloseCode

EXTENSION: Final = "permessage-deflate"
RSV1: Final = 0x40
RESERVED: Final = 0x70
MASKED: Final = 0x80
WINDOW_BITS: Final = 15
DEFLATED_BYTES_MIN: Final = 256
"""Smaller payloads gain little, and cost as much time as they would on the way."""
LEVEL: Final = 1
"""The fastest: chat gains a few per cent by more, and a publisher's time goes to all."""
TAIL: Final = b"\0\0\xff\xff"
"""The end of every message, which is not sent (section 7.2.1)."""
AGREED: Final = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
FRAGMENTS_MAX: Final = 4096
"""Frames that one message may come in."""


def negotiate_untrusted(offers: Sequence[str]) -> str | None:
    """Choose among what a client offers in Sec-WebSocket-Extensions, in its order (sections 5 and 7.1).

    Returns:
        The header to answer with; None: there is nothing that can be agreed on, and so no compression.
    """
    for offer in offers:
        name, *fields = (part.strip() for part in offer.split(";"))
        if name != EXTENSION:
            continue
        parameters: dict[str, str | None] = {}
        for field in fields:
            key, equals, value = field.partition("=")
            parameters[key.strip()] = value.strip().strip('"') if equals else None
        if len(parameters) == len(fields) and all(_is_acceptable(*item) for item in parameters.items()):
            bits = "; server_max_window_bits=15" if "server_max_window_bits" in parameters else ""
            return AGREED + bits
    return None


def _is_acceptable(name: str, value: str | None) -> bool:
    if name in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is None
    if name == "server_max_window_bits":
        # One frame serves all, so a client with a smaller window gets none that are deflated.
        return value == str(WINDOW_BITS)
    if name == "client_max_window_bits":
        # Whatever window it has, ours is as large.
        return value is None or value in map(str, range(8, WINDOW_BITS + 1))
    return False


@attrs.define(eq=False)
class Deflated:
    """A codec whose frames are deflated where that makes them smaller."""

    inner: Codec
    name: str
    subprotocol: str
    binary: bool

    def encode(self, packet: Mapping[str, Any]) -> bytes:
        """Serialize an envelope; frames are deflated, not envelopes."""
        return self.inner.encode(packet)


DEFLATED: Final[dict[str, Deflated]] = {
    codec.name: Deflated(codec, f"{codec.name}+deflate", codec.subprotocol, codec.binary)
    for codec in (JSON, MSGPACK)
}


def deflate_frame(frame: bytes) -> bytes:
    """Return one of the server's data frames, deflated if it is large and that makes it smaller."""
    size = payload_size(frame)
    if size < DEFLATED_BYTES_MIN:
        return frame
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS)
    body = deflater.compress(frame[-size:]) + deflater.flush(zlib.Z_SYNC_FLUSH)
    body = body[: -len(TAIL)]
    if len(body) >= size:
        return frame
    deflated = serialize_frame(body, binary=frame[0] == FIN | BINARY)
    return bytes((deflated[0] | RSV1,)) + deflated[1:]


class Inflater:
    """A client's stream, with each compressed message replaced by one plain frame.

    Args:
        message_bytes_max: the largest message, inflated; may be changed later.
        fragments_max: frames that one compressed message may come in.
    """

    def __init__(self, message_bytes_max: int, fragments_max: int = FRAGMENTS_MAX) -> None:
        self.message_bytes_max = message_bytes_max
        self.frames = 0
        """Complete frames of compressed messages so far."""
        self.violation: CloseCode | None = None
        """What is wrong with the stream; nothing more comes of it then."""
        self._fragments_max = fragments_max
        self._held = b""
        """A frame header that has not come whole, or what is to be inflated later."""
        self.has_more = False
        """Enough came of what was fed: the rest comes by `feed(b"")`."""
        self._announced = 0
        """What the frames of the compressed message have announced so far, compressed."""
        self._left = 0
        """Payload bytes of the current frame that have not come."""
        self._key: bytes | None = None
        """The mask of the current frame of a compressed message, from its next byte on; None: it passes."""
        self._is_last = False
        """The current frame is the last of a compressed message."""
        self._opcode = 0
        """Of the compressed message that has begun and not ended; 0: there is none."""
        self._fragments = 0
        self._in_plain = False
        """A message that is not compressed has begun, and has not ended."""
        self._zlib: Any = None
        self._inflated = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the stream; return those that are to go on, not much more than a message."""
        out: list[bytes] = []
        data, self._held, self.has_more = self._held + data, b"", False
        position, end, size_out, counted = 0, len(data), 0, 0
        while position < end and self.violation is None:
            size_out += sum(map(len, out[counted:]))
            counted = len(out)
            if size_out > self.message_bytes_max:
                # A little may become a lot, and others are to have their turn meanwhile.
                self._held, self.has_more = data[position:], True
                break
            if not self._left:
                size = header_size(data[position : position + 14])
                if size is None:
                    self._held = data[position:]
                    break
                head = data[position : position + size]
                position += size
                if not self._begin(head):
                    out.append(head)
                elif not self._left:
                    self._take(b"", out)
                continue
            chunk = data[position : position + self._left]
            position += len(chunk)
            self._left -= len(chunk)
            if self._key is None:
                out.append(chunk)
            else:
                self._take(chunk, out)
        return b"".join(out)

    def _begin(self, head: bytes) -> bool:
        """Begin a frame; return whether it is one of a compressed message."""
        self._left, self._key = payload_size(head), None
        first, opcode = head[0], head[0] & 0x0F
        if opcode > BINARY or first & (RESERVED & ~RSV1) or not head[1] & MASKED:
            return False
        is_compressed = bool(first & RSV1) or self._opcode != 0
        if not is_compressed:
            self._in_plain = first < FIN
            return False
        begins = opcode in (TEXT, BINARY)
        if (
            begins != bool(first & RSV1)
            or begins == (self._opcode != 0)
            or self._in_plain
            or not _is_minimal(head)
        ):
            self.violation = CloseCode.PROTOCOL_VIOLATION
        elif self._left > self.message_bytes_max:
            self.violation = CloseCode.MESSAGE_TOO_BIG
        elif begins:
            self._opcode, self._fragments, self._announced = opcode, 0, 0
            self._zlib, self._inflated = zlib.decompressobj(-WINDOW_BITS), bytearray()
        self._fragments += 1
        self._announced += self._left
        if self._fragments > self._fragments_max:
            self.violation = CloseCode.PROTOCOL_ABUSE
        elif self._announced > self.message_bytes_max:
            # Blocks may be empty, and what follows the last one is nothing: the size inflated bounds neither.
            self.violation = CloseCode.MESSAGE_TOO_BIG
        self._key = head[-MASK_BYTES:]
        self._is_last = first >= FIN
        return True

    def _take(self, chunk: bytes, out: list[bytes]) -> None:
        """Inflate the next bytes of a compressed message; at its end put out the frame that it becomes."""
        key = self._key
        if key is None or self.violation is not None:
            return
        turn = len(chunk) % MASK_BYTES
        self._key = key[turn:] + key[:turn]
        try:
            self._inflate(unmask(chunk, key))
            if self._left:
                return
            self.frames += 1
            if self._is_last:
                self._inflate(TAIL)
        except zlib.error:
            self.violation = CloseCode.INVALID_TEXT
            return
        if self._is_last and self.violation is None:
            frame = serialize_frame(bytes(self._inflated), binary=self._opcode == BINARY)
            size = len(frame) - len(self._inflated)
            out.append(bytes((frame[0], frame[1] | MASKED)) + frame[2:size] + bytes(MASK_BYTES) + frame[size:])
            self._opcode, self._zlib, self._inflated = 0, None, bytearray()

    def _inflate(self, data: bytes) -> None:
        # What follows a last block (BFINAL) is left out; zlib would keep it.
        if self.violation is None and not self._zlib.eof:
            # One byte more than there may be shows that there is more, whatever it would have grown to.
            room = self.message_bytes_max + 1 - len(self._inflated)
            self._inflated += self._zlib.decompress(data, room)
            if len(self._inflated) > self.message_bytes_max:
                self.violation = CloseCode.MESSAGE_TOO_BIG


def _is_minimal(head: bytes) -> bool:
    size, form = payload_size(head), head[1] & 0x7F
    return form < 126 or (size > 125 if form == 126 else 65_535 < size < 1 << 63)

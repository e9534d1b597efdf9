"""Owns the short way from a client's bytes to its messages, for what nearly every frame is. Pure.

It must not know packets, nor judge what is wrong with a frame: whatever is not plainly good it passes on as bytes
to wsproto, and once wsproto will fail the connection or close it, all that follows goes there too.

    frame                                                     goes
    text or binary, whole, masked, at most `bytes_max`,       to the messages, unmasked
      no reserved bit, shortest length, UTF-8 if text
    ping or pong, the same                                    to the messages, as a `Ping` or `Pong`
    the same, larger; fragments of a message in order          on; one message at a time, see `Demux.take`
    ping or pong among fragments                              on
    close, reserved bits or opcodes, not masked, … not UTF-8   on, and all that follows

Source: RFC 6455, sections 5.2 to 5.6.
"""

from __future__ import annotations

from codecs import utf_8_decode
from typing import Final

from livechat.protocol.frames import BINARY, CONTINUATION, FIN, TEXT, FrameScanner, unmask

WHOLE_TEXT: Final = FIN | TEXT
WHOLE_BINARY: Final = FIN | BINARY
PING: Final = FIN | 0x9
PONG: Final = FIN | 0xA
CONTROLS: Final = (PING, PONG)
OPCODE: Final = 0x0F
RESERVED: Final = 0x70
"""The bits RSV1 to RSV3: of extensions, of which there are none."""
MASKED: Final = 0x80
KEY_BYTES: Final = 4
SHORT_MAX: Final = 125
"""Payload bytes that the first two bytes of a frame can tell."""
LENGTH_64: Final = 127
"""Eight bytes more tell the length."""
FAST_BYTES_MAX: Final = 65_535
"""Payload bytes that two bytes more can tell; larger frames are worth no hurry."""

Message = str | bytes
"""Of a text frame, of a binary one."""


class Ping(bytes):
    """What came with a ping, to be sent back (RFC 6455, section 5.5.3); it takes its place among the messages.

    Some clients send one every few seconds for as long as they live.
    """


class Pong(bytes):
    """What came with a pong: nothing is due but to note that the client lives (RFC 6455, section 5.5.3).

    Some clients send one unasked every now and then.
    """


class Demux:
    """The stream of one client, after the handshake.

    Args:
        is_plain: pass everything on as bytes.
    """

    __slots__ = (
        "_checked",
        "_data",
        "_ends_message",
        "_in_fragments",
        "_position",
        "bytes_max",
        "is_plain",
        "is_starved",
        "passed",
        "scanner",
    )

    def __init__(self, *, is_plain: bool = False) -> None:
        self.is_plain = is_plain
        """Nothing will be a message any more: all goes on as bytes. May be set at any time, not unset."""
        self.is_starved = True
        """Nothing can be taken before more was fed."""
        self.bytes_max = FAST_BYTES_MAX
        """Payload bytes of the largest frame that becomes a message here."""
        self.passed = 0
        """Messages whose last bytes were passed on, as long as not everything is."""
        self.scanner = FrameScanner()
        """Of the frames that were passed on."""
        self._data = b""
        self._position = 0
        """Where in the data the next frame begins, or the rest of one that is being passed on."""
        self._checked = 0
        """Bytes of the text that is coming, and is the next frame, that are known to be UTF-8."""
        self._in_fragments = False
        """A message has begun that was passed on, and has not ended."""
        self._ends_message = False
        """The frame that is being passed on is a message's last."""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the stream."""
        self._data = self._data[self._position :] + data if self._position < len(self._data) else data
        self._position = 0
        self.is_starved = not data

    def take(self, frames_max: int) -> tuple[list[Message], bytes]:
        """Take the next frames, as far as they have come.

        Returns:
            (messages, bytes): the messages came before the bytes, which are those of one frame, or part of one; if
            `passed` has risen they end a message, and nobody may take more before he has dealt with that one.
        """
        messages: list[Message] = []
        if self.is_plain or not self.scanner.is_between_frames:
            return messages, self._pass_on(self._position, frames_max)
        data, position, bytes_max = self._data, self._position, self.bytes_max
        checked, self._checked = self._checked, 0
        end = len(data)
        from_bytes = int.from_bytes
        while position + 2 <= end and len(messages) < frames_max:
            first = data[position]
            size = data[position + 1] - MASKED  # negative where it is not masked
            is_other = (
                first != WHOLE_TEXT and first != WHOLE_BINARY and (first not in CONTROLS or size > SHORT_MAX)
            )
            if is_other or size < 0 or self._in_fragments:
                return messages, self._pass_on(position, frames_max)
            start = position + 2 + KEY_BYTES
            if size > SHORT_MAX:
                if position + 4 > end:
                    break
                if size == LENGTH_64 or (size := data[position + 2] << 8 | data[position + 3]) <= SHORT_MAX:
                    return messages, self._pass_on(position, frames_max)
                start += 2
            if size > bytes_max:
                return messages, self._pass_on(position, frames_max)
            stop = start + size
            if stop > end:
                if first == WHOLE_TEXT:
                    sure = utf8_bytes(data, start, 0 if messages else checked)
                    if sure is None:
                        return messages, self._pass_on(position, frames_max)
                    self._checked = sure
                break
            # One XOR of two large integers: Python has no faster way without a C extension.
            key = data[start - KEY_BYTES : start] * (size // KEY_BYTES + 1)
            bits = from_bytes(data[start:stop], "little") ^ from_bytes(key[:size], "little")
            payload = bits.to_bytes(size, "little")
            if first == WHOLE_BINARY:
                messages.append(payload)
            elif first == PING:
                messages.append(Ping(payload))
            elif first == PONG:
                messages.append(Pong(payload))
            else:
                try:
                    messages.append(payload.decode())
                except UnicodeDecodeError:
                    return messages, self._pass_on(position, frames_max)
            position = stop
        self._position = position
        self.is_starved = len(messages) < frames_max
        if position == end:
            self._forget()
        return messages, b""

    def _forget(self) -> None:
        """Keep nothing of what was taken: the next bytes may be long in coming."""
        self._data, self._position = b"", 0

    def _pass_on(self, position: int, frames_max: int) -> bytes:
        """Take one frame, or the rest of one, as it is; a few, if all are passed on."""
        scanner, data = self.scanner, self._data
        if not self.is_plain and scanner.is_between_frames:
            self._judge(data[position], data[position + 1])
        size = scanner.scan(data, frames_max if self.is_plain else 1, position)
        self._position = position + size
        self.is_starved = self._position == len(data)
        if self.is_starved:
            self._forget()
        if self._ends_message and scanner.is_between_frames:
            self._ends_message = False
            self.passed += 1
        return data[position : position + size]

    def _judge(self, first: int, second: int) -> None:
        """Note what a frame that is passed on does to what comes after it.

        Where wsproto refuses a frame of data for more than this, no message comes of it, and so none after it.
        """
        opcode = first & OPCODE
        if first & RESERVED or not second & MASKED:
            self.is_plain = True
        elif opcode <= BINARY:
            self.is_plain = (opcode == CONTINUATION) != self._in_fragments
            self._in_fragments = first < FIN
            self._ends_message = not (self.is_plain or self._in_fragments)
        else:
            self.is_plain = first not in CONTROLS or second > MASKED + SHORT_MAX


def utf8_bytes(data: bytes, start: int, checked: int) -> int | None:
    """Check what has come of a text; None: it can't be UTF-8, however it goes on, and is to be refused at once.

    Args:
        data: ends within the frame.
        start: where the payload begins, behind its key.
        checked: bytes of it that are known to be UTF-8, so that a frame in many pieces is not checked over again.

    Returns:
        How many are now; all but those of a character that has not come whole.
    """
    key, turned = data[start - KEY_BYTES : start], checked % KEY_BYTES
    try:
        _, size = utf_8_decode(unmask(data[start + checked :], key[turned:] + key[:turned]), "strict", False)
    except UnicodeDecodeError:
        return None
    return checked + size

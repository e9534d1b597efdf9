"""Owns the elements of an RTP header extension, and what an audio level says.

It must not know who negotiated which id, nor what a level leads to. Encrypted elements (RFC 6904) are not
spoken: their bytes would be read as if they were clear, so an id must never be negotiated for one.

Source: RFC 8285 sections 4.2 (one byte) and 4.3 (two bytes), RFC 6464 section 3 (audio level).

The extension follows the fixed header and the CSRCs; its profile tells the form of the elements:

    byte  0         2        4
          profile   words    `words` 32-bit words of elements, one after the other
    0xBEDE          one-byte form:  id (4 bits, 1-14), length - 1 (4 bits), data of 1 to 16 bytes
    0x1000-0x100F   two-byte form:  id (8 bits, 1-255), length (8 bits), data of 0 to 255 bytes
    all else        not elements

A zero byte between elements is padding, in both forms. In the one-byte form id 15 ends the elements, and so
does id 0 with a length; what came before counts.

The audio level is one byte: V (the encoder believes that it is speech), then the level as -dBov in 7 bits:
0 is the loudest that there is, 127 is digital silence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from livechat.error import ProtocolError
from livechat.rtp.packet import EXTENSION_BIT, FIXED_BYTES

ONE_BYTE_PROFILE: Final = 0xBEDE
TWO_BYTE_PROFILE: Final = 0x1000
"""The low four bits are the application's ("appbits"); here they are zero."""

VOICE_BIT: Final = 0x80
"""Of an audio level: the encoder believes that the packet holds speech."""
LEVEL_MASK: Final = 0x7F
"""Of an audio level: -dBov."""

_HEADER: Final = struct.Struct(">HH")
_ONE_BYTE_ID_MAX: Final = 14
_ONE_BYTE_DATA_MAX: Final = 16
_ONE_BYTE_STOP: Final = 15
_TWO_BYTE_MASK: Final = 0xFFF0
_CSRC_COUNT_MASK: Final = 0x0F

# Where things stand in a packet without CSRCs, for the fast path of the audio level.
_PLAIN_WITH_EXTENSION: Final = 0x90
_ONE_BYTE_START: Final = b"\xbe\xde\x00"
"""The one-byte profile and the upper half of a count below 256 words."""
_WORDS_AT: Final = FIXED_BYTES + 3
_ELEMENTS_AT: Final = FIXED_BYTES + 4


def parse_untrusted(packet: bytes) -> tuple[tuple[int, bytes], ...]:
    """Return the elements of a packet's extension as (id, data), in their order; none if it has no elements.

    Args:
        packet: an RTP packet, or its header alone.

    Raises:
        ProtocolError: the extension or an element in it ends past the place that it has.
    """
    return tuple((element_id, packet[start:end]) for element_id, _, start, end in _walk_untrusted(packet))


def find_untrusted(packet: bytes, element_id: int) -> bytes | None:
    """Return the data of the first element with an id.

    None if there is none before the end of the elements, or before the first that is malformed.
    """
    found = _locate(packet, element_id)
    return packet[found[1] : found[2]] if found is not None else None


def blank(packet: bytes, element_id: int) -> bytes:
    """Return the packet with each element of an id overwritten by padding, which leaves all lengths as they are.

    The same object comes back if there is nothing to overwrite.
    """
    if not packet or not packet[0] & EXTENSION_BIT:
        return packet
    found: list[tuple[int, int]] = []
    # In one walk: looked for anew after each, hundreds of elements in one packet would take its square.
    with suppress(ProtocolError):
        for key, start, _, end in _walk_untrusted(packet):
            if key == element_id:
                found.append((start, end))
    if not found:
        return packet
    blanked = bytearray(packet)
    for start, end in found:
        blanked[start:end] = bytes(end - start)
    return bytes(blanked)


def audio_level_untrusted(packet: bytes, element_id: int) -> int | None:
    """Return the byte of the audio level (`VOICE_BIT`, `LEVEL_MASK`); None if the packet tells none."""
    first = packet[0] if packet else 0
    if not first & EXTENSION_BIT:
        return None
    # Most clients have no CSRCs, use the one-byte form and put the level first; that much is seen at once.
    if first == _PLAIN_WITH_EXTENSION and packet[FIXED_BYTES:_WORDS_AT] == _ONE_BYTE_START:
        words = packet[_WORDS_AT] if len(packet) > _WORDS_AT else 0
        if words and len(packet) >= _ELEMENTS_AT + 4 * words and packet[_ELEMENTS_AT] == element_id << 4:
            return packet[_ELEMENTS_AT + 1]
    data = find_untrusted(packet, element_id)
    return data[0] if data else None


def serialize(elements: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Return (profile, data) of an extension for `RtpHeader`: in the one-byte form if all elements fit into it.

    Args:
        elements: (id, data); ids 1-255, data of at most 255 bytes.
    """
    elements = list(elements)
    if all(key <= _ONE_BYTE_ID_MAX and 1 <= len(data) <= _ONE_BYTE_DATA_MAX for key, data in elements):
        profile = ONE_BYTE_PROFILE
        joined = b"".join(bytes([key << 4 | len(data) - 1]) + data for key, data in elements)
    else:
        profile = TWO_BYTE_PROFILE
        joined = b"".join(bytes([key, len(data)]) + data for key, data in elements)
    return profile, joined + bytes(-len(joined) % 4)


def _locate(packet: bytes, element_id: int) -> tuple[int, int, int] | None:
    """Find the first element of an id. Returns (where it starts, where its data starts, where that ends)."""
    if not packet or not packet[0] & EXTENSION_BIT:
        return None  # as most packets are; to begin a walk costs more than this
    try:
        for key, start, data, end in _walk_untrusted(packet):
            if key == element_id:
                return start, data, end
    except ProtocolError:
        return None
    return None


def _walk_untrusted(packet: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield every element as (id, where it starts, where its data starts, where that ends)."""
    if len(packet) < FIXED_BYTES or not packet[0] & EXTENSION_BIT:
        return
    start = FIXED_BYTES + 4 * (packet[0] & _CSRC_COUNT_MASK)
    if start + _HEADER.size > len(packet):
        raise ProtocolError(f"RTP extension: expected to start before byte {len(packet)}, got {start}")
    profile, words = _HEADER.unpack_from(packet, start)
    start += _HEADER.size
    end = start + 4 * words
    if end > len(packet):
        raise ProtocolError(f"RTP extension: expected {4 * words} bytes, got {len(packet) - start}")
    if profile == ONE_BYTE_PROFILE:
        yield from _walk_one_byte_untrusted(packet, start, end)
    elif profile & _TWO_BYTE_MASK == TWO_BYTE_PROFILE:
        yield from _walk_two_byte_untrusted(packet, start, end)


def _walk_one_byte_untrusted(packet: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    while start < end:
        first = packet[start]
        if first == 0:
            start += 1
            continue
        element_id = first >> 4
        if element_id in (0, _ONE_BYTE_STOP):
            return
        data = start + 1
        stop = data + (first & 0x0F) + 1
        if stop > end:
            raise ProtocolError(
                f"RTP extension element {element_id}: expected {stop - data} bytes, got {end - data}"
            )
        yield element_id, start, data, stop
        start = stop


def _walk_two_byte_untrusted(packet: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    while start < end:
        element_id = packet[start]
        if element_id == 0:
            start += 1
            continue
        data = start + 2
        if data > end:
            raise ProtocolError(f"RTP extension element {element_id}: expected a length, got the end")
        stop = data + packet[start + 1]
        if stop > end:
            raise ProtocolError(
                f"RTP extension element {element_id}: expected {stop - data} bytes, got {end - data}"
            )
        yield element_id, start, data, stop
        start = stop

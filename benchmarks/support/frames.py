"""Owns where frames from a server begin and end. Pure.

It must not judge them: they are unmasked, as a server's are, and what the server sends is trusted (RFC 6455
section 5.2).
"""

from __future__ import annotations


def payload_at(data: bytes, position: int) -> tuple[int, int] | None:
    """Return where the payload of the frame at `position` begins and ends; None: not all of the frame is there."""
    available = len(data)
    start = position + 2
    if available < start:
        return None
    length = data[position + 1]
    if length >= 126:
        extended = start
        start += 2 if length == 126 else 8
        if available < start:
            return None
        length = int.from_bytes(data[extended:start], "big")
    end = start + length
    return None if available < end else (start, end)

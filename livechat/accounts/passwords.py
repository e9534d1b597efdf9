"""Owns what a password and the id of a new account may be, and when two of them are the same. Pure.

It must not hash (see `hashing`).

Source: RFC 8265, section 4.2 (OpaqueString), but with NFKC, so that what looks the same on two keyboards is the
same; NIST SP 800-63B, section 5.1.1.2 (length, not composition).
"""

from __future__ import annotations

import unicodedata
from typing import Final

from livechat.error import ProtocolError
from livechat.protocol.types import ID_PATTERN

LENGTH_MIN: Final = 8
LENGTH_MAX: Final = 1024
"""Code points, as they were sent."""
BYTES_MAX: Final = 8192
"""What is hashed at most: compatibility forms may be longer than what they stand for."""
SAME_AS_LENGTH_MAX: Final = 256
"""Code points that an index can hold in UTF-8 (PostgreSQL: 2,704 bytes)."""


def prepare(password: str) -> bytes:
    """Return what is hashed of a password.

    Raises:
        ProtocolError: it can be none; the text names the field.
    """
    if not 1 <= len(password) <= LENGTH_MAX:
        raise ProtocolError(f"password: expected {LENGTH_MIN} to {LENGTH_MAX} characters")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in password):
        raise ProtocolError("password: expected text without control characters")
    spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password)
    prepared = unicodedata.normalize("NFKC", spaced).encode()
    if len(prepared) > BYTES_MAX:
        raise ProtocolError(f"password: expected at most {BYTES_MAX} bytes")
    return prepared


def prepare_new(password: str, user_id: str) -> bytes:
    """Return what is hashed of a password that somebody chooses.

    Raises:
        ProtocolError: it is too short, too long, or the user id.
    """
    prepared = prepare(password)
    if len(prepared.decode()) < LENGTH_MIN:
        raise ProtocolError(f"password: expected {LENGTH_MIN} to {LENGTH_MAX} characters")
    if same_as(prepared.decode()) == same_as(user_id):
        raise ProtocolError("password: expected another text than the user id")
    return prepared


def same_as(user_id: str) -> str:
    """Return what is the same for all user ids that count as one: letters of any case and width.

    It may be longer than the id: up to 18 times, by Unicode's own bound for NFKC.
    """
    folded = unicodedata.normalize("NFKC", user_id).casefold()
    # Folding may leave what is not normalized (Unicode, section 3.13, D146).
    return unicodedata.normalize("NFKC", folded)


def check_new_id(user_id: str) -> None:
    """Refuse a user id that no account can have.

    Raises:
        ProtocolError: the text names the field.
    """
    if ID_PATTERN.fullmatch(user_id) is None:
        raise ProtocolError("user_id: expected 1 to 64 letters, digits or _ . : @ -")
    if len(same_as(user_id)) > SAME_AS_LENGTH_MAX:
        raise ProtocolError("user_id: expected fewer ligatures")

"""Owns the refusals that only accounts know; their codes are those of the protocol."""

from __future__ import annotations

from livechat.error import InvalidToken, ProtocolError


class UserIdTaken(ProtocolError):
    """Somebody has this user id already, or one that looks the same."""


class NoSuchAccount(ProtocolError):
    """There is no account of this user id."""


class WrongPassword(InvalidToken):
    """No account has this user id and this password; which of the two is wrong is not told."""

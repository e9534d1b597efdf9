"""Owns what a token says: which claims count, what they may hold, and whether the token counts now. Pure.

It must not know keys or signatures (see `verifier`); nothing here is believed before the signature was checked.

Source: RFC 7519, section 4.1; RFC 8693, section 4.2 (scope).
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from livechat.error import InvalidToken
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.requests import PRIORITY_MAX
from livechat.protocol.types import ID_PATTERN, UserId, is_text
from livechat.tokens.settings import AuthSettings

SCOPES: Final = ("chat", "publish", "admin")
"""`chat`: the gateway; `publish`: sending messages over HTTP, and nothing else; `admin`: everything."""
DEFAULT_SCOPES: Final = frozenset({"chat"})
NAME_LENGTH_MAX: Final = 100
TOKEN_ID_LENGTH_MAX: Final = 128
SECONDS_MAX: Final = 2**43
"""Far beyond any calendar, and yet in 64 bits as milliseconds."""


@attrs.frozen
class Claims:
    """What a good token says."""

    user_id: UserId
    expires_at: int
    """Milliseconds since 1970."""
    issued_at: int
    """Milliseconds since 1970; 0: it does not say, so it counts as older than any other."""
    scopes: frozenset[str]
    """Those of `SCOPES` that it has."""
    channels: ChannelPatterns | None = None
    """The channels it is good for; None: all."""
    name: str | None = None
    token_id: str | None = None
    """`jti`."""
    family_id: str | None = None
    """`sid` (OpenID Connect Front-Channel Logout, section 3): the login that it belongs to."""
    priority_max: int | None = None
    """`priority`: of claims to the floor, at most; None: any."""


def read_claims(claims: dict[str, Any], settings: AuthSettings, now_ms: int, leeway_ms: int) -> Claims:
    """Check the claims of a token whose signature is good.

    Args:
        now_ms: milliseconds since 1970.
        leeway_ms: how long after its end a token still counts: the clock of its issuer may be late.

    Raises:
        InvalidToken: a claim is missing, of the wrong type or not met; the text names it.
    """
    _check_parties(claims, settings)
    early_ms = now_ms + settings.leeway_s * 1000
    if _time_ms(claims, "nbf", 0) > early_ms:
        raise InvalidToken("token: not valid yet")
    issued_at = _time_ms(claims, "iat", 0)
    if issued_at > early_ms:
        raise InvalidToken("token: iat: in the future")
    if "exp" not in claims:
        raise InvalidToken("token: exp: required")
    expires_at = _time_ms(claims, "exp", 0)
    if expires_at <= now_ms:
        expires_at += leeway_ms
    if expires_at <= now_ms:
        raise InvalidToken("token: expired")
    if expires_at - now_ms > (settings.lifetime_max_s + settings.leeway_s) * 1000:
        raise InvalidToken(f"token: exp: expected at most {settings.lifetime_max_s} s from now")
    return Claims(
        user_id=_subject(claims),
        expires_at=expires_at,
        issued_at=issued_at,
        scopes=_scopes(claims),
        channels=_channels(claims),
        name=_text(claims, "name", NAME_LENGTH_MAX),
        token_id=_text(claims, "jti", TOKEN_ID_LENGTH_MAX),
        family_id=_text(claims, "sid", TOKEN_ID_LENGTH_MAX),
        priority_max=_priority(claims),
    )


def _check_parties(claims: dict[str, Any], settings: AuthSettings) -> None:
    if settings.issuer is not None and claims.get("iss") != settings.issuer:
        raise InvalidToken("token: iss: not the issuer that this server takes tokens from")
    audience = claims.get("aud")
    audiences = audience if type(audience) is list else [audience]
    if settings.audience is not None and settings.audience not in audiences:
        raise InvalidToken("token: aud: not meant for this server")


def _subject(claims: dict[str, Any]) -> UserId:
    subject = claims.get("sub")
    if type(subject) is not str or ID_PATTERN.fullmatch(subject) is None:
        raise InvalidToken("token: sub: expected 1 to 64 letters, digits or _ . : @ -")
    return UserId(subject)


def _time_ms(claims: dict[str, Any], name: str, default: int) -> int:
    """Return a NumericDate, seconds with or without a fraction, in milliseconds."""
    seconds = claims.get(name, default)
    # True is an int, and no time. What is not a number (NaN) lies within no bounds either.
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= SECONDS_MAX:
        raise InvalidToken(f"token: {name}: expected seconds since 1970")
    return round(seconds * 1000)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    if "scope" not in claims:
        return DEFAULT_SCOPES
    scope = claims["scope"]
    given = scope.split(" ") if type(scope) is str else scope
    if type(given) is not list or not all(type(item) is str for item in given):
        raise InvalidToken("token: scope: expected text with spaces, or a list of texts")
    # An issuer's tokens may be good for other services too.
    return frozenset(given) & frozenset(SCOPES)


def _channels(claims: dict[str, Any]) -> ChannelPatterns | None:
    # One that is there and null is refused: it must not mean everything.
    if "channels" not in claims:
        return None
    patterns = claims["channels"]
    if type(patterns) is not list or not all(type(pattern) is str for pattern in patterns):
        raise InvalidToken("token: channels: expected a list of patterns")
    try:
        return ChannelPatterns(tuple(patterns))
    except ValueError as exc:
        raise InvalidToken(f"token: {exc}") from None


def _priority(claims: dict[str, Any]) -> int | None:
    # As with the channels, null must not mean any.
    if "priority" not in claims:
        return None
    priority = claims["priority"]
    if type(priority) is not int or not 0 <= priority <= PRIORITY_MAX:
        raise InvalidToken(f"token: priority: expected 0 to {PRIORITY_MAX}")
    return priority


def _text(claims: dict[str, Any], name: str, most: int) -> str | None:
    text = claims.get(name)
    if text is None:
        return None
    if type(text) is not str or not 1 <= len(text) <= most or not is_text(text):
        raise InvalidToken(f"token: {name}: expected 1 to {most} characters")
    return text

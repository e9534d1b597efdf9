"""Owns the making of tokens, signed with the server's own key.

It must not decide who may have one.

Source: RFC 7519 (JWT), RFC 7515 (JWS, compact), by joserfc.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from joserfc import jws

from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.requests import PRIORITY_MAX, TOKEN_LENGTH_MAX
from livechat.protocol.types import ID_PATTERN
from livechat.tokens.claims import NAME_LENGTH_MAX, SCOPES
from livechat.tokens.keys import KeyRing
from livechat.tokens.settings import AuthSettings

LIFETIME_S: Final = 3600
TOKEN_ID_BYTES: Final = 16


class IssuedToken(NamedTuple):
    """A token, and what its issuer may want to keep of it."""

    token: str
    expires_at: int
    """Milliseconds since 1970."""
    token_id: str
    """The claim `jti`, by which it can be revoked."""


def wall_clock_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class TokenIssuer:
    """Makes tokens.

    Args:
        keys: the first own one signs.
        settings: tells `iss` and `aud`, and how long tokens may live.
        now_ms: milliseconds since 1970.
    """

    def __init__(self, keys: KeyRing, settings: AuthSettings, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._keys = keys
        self._settings = settings
        self._now_ms = now_ms

    def issue(
        self,
        user_id: str,
        scopes: Iterable[str] = ("chat",),
        lifetime_s: float = LIFETIME_S,
        *,
        channels: Iterable[str] | None = None,
        name: str | None = None,
        family_id: str | None = None,
        priority: int | None = None,
    ) -> IssuedToken:
        """Make a token.

        Args:
            user_id: who it speaks for.
            scopes: `chat`, `publish`, `admin`.
            lifetime_s: from now on; a millisecond at least.
            channels: patterns of the channels that it is good for; None: all.
            name: what the user is called, for people.
            family_id: all tokens of one login, which can be revoked by it at once (`sid`).
            priority: of claims to the floor of push-to-talk channels, at most; None: any.

        Raises:
            ValueError: it would be refused; the text names the field.
        """
        now_ms = self._now_ms()
        claims = self._claims(user_id, tuple(scopes), channels, name)
        if not 0.001 <= lifetime_s <= self._settings.lifetime_max_s:
            raise ValueError(f"lifetime_s: expected up to {self._settings.lifetime_max_s}, got {lifetime_s}")
        expires_at = now_ms + int(lifetime_s * 1000)
        token_id = secrets.token_urlsafe(TOKEN_ID_BYTES)
        claims |= {"iat": _numeric_date(now_ms), "exp": _numeric_date(expires_at), "jti": token_id}
        if family_id is not None:
            claims["sid"] = family_id
        if priority is not None:
            if not 0 <= priority <= PRIORITY_MAX:
                raise ValueError(f"priority: expected 0 to {PRIORITY_MAX}, got {priority}")
            claims["priority"] = priority
        signing = self._keys.signing
        header = {"alg": signing.algorithm, "typ": "JWT", "kid": signing.key_id}
        payload = json.dumps(claims, ensure_ascii=False, separators=(",", ":"))
        token = jws.serialize_compact(header, payload, signing.key, algorithms=[signing.algorithm])
        if len(token) > TOKEN_LENGTH_MAX:
            raise ValueError(f"channels: the token would be longer than {TOKEN_LENGTH_MAX} characters")
        return IssuedToken(token, expires_at, token_id)

    def _claims(
        self, user_id: str, scopes: tuple[str, ...], channels: Iterable[str] | None, name: str | None
    ) -> dict[str, Any]:
        if ID_PATTERN.fullmatch(user_id) is None:
            raise ValueError("user_id: expected 1 to 64 letters, digits or _ . : @ -")
        for scope in scopes:
            if scope not in SCOPES:
                raise ValueError(f"scopes: expected some of {', '.join(SCOPES)}, got {scope!r}")
        claims: dict[str, Any] = {"sub": user_id, "scope": " ".join(dict.fromkeys(scopes))}
        if channels is not None:
            claims["channels"] = list(ChannelPatterns(tuple(channels)).patterns)
        if name is not None:
            if not 1 <= len(name) <= NAME_LENGTH_MAX:
                raise ValueError(f"name: expected 1 to {NAME_LENGTH_MAX} characters, got {len(name)}")
            claims["name"] = name
        parties = {"iss": self._settings.issuer, "aud": self._settings.audience}
        return claims | {claim: value for claim, value in parties.items() if value is not None}


def _numeric_date(at_ms: int) -> int | float:
    """Return a time as tokens state it: seconds, with a fraction only where there is one."""
    return at_ms // 1000 if at_ms % 1000 == 0 else at_ms / 1000

"""Owns who a token speaks for: the port that embedders replace, and the authenticators of the configuration.

It must not touch sessions; it only turns credentials into an identity or refuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from itertools import pairwise
from typing import Final, Protocol

import attrs
import structlog
import trio

from livechat.error import BackendUnavailable, Forbidden, InvalidToken, LiveError
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.types import ID_PATTERN, UserId
from livechat.tokens.verifier import TokenVerifier

log = structlog.get_logger("livechat.handlers")

ADMIN_SCOPE: Final = "admin"
AUTHENTICATE_TIMEOUT_S: Final = 5.0
SECRET_LENGTH_MIN: Final = 16
"""Characters; with fewer, or fewer than eight different ones, a secret counts as guessable."""
SECRET_VARIETY_MIN: Final = 8


@attrs.frozen
class Identity:
    """Who a token speaks for, and how long."""

    user_id: UserId
    expires_at: int | None = None
    """Milliseconds since 1970; None: never."""
    scopes: frozenset[str] = frozenset({"chat"})
    """What the token is good for; with `admin` its holder may do everything."""
    channels: ChannelPatterns | None = None
    """The channels that it is good for, whatever its scopes; None: all."""
    name: str | None = None
    """What the user is called, for people."""
    token_id: str | None = None
    """By which the token can be revoked."""
    family_id: str | None = attrs.field(default=None, kw_only=True)
    """By which it can be revoked with all others of the same login."""
    issued_at: int | None = None
    """Milliseconds since 1970; 0: unknown, so long ago; None: undated, so proven anew each time."""
    holds_secret: bool = attrs.field(default=False, kw_only=True)
    """Proven by the shared secret: its holder may call everything that is served over HTTP."""
    priority_max: int | None = attrs.field(default=None, kw_only=True)
    """Of claims to the floor of push-to-talk channels, at most; None: any."""


class UserIdMissing(InvalidToken):
    """The token is right, but does not say who its holder is; a client that will RESUME need not say it either."""


class Banned(Forbidden):
    """An operator keeps the user out for a while; the connection is closed as well (4507)."""


class Authenticator(Protocol):
    """The port: whatever can tell who a token speaks for."""

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """Return the identity that `token` proves.

        Args:
            token: as the client sent it; untrusted.
            user_id: who the client says it is, where it said so; untrusted.

        Raises:
            InvalidToken: the credentials prove nothing.

        Cancellation:
            The caller sets the deadline.
        """
        ...


async def authenticate(
    authenticator: Authenticator, token: str, user_id: str | None, now_ms: Callable[[], int]
) -> Identity:
    """Ask an authenticator, which may be an embedder's: it may take its time, fail, or know nothing of time.

    Args:
        now_ms: milliseconds since 1970; asked once the answer is there.

    Raises:
        InvalidToken: the credentials prove nothing, or have expired.
        BackendUnavailable: it took too long, or failed.
    """
    try:
        with trio.fail_after(AUTHENTICATE_TIMEOUT_S):
            identity = await authenticator.authenticate(token, user_id)
    except LiveError:
        raise
    except trio.TooSlowError:
        raise BackendUnavailable("authentication took too long") from None
    except Exception:
        # An embedder's authenticator failed; that is no proof of anything.
        log.exception("authenticator failed")
        raise BackendUnavailable("authentication failed for an internal reason") from None
    if identity.expires_at is not None and identity.expires_at <= now_ms():
        raise InvalidToken("token: expired")
    return identity


class SharedSecretAuthenticator:
    """Mini LiveChat's way: whoever knows the secret may be any user."""

    def __init__(self, secret: str) -> None:
        assert secret
        self._secret = secret.encode()

    def is_secret(self, token: str) -> bool:
        """Tell whether a token is the secret; it takes the same time wherever they differ."""
        return compare_digest(token.encode("utf-8", "surrogatepass"), self._secret)

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """See `Authenticator`."""
        if not self.is_secret(token):
            raise InvalidToken("token: not the secret of this server")
        if user_id is None:
            raise UserIdMissing("user_id: required with a shared secret (over HTTP: X-User-Id)")
        if ID_PATTERN.fullmatch(user_id) is None:
            raise InvalidToken("user_id: expected 1 to 64 letters, digits or _ . : @ -")
        return Identity(UserId(user_id), holds_secret=True)


class TokenAuthenticator:
    """Signed tokens: each says who its holder is."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """See `Authenticator`. Who the client says it is must be who the token says it is."""
        claims = self._verifier.verify_untrusted(token)
        if user_id is not None and user_id != claims.user_id:
            raise InvalidToken("user_id: not the one of the token")
        return Identity(
            user_id=claims.user_id,
            expires_at=claims.expires_at,
            scopes=claims.scopes,
            channels=claims.channels,
            name=claims.name,
            token_id=claims.token_id,
            issued_at=claims.issued_at,
            family_id=claims.family_id,
            priority_max=claims.priority_max,
        )


class EitherAuthenticator:
    """The shared secret for those who know it, signed tokens for the others."""

    def __init__(self, shared: SharedSecretAuthenticator, tokens: TokenAuthenticator) -> None:
        self._shared = shared
        self._tokens = tokens

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """See `Authenticator`. First the secret, which may look like anything."""
        if self._shared.is_secret(token):
            return await self._shared.authenticate(token, user_id)
        if "." not in token:
            raise InvalidToken("token: not the secret of this server, nor a signed token")
        return await self._tokens.authenticate(token, user_id)


def is_guessable(secret: str) -> bool:
    """Tell whether a secret is too short, too uniform or too regular to be shown to a network."""
    if len(secret) < SECRET_LENGTH_MIN or len(set(secret)) < SECRET_VARIETY_MIN:
        return True
    # "livechatlivechat" is found in itself, shifted, when written twice.
    if secret in (secret + secret)[1:-1]:
        return True
    steps = sum(abs(ord(one) - ord(other)) <= 1 for one, other in pairwise(secret))
    return steps * 2 > len(secret)

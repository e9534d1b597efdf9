"""Owns who a token speaks for: the port that embedders replace, and the shared-secret authenticator.

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

from livechat.error import BackendUnavailable, InvalidToken, LiveError
from livechat.protocol.types import ID_PATTERN, UserId

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
    """What the token is good for; with `admin` its holder may do everything in every channel."""


class UserIdMissing(InvalidToken):
    """The token is right, but does not say who its holder is; a client that will RESUME need not say it either."""


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

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """See `Authenticator`. The comparison takes the same time wherever the token differs."""
        if not compare_digest(token.encode("utf-8", "surrogatepass"), self._secret):
            raise InvalidToken("token: not the secret of this server")
        if user_id is None:
            raise UserIdMissing("user_id: required with a shared secret")
        if ID_PATTERN.fullmatch(user_id) is None:
            raise InvalidToken("user_id: expected 1 to 64 letters, digits or _ . : @ -")
        return Identity(UserId(user_id))


def is_guessable(secret: str) -> bool:
    """Tell whether a secret is too short, too uniform or too regular to be shown to a network."""
    if len(secret) < SECRET_LENGTH_MIN or len(set(secret)) < SECRET_VARIETY_MIN:
        return True
    # "livechatlivechat" is found in itself, shifted, when written twice.
    if secret in (secret + secret)[1:-1]:
        return True
    steps = sum(abs(ord(one) - ord(other)) <= 1 for one, other in pairwise(secret))
    return steps * 2 > len(secret)

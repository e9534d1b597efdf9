"""Owns the rules of refresh tokens: what becomes of a login when one of its tokens is shown. Pure.

It must not make random bytes or read a clock: both come in.

A family is one login on one device, and all tokens that followed from it. Of its refresh tokens only the newest
counts; whoever shows an older one proves that two hold what only one should have, and nobody can tell which of
them is the thief: the family ends for both. The grace that some give a client whose answer was lost would be the
thief's as well, so there is none: such a client logs in again.

    state       newest token shown     older token shown     idle or age limit passed     logout
    live        live, next token       ended (reused)        ended (expired)              ended
    ended       refused                refused               -                            -

A refresh token is 48 random bytes: 16 that all tokens of the family share and that find it, 32 (256 bits) of its
own. Only SHA-256 digests of both are kept. Who shows the right 16 bytes with others must have seen a token of this
family, so reuse is known without keeping a list of the tokens that were.

Source: RFC 9700, section 4.14.2 (rotation, reuse detection); OAuth 2.0 for Browser-Based Apps, section 8.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from typing import Final

import attrs

from livechat.accounts.settings import AccountSettings
from livechat.error import InvalidToken
from livechat.protocol.types import UserId

PREFIX: Final = "lcr_"
"""Tells people and scanners for secrets what it is."""
FINDING_BYTES: Final = 16
SECRET_BYTES: Final = 32
FAMILY_ID_BYTES: Final = 16
TOKEN_CHARS: Final = len(PREFIX) + (FINDING_BYTES + SECRET_BYTES) * 4 // 3

Random = Callable[[int], bytes]
"""Returns so many bytes that nobody can guess."""


@attrs.frozen
class RefreshToken:
    """What a client holds, in parts."""

    finding: bytes = attrs.field(repr=False)
    secret: bytes = attrs.field(repr=False)

    @property
    def text(self) -> str:
        """As it travels."""
        return PREFIX + base64.urlsafe_b64encode(self.finding + self.secret).decode()

    @property
    def selector(self) -> str:
        """By which its family is found, in hex."""
        return sha256(self.finding).hexdigest()

    @property
    def digest(self) -> str:
        """By which it is known to be the newest, in hex."""
        return sha256(self.finding + self.secret).hexdigest()

    def next(self, random: Random) -> RefreshToken:
        """Return the one that takes its place."""
        return RefreshToken(self.finding, random(SECRET_BYTES))


def new_token(random: Random) -> RefreshToken:
    """Return the first token of a family."""
    return RefreshToken(random(FINDING_BYTES), random(SECRET_BYTES))


def parse_token_untrusted(text: str) -> RefreshToken:
    """Take a token apart.

    Raises:
        InvalidToken: it is none; the text repeats nothing of it.
    """
    refusal = InvalidToken("refresh_token: not one of this server")
    if len(text) != TOKEN_CHARS or not text.startswith(PREFIX) or not text.isascii():
        raise refusal
    try:
        data = base64.b64decode(text.removeprefix(PREFIX), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refusal from None
    token = RefreshToken(data[:FINDING_BYTES], data[FINDING_BYTES:])
    # The decoder is lenient; there is one way only to write a token.
    if len(token.secret) != SECRET_BYTES or token.text != text:
        raise refusal
    return token


@attrs.frozen
class Family:
    """What is kept of a login."""

    family_id: str
    """Named in its access tokens (`sid`); no secret."""
    user_id: UserId
    digest: str = attrs.field(repr=False)
    """Of the newest refresh token."""
    started_at: int
    """Milliseconds since 1970, as all times here."""
    expires_at: int
    """Unless it is refreshed before."""
    access_until: int
    """When the last of its access tokens ends."""
    revoked_at: int | None = None


class Verdict(Enum):
    """What a shown token means for its family."""

    ROTATE = "the newest: the next takes its place"
    REUSED = "one that was replaced: the family ends"
    ENDED = "the family has ended already"


def judge(family: Family, shown: RefreshToken, now_ms: int) -> Verdict:
    """Decide about a token that was shown to refresh a login."""
    if family.revoked_at is not None or family.expires_at <= now_ms:
        return Verdict.ENDED
    # Compared in constant time, although only digests are.
    if not hmac.compare_digest(family.digest, shown.digest):
        return Verdict.REUSED
    return Verdict.ROTATE


def expiry(started_at: int, now_ms: int, settings: AccountSettings) -> int:
    """Return until when a login goes on that is begun or refreshed now."""
    by_age = started_at + settings.login_lifetime_s * 1000
    return min(now_ms + settings.refresh_lifetime_s * 1000, by_age)


def surplus(live: list[tuple[str, int]], most: int) -> list[str]:
    """Return which families must end so that one more is not too many.

    Args:
        live: (family id, expires at) of a user's live ones.
        most: families a user may have.
    """
    eldest_first = sorted(live, key=lambda each: (each[1], each[0]))
    return [family_id for family_id, _ in eldest_first[: max(0, len(live) - most + 1)]]

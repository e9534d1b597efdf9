"""Owns the settings of tokens; the configuration holds one of these."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

import attrs

from livechat.error import ConfigError

AuthMode = Literal["both", "jwt", "shared-secret"]
ALGORITHMS: Final = ("HS256", "EdDSA", "ES256", "RS256")
"""What tokens may be signed with: HS256 by the server's own keys only, the others by public keys only."""
COOKIE_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
"""RFC 6265, section 4.1.1: a token of RFC 9110."""


@attrs.frozen
class AuthSettings:
    """Which tokens are taken, and how."""

    mode: AuthMode = "both"
    """`shared-secret`: only the secret, as Mini LiveChat; `jwt`: only signed tokens; `both`: either."""
    key_file: Path | None = None
    """The server's own keys for HS256, one a line, the first signs; made if it is missing. Left out: `token-key`
    in `data_dir` or, where `secret` is set and not guessable, a key derived from that."""
    public_keys: Path | None = None
    """Whose tokens are taken beside the server's own: a PEM file, a JWKS file, or a folder of such files."""
    algorithms: tuple[str, ...] = ALGORITHMS
    """Tokens signed by anything else are refused, whatever keys there are."""
    issuer: str | None = None
    """Tokens must have this `iss`."""
    audience: str | None = None
    """Tokens must have this `aud`, or a list with it."""
    leeway_s: int = 5
    """How far the clock of who signs with one of `public_keys` may be off."""
    lifetime_max_s: int = 366 * 86_400
    """Tokens that live longer are refused; for so long it is remembered that a user's tokens were revoked."""
    warning_s: int = 60
    """How long before a token ends its connections are told; at most half of what the token lives yet."""
    cookie: str = "livechat_token"
    """The cookie that may carry a token, where the request's Origin is one of `gateway.allowed_origins`."""

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: names the setting, what was expected and what came.
        """
        if not self.algorithms:
            raise ConfigError(f"auth.algorithms: expected some of {', '.join(ALGORITHMS)}, got none")
        for name in self.algorithms:
            if name not in ALGORITHMS:
                raise ConfigError(f"auth.algorithms: expected some of {', '.join(ALGORITHMS)}, got {name!r}")
        if COOKIE_NAME.fullmatch(self.cookie) is None:
            raise ConfigError(f"auth.cookie: expected the name of a cookie, got {self.cookie!r}")
        for name, text in (("issuer", self.issuer), ("audience", self.audience)):
            if text == "":
                raise ConfigError(f"auth.{name}: expected some text, got nothing")

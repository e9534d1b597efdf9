"""Owns how a configuration becomes what proves and makes tokens: keys, authenticator, issuer.

It must not serve anybody; the composition root (`livechat.server`) and the commands use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import structlog

from livechat.config import Config, check_secret, obtain_secret
from livechat.error import ConfigError
from livechat.handlers.auth import (
    Authenticator,
    EitherAuthenticator,
    SharedSecretAuthenticator,
    TokenAuthenticator,
    is_guessable,
)
from livechat.handlers.node import Node
from livechat.handlers.revoke import revoke_token, revoke_user
from livechat.protocol.types import UserId
from livechat.tokens.issuer import LIFETIME_S, IssuedToken, TokenIssuer, wall_clock_ms
from livechat.tokens.keys import KeyRing, TokenKey
from livechat.tokens.own_keys import KEY_FILE, derived_key, obtain_keys
from livechat.tokens.public_keys import load_public_keys
from livechat.tokens.verifier import TokenVerifier

log = structlog.get_logger("livechat.tokens")


@attrs.frozen
class Credentials:
    """What a server proves and makes tokens with."""

    authenticator: Authenticator
    issuer: TokenIssuer | None
    """Signs with the server's own key; None: the authenticator takes no tokens."""
    keys: KeyRing
    _config: Config = attrs.field(repr=False)

    @property
    def has_files(self) -> bool:
        """Whether any key was read from a file."""
        files = (self._config.auth.public_keys, own_key_file(self._config))
        return self.issuer is not None and files != (None, None)

    def reload(self) -> bool:
        """Read the files with keys again. What cannot be used is logged, and all keys stay as they are.

        Slow; for a thread. Tokens may be checked meanwhile.

        Returns:
            Whether the keys are now those of the files.
        """
        try:
            self.keys.replace(_load_keys(self._config))
        except ConfigError as exc:
            log.error("keys for tokens not reloaded", error=str(exc))
            return False
        log.info("keys for tokens reloaded", keys=len(self.keys))
        return True


class TokenControls:
    """What a running server does with tokens, for the program around it."""

    _node: Node

    def mint_token(
        self,
        user_id: str,
        scopes: Iterable[str] = ("chat",),
        lifetime_s: float = LIFETIME_S,
        *,
        channels: Iterable[str] | None = None,
        name: str | None = None,
        priority: int | None = None,
    ) -> IssuedToken:
        """Make a token that this server takes; see `TokenIssuer.issue`.

        Raises:
            ConfigError: it takes none: `auth.mode` says so, or its authenticator is the embedder's own.
            ValueError: the token would be refused; the text names the field.
        """
        if self._node.issuer is None:
            raise ConfigError("auth.mode: this server takes no signed tokens")
        return self._node.issuer.issue(
            user_id, scopes, lifetime_s, channels=channels, name=name, priority=priority
        )

    def revoke(
        self,
        *,
        token_id: str | None = None,
        expires_at: int | None = None,
        user_id: str | None = None,
        issued_by: int | None = None,
        is_kicked: bool = False,
    ) -> int:
        """Let tokens count no more, one by its id or a user's by the time, and end their sessions at once.

        Args:
            token_id: the `jti` of one token.
            expires_at: when that ends, in milliseconds since 1970: until then the revocation is remembered.
            user_id: whose tokens, and sessions by the shared secret.
            issued_by: only tokens issued by then, in milliseconds since 1970; None: by now. In the future, it
                keeps the user out until then.
            is_kicked: close the user's with 4507, after which clients do not come back by themselves; else 4502.

        Returns:
            How many sessions have ended.
        """
        ended = 0 if token_id is None else revoke_token(self._node, token_id, expires_at)
        if user_id is not None:
            ended += revoke_user(self._node, UserId(user_id), issued_by, is_kicked=is_kicked)
        return ended


def open_credentials(
    config: Config,
    *,
    authenticator: Authenticator | None,
    is_exposed: bool,
    now_ms: Callable[[], int] = wall_clock_ms,
) -> Credentials:
    """Load the keys and choose the authenticator. Slow; it reads files and derives keys.

    Args:
        authenticator: the embedder's own; None: as `config.auth` says.
        is_exposed: the server listens beyond loopback.
        now_ms: milliseconds since 1970.

    Raises:
        ConfigError: a file cannot be used, or the secret is guessable and would be shown to a network.
    """
    if authenticator is not None:
        return Credentials(authenticator, None, KeyRing(), config)
    if config.auth.mode == "shared-secret":
        return Credentials(_shared_secret(config, is_exposed), None, KeyRing(), config)
    shared = _shared_secret(config, is_exposed) if config.auth.mode == "both" else None
    keys = KeyRing(_load_keys(config))
    tokens = TokenAuthenticator(TokenVerifier(keys, config.auth, now_ms))
    chosen = tokens if shared is None else EitherAuthenticator(shared, tokens)
    return Credentials(chosen, TokenIssuer(keys, config.auth, now_ms), keys, config)


def _shared_secret(config: Config, is_exposed: bool) -> SharedSecretAuthenticator:
    secret = obtain_secret(config)
    if is_exposed:
        check_secret(secret)
    return SharedSecretAuthenticator(secret)


def _load_keys(config: Config) -> tuple[TokenKey, ...]:
    public = () if config.auth.public_keys is None else load_public_keys(config.auth.public_keys)
    return (*_own_keys(config), *public)


def _own_keys(config: Config) -> tuple[TokenKey, ...]:
    """Return the server's own keys; `livechat serve` and `livechat token` find the same ones by this."""
    path = own_key_file(config)
    if path is not None:
        return obtain_keys(path)
    assert config.secret is not None
    return (derived_key(config.secret),)


def own_key_file(config: Config) -> Path | None:
    """Return where the server's own keys are kept; None: the one that there is, is derived from the secret."""
    if config.auth.key_file is not None:
        return config.auth.key_file
    # A guessable secret would be found out by any token that was signed with what is derived from it.
    if config.secret is not None and not is_guessable(config.secret):
        return None
    return config.data_dir / KEY_FILE


def mint_token(
    config: Config,
    user_id: str,
    scopes: Iterable[str] = ("chat",),
    lifetime_s: float = LIFETIME_S,
    *,
    channels: Iterable[str] | None = None,
    name: str | None = None,
    priority: int | None = None,
) -> IssuedToken:
    """Make a token that a server of the same configuration takes; see `TokenIssuer.issue`.

    Raises:
        ConfigError: the server's own key cannot be read or made.
        ValueError: the token would be refused; the text names the field.
    """
    issuer = TokenIssuer(KeyRing(_own_keys(config)), config.auth, wall_clock_ms)
    return issuer.issue(user_id, scopes, lifetime_s, channels=channels, name=name, priority=priority)

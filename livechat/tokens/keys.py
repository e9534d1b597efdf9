"""Owns the keys that tokens are signed with, each bound to the one algorithm it is for.

It must not read files (see `own_keys`, `public_keys`). The algorithm follows from the key, never from the token: a
token can but name the key, so no public key is ever taken for the secret of an HMAC (RFC 8725, section 3.1).
"""

from __future__ import annotations

from typing import TypeAlias

import attrs
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from livechat.error import ConfigError, InvalidToken

Key: TypeAlias = OctKey | RSAKey | ECKey | OKPKey


@attrs.frozen
class TokenKey:
    """A key, what it is called, and what it is for."""

    key_id: str | None
    """The `kid` of tokens; None: such a key takes only tokens without one."""
    algorithm: str
    """One of `ALGORITHMS`."""
    key: Key = attrs.field(repr=False)
    is_own: bool = False
    """The server's own: it signs with it too."""


class KeyRing:
    """All keys of a server. They can be replaced while tokens are checked."""

    def __init__(self, keys: tuple[TokenKey, ...] = ()) -> None:
        self._keys: tuple[TokenKey, ...] = ()
        self._by_id: dict[str, TokenKey] = {}
        self.replace(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def replace(self, keys: tuple[TokenKey, ...]) -> None:
        """Take these keys instead of all before.

        Raises:
            ConfigError: two have the same id; all stays as it was.
        """
        by_id: dict[str, TokenKey] = {}
        for key in keys:
            if key.key_id in by_id:
                raise ConfigError(f"two keys for tokens have the same id {key.key_id!r}")
            if key.key_id is not None:
                by_id[key.key_id] = key
        self._keys, self._by_id = keys, by_id

    @property
    def signing(self) -> TokenKey:
        """The key that new tokens are signed with: the first of the server's own."""
        return next(key for key in self._keys if key.is_own)

    def find(self, key_id: str | None, algorithm: str) -> TokenKey:
        """Return the key of a token.

        Args:
            key_id: as the token names it; untrusted.
            algorithm: as the token states it; untrusted.

        Raises:
            InvalidToken: there is no such key, or it is for another algorithm.
        """
        if key_id is None:
            # The only key of its kind is meant; among several the token must say which.
            fitting = [key for key in self._keys if key.algorithm == algorithm]
            if len(fitting) != 1:
                raise InvalidToken("token: kid: required to tell which key it is signed with")
            return fitting[0]
        key = self._by_id.get(key_id)
        if key is None:
            raise InvalidToken("token: kid: there is no such key")
        if key.algorithm != algorithm:
            raise InvalidToken("token: alg: not the one of its key")
        return key

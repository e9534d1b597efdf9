"""Owns the proof of a token: from characters to claims that can be believed.

It must not know sessions. In this order, and nothing later before what is earlier has proven good:

    size → three parts → header → the key it names → the key's own algorithm → signature → claims

Source: RFC 7515, section 5.2 (JWS, compact); RFC 8725 (best practices); signatures by joserfc.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from livechat.error import InvalidToken
from livechat.protocol.requests import TOKEN_LENGTH_MAX
from livechat.tokens.claims import Claims, read_claims
from livechat.tokens.keys import KeyRing, TokenKey
from livechat.tokens.settings import AuthSettings

TYPES: Final = ("jwt", "at+jwt")
"""`typ`, where it is stated: other kinds of JWT are no access tokens (RFC 8725, section 3.11)."""
ALIASES: Final = {"Ed25519": "EdDSA"}
"""RFC 9864 gives what `EdDSA` means here a name of its own."""
VERIFIED_AS: Final = {"EdDSA": "Ed25519"}
"""What joserfc calls it; that one takes no other curve."""


class TokenVerifier:
    """Checks tokens.

    Args:
        keys: those that tokens may be signed with.
        settings: what tokens must say.
        now_ms: milliseconds since 1970.
    """

    def __init__(self, keys: KeyRing, settings: AuthSettings, now_ms: Callable[[], int]) -> None:
        self._keys = keys
        self._settings = settings
        self._now_ms = now_ms

    def verify_untrusted(self, token: str) -> Claims:
        """Return what a token says, once it is proven to be good now.

        Raises:
            InvalidToken: it is not; the text says why, and repeats nothing of it.
        """
        # First of all, and cheap: nobody has us parse or hash a megabyte.
        if len(token) > TOKEN_LENGTH_MAX:
            raise InvalidToken(f"token: expected at most {TOKEN_LENGTH_MAX} characters")
        parts = token.split(".")
        if len(parts) != 3 or not token.isascii():
            raise InvalidToken("token: expected three parts with dots between")
        key = self._key(_object(parts[0], "header"))
        signed = f"{parts[0]}.{parts[1]}".encode("ascii")
        # Before anything of the payload is looked at.
        if not _is_signed(signed, _bytes(parts[2], "signature"), key):
            raise InvalidToken("token: the signature does not match")
        # Our own clock set the end of our own tokens; others' clocks may be off.
        leeway_s = 0 if key.is_own else self._settings.leeway_s
        return read_claims(_object(parts[1], "payload"), self._settings, self._now_ms(), leeway_s * 1000)

    def _key(self, header: dict[str, Any]) -> TokenKey:
        """Return the key that a header names, if that may sign by the algorithm that it states.

        Keys that come with the token, or an address of one (`jwk`, `jku`, `x5u`, `x5c`), prove nothing and are
        not looked at; what must be understood (`crit`, RFC 7515, section 4.1.11) is not, whatever it is.
        """
        algorithm = header.get("alg")
        algorithm = ALIASES.get(algorithm, algorithm) if type(algorithm) is str else None
        if algorithm not in self._settings.algorithms:
            raise InvalidToken(f"token: alg: expected one of {', '.join(self._settings.algorithms)}")
        if "crit" in header or "b64" in header:
            raise InvalidToken("token: crit: there is no extension that this server understands")
        kind = header.get("typ", "JWT")
        if type(kind) is not str or kind.lower().removeprefix("application/") not in TYPES:
            raise InvalidToken("token: typ: expected JWT")
        key_id = header.get("kid")
        if key_id is not None and type(key_id) is not str:
            raise InvalidToken("token: kid: expected text")
        return self._keys.find(key_id, algorithm)


def _is_signed(signed: bytes, signature: bytes, key: TokenKey) -> bool:
    algorithm = JWSRegistry.algorithms[VERIFIED_AS.get(key.algorithm, key.algorithm)]
    try:
        algorithm.check_key(key.key)
        return algorithm.verify(signed, signature, key.key)
    except (JoseError, ValueError):
        return False


def _object(part: str, name: str) -> dict[str, Any]:
    """Parse a part as an object of JSON that says nothing twice: two readers must not read two things."""
    try:
        value = json.loads(_bytes(part, name), object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise InvalidToken(f"token: {name}: expected JSON, each name once") from None
    if type(value) is not dict:
        raise InvalidToken(f"token: {name}: expected an object")
    return value


def _bytes(part: str, name: str) -> bytes:
    """Decode base64url without padding, and in one way only (RFC 7515, section 2; RFC 4648, section 3.5)."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise InvalidToken(f"token: {name}: expected base64url")
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


def _refuse(_constant: str) -> Any:
    raise ValueError("not JSON")

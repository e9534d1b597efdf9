"""Owns the server's own keys: made and kept in a file, or derived from the secret; at least 256 bits each.

It must not sign or check anything. None of them is the shared secret: who sees a token, or even one of these keys,
does not know that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Final

from joserfc.jwk import OctKey

from livechat.error import ConfigError
from livechat.tokens.keys import TokenKey
from livechat.tokens.private_file import obtain_private

KEY_FILE: Final = "token-key"
KEY_BYTES_MIN: Final = 32
"""RFC 7518, section 3.2: a key of at least the size of the hash."""
KEYS_MAX: Final = 16
ALGORITHM: Final = "HS256"

_DERIVED_FOR: Final = b"livechat token key 1"
_SCRYPT_COST: Final = 2**14
"""RFC 7914: 16 MiB and some 50 ms, once: who would guess the secret by a token pays that for every guess."""


@lru_cache(maxsize=4)
def derived_key(secret: str) -> TokenKey:
    """Return the key that belongs to a secret; every server with the same one has the same key.

    Slow, once for each secret.
    """
    return _own_key(
        hashlib.scrypt(secret.encode(), salt=_DERIVED_FOR, n=_SCRYPT_COST, r=8, p=1, dklen=KEY_BYTES_MIN)
    )


def obtain_keys(path: Path) -> tuple[TokenKey, ...]:
    """Return the keys of a file, one a line in base64url, the one that signs first; a missing file is made.

    To change keys, put a new one before the old, and take that away when the last token signed with it has ended.

    Raises:
        ConfigError: the file cannot be read or made, others can read it, or a line is no key.
    """
    text = obtain_private(path, secrets.token_urlsafe(KEY_BYTES_MIN))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > KEYS_MAX:
        raise ConfigError(f"{path}: expected at most {KEYS_MAX} keys, one a line")
    return tuple([_own_key(_parse_line(path, number, line)) for number, line in enumerate(lines, 1)])


def _parse_line(path: Path, number: int, line: str) -> bytes:
    try:
        key = base64.b64decode(line + "=" * (-len(line) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < KEY_BYTES_MIN:
        # Not a word of the line itself: it is a secret, if a bad one.
        raise ConfigError(f"{path}, line {number}: expected at least {KEY_BYTES_MIN} random bytes in base64url")
    return key


def _own_key(key: bytes) -> TokenKey:
    key_id = f"own-{hashlib.sha256(b'livechat token key id' + key).hexdigest()[:16]}"
    return TokenKey(key_id, ALGORITHM, OctKey.import_key(key), is_own=True)

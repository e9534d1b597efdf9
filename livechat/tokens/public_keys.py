"""Owns the keys of others whose tokens are taken: read from PEM and JWKS files, checked, never fetched.

It must not hold secrets: a private key, or one for HMAC, is refused.

Source: RFC 7517 (JWK Set), RFC 7518, section 3 (sizes), RFC 7468 (PEM).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from livechat.error import ConfigError
from livechat.tokens.keys import TokenKey

log = structlog.get_logger("livechat.tokens")

FILE_BYTES_MAX: Final = 1 << 20
FILES_MAX: Final = 100
RSA_BITS_MIN: Final = 2048
"""RFC 7518, section 3.3."""
SUFFIXES: Final = (".pem", ".crt", ".json", ".jwks")
"""Of the files in a folder; others are left alone."""

_KINDS: Final[dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_ALIASES: Final = {"Ed25519": "EdDSA"}


class _NotForUs(Exception):
    """A key of a JWKS that is no key for tokens of ours; its text says what it is."""


def load_public_keys(path: Path) -> tuple[TokenKey, ...]:
    """Return the keys of a PEM file, of a JWKS file, or of all such files in a folder.

    The key of a PEM file is called as the file without its suffix; those of a JWKS, as their `kid` says.

    Raises:
        ConfigError: a file cannot be read or used, or there is no key in it.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {(exc.strerror or str(exc)).lower()}") from exc
    if not files or len(files) > FILES_MAX:
        raise ConfigError(f"{path}: expected 1 to {FILES_MAX} files ({', '.join(SUFFIXES)}), got {len(files)}")
    return tuple([key for file in files for key in _load_file(file)])


def _load_file(file: Path) -> list[TokenKey]:
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {(exc.strerror or str(exc)).lower()}") from exc
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{file}: expected at most {FILE_BYTES_MAX} bytes")
    return _jwks_keys(file, data) if data.lstrip()[:1] in (b"{", b"[") else [_pem_key(file, data)]


# --- PEM ------------------------------------------------------------------------------------------


def _pem_key(file: Path, data: bytes) -> TokenKey:
    if b"PRIVATE KEY" in data:
        raise ConfigError(f"{file}: expected a public key, got a private one")
    try:
        if b"BEGIN CERTIFICATE" in data:
            raw: object = load_pem_x509_certificate(data).public_key()
        else:
            raw = load_pem_public_key(data)
    except ValueError as exc:
        raise ConfigError(f"{file}: expected a public key in PEM, or a JWKS") from exc
    algorithm = _algorithm_of(raw)
    if algorithm is None or not isinstance(raw, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise ConfigError(f"{file}: expected a key of RSA (2048 bits at least), P-256 or Ed25519")
    kind = _KINDS[{"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}[algorithm]]
    pem = raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return TokenKey(file.stem, algorithm, kind.import_key(pem))


def _algorithm_of(raw: object) -> str | None:
    """Return the one algorithm that a public key is for; None: it is for none that we take."""
    if isinstance(raw, RSAPublicKey) and raw.key_size >= RSA_BITS_MIN:
        return "RS256"
    if isinstance(raw, EllipticCurvePublicKey) and isinstance(raw.curve, SECP256R1):
        return "ES256"
    return "EdDSA" if isinstance(raw, Ed25519PublicKey) else None


# --- JWKS -----------------------------------------------------------------------------------------


def _jwks_keys(file: Path, data: bytes) -> list[TokenKey]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{file}: expected JSON") from exc
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f'{file}: expected a JWK Set, {{"keys": [...]}}')
    keys = []
    for number, entry in enumerate(entries, 1):
        if entry.get("kty") == "oct" or "d" in entry:
            raise ConfigError(f"{file}: key {number}: expected a public key, got a secret one")
        try:
            keys.append(_jwk_key(entry))
        except _NotForUs as why:
            # Sets of others may well hold keys for other things.
            log.info("key left alone", file=str(file), number=number, reason=str(why))
    if not keys:
        raise ConfigError(f"{file}: expected a key of RSA (2048 bits at least), P-256 or Ed25519 for signatures")
    return keys


def _jwk_key(entry: dict[str, Any]) -> TokenKey:
    """Return a key of a set.

    Raises:
        _NotForUs: it is for something else.
    """
    key_ops = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (isinstance(key_ops, list) and "verify" not in key_ops):
        raise _NotForUs("not for signatures")
    key_id = entry.get("kid")
    if key_id is not None and (type(key_id) is not str or not key_id):
        raise _NotForUs("kid: expected text")
    kind = _KINDS.get(str(entry.get("kty")))
    if kind is None:
        raise _NotForUs("kty: not RSA, EC or OKP")
    try:
        key = kind.import_key(entry)
        algorithm = _algorithm_of(key.public_key)
    except (JoseError, ValueError, KeyError, TypeError) as exc:
        raise _NotForUs("it cannot be read") from exc
    if algorithm is None:
        raise _NotForUs("neither RSA of 2048 bits, nor P-256, nor Ed25519")
    stated = entry.get("alg", algorithm)
    if _ALIASES.get(stated, stated) != algorithm:
        raise _NotForUs(f"alg: not {algorithm}")
    return TokenKey(key_id, algorithm, key)

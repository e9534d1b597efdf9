"""Tokens made by hand, good and bad, without the library that the server checks them with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Sign = Callable[[bytes], bytes]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Any, payload: Any, sign: Sign) -> str:
    """Return a token of these parts; bytes are taken as they are, all else is made JSON."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(sign(signed.encode()))}"


def hs256(key: bytes) -> Sign:
    """Sign by HMAC."""
    return lambda signed: hmac.digest(key, signed, hashlib.sha256)


def by(key: PrivateKey) -> Sign:
    """Sign by the algorithm that belongs to a private key."""

    def sign(signed: bytes) -> bytes:
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(signed, padding.PKCS1v15(), SHA256())
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(signed)
        r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


@cache
def private_key(algorithm: str, number: int = 0) -> PrivateKey:
    """Return a key for an algorithm, the same one for the same number."""
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return (
        ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
    )


def public_pem(key: PrivateKey) -> bytes:
    """Return the public half in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_jwk(key: PrivateKey, **fields: Any) -> dict[str, Any]:
    """Return the public half as a JWK."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        n, e = (value.to_bytes((value.bit_length() + 7) // 8, "big") for value in (numbers.n, numbers.e))
        return {"kty": "RSA", "n": b64(n), "e": b64(e), **fields}
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()), **fields}
    point = public.public_numbers()
    size = (public.key_size + 7) // 8
    x, y = point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
    return {"kty": "EC", "crv": "P-256" if size == 32 else "P-384", "x": b64(x), "y": b64(y), **fields}


def write_jwks(path: Path, *keys: dict[str, Any]) -> Path:
    """Write a JWKS file."""
    path.write_text(json.dumps({"keys": keys}))
    return path

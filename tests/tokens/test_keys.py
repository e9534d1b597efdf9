"""The server's own keys and those of others: files, and what is refused of them."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from livechat.error import ConfigError
from livechat.tokens.keys import KeyRing
from livechat.tokens.own_keys import KEY_BYTES_MIN, derived_key, obtain_keys
from livechat.tokens.public_keys import FILE_BYTES_MAX, load_public_keys
from tests.support.tokens import private_key, public_jwk, public_pem, write_jwks


def named(path: Path) -> dict[str | None, str]:
    """Key id → algorithm."""
    return {key.key_id: key.algorithm for key in load_public_keys(path)}


# --- the server's own --------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "token-key"
    (made,) = obtain_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (made.algorithm, made.is_own) == ("HS256", True)
    assert len(base64.urlsafe_b64decode(path.read_text().strip() + "=")) >= KEY_BYTES_MIN
    assert [key.key_id for key in obtain_keys(path)] == [made.key_id]


def test_a_file_holds_several_keys_and_the_first_signs(tmp_path: Path) -> None:
    path = tmp_path / "token-key"
    lines = [base64.urlsafe_b64encode(bytes([number]) * 32).decode() for number in range(3)]
    path.write_text("\n".join([lines[0], "", lines[1].rstrip("="), f"  {lines[2]}  "]))
    path.chmod(0o600)
    keys = obtain_keys(path)
    assert len({key.key_id for key in keys}) == 3
    assert KeyRing(keys).signing is keys[0]


@pytest.mark.parametrize("line", ["short", "x" * 42, "not base64 !" * 5, "ä" * 50])
def test_a_line_that_is_no_key_is_named_and_not_shown(line: str, tmp_path: Path) -> None:
    path = tmp_path / "token-key"
    path.write_text(f"{'A' * 43}\n{line}\n")
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        obtain_keys(path)
    assert str(caught.value) == f"{path}, line 2: expected at least 32 random bytes in base64url"


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token-key"
    obtain_keys(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        obtain_keys(path)


@pytest.mark.parametrize(("lines", "reason"), [(0, "is empty"), (17, "at most 16 keys")])
def test_a_file_holds_some_keys_and_not_too_many(lines: int, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "token-key"
    path.write_text("".join(f"{'A' * 41}{number:02}\n" for number in range(lines)))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=reason):
        obtain_keys(path)


def test_a_derived_key_follows_from_the_secret_and_does_not_show_it() -> None:
    key = derived_key("a secret of the tests")
    assert key.key_id == derived_key("a secret of the tests").key_id
    assert key.key_id != derived_key("a secret of the test").key_id
    raw = key.key.raw_value
    assert isinstance(raw, bytes)
    assert len(raw) >= KEY_BYTES_MIN
    assert b"secret" not in raw
    assert "secret" not in repr(key)


def test_two_keys_of_one_id_are_refused_and_the_old_ones_stay() -> None:
    key = derived_key("a secret of the tests")
    ring = KeyRing((key,))
    with pytest.raises(ConfigError, match="the same id"):
        ring.replace((key, derived_key("another secret"), key))
    assert len(ring) == 1


# --- PEM ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_pem_file_gives_its_name_to_its_key(algorithm: str, tmp_path: Path) -> None:
    path = tmp_path / "issuer-2024.pem"
    path.write_bytes(public_pem(private_key(algorithm)))
    assert named(path) == {"issuer-2024": algorithm}


def test_a_certificate_counts_for_its_key(tmp_path: Path) -> None:
    key = private_key("ES256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    path = tmp_path / "issuer.crt"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    assert named(path) == {"issuer": "ES256"}


def test_a_folder_holds_one_key_a_file(tmp_path: Path) -> None:
    for name, algorithm in (("a.pem", "EdDSA"), ("b.pem", "ES256")):
        (tmp_path / name).write_bytes(public_pem(private_key(algorithm)))
    write_jwks(tmp_path / "c.json", public_jwk(private_key("RS256"), kid="c1"))
    (tmp_path / "README").write_text("left alone")
    assert named(tmp_path) == {"a": "EdDSA", "b": "ES256", "c1": "RS256"}


def weak_rsa() -> bytes:
    return rsa.generate_private_key(65537, 1024).public_key().public_bytes(*PUBLIC_FORM)


PUBLIC_FORM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
UNFIT: dict[str, Callable[[], bytes]] = {
    "rsa of 1024 bits": weak_rsa,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*PUBLIC_FORM),
    "Ed448": lambda: ed448.Ed448PrivateKey.generate().public_key().public_bytes(*PUBLIC_FORM),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_key_that_is_not_fit_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(UNFIT[what]())
    with pytest.raises(ConfigError, match="expected a key of RSA"):
        load_public_keys(path)


def test_a_private_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_key("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="expected a public key, got a private one"):
        load_public_keys(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 10, b"-----BEGIN PUBLIC KEY-----\n"])
def test_what_is_no_key_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="expected a public key in PEM, or a JWKS"):
        load_public_keys(path)


def test_files_that_are_not_there_empty_folders_and_large_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_public_keys(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="expected 1 to 100 files"):
        load_public_keys(tmp_path)
    (tmp_path / "large.pem").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="expected at most"):
        load_public_keys(tmp_path / "large.pem")


# --- JWKS --------------------------------------------------------------------------------------------------


def test_the_keys_of_a_set_are_called_as_it_says(tmp_path: Path) -> None:
    jwks = [
        public_jwk(private_key("EdDSA"), kid="e", alg="EdDSA", use="sig"),
        public_jwk(private_key("EdDSA", 1), kid="e2", alg="Ed25519"),
        public_jwk(private_key("ES256"), kid="p", key_ops=["verify"]),
        public_jwk(private_key("RS256")),
    ]
    assert named(write_jwks(tmp_path / "keys", *jwks)) == {
        "e": "EdDSA",
        "e2": "EdDSA",
        "p": "ES256",
        None: "RS256",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"alg": ["RS256"]},
        {"kid": 5},
        {"kid": ""},
        {"kty": "AKP"},
        {"n": "x"},
        {"n": None},
        {"kty": "EC"},
    ],
)
def test_keys_for_something_else_are_left_alone(fields: dict[str, Any], tmp_path: Path) -> None:
    other = {**public_jwk(private_key("RS256"), kid="other"), **fields}
    good = public_jwk(private_key("ES256"), kid="good")
    assert named(write_jwks(tmp_path / "keys.json", other, good)) == {"good": "ES256"}
    with pytest.raises(ConfigError, match="for signatures"):
        load_public_keys(write_jwks(tmp_path / "keys.json", other))


@pytest.mark.parametrize("key", [{"kty": "oct", "k": "A" * 43}, {"kty": "OKP", "crv": "Ed25519", "d": "A" * 43}])
def test_a_secret_in_a_set_is_refused(key: dict[str, Any], tmp_path: Path) -> None:
    path = write_jwks(tmp_path / "keys.json", public_jwk(private_key("ES256"), kid="good"), key)
    with pytest.raises(ConfigError, match="key 2: expected a public key, got a secret one"):
        load_public_keys(path)


@pytest.mark.parametrize("document", [{}, {"keys": 5}, {"keys": [5]}, [], {"keys": []}])
def test_what_is_no_set_is_refused(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="expected a"):
        load_public_keys(path)


def test_a_set_that_does_not_parse_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ConfigError, match="expected JSON"):
            load_public_keys(path)

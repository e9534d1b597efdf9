"""Which tokens are believed: the signature, the header, the shape. Claims are `test_claims`' matter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OctKey

from livechat.error import InvalidToken
from livechat.protocol.requests import TOKEN_LENGTH_MAX
from livechat.tokens.issuer import TokenIssuer
from livechat.tokens.keys import KeyRing, TokenKey
from livechat.tokens.own_keys import derived_key
from livechat.tokens.public_keys import load_public_keys
from livechat.tokens.settings import AuthSettings
from livechat.tokens.verifier import TokenVerifier
from tests.support.tokens import b64, by, forged, hs256, private_key, public_jwk, public_pem, write_jwks

NOW_MS = 1_700_000_000_000
NOW = NOW_MS // 1000
CLAIMS: dict[str, Any] = {"sub": "alice", "exp": NOW + 60}
OWN = derived_key("a secret of the tests")
OWN_BYTES = OctKey.import_key(OWN.key.as_dict(private=True)).raw_value
PUBLIC = ("EdDSA", "ES256", "RS256")


def verifier(*keys: TokenKey, **settings: Any) -> TokenVerifier:
    return TokenVerifier(KeyRing((OWN, *keys)), AuthSettings(**settings), lambda: NOW_MS)


def own(header: dict[str, Any] | bytes | None = None, payload: Any = CLAIMS) -> str:
    """A token that is signed with the server's own key, whatever it says."""
    if not isinstance(header, bytes):
        header = {"alg": "HS256", "kid": OWN.key_id, **(header or {})}
        header = {name: value for name, value in header.items() if value is not None}
    return forged(header, payload, hs256(OWN_BYTES))


def refusal(checked: TokenVerifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        checked.verify_untrusted(token)
    return caught.value.reason


@pytest.fixture
def keys(tmp_path: Path) -> tuple[TokenKey, ...]:
    """A public key of each kind, called as its algorithm."""
    jwks = [public_jwk(private_key(name), kid=name) for name in PUBLIC]
    return load_public_keys(write_jwks(tmp_path / "keys.json", *jwks))


# --- what is good ------------------------------------------------------------------------------------------


def test_what_the_issuer_makes_is_believed() -> None:
    checked = verifier()
    issued = TokenIssuer(KeyRing((OWN,)), AuthSettings(), lambda: NOW_MS).issue("alice", ["chat", "publish"], 60)
    claims = checked.verify_untrusted(issued.token)
    assert claims.user_id == "alice"
    assert claims.scopes == {"chat", "publish"}
    assert (claims.expires_at, claims.token_id) == (issued.expires_at, issued.token_id)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_key_of_each_kind_proves_its_tokens(name: str, keys: tuple[TokenKey, ...]) -> None:
    good = forged({"alg": name, "kid": name, "typ": "at+jwt"}, CLAIMS, by(private_key(name)))
    assert verifier(*keys).verify_untrusted(good).user_id == "alice"
    # The only one of its kind needs no name.
    nameless = forged({"alg": name}, CLAIMS, by(private_key(name)))
    assert verifier(*keys).verify_untrusted(nameless).user_id == "alice"


def test_ed25519_is_eddsa_by_its_newer_name(keys: tuple[TokenKey, ...]) -> None:
    good = forged({"alg": "Ed25519", "kid": "EdDSA"}, CLAIMS, by(private_key("EdDSA")))
    assert verifier(*keys).verify_untrusted(good).user_id == "alice"


# --- signatures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_a_signature_by_another_key_of_the_kind_does_not_count(name: str, keys: tuple[TokenKey, ...]) -> None:
    bad = forged({"alg": name, "kid": name}, CLAIMS, by(private_key(name, 1)))
    assert refusal(verifier(*keys), bad) == "token: the signature does not match"


@pytest.mark.parametrize("name", ["HS256", *PUBLIC])
@pytest.mark.parametrize("length", [0, 1, 31, 32, 63, 64, 65, 256, 300])
def test_a_signature_of_any_length_is_refused_in_order(name: str, length: int, keys: tuple[TokenKey, ...]) -> None:
    kid = OWN.key_id if name == "HS256" else name
    bad = forged({"alg": name, "kid": kid}, CLAIMS, lambda _signed: b"\0" * length)
    assert refusal(verifier(*keys), bad) == "token: the signature does not match"


def test_a_changed_payload_or_header_does_not_count() -> None:
    header, payload, signature = own().split(".")
    other = b64(json.dumps({**CLAIMS, "sub": "bob"}).encode())
    renamed = b64(json.dumps({"alg": "HS256", "kid": OWN.key_id, "typ": "JWT"}).encode())
    for parts in ((header, other, signature), (renamed, payload, signature)):
        assert refusal(verifier(), ".".join(parts)) == "token: the signature does not match"


def test_the_payload_is_not_looked_at_before_the_signature_is_good() -> None:
    bad = forged({"alg": "HS256", "kid": OWN.key_id}, b"no JSON", lambda _signed: b"x" * 32)
    assert refusal(verifier(), bad) == "token: the signature does not match"


# --- algorithms: RFC 8725, section 2.1 ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS384", "hs256", "PS256", "ES256K", 5, None, ["HS256"]]
)
def test_algorithms_that_are_not_on_the_list_are_refused(alg: Any) -> None:
    for sign in (lambda _signed: b"", hs256(OWN_BYTES)):
        bad = forged({"alg": alg, "kid": OWN.key_id}, CLAIMS, sign)
        assert refusal(verifier(), bad).startswith("token: alg: expected one of HS256")


def test_none_without_a_key_id_is_refused_as_well() -> None:
    for bad in (forged({"alg": "none"}, CLAIMS, lambda _signed: b""), forged({}, CLAIMS, lambda _signed: b"")):
        assert refusal(verifier(), bad).startswith("token: alg:")


SECRETS: dict[str, Callable[[str], bytes]] = {
    "PEM": lambda name: public_pem(private_key(name)),
    "PEM without its last line break": lambda name: public_pem(private_key(name)).strip(),
    "JWK": lambda name: json.dumps(public_jwk(private_key(name))).encode(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_key_is_never_taken_for_the_secret_of_an_hmac(
    name: str, secret: str, keys: tuple[TokenKey, ...]
) -> None:
    sign = hs256(SECRETS[secret](name))
    assert refusal(verifier(*keys), forged({"alg": "HS256", "kid": name}, CLAIMS, sign)) == (
        "token: alg: not the one of its key"
    )
    assert (
        refusal(verifier(*keys), forged({"alg": "HS256"}, CLAIMS, sign)) == "token: the signature does not match"
    )


@pytest.mark.parametrize("name", PUBLIC)
@pytest.mark.parametrize("key_name", PUBLIC)
def test_a_key_proves_by_its_own_algorithm_only(name: str, key_name: str, keys: tuple[TokenKey, ...]) -> None:
    token = forged({"alg": name, "kid": key_name}, CLAIMS, by(private_key(key_name)))
    if name == key_name:
        assert verifier(*keys).verify_untrusted(token)
    else:
        assert refusal(verifier(*keys), token) == "token: alg: not the one of its key"


def test_an_algorithm_that_the_operator_took_off_the_list_is_refused(keys: tuple[TokenKey, ...]) -> None:
    token = forged({"alg": "RS256", "kid": "RS256"}, CLAIMS, by(private_key("RS256")))
    checked = verifier(*keys, algorithms=("HS256", "EdDSA"))
    assert refusal(checked, token) == "token: alg: expected one of HS256, EdDSA"
    assert checked.verify_untrusted(own())


# --- key ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kid", ["", "unknown", "../../dev/null", "' or 1=1 --", "own-0", "\0", "ä"])
def test_an_unknown_key_id_is_refused(kid: str, keys: tuple[TokenKey, ...]) -> None:
    assert refusal(verifier(*keys), own({"kid": kid})) == "token: kid: there is no such key"


@pytest.mark.parametrize("kid", [5, True, ["own"], {"own": 1}])
def test_a_key_id_is_text(kid: object) -> None:
    assert refusal(verifier(), own({"kid": kid})) == "token: kid: expected text"


def test_among_several_keys_of_a_kind_a_token_says_which() -> None:
    other = derived_key("an older secret of the tests")
    assert refusal(verifier(other), own({"kid": None})).startswith("token: kid: required")
    assert verifier(other).verify_untrusted(own())
    assert verifier().verify_untrusted(own({"kid": None}))
    assert refusal(verifier(), forged({"alg": "RS256"}, CLAIMS, by(private_key("RS256")))).startswith(
        "token: kid:"
    )


def test_a_key_that_was_taken_away_proves_nothing_more() -> None:
    ring = KeyRing((OWN,))
    checked = TokenVerifier(ring, AuthSettings(), lambda: NOW_MS)
    assert checked.verify_untrusted(own())
    new = derived_key("a newer secret of the tests")
    ring.replace((new, OWN))
    assert checked.verify_untrusted(own())
    ring.replace((new,))
    assert refusal(checked, own()) == "token: kid: there is no such key"


def test_a_key_that_comes_with_the_token_proves_nothing() -> None:
    mine = private_key("RS256", 1)
    brought = {"jwk": public_jwk(mine), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/cert"}
    bad = forged({"alg": "RS256", **brought}, CLAIMS, by(mine))
    assert refusal(verifier(), bad).startswith("token: kid: required")
    # It does no harm either.
    assert verifier().verify_untrusted(own(brought))


# --- headers and shape -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": False}, {"b64": True}]
)
def test_extensions_are_refused(fields: dict[str, Any]) -> None:
    assert refusal(verifier(), own(fields)).startswith("token: crit:")


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "JWE", "", 5, None])
def test_other_kinds_of_tokens_are_refused(typ: object) -> None:
    header = json.dumps({"alg": "HS256", "kid": OWN.key_id, "typ": typ}).encode()
    assert refusal(verifier(), own(header)) == "token: typ: expected JWT"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+JWT"])
def test_access_tokens_may_say_that_they_are(typ: str) -> None:
    assert verifier().verify_untrusted(own({"typ": typ}))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"alice","sub":"bob","exp":1700000060}',
        b'{"sub":"alice","exp":1700000060,"exp":1}',
        b'{"sub":"alice","exp":1700000060,"act":{"sub":"x","sub":"y"}}',
        b'{"sub":"alice","exp":1700000060',
        b'{"sub":"alice","exp":NaN}',
        b'{"sub":"alice","exp":Infinity}',
        b"\xff\xfe",
        b"",
        b"[" * 4000,
        b'{"sub":"alice","exp":' + b"9" * 5000 + b"}",
    ],
)
def test_a_payload_that_could_be_read_in_two_ways_or_in_none_is_refused(payload: bytes) -> None:
    assert refusal(verifier(), own(payload=payload)) == "token: payload: expected JSON, each name once"


@pytest.mark.parametrize("payload", [b"[]", b'"alice"', b"5", b"null"])
def test_a_payload_is_an_object(payload: bytes) -> None:
    assert refusal(verifier(), own(payload=payload)) == "token: payload: expected an object"


@pytest.mark.parametrize("header", [b'{"alg":"HS256","alg":"none"}', b"{", b"", b"[" * 2000])
def test_a_header_that_could_be_read_in_two_ways_or_in_none_is_refused(header: bytes) -> None:
    assert refusal(verifier(), own(header)) == "token: header: expected JSON, each name once"


def test_base64url_is_read_in_one_way_only() -> None:
    header, payload, signature = own().split(".")
    # The last character holds two bits that no byte has: in another decoder they are dropped.
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(signature[-1])
    twin = signature[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last ^ 1]
    for spoiled in (twin, signature + "=", signature + "\n", " " + signature, signature[:-1], signature + "+/"):
        assert refusal(verifier(), f"{header}.{payload}.{spoiled}") == "token: signature: expected base64url"
    assert refusal(verifier(), f"{header}=.{payload}.{signature}") == "token: header: expected base64url"


@pytest.mark.parametrize(
    "token", ["", ".", "..", "a.b", "a.b.c.d", "a.b.c.d.e", "livechat", "ä.ö.ü", "\0.\0.\0", "a.b.\ud800"]
)
def test_what_has_no_three_parts_is_refused(token: str) -> None:
    assert refusal(verifier(), token).startswith("token: ")


def test_a_huge_token_is_refused_for_its_size() -> None:
    expected = f"token: expected at most {TOKEN_LENGTH_MAX} characters"
    huge = own(payload={**CLAIMS, "padding": "x" * TOKEN_LENGTH_MAX})
    assert refusal(verifier(), huge) == expected
    assert refusal(verifier(), "." * (1 << 24)) == expected


@given(st.text(max_size=200), st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100))
def test_nothing_is_raised_but_the_refusal(text: str, header: bytes, payload: bytes, signature: bytes) -> None:
    checked = verifier()
    for bad in (text, ".".join(map(b64, (header, payload, signature))), own(header), own(payload=payload)):
        assert refusal(checked, bad)

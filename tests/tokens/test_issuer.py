"""What is issued, and what is refused to be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from livechat.tokens.issuer import TokenIssuer
from livechat.tokens.keys import KeyRing
from livechat.tokens.own_keys import derived_key
from livechat.tokens.settings import AuthSettings

NOW_MS = 1_700_000_000_250
OLD, NEW = derived_key("a secret of the tests"), derived_key("a newer secret of the tests")


def issuer(ring: KeyRing | None = None, **settings: Any) -> TokenIssuer:
    return TokenIssuer(ring or KeyRing((OLD,)), AuthSettings(**settings), lambda: NOW_MS)


def parts(token: str) -> list[dict[str, Any]]:
    """The header and the payload."""
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def test_a_token_says_what_was_asked_for() -> None:
    issued = issuer(issuer="https://chat.example", audience="chat").issue(
        "alice", ("chat", "publish", "chat"), 90, channels=("team-*",), name="Alice", priority=7
    )
    header, payload = parts(issued.token)
    assert header == {"alg": "HS256", "typ": "JWT", "kid": OLD.key_id}
    assert payload == {
        "sub": "alice",
        "scope": "chat publish",
        "channels": ["team-*"],
        "name": "Alice",
        "priority": 7,
        "iss": "https://chat.example",
        "aud": "chat",
        "iat": 1_700_000_000.25,
        "exp": 1_700_000_090.25,
        "jti": issued.token_id,
    }
    assert issued.expires_at == NOW_MS + 90_000


def test_what_was_not_asked_for_is_left_out() -> None:
    _, payload = parts(issuer().issue("alice").token)
    assert set(payload) == {"sub", "scope", "iat", "exp", "jti"}


def test_no_two_tokens_have_the_same_id() -> None:
    made = issuer()
    assert len({made.issue("alice").token_id for _ in range(100)}) == 100


def test_the_first_own_key_signs_also_after_a_change() -> None:
    ring = KeyRing((OLD,))
    made = issuer(ring)
    ring.replace((NEW, OLD))
    assert parts(made.issue("alice").token)[0]["kid"] == NEW.key_id


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"user_id": ""}, "user_id"),
        ({"user_id": "a b"}, "user_id"),
        ({"scopes": ("chat", "root")}, "scopes"),
        ({"scopes": "chat"}, "scopes"),
        ({"lifetime_s": 0}, "lifetime_s"),
        ({"lifetime_s": -1}, "lifetime_s"),
        ({"lifetime_s": float("nan")}, "lifetime_s"),
        ({"lifetime_s": 367 * 86_400}, "lifetime_s"),
        ({"channels": ["a b"]}, "channels"),
        ({"channels": ["x" * 60 + "é" * 4] * 100}, "channels"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"priority": -1}, "priority"),
        ({"priority": 2**31}, "priority"),
    ],
)
def test_what_would_be_refused_is_not_issued(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        issuer().issue(**{"user_id": "alice", **arguments})

"""What a token may say, and when it counts."""

from __future__ import annotations

from typing import Any

import pytest

from livechat.error import InvalidToken
from livechat.protocol.patterns import PATTERNS_MAX
from livechat.tokens.claims import Claims, read_claims
from livechat.tokens.settings import AuthSettings

NOW = 1_700_000_000
GOOD: dict[str, Any] = {"sub": "alice", "exp": NOW + 60}


def read(
    claims: dict[str, Any], *, now: float = NOW, leeway_s: int = 0, settings: AuthSettings | None = None
) -> Claims:
    return read_claims(claims, settings or AuthSettings(), round(now * 1000), leeway_s * 1000)


def refusal(claims: dict[str, Any], **options: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        read(claims, **options)
    return caught.value.reason


def test_the_least_that_a_token_says() -> None:
    claims = read(GOOD)
    assert claims == Claims(claims.user_id, (NOW + 60) * 1000, 0, frozenset({"chat"}))
    assert claims.user_id == "alice"


def test_what_a_token_may_say() -> None:
    claims = read(
        {
            **GOOD,
            "iat": NOW - 1.5,
            "nbf": NOW,
            "jti": "t1",
            "name": "Alice",
            "scope": "chat admin",
            "channels": ["a*"],
        }
    )
    assert (claims.issued_at, claims.token_id, claims.name) == ((NOW - 1.5) * 1000, "t1", "Alice")
    assert claims.scopes == {"chat", "admin"}
    assert claims.channels is not None
    assert claims.channels.patterns == ("a*",)


@pytest.mark.parametrize("priority", [0, 7, 2**31 - 1])
def test_a_priority_is_a_bound(priority: int) -> None:
    assert read({**GOOD, "priority": priority}).priority_max == priority
    assert read(GOOD).priority_max is None


@pytest.mark.parametrize("value", [None, -1, 2**31, 7.0, True, "7", []])
def test_a_priority_that_is_none_is_refused(value: object) -> None:
    assert refusal({**GOOD, "priority": value}) == "token: priority: expected 0 to 2147483647"


# --- times -------------------------------------------------------------------------------------------------


def test_a_token_ends_at_its_end_to_the_millisecond() -> None:
    assert read(GOOD, now=NOW + 59.999).expires_at == (NOW + 60) * 1000
    assert refusal(GOOD, now=NOW + 60) == "token: expired"
    assert read({**GOOD, "exp": NOW + 0.001}).expires_at == NOW * 1000 + 1


def test_with_a_leeway_it_ends_so_much_later() -> None:
    # What clients are told is the end that it states, as long as that is to come.
    assert read(GOOD, now=NOW + 59.999, leeway_s=5).expires_at == (NOW + 60) * 1000
    assert read(GOOD, now=NOW + 60, leeway_s=5).expires_at == (NOW + 65) * 1000
    assert read(GOOD, now=NOW + 64.999, leeway_s=5).expires_at == (NOW + 65) * 1000
    assert refusal(GOOD, now=NOW + 65, leeway_s=5) == "token: expired"


@pytest.mark.parametrize(("name", "reason"), [("nbf", "not valid yet"), ("iat", "iat: in the future")])
def test_the_future_is_refused_beyond_the_leeway(name: str, reason: str) -> None:
    settings = AuthSettings(leeway_s=5)
    assert read({**GOOD, name: NOW + 5}, settings=settings)
    assert refusal({**GOOD, name: NOW + 5.001}, settings=settings) == f"token: {reason}"
    assert refusal({**GOOD, name: NOW + 1}, settings=AuthSettings(leeway_s=0)) == f"token: {reason}"


def test_a_token_that_lives_too_long_is_refused() -> None:
    settings = AuthSettings(lifetime_max_s=100, leeway_s=5)
    assert read({**GOOD, "exp": NOW + 105}, settings=settings)
    assert refusal({**GOOD, "exp": NOW + 106}, settings=settings) == "token: exp: expected at most 100 s from now"


@pytest.mark.parametrize(
    "value", [None, True, False, "1700000060", [], {}, -1, 2**43 + 1, 10**400, float("nan"), float("inf"), -0.5]
)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_is_a_number_of_seconds(name: str, value: object) -> None:
    assert refusal({**GOOD, name: value}) == f"token: {name}: expected seconds since 1970"


# --- who, and for whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sub", [None, "", "a b", "x" * 65, 5, True, ["alice"], "a\0", "a\n", "\ud800"])
def test_the_subject_is_an_id(sub: object) -> None:
    assert refusal({**GOOD, "sub": sub}).startswith("token: sub:")


@pytest.mark.parametrize("missing", ["sub", "exp"])
def test_what_is_required_must_be_there(missing: str) -> None:
    claims = {name: value for name, value in GOOD.items() if name != missing}
    assert refusal(claims).startswith(f"token: {missing}:")


def test_issuer_and_audience_are_asked_for_where_they_are_configured() -> None:
    settings = AuthSettings(issuer="https://id.example", audience="chat")
    good = {**GOOD, "iss": "https://id.example", "aud": "chat"}
    assert read(good, settings=settings)
    assert read({**good, "aud": ["mail", "chat"]}, settings=settings)
    assert read(good), "not where they are not"
    for iss in (None, "https://evil.example", ["https://id.example"], "https://id.example/"):
        assert refusal({**good, "iss": iss}, settings=settings).startswith("token: iss:")
    for aud in (None, "mail", [], ["mail"], {"chat": 1}, "chatter", 5):
        assert refusal({**good, "aud": aud}, settings=settings).startswith("token: aud:")


# --- what for ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("", set()),
        ("chat", {"chat"}),
        ("openid  chat publish", {"chat", "publish"}),
        (["admin", "email"], {"admin"}),
        ([], set()),
        ("Chat CHAT chat,admin", set()),
    ],
)
def test_scopes_that_are_not_ours_are_left_out(scope: object, expected: set[str]) -> None:
    assert read({**GOOD, "scope": scope}).scopes == expected


@pytest.mark.parametrize("scope", [None, 5, True, {"chat": 1}, ["chat", 5], [["chat"]]])
def test_scopes_are_text_or_a_list_of_texts(scope: object) -> None:
    assert refusal({**GOOD, "scope": scope}).startswith("token: scope:")


@pytest.mark.parametrize(
    "channels",
    [None, "a*", 5, {"a": 1}, [5], [None], [""], ["a b"], ["["], ["x" * 65], ["a"] * (PATTERNS_MAX + 1)],
)  # fmt: skip
def test_channels_are_a_list_of_patterns(channels: object) -> None:
    assert refusal({**GOOD, "channels": channels}).startswith("token: channels:")


def test_an_empty_list_of_channels_means_none() -> None:
    channels = read({**GOOD, "channels": []}).channels
    assert channels is not None
    assert not channels.allow("a")


@pytest.mark.parametrize(("name", "most"), [("name", 100), ("jti", 128)])
def test_texts_have_a_length(name: str, most: int) -> None:
    assert read({**GOOD, name: "x" * most})
    assert read({**GOOD, name: None})
    for value in ("", "x" * (most + 1), 5, True, ["x"], "a\0", "\ud800"):
        assert refusal({**GOOD, name: value}) == f"token: {name}: expected 1 to {most} characters"

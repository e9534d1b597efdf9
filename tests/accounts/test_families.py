"""The rules of refresh tokens."""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.accounts.families import (
    SECRET_BYTES,
    Family,
    RefreshToken,
    Verdict,
    expiry,
    judge,
    new_token,
    parse_token_untrusted,
    surplus,
)
from livechat.accounts.settings import AccountSettings
from livechat.error import InvalidToken
from livechat.protocol.types import UserId

TOKEN = new_token(os.urandom)
FAMILY = Family("f", UserId("ann"), TOKEN.digest, started_at=0, expires_at=1000, access_until=500)
DAY_MS = 86_400_000


def test_a_token_holds_256_random_bits_beside_what_finds_it() -> None:
    asked: list[int] = []

    def random(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    token = new_token(random)
    assert asked == [16, 32]
    assert SECRET_BYTES * 8 >= 256
    assert token.text.startswith("lcr_")
    assert parse_token_untrusted(token.text) == token


def test_what_is_kept_of_a_token_says_nothing_of_it() -> None:
    for kept in (TOKEN.selector, TOKEN.digest):
        assert len(kept) == 64
        assert kept not in TOKEN.text
    assert TOKEN.selector != TOKEN.digest
    assert TOKEN.text not in repr(TOKEN)
    assert TOKEN.digest not in repr(FAMILY)


@given(st.binary(min_size=48, max_size=48))
def test_every_token_survives_the_way_as_text(data: bytes) -> None:
    token = RefreshToken(data[:16], data[16:])
    assert parse_token_untrusted(token.text) == token


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: "xxx_" + text[4:],
        lambda text: text[:-1] + "=",
        lambda text: text[:-1] + "+",
        lambda text: text[:-1] + " ",
        lambda text: text[:-1] + "한",
        lambda text: text.upper(),
        lambda text: "A" * 10_000,
    ],
)
def test_what_is_no_token_is_refused_and_not_repeated(spoil: Callable[[str], str]) -> None:
    text = spoil(TOKEN.text)
    with pytest.raises(InvalidToken) as refused:
        parse_token_untrusted(text)
    assert refused.value.reason == "refresh_token: not one of this server"


def test_the_newest_token_is_replaced_and_any_other_of_the_family_ends_it() -> None:
    following = TOKEN.next(os.urandom)
    assert judge(FAMILY, TOKEN, 999) is Verdict.ROTATE
    rotated = attrs.evolve(FAMILY, digest=following.digest)
    assert following.selector == TOKEN.selector
    assert judge(rotated, following, 999) is Verdict.ROTATE
    assert judge(rotated, TOKEN, 999) is Verdict.REUSED
    assert judge(rotated, TOKEN.next(os.urandom), 999) is Verdict.REUSED


@pytest.mark.parametrize("token", [TOKEN, TOKEN.next(os.urandom)])
def test_a_family_that_has_ended_takes_no_token(token: RefreshToken) -> None:
    assert judge(FAMILY, token, 1000) is Verdict.ENDED
    assert judge(attrs.evolve(FAMILY, revoked_at=1), token, 1) is Verdict.ENDED


def test_a_login_ends_when_it_is_not_refreshed_and_at_its_age() -> None:
    settings = AccountSettings(refresh_lifetime_s=30 * 86_400, login_lifetime_s=365 * 86_400)
    assert expiry(0, 0, settings) == 30 * DAY_MS
    assert expiry(0, 300 * DAY_MS, settings) == 330 * DAY_MS
    assert expiry(0, 350 * DAY_MS, settings) == 365 * DAY_MS


@given(st.dictionaries(st.text(min_size=1), st.integers(0, 100), max_size=30), st.integers(1, 10))
def test_with_one_more_there_are_never_too_many_and_the_eldest_go(ends: dict[str, int], most: int) -> None:
    live = list(ends.items())
    gone = surplus(live, most)
    assert len(live) - len(gone) + 1 <= most or not live
    assert len(gone) == max(0, len(live) - most + 1)
    stay = [at for family_id, at in live if family_id not in gone]
    assert all(ends[family_id] <= at for family_id in gone for at in stay)

"""Settings that cannot work are refused before anything is opened."""

from __future__ import annotations

from typing import Any

import pytest

from livechat import AccountSettings, AuthSettings, Config
from livechat.error import ConfigError


def test_the_defaults_work() -> None:
    Config().check()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"argon2_memory_kib": 7}, "accounts.argon2_memory_kib: expected at least 8, got 7"),
        ({"argon2_lanes": 4, "argon2_memory_kib": 31}, "accounts.argon2_memory_kib: expected at least 32, got 31"),
        ({"argon2_passes": 101}, "accounts.argon2_passes: expected at most 100, got 101"),
        ({"argon2_passes": 0}, "accounts.argon2_passes: expected at least 1, got 0"),
        ({"hash_threads": 0}, "accounts.hash_threads: expected at least 1, got 0"),
        ({"logins_per_user": 0}, "accounts.logins_per_user: expected at least 1, got 0"),
        ({"attempt_interval_s": 0}, "accounts.attempt_interval_s: expected at least 1, got 0"),
        ({"cookie": "a b"}, "accounts.cookie: expected the name of a cookie, got 'a b'"),
        ({"registration": "maybe"}, "accounts.registration: expected one of local, open, closed"),
    ],
)
def test_what_cannot_work_is_named(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config(accounts=AccountSettings(**settings)).check()
    assert expected in str(refused.value)


def test_both_cookies_need_names_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"accounts.cookie: expected another name than auth.cookie"):
        Config(auth=AuthSettings(cookie="x"), accounts=AccountSettings(cookie="x")).check()

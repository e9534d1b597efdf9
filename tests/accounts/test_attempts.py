"""How often somebody may try, and that nobody is kept out by strangers."""

from __future__ import annotations

import pytest

from livechat.accounts.attempts import Attempts, address_of
from livechat.accounts.settings import AccountSettings

SETTINGS = AccountSettings(
    attempts_per_account=3,
    attempts_per_address=5,
    attempt_interval_s=10,
    registrations_per_address=2,
    registration_interval_s=60,
)
HOME, THERE, ELSEWHERE = "192.0.2.1", "198.51.100.7", "203.0.113.9"


def fail(
    attempts: Attempts, times: int, account: str = "ann", address: str | None = HOME, now: float = 0.0
) -> None:
    for _ in range(times):
        assert attempts.begin_login(account, address, now) is None


def test_after_so_many_failures_an_account_has_to_wait_just_as_long_as_it_is_told() -> None:
    attempts = Attempts(SETTINGS)
    fail(attempts, 3)
    assert attempts.begin_login("ann", HOME, 0.0) == 10_000
    assert attempts.begin_login("ann", HOME, 4.0) == 6_000
    assert attempts.begin_login("ann", HOME, 9.999) == 1
    assert attempts.begin_login("ann", HOME, 10.0) is None
    assert attempts.begin_login("ann", HOME, 10.0) == 10_000
    fail(attempts, 3, "bob", THERE)


def test_an_account_is_limited_over_all_addresses() -> None:
    attempts = Attempts(SETTINGS)
    for address in (HOME, THERE, ELSEWHERE):
        fail(attempts, 1, address=address)
    assert attempts.begin_login("ann", "203.0.113.10", 0.0) == 10_000
    assert attempts.begin_login("ann", None, 0.0) == 10_000


def test_an_address_is_limited_over_all_accounts() -> None:
    attempts = Attempts(SETTINGS)
    for index in range(5):
        fail(attempts, 1, f"user{index}")
    assert attempts.begin_login("one-more", HOME, 0.0) == 10_000
    assert attempts.begin_proof(HOME, 0.0) == 10_000
    fail(attempts, 1, "one-more", THERE)


def test_loopback_is_limited_by_the_account_only() -> None:
    attempts = Attempts(SETTINGS)
    for index in range(100):
        fail(attempts, 1, f"user{index}", None)
        assert attempts.begin_proof(None, 0.0) is None
        assert attempts.begin_registration(None, 0.0) is None
    fail(attempts, 2, "user1", None)
    assert attempts.begin_login("user1", None, 0.0) == 10_000


def test_success_makes_the_next_attempt_the_first_again() -> None:
    attempts = Attempts(SETTINGS)
    for _ in range(50):
        fail(attempts, 3)
        for _ in range(3):
            attempts.login_succeeded("ann", HOME)


def test_strangers_do_not_delay_who_was_at_home_here() -> None:
    attempts = Attempts(SETTINGS)
    fail(attempts, 1)
    attempts.login_succeeded("ann", HOME)
    fail(attempts, 3, address=THERE)
    assert attempts.begin_login("ann", THERE, 0.0) == 10_000
    assert attempts.begin_login("ann", HOME, 0.0) is None
    # Nor does being at home with one account help with another.
    fail(attempts, 3, "bob", ELSEWHERE)
    assert attempts.begin_login("bob", HOME, 0.0) == 10_000


def test_whoever_is_at_home_is_limited_as_well() -> None:
    attempts = Attempts(SETTINGS)
    fail(attempts, 1)
    attempts.login_succeeded("ann", HOME)
    fail(attempts, 3)
    assert attempts.begin_login("ann", HOME, 0.0) == 10_000


def test_what_the_server_failed_at_is_no_attempt() -> None:
    attempts = Attempts(SETTINGS)
    for _ in range(20):
        fail(attempts, 1)
        attempts.login_withdrawn("ann", HOME)
    fail(attempts, 3)
    assert attempts.begin_login("ann", HOME, 0.0) == 10_000


def test_proofs_that_succeed_are_not_counted() -> None:
    attempts = Attempts(SETTINGS)
    for _ in range(50):
        assert attempts.begin_proof(HOME, 0.0) is None
        attempts.proof_succeeded(HOME)


def test_registrations_are_limited_by_address() -> None:
    attempts = Attempts(SETTINGS)
    assert [attempts.begin_registration(HOME, 0.0) for _ in range(3)] == [None, None, 60_000]
    assert attempts.begin_registration(THERE, 0.0) is None
    assert attempts.begin_registration(HOME, 60.0) is None


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", None),
        ("127.3.2.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
    ],
)
def test_what_counts_as_one_address(host: str, address: str | None) -> None:
    assert address_of(host) == address


def test_who_is_at_home_is_remembered_within_bounds() -> None:
    attempts = Attempts(SETTINGS, names_max=10)
    for index in range(11):
        account = f"user{index}"
        fail(attempts, 1, account)
        attempts.login_succeeded(account, HOME)
    for account, address, delay in (("user0", THERE, 10_000), ("user10", ELSEWHERE, None)):
        fail(attempts, 3, account, address)
        assert attempts.begin_login(account, HOME, 0.0) == delay

"""Which tokens count no more, and how long that is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.protocol.types import UserId
from livechat.tokens.revocations import MemoryRevocations

ANN, BOB = UserId("ann"), UserId("bob")


class Clock:
    """Milliseconds since 1970, as the test says."""

    def __init__(self) -> None:
        self.now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def revoked(clock: Clock) -> MemoryRevocations:
    return MemoryRevocations(clock)


def test_a_token_is_revoked_by_its_id(revoked: MemoryRevocations) -> None:
    revoked.revoke_token("t1", 2000)
    assert revoked.is_revoked(ANN, "t1", 900)
    assert not revoked.is_revoked(ANN, "t2", 900)
    assert not revoked.is_revoked(ANN, None, 900)


def test_a_users_tokens_are_revoked_by_their_age(revoked: MemoryRevocations) -> None:
    revoked.revoke_user(ANN, 1000, 5000)
    assert revoked.is_revoked(ANN, "t1", 1000)
    assert not revoked.is_revoked(ANN, "t1", 1001)
    assert not revoked.is_revoked(BOB, "t1", 1000)
    # One that does not say how old it is counts as old.
    assert revoked.is_revoked(ANN, None, 0)


def test_what_is_proven_anew_counts_as_issued_now(revoked: MemoryRevocations, clock: Clock) -> None:
    revoked.revoke_user(ANN, 3000, 5000)
    assert revoked.is_revoked(ANN, None, None)
    clock.now_ms = 3001
    assert not revoked.is_revoked(ANN, None, None)


def test_an_earlier_revocation_takes_nothing_back(revoked: MemoryRevocations) -> None:
    revoked.revoke_user(ANN, 1000, 5000)
    revoked.revoke_user(ANN, 500, 2000)
    assert revoked.is_revoked(ANN, None, 900)


def test_what_has_ended_is_forgotten(revoked: MemoryRevocations, clock: Clock) -> None:
    revoked.revoke_token("t1", 2000)
    revoked.revoke_user(ANN, 1000, 3000)
    revoked.revoke_token("t1", 4000)
    clock.now_ms = 2500
    revoked.revoke_token("t2", 9000)
    assert len(revoked) == 3
    assert revoked.is_revoked(ANN, "t1", 2400), "its later end counts"
    clock.now_ms = 4000
    revoked.revoke_token("t3", 9000)
    assert len(revoked) == 2


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(1, 20), st.integers(0, 5)), max_size=40)
)
def test_nothing_is_forgotten_before_its_end_nor_kept_long_after(
    steps: list[tuple[bool, str, int, int]],
) -> None:
    clock = Clock()
    revoked = MemoryRevocations(clock)
    tokens: dict[str, int] = {}
    users: dict[str, int] = {}
    for is_user, name, lasting, later in steps:
        until = clock.now_ms + lasting
        if is_user:
            revoked.revoke_user(UserId(name), clock.now_ms, until)
            users[name] = max(until, users.get(name, 0))
        else:
            revoked.revoke_token(name, until)
            tokens[name] = max(until, tokens.get(name, 0))
        clock.now_ms += later
        for known, until in tokens.items():
            assert revoked.is_revoked(UserId("x"), known, 1) or until <= clock.now_ms
        for known, until in users.items():
            assert revoked.is_revoked(UserId(known), None, 1) or until <= clock.now_ms
    clock.now_ms += 100
    revoked.revoke_token("last", clock.now_ms + 1)
    assert len(revoked) == 1

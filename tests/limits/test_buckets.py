from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.limits.buckets import SLACK_S, Buckets


def test_a_bucket_is_full_at_first_and_a_token_comes_back_in_its_time() -> None:
    buckets = Buckets(per_s=2, burst=3, names_max=10)
    assert [buckets.take("a", 100.0) for _ in range(5)] == [None, None, None, 500, 500]
    assert buckets.take("a", 100.499) == 1
    assert buckets.take("a", 100.5) is None
    assert buckets.take("a", 100.5) == 500
    assert [buckets.take("a", 200.0) for _ in range(4)] == [None, None, None, 500]


def test_to_look_takes_nothing() -> None:
    buckets = Buckets(per_s=1, burst=1, names_max=10)
    assert [buckets.wait_ms("a", 5.0) for _ in range(3)] == [None] * 3
    assert len(buckets) == 0
    buckets.take("a", 5.0)
    assert [buckets.wait_ms("a", 5.0) for _ in range(3)] == [1000] * 3


def test_names_do_not_share_a_bucket() -> None:
    buckets = Buckets(per_s=1, burst=1, names_max=10)
    assert [buckets.take(name, 0.0) for name in "abab"] == [None, None, 1000, 1000]


def test_without_a_rate_nothing_is_limited_or_remembered() -> None:
    buckets = Buckets(per_s=0, burst=1, names_max=10)
    assert [buckets.take("a", 0.0) for _ in range(1000)] == [None] * 1000
    assert len(buckets) == 0


def test_what_is_full_again_is_forgotten() -> None:
    buckets = Buckets(per_s=1, burst=10, names_max=1000)
    for number in range(500):
        buckets.take(f"old {number}", 0.0)
    for number in range(500):
        buckets.take(f"new {number}", 60.0)
    assert len(buckets) == 500


def test_memory_is_bounded_and_who_asked_longest_ago_is_forgotten_first() -> None:
    buckets = Buckets(per_s=0.001, burst=1, names_max=100)
    for number in range(1000):
        assert buckets.take(f"{number}", 0.0) is None
        assert len(buckets) <= 100
    assert buckets.take("999", 0.0) is not None
    assert buckets.take("0", 0.0) is None


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 20), st.integers(1, 5))
def test_never_more_than_a_burst_and_the_rate_and_who_waits_as_told_gets_through(
    pauses: list[float], per_s: int, burst: int
) -> None:
    buckets = Buckets(per_s, burst, names_max=10)
    now = 50.0
    for taken, pause in enumerate(pauses, 1):
        now += pause
        wait_ms = buckets.take("a", now)
        if wait_ms is not None:
            assert wait_ms >= 1
            now += wait_ms / 1000
            assert buckets.take("a", now) is None
        assert taken <= burst + (now - 50.0) * per_s + SLACK_S * (taken + 1)


def test_a_token_may_be_given_back_and_a_bucket_filled() -> None:
    buckets = Buckets(per_s=1, burst=2, names_max=10)
    for _ in range(2):
        assert buckets.take("x", 0.0) is None
    assert buckets.take("x", 0.0) == 1000
    buckets.give_back("x")
    assert buckets.take("x", 0.0) is None
    assert buckets.take("x", 0.0) == 1000
    buckets.refill("x")
    for _ in range(2):
        assert buckets.take("x", 0.0) is None
    assert buckets.take("x", 0.0) == 1000
    buckets.give_back("y")
    buckets.refill("y")
    assert len(buckets) == 1

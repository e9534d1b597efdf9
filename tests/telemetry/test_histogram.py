from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.telemetry.histogram import DURATION_BOUNDS_S, PAUSE_BOUNDS_S, Histogram


def test_a_value_counts_in_every_bucket_from_its_own_up() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 7.0):
        histogram.observe(value)
    # A bound belongs to its bucket: `le` is "less or equal".
    assert list(histogram.cumulated()) == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert (histogram.count, histogram.total) == (4, 10.0)


def test_an_empty_one_has_all_its_buckets() -> None:
    assert [count for _, count in Histogram().cumulated()] == [0] * (len(DURATION_BOUNDS_S) + 1)


def test_bounds_ascend() -> None:
    for bounds in (DURATION_BOUNDS_S, PAUSE_BOUNDS_S):
        assert list(bounds) == sorted(set(bounds))


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_the_last_bucket_holds_all_that_was_observed(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    cumulated = [count for _, count in histogram.cumulated()]
    assert cumulated == sorted(cumulated)
    assert cumulated[-1] == histogram.count == len(values)
    for bound, count in histogram.cumulated():
        assert count == sum(value <= bound for value in values)

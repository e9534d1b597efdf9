"""The search finds the limit of whatever it is told about, and ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.support.bisection import ATTEMPTS, EXCUSES_MAX, Bisection


def search(limit: float, guess: float, **options: float) -> tuple[Bisection, list[float]]:
    bisection = Bisection(guess, **options)  # type: ignore[arg-type] # floats and an int, by name
    tried = []
    while (rate := bisection.next_rate()) is not None:
        tried.append(rate)
        bisection.tell(held=rate <= limit)
    return bisection, tried


@given(st.floats(10.0, 1e6), st.floats(0.5, 2.0))
def test_the_limit_is_found_from_a_guess_that_is_near(limit: float, wrong_by: float) -> None:
    bisection, _ = search(limit, limit * wrong_by, trials_max=60)
    assert bisection.held is not None
    assert bisection.failed is not None
    assert bisection.held <= limit < bisection.failed <= bisection.held * 1.03 * (1 + 1e-9)


def test_a_good_guess_takes_few_trials() -> None:
    bisection, tried = search(1000.0, 1010.0)
    assert bisection.held == pytest.approx(1000.0, rel=0.03)
    assert len(tried) <= 8


def test_a_guess_far_too_high_is_left_in_growing_steps() -> None:
    bisection, tried = search(100.0, 1000.0)
    assert bisection.held is not None
    down = list(dict.fromkeys(tried[: tried.index(next(rate for rate in tried if rate <= 100.0)) + 1]))
    steps = [above / below for above, below in itertools.pairwise(down)]
    assert steps == sorted(steps)
    assert len(down) <= 5


def test_what_never_holds_ends_without_an_answer() -> None:
    bisection, tried = search(-1.0, 1000.0, trials_max=9)
    assert bisection.held is None
    assert len(tried) == 9


def test_what_always_holds_ends_with_the_highest_tried() -> None:
    bisection, tried = search(float("inf"), 1000.0, trials_max=5)
    assert bisection.held == max(tried)
    assert bisection.failed is None


def test_one_failure_is_given_a_second_try() -> None:
    bisection = Bisection(100.0)
    rate = bisection.next_rate()
    bisection.tell(held=False)
    assert bisection.next_rate() == rate
    bisection.tell(held=True)
    assert bisection.held == rate
    assert bisection.failed is None


def test_disturbed_failures_say_nothing_but_not_for_ever() -> None:
    bisection = Bisection(100.0)
    rate = bisection.next_rate()
    for _ in range(EXCUSES_MAX):
        bisection.tell(held=False, disturbed=True)
        assert bisection.failed is None
    for _ in range(ATTEMPTS):
        assert bisection.next_rate() == rate
        bisection.tell(held=False, disturbed=True)
    assert bisection.failed == rate


def test_a_disturbed_trial_that_held_counts() -> None:
    bisection = Bisection(100.0)
    bisection.tell(held=True, disturbed=True)
    assert bisection.held == pytest.approx(95.0)

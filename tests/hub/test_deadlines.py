from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.hub.deadlines import EMPTY_MIN, Deadlines, Due


class Log:
    """Entries that note when they were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def entry(self, name: str, *again: float | None) -> Due:
        """Return an entry that answers `again`, one answer a call, and then None."""
        answers = list(again)

        def due(now: float) -> float | None:
            self.calls.append((name, now))
            return answers.pop(0) if answers else None

        return due


def test_without_entries_nothing_is_due() -> None:
    deadlines = Deadlines()
    assert (deadlines.next_due, len(deadlines), deadlines.run_due(1e9)) == (None, 0, 0)


def test_what_is_due_is_called_in_order_of_its_deadlines() -> None:
    log, deadlines = Log(), Deadlines()
    for name, deadline in (("c", 3.0), ("a", 1.0), ("d", 4.0), ("b", 2.0)):
        deadlines.schedule(deadline, log.entry(name))
    assert deadlines.next_due == 1.0
    assert deadlines.run_due(3.0) == 3
    assert log.calls == [("a", 3.0), ("b", 3.0), ("c", 3.0)]
    assert (deadlines.next_due, len(deadlines)) == (4.0, 1)


def test_entries_of_one_deadline_are_called_in_order_of_scheduling() -> None:
    log, deadlines = Log(), Deadlines()
    for name in "abcdef":
        deadlines.schedule(1.0, log.entry(name))
    deadlines.run_due(1.0)
    assert [name for name, _ in log.calls] == list("abcdef")


def test_an_entry_is_due_at_its_deadline_and_not_before() -> None:
    log, deadlines = Log(), Deadlines()
    deadlines.schedule(1.0, log.entry("a"))
    assert deadlines.run_due(0.999) == 0
    assert deadlines.run_due(1.0) == 1


def test_a_receding_deadline_costs_one_call_an_interval() -> None:
    log, deadlines = Log(), Deadlines()
    deadlines.schedule(1.0, log.entry("a", 5.0, 9.0))
    for now in range(20):
        deadlines.run_due(float(now))
    assert log.calls == [("a", 1.0), ("a", 5.0), ("a", 9.0)]
    assert len(deadlines) == 0


@pytest.mark.parametrize("answer", [-1.0, 0.0, 1.0, 2.0])
def test_an_entry_that_answers_with_a_past_deadline_does_not_spin(answer: float) -> None:
    log, deadlines = Log(), Deadlines()
    deadlines.schedule(1.0, log.entry("a", answer))
    assert deadlines.run_due(2.0) == 1
    assert deadlines.next_due is not None
    assert 2.0 < deadlines.next_due < 2.1


def test_no_more_are_called_than_asked_for_and_the_rest_stay_due() -> None:
    log, deadlines = Log(), Deadlines()
    for _ in range(10):
        deadlines.schedule(1.0, log.entry("a"))
    assert [deadlines.run_due(1.0, 4) for _ in range(4)] == [4, 4, 2, 0]


def test_a_sleeper_is_woken_only_by_an_entry_that_comes_first() -> None:
    woken: list[float | None] = []
    deadlines = Deadlines(lambda: woken.append(deadlines.next_due))
    for deadline in (5.0, 7.0, 5.0, 3.0, 4.0):
        deadlines.schedule(deadline, Log().entry("a"))
    assert woken == [5.0, 3.0]


def test_an_entry_may_schedule_others_and_they_run_if_due() -> None:
    log, deadlines = Log(), Deadlines()

    def due(_now: float) -> None:
        deadlines.schedule(1.0, log.entry("due"))
        deadlines.schedule(9.0, log.entry("later"))

    deadlines.schedule(1.0, due)
    assert deadlines.run_due(2.0) == 2
    assert log.calls == [("due", 2.0)]
    assert len(deadlines) == 1


def fail(_now: float) -> float | None:
    raise RuntimeError("an entry failed")


def test_one_that_fails_is_told_of_and_dropped_and_the_others_go_on() -> None:
    log, deadlines = Log(), Deadlines()
    failed: list[Due] = []
    deadlines.schedule(1.0, log.entry("a"))
    deadlines.schedule(1.0, fail)
    deadlines.schedule(1.0, log.entry("b"))
    assert deadlines.run_due(1.0, on_failure=failed.append) == 3
    assert [name for name, _ in log.calls] == ["a", "b"]
    assert (failed, len(deadlines)) == ([fail], 0)


def test_without_somebody_to_tell_a_failure_is_raised() -> None:
    log, deadlines = Log(), Deadlines()
    deadlines.schedule(1.0, fail)
    deadlines.schedule(1.0, log.entry("a"))
    with pytest.raises(RuntimeError, match="an entry failed"):
        deadlines.run_due(1.0)
    assert deadlines.run_due(1.0) == 1


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.lists(st.integers(1, 30), max_size=3)), max_size=20),
    st.lists(st.integers(0, 60), max_size=10),
)
def test_every_entry_is_called_at_the_first_look_after_each_of_its_deadlines(
    entries: list[tuple[int, list[int]]], looks: list[int]
) -> None:
    log, deadlines = Log(), Deadlines()
    expected: list[tuple[str, float]] = []
    for number, (deadline, again) in enumerate(entries):
        later = sorted(deadline + step for step in again)
        deadlines.schedule(float(deadline), log.entry(str(number), *map(float, later)))
        pending: list[int] = [deadline, *later]
        for now in sorted(set(looks)):
            if pending and pending[0] <= now:
                expected.append((str(number), float(now)))
                pending.pop(0)
    for now in sorted(set(looks)):
        deadlines.run_due(float(now))
    assert sorted(log.calls) == sorted(expected)


# --- what is cancelled -------------------------------------------------------------------------------------


def test_what_was_cancelled_is_not_called_and_not_waited_for() -> None:
    log, deadlines = Log(), Deadlines()
    first = deadlines.schedule(1.0, log.entry("a"))
    deadlines.schedule(2.0, log.entry("b"))
    deadlines.cancel(first)
    deadlines.cancel(first)
    assert (deadlines.next_due, len(deadlines)) == (2.0, 1)
    assert deadlines.run_due(9.0) == 1
    assert log.calls == [("b", 9.0)]


def test_an_entry_whose_deadline_receded_can_still_be_cancelled() -> None:
    log, deadlines = Log(), Deadlines()
    timer = deadlines.schedule(1.0, log.entry("a", 5.0))
    deadlines.run_due(1.0)
    deadlines.cancel(timer)
    assert (deadlines.next_due, len(deadlines), deadlines.run_due(9.0)) == (None, 0, 0)


def test_one_that_cancels_itself_or_another_meanwhile_is_called_once() -> None:
    log, deadlines = Log(), Deadlines()
    other = deadlines.schedule(3.0, log.entry("other"))

    def due(now: float) -> None:
        deadlines.cancel(timer)
        deadlines.cancel(other)
        log.entry("due")(now)

    timer = deadlines.schedule(1.0, due)
    assert deadlines.run_due(9.0) == 1
    assert (log.calls, len(deadlines), deadlines.next_due) == ([("due", 9.0)], 0, None)


def test_cancelled_entries_do_not_pile_up_nor_keep_what_they_were_for() -> None:
    deadlines = Deadlines()
    deadlines.schedule(0.0, Log().entry("first"))
    for number in range(100_000):
        timer = deadlines.schedule(1.0 + number, Log().entry("a"))
        deadlines.cancel(timer)
        assert timer.due is None
    assert len(deadlines) == 1
    assert len(deadlines._entries) <= 2 + EMPTY_MIN


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200), st.integers(0, 20))
def test_whatever_is_cancelled_the_others_are_called_in_their_order(
    entries: list[tuple[int, bool]], now: int
) -> None:
    log, deadlines = Log(), Deadlines()
    timers = [deadlines.schedule(float(due), log.entry(f"{n:03}")) for n, (due, _) in enumerate(entries)]
    for timer, (_, is_cancelled) in zip(timers, entries, strict=True):
        if is_cancelled:
            deadlines.cancel(timer)
    kept = [(due, f"{n:03}") for n, (due, is_cancelled) in enumerate(entries) if not is_cancelled]
    assert len(deadlines) == len(kept)
    assert deadlines.next_due == min((due for due, _ in kept), default=None)
    deadlines.run_due(float(now))
    assert [name for name, _ in log.calls] == [name for due, name in sorted(kept) if due <= now]
    assert len(deadlines) == sum(due > now for due, _ in kept)

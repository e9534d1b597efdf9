"""Progress is told once in a while, the newest alone."""

from __future__ import annotations

import math

from livechat.jobs.pacing import ProgressPace


def test_the_first_is_due_at_once() -> None:
    pace = ProgressPace(0.5)
    assert pace.due_at == math.inf
    pace.note(0.1)
    assert pace.due_at == -math.inf
    assert pace.take(10.0) == 0.1


def test_the_next_waits_and_the_newest_takes_the_place_of_the_others() -> None:
    pace = ProgressPace(0.5)
    pace.note(0.1)
    pace.take(10.0)
    pace.note(0.2)
    pace.note(0.3)
    assert pace.due_at == 10.5
    assert pace.take(10.5) == 0.3
    assert pace.due_at == math.inf
    assert pace.take(11.0) is None


def test_what_takes_it_before_it_is_due_puts_the_next_off() -> None:
    pace = ProgressPace(0.5)
    pace.note(0.1)
    pace.take(10.0)
    pace.note(0.2)
    assert pace.take(10.2) == 0.2
    pace.note(0.3)
    assert pace.due_at == 10.7

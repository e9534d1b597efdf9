"""The states of a job: the whole table, and what follows from it."""

from __future__ import annotations

from typing import get_args

import pytest

from livechat.protocol.jobs import FIRST_STATE, OVER, TRANSITIONS, JobStep, next_state
from livechat.protocol.types import JobState

STATES: tuple[JobState, ...] = get_args(JobState)
STEPS: tuple[JobStep, ...] = get_args(JobStep)

ALLOWED: dict[tuple[str, str], str] = {
    ("queued", "start"): "running",
    ("queued", "fail"): "failed",
    ("queued", "cancel"): "cancelled",
    ("running", "report"): "running",
    ("running", "succeed"): "succeeded",
    ("running", "fail"): "failed",
    ("running", "cancel"): "cancelled",
    ("running", "requeue"): "queued",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_leads_where_the_table_says_or_comes_too_late(state: JobState, step: JobStep) -> None:
    assert next_state(state, step) == ALLOWED.get((state, step))


def test_every_state_is_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(STATES)
    reached = {FIRST_STATE}
    for _ in STATES:
        reached |= {following for state in reached for following in TRANSITIONS[state].values()}
    assert reached == set(STATES)


def test_a_job_that_is_over_stays_so() -> None:
    assert set(OVER) == {"succeeded", "failed", "cancelled"}
    for state in OVER:
        assert {next_state(state, step) for step in STEPS} == {None}

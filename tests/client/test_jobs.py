"""What a client knows of jobs: in order and once, and following one to its end."""

from __future__ import annotations

import pytest

from livechat.client.error import JobLost
from livechat.client.events import JobGap
from livechat.client.following import JobEvents
from livechat.client.jobs import OVER_KEPT, JobBook
from livechat.client.subscribers import Subscribers
from livechat.protocol.events import ResumedJob
from livechat.protocol.jobs import JobEvent
from livechat.protocol.requests import JOBS_MAX
from livechat.protocol.types import JobId, JobState

A, B = JobId("job_a"), JobId("job_b")


def event(seq: int, state: JobState = "running", job_id: JobId = A) -> JobEvent:
    return JobEvent(job_id, "speak", state, 0.0, seq)


def test_events_are_handed_over_in_order_and_once() -> None:
    book = JobBook(100)
    assert book.take(event(1, "queued")) == [event(1, "queued")]
    assert book.take(event(2)) == [event(2)]
    for seq in (1, 2):
        assert book.take(event(seq)) == []
    assert book.positions() == {A: 2}
    assert book.take(event(3, "succeeded")) == [event(3, "succeeded")]
    assert book.positions() is None
    assert book.take(event(3, "succeeded")) == []


def test_what_is_missing_is_told_before_what_came() -> None:
    book = JobBook(100)
    # Of a job that is heard of in the middle nothing is missing: nobody knows of the rest.
    assert book.take(event(4)) == [event(4)]
    assert book.take(event(7)) == [JobGap(A, 4, 7), event(7)]


def test_the_newest_events_are_kept() -> None:
    book = JobBook(3)
    for seq in range(1, 4):
        book.take(event(seq))
    book.take(event(1, job_id=B))
    assert book.kept(A) == [event(2), event(3)]
    assert book.kept(B) == [event(1, job_id=B)]


def test_as_many_jobs_are_stated_as_may_be_those_heard_last() -> None:
    book = JobBook(10)
    for number in range(JOBS_MAX + 1):
        book.take(event(1, job_id=JobId(f"job_{number}")))
    book.take(event(2, job_id=JobId("job_1")))
    stated = book.positions()
    assert stated is not None
    assert len(stated) == JOBS_MAX
    assert "job_0" not in stated
    assert stated[JobId("job_1")] == 2


def test_jobs_that_are_over_are_forgotten_in_the_end() -> None:
    book = JobBook(10)
    for number in range(OVER_KEPT + 1):
        book.take(event(1, "failed", JobId(f"job_{number}")))
    assert book.take(event(1, "failed", JobId(f"job_{OVER_KEPT}"))) == []
    assert book.take(event(1, "failed", JobId("job_0"))) != []


def test_what_the_server_knows_nothing_of_is_lost() -> None:
    book = JobBook(10)
    for job_id in (A, B):
        book.take(event(3, job_id=job_id))
    told = {
        A: ResumedJob(0, 0, recovered=False),
        B: ResumedJob(2, 9, recovered=False),
        JobId("job_c"): ResumedJob(0, 0, recovered=False),
    }
    assert book.resumed(told) == [JobGap(A, 3, None)]
    assert book.positions() == {B: 3}


# --- following ------------------------------------------------------------------------------------


async def test_following_yields_what_is_known_then_what_comes_up_to_the_end() -> None:
    subscribers = Subscribers(10)
    events = JobEvents([event(1), event(2)], subscribers.subscribe(lambda each: each))
    for each in (event(3), JobGap(A, 3, 5), event(5, "succeeded"), event(6)):
        subscribers.publish(each)
    assert [each.event_seq async for each in events] == [1, 2, 3, 5]
    assert [each async for each in events] == []


async def test_following_a_job_that_is_lost_ends_by_that() -> None:
    subscribers = Subscribers(10)
    events = JobEvents([], subscribers.subscribe(lambda each: each))
    subscribers.publish(JobGap(A, 3, None))
    with pytest.raises(JobLost, match="job_a"):
        await anext(events)
    assert [each async for each in events] == []


async def test_following_ends_with_the_client() -> None:
    subscribers = Subscribers(10)
    events = JobEvents([event(1)], subscribers.subscribe(lambda each: each))
    subscribers.end(None)
    assert [each.event_seq async for each in events] == [1]

"""Jobs in every store: keys, steps, events, servers that are gone, upkeep."""

from __future__ import annotations

import attrs
import pytest

from livechat.error import IdempotencyKeyReused, JobNotFound, Overloaded
from livechat.protocol.jobs import JobError, JobEvent
from livechat.protocol.types import JobId, SessionId, UserId
from livechat.store import jobs
from livechat.store.base import Store, perform
from livechat.store.job_rows import Adopted, Job, JobOutput, Step, Submitted, new_job_id
from livechat.store.jobs import (
    adopt_jobs,
    get_job,
    list_jobs,
    output_bytes_of,
    prune_jobs,
    read_job_events,
    see_runner,
    submit_job,
)
from tests.support.jobs import DAY_MS, NOW_MS, RUNNER, in_order, move, new_job, submit
from tests.support.store import OpenStore, in_one_go

ANN, BOB = UserId("ann"), UserId("bob")


async def get(store: Store, name: str = "job_a", after: int = 0) -> Job:
    return (await perform(store, get_job(JobId(name), after))).job


async def events(store: Store, name: str = "job_a", after: int = 0) -> list[JobEvent]:
    return list((await perform(store, get_job(JobId(name), after, 1000))).events)


# --- handing in -----------------------------------------------------------------------------------


async def test_a_job_is_kept_with_its_first_event(open_store: OpenStore) -> None:
    async with open_store() as store:
        job = new_job(session_id=SessionId("sess_1"), is_admin=True, safe_to_rerun=True)
        told = await submit(store, job)
        assert told == Submitted(job.job_id, JobEvent(job.job_id, "speak", "queued", 0.0, 1))
    async with open_store() as store:
        kept = await get(store)
        assert kept.input == '{"text":"한"}'
        assert (kept.session_id, kept.is_admin, kept.safe_to_rerun) == ("sess_1", True, True)
        assert (kept.state, kept.progress, kept.event_seq, kept.attempts) == ("queued", 0.0, 1, 0)
        assert (kept.created_at, kept.started_at, kept.finished_at) == (NOW_MS, None, None)
        assert (kept.result, kept.error, kept.output, kept.runner_id) == (None, None, None, RUNNER)
        assert await events(store) == [told.event]


async def test_the_same_key_answers_as_the_first_time_also_after_a_restart(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store, new_job("job_a"), key="k")
        assert await submit(store, new_job("job_b"), key="k") == Submitted(JobId("job_a"), None)
    async with open_store() as store:
        assert await submit(store, new_job("job_c"), key="k") == Submitted(JobId("job_a"), None)
        for name in ("job_b", "job_c"):
            with pytest.raises(JobNotFound):
                await get(store, name)


async def test_the_same_key_with_another_body_is_refused_and_another_users_is_another_key(
    open_store: OpenStore,
) -> None:
    async with open_store() as store:
        await submit(store, new_job("job_a"), key="k", digest="1")
        with pytest.raises(IdempotencyKeyReused):
            await submit(store, new_job("job_b"), key="k", digest="2")
        assert (await submit(store, new_job("job_c", "bob"), key="k", digest="2")).event is not None


async def test_without_a_key_each_is_a_job_of_its_own(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name in ("job_a", "job_b"):
            assert (await submit(store, new_job(name))).job_id == name


async def test_the_files_of_a_user_are_added_up(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name, user_id, size in (("job_a", "ann", 3), ("job_b", "ann", 4), ("job_c", "bob", 5)):
            await submit(store, new_job(name, user_id))
            await move(store, "start", name)
            await move(store, Step("succeed", NOW_MS + 2, output=JobOutput("a", "text/plain", size)), name)
        await submit(store, new_job("job_d"))
        sums = [await perform(store, output_bytes_of(UserId(name))) for name in ("ann", "bob", "nobody")]
        assert sums == [7, 5, 0]


async def test_a_key_is_kept_for_a_day(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store, new_job("job_a"), key="k", digest="1")
        late = new_job("job_b", created_at=NOW_MS + DAY_MS - 1)
        assert (await submit(store, late, key="k", digest="1")).job_id == "job_a"
        later = new_job("job_b", created_at=NOW_MS + DAY_MS)
        assert (await submit(store, later, key="k", digest="2")).job_id == "job_b"
        assert (await submit(store, attrs.evolve(later, job_id=JobId("job_c")), key="k", digest="2")).event is None


async def test_duplicates_in_one_transaction_make_one_job(open_store: OpenStore) -> None:
    async with open_store() as store:
        names = [f"job_{number}" for number in range(5)]
        works = [submit_job(new_job(name), RUNNER, key="k", digest="d") for name in names]
        outcomes = [outcome.unwrap() for outcome in await in_one_go(store, works)]
    assert {told.job_id for told in outcomes} == {"job_0"}
    assert [told.event is not None for told in outcomes] == [True, False, False, False, False]


async def test_what_is_against_a_job_is_said_unless_the_key_answers_first(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store, new_job("job_a"), key="k")
        problem = Overloaded("full")
        assert (await submit(store, new_job("job_b"), key="k", problem=problem)).job_id == "job_a"
        for key in ("other", None):
            with pytest.raises(Overloaded):
                await submit(store, new_job("job_b"), key=key, problem=problem)
        with pytest.raises(JobNotFound):
            await get(store, "job_b")


def test_ids_sort_by_time_and_are_hard_to_guess() -> None:
    ids = [new_job_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [each[:16] for each in ids] == sorted(each[:16] for each in ids)
    assert all(len(each) == 4 + 12 + 20 for each in ids)


# --- steps ----------------------------------------------------------------------------------------


async def test_a_job_goes_its_way(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        told = [
            await move(store, Step("start", NOW_MS + 5)),
            await move(store, Step("report", NOW_MS + 6, progress=1 / 3)),
            await move(store, Step("report", NOW_MS + 7, partial="부분")),
            await move(store, Step("report", NOW_MS + 8, progress=0.5, partial=b"\x00\xff")),
            await move(
                store,
                Step("succeed", NOW_MS + 9, result='{"n":[1,null]}', output=JobOutput("a.txt", "text/plain", 5)),
            ),
        ]
        said = [each.event for each in told]
        assert [(e.state, e.progress, e.partial) for e in said if e is not None] == [
            ("running", 0.0, None),
            ("running", 0.333333, None),
            ("running", 0.333333, "부분"),
            ("running", 0.5, b"\x00\xff"),
            ("succeeded", 1.0, None),
        ]
        assert said[-1] is not None
        assert said[-1].result == {"n": [1, None]}
        job = await get(store)
        assert job == told[-1].job
        assert job.is_over
        assert (job.started_at, job.finished_at, job.attempts) == (NOW_MS + 5, NOW_MS + 9, 1)
        assert job.output == JobOutput("a.txt", "text/plain", 5)
        kept = await events(store)
        assert kept[1:] == said
        assert in_order(kept)


async def test_a_failure_is_kept_with_its_reason(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        await move(store, "start")
        error = JobError(2004, "not in channel")
        told = await move(store, Step("fail", NOW_MS, error=error))
        assert told.event is not None
        assert told.event.error == error
        assert (await events(store))[-1] == told.event
        assert (await get(store)).error == error


async def test_a_step_that_comes_too_late_changes_nothing(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        assert (await move(store, "cancel")).event is not None
        before = await get(store)
        for step in ("start", "report", "succeed", "fail", "cancel", "requeue"):
            late = await move(store, step)
            assert (late.event, late.job) == (None, before)
        assert len(await events(store)) == 2


async def test_a_step_of_another_server_or_user_is_not_taken(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        assert (await move(store, "start", runner_id="run_2")).event is None
        for name, user_id in (("job_a", BOB), ("job_z", ANN)):
            with pytest.raises(JobNotFound):
                await move(store, "cancel", name, user_id=user_id)
        assert (await get(store)).state == "queued"
        assert (await move(store, "cancel", user_id=ANN)).job.state == "cancelled"


async def test_a_step_whose_outcome_was_unknown_is_taken_once(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        await move(store, "start")
        step = Step("report", NOW_MS, partial="once", after=2)
        first, second = await move(store, step), await move(store, step)
        assert first.event == second.event
        assert first.event is not None
        assert [event.partial for event in await events(store)] == [None, None, "once"]


async def test_the_oldest_events_of_very_many_are_not_kept(
    open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "EVENTS_KEPT", 10)
    async with open_store() as store:
        await submit(store)
        await move(store, "start")
        for _ in range(jobs.TRIM_EVERY):
            await move(store, "report")
        kept = await events(store)
        assert kept[-1].event_seq == jobs.TRIM_EVERY + 2
        assert in_order(kept, jobs.TRIM_EVERY - 9)


# --- reading --------------------------------------------------------------------------------------


async def test_events_come_in_pages(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        await move(store, "start")
        for number in range(5):
            await move(store, Step("report", NOW_MS, partial=str(number)))
        seen: list[JobEvent] = []
        for has_more in (True, True, False):
            page = await perform(store, get_job(JobId("job_a"), len(seen), 3))
            seen += page.events
            assert page.has_more is has_more
        assert in_order(seen)
        assert len(seen) == 7
        beyond = await perform(store, get_job(JobId("job_a"), 99, 3))
        assert (beyond.events, beyond.has_more) == ((), False)


async def test_a_page_is_bounded_in_bytes_but_brings_something(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        await move(store, "start")
        for _ in range(3):
            await move(store, Step("report", NOW_MS, partial=bytes(jobs.BYTES_READ)))
        (page,) = await perform(store, read_job_events(ANN, {JobId("job_a"): 2}))
        assert ([event.event_seq for event in page.events], page.has_more) == ([3], True)


async def test_the_events_of_several_jobs_are_read_at_once(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name, user_id in (("job_a", "ann"), ("job_b", "ann"), ("job_c", "bob")):
            await submit(store, new_job(name, user_id))
            await move(store, "start", name)
        positions = {JobId("job_a"): 1, JobId("job_b"): 2, JobId("job_c"): 0, JobId("job_z"): 0}
        first, second, foreign, unknown = await perform(store, read_job_events(ANN, positions))
        assert [event.event_seq for event in first.events] == [2]
        assert (first.last_seq, first.has_more, second.events, second.last_seq) == (2, False, (), 2)
        assert [(each.last_seq, each.events) for each in (foreign, unknown)] == [(0, ()), (0, ())]
        only = await perform(store, read_job_events(ANN, {JobId("job_a"): 0, JobId("job_b"): 0}, 2))
        assert [part.job_id for part in only] == ["job_a"]


async def test_a_users_jobs_are_listed_the_newest_first(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name in ("job_b", "job_a", "job_c"):
            await submit(store, new_job(name))
        await submit(store, new_job("job_d", "bob"))
        page = await perform(store, list_jobs(ANN, None, 2))
        assert ([job.job_id for job in page.jobs], page.has_more) == (["job_c", "job_b"], True)
        page = await perform(store, list_jobs(ANN, page.jobs[-1].job_id, 2))
        assert ([job.job_id for job in page.jobs], page.has_more) == (["job_a"], False)
        assert (await perform(store, list_jobs(UserId("nobody"), None, 2))).jobs == ()


# --- servers that are gone ------------------------------------------------------------------------


async def adopt(store: Store, runner_id: str = "run_2", alive_since_ms: int | None = None) -> Adopted:
    work = adopt_jobs(runner_id, NOW_MS + 9, alive_since_ms=alive_since_ms, attempts_max=2)
    return await perform(store, work)


async def test_what_a_server_has_left_is_taken_over_by_the_next(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name, safe in (("job_a", False), ("job_b", False), ("job_c", True), ("job_d", False)):
            await submit(store, new_job(name, safe_to_rerun=safe))
        for name in ("job_b", "job_c", "job_d"):
            await move(store, "start", name)
        await move(store, "succeed", "job_d")
    async with open_store() as store:
        told = {moved.job.job_id: moved for moved in (await adopt(store)).moved}
        assert {name: moved.job.state for name, moved in told.items()} == {
            "job_a": "queued",
            "job_b": "failed",
            "job_c": "queued",
        }
        assert told[JobId("job_a")].event is None
        failed = told[JobId("job_b")].event
        assert failed is not None
        assert failed.error == JobError(9002, "the server stopped")
        again = told[JobId("job_c")].event
        assert again is not None
        assert (again.state, again.event_seq) == ("queued", 3)
        assert {(await get(store, name)).runner_id for name in told} == {"run_2"}
        assert (await adopt(store)).moved == ()
        assert (await move(store, "start", "job_a", runner_id="run_2")).job.attempts == 1
        assert (await move(store, "start", "job_c", runner_id="run_2")).job.attempts == 2


async def test_a_job_that_may_be_what_ends_the_servers_is_not_run_for_ever(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store, new_job(safe_to_rerun=True))
        for runner_id in ("run_2", "run_3"):
            await move(store, "start")
            (moved,) = (await adopt(store, runner_id)).moved
        assert moved.job.state == "failed"
        assert moved.job.error == JobError(9000, "the server stopped 2 times while it ran")


async def test_what_a_living_server_has_is_its_own(open_store: OpenStore) -> None:
    async with open_store() as store:
        await perform(store, see_runner(RUNNER, NOW_MS, forget_before_ms=0))
        await submit(store)
        assert (await adopt(store, alive_since_ms=NOW_MS)).moved == ()
        assert (await adopt(store, RUNNER)).moved == ()
        (moved,) = (await adopt(store, alive_since_ms=NOW_MS + 1)).moved
        assert moved.job.runner_id == "run_2"


async def test_a_server_that_says_that_it_lives_is_seen_and_forgotten_long_after(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store)
        await perform(store, see_runner(RUNNER, NOW_MS, forget_before_ms=0))
        await perform(store, see_runner(RUNNER, NOW_MS + 5, forget_before_ms=0))
        assert (await adopt(store, alive_since_ms=NOW_MS + 5)).moved == ()
        await perform(store, see_runner("run_2", NOW_MS + 9, forget_before_ms=NOW_MS + 6))
        assert len((await adopt(store, alive_since_ms=0)).moved) == 1


# --- upkeep ---------------------------------------------------------------------------------------


async def test_what_has_ended_long_ago_is_removed_with_its_events(open_store: OpenStore) -> None:
    async with open_store() as store:
        for name in ("job_a", "job_b", "job_c"):
            await submit(store, new_job(name))
        await move(store, Step("cancel", NOW_MS), "job_a")
        await move(store, Step("cancel", NOW_MS + 10), "job_b")
        pruned = await perform(store, prune_jobs(NOW_MS + 1000 + 5, 1000))
        assert pruned.job_ids == ("job_a",)
        with pytest.raises(JobNotFound):
            await get(store, "job_a")
        assert len(await events(store, "job_b")) == 2
        assert (await perform(store, prune_jobs(NOW_MS + 10 * DAY_MS, 1000))).job_ids == ("job_b",)
        assert (await get(store, "job_c")).state == "queued"


async def test_a_key_outlives_the_retention_of_jobs(open_store: OpenStore) -> None:
    async with open_store() as store:
        await submit(store, key="k")
        await move(store, Step("cancel", NOW_MS))
        assert (await perform(store, prune_jobs(NOW_MS + DAY_MS, 1000))).job_ids == ()
        assert (await submit(store, new_job("job_b"), key="k")).job_id == "job_a"
        assert (await perform(store, prune_jobs(NOW_MS + DAY_MS + 1, 1000))).job_ids == ("job_a",)

"""Who was away finds what became of a job after RESUME, or IDENTIFY: in order, without doubles and holes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

from livechat import JobContext, Partial, Result
from livechat.jobs.kinds import JobUpdate
from tests.support.api import calling
from tests.support.client import IDENTIFY, INVALID_SESSION, READY, RESUME, connected, identified
from tests.support.jobs import JOB_EVENT, Gate, in_order, job_events, look, post, speak, until_over
from tests.support.resume import drop, park, resumed, stuck_client
from tests.support.server import SECRET, counted, running_server, wait_until

PARTS = 300
PART = "x" * 5000


async def talk(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
    for number in range(PARTS):
        yield Partial(f"{number} {PART}")
    yield Result(PARTS)


async def test_what_a_parked_session_missed_comes_before_resumed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        async with identified(server, "ann") as ann:
            session_id = await park(server, ann)
        job_id = await post(http)
        await until_over(http, job_id)
        async with connected(server) as ann:
            before, told = await resumed(ann, session_id)
            events = [packet["d"] for packet in before]
            assert {packet["op"] for packet in before} == {JOB_EVENT}
            assert in_order(events)
            assert events[3]["partial"] == b"\x00\xff"
            assert events[-1]["result"] == {"said": {}}
            assert told["jobs"] == {job_id: {"replayed": 5, "event_seq": 5, "recovered": True}}
            await ann.expect_silence()
            # Told once: the next RESUME has nothing of it.
            await drop(ann)
        async with connected(server) as ann:
            before, told = await resumed(ann, session_id)
            assert (before, told.get("jobs")) == ([], None)


async def test_a_client_states_what_it_has_seen(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        async with identified(server, "ann") as ann:
            job_id = await post(http)
            await job_events(ann, job_id)
            session_id = await park(server, ann)
        for seen, replayed in ((2, 3), (5, 0), (0, 5)):
            async with connected(server) as ann:
                before, told = await resumed(ann, session_id, jobs={job_id: seen})
                assert in_order([packet["d"] for packet in before], seen + 1)
                assert told["jobs"] == {job_id: {"replayed": replayed, "event_seq": 5, "recovered": True}}
                await drop(ann)


async def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server, "ann") as http,
        calling(server, "bob") as bob,
    ):
        server.add_job_handler("speak", speak)
        mine, foreign = await post(http), await post(bob)
        await until_over(http, mine)
        await until_over(bob, foreign)
        async with identified(server, "ann") as ann:
            session_id = await park(server, ann)
        async with connected(server) as ann:
            before, told = await resumed(ann, session_id, jobs={mine: 99, foreign: 0, "job_unknown": 3})
            assert before == []
            nothing = {"replayed": 0, "event_seq": 0, "recovered": False}
            assert told["jobs"] == {
                mine: {"replayed": 0, "event_seq": 5, "recovered": False},
                foreign: nothing,
                "job_unknown": nothing,
            }


async def test_a_job_goes_on_without_a_seam_while_its_owner_comes_back(tmp_path: Path) -> None:
    """Resumed again and again while the job talks: what came before each loss, and after it, is everything."""
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("talk", talk)
        async with identified(server, "ann") as ann:
            session_id: str = ann.ready["session_id"]
            job_id = await post(http, "talk")
            told = await job_events(ann, job_id, until="running")
            await drop(ann)
        while told[-1]["state"] == "running":
            async with connected(server) as ann:
                await ann.send(
                    RESUME,
                    {"session_id": session_id, "token": SECRET, "jobs": {job_id: told[-1]["event_seq"]}},
                )
                for _ in range(40):
                    packet = await ann.receive()
                    if packet["op"] == JOB_EVENT:
                        told.append(packet["d"])
                    if told[-1]["state"] != "running":
                        break
                await drop(ann)
        assert in_order(told)
        assert [event["partial"] for event in told if "partial" in event] == [f"{n} {PART}" for n in range(PARTS)]
        assert told[-1]["result"] == PARTS


async def test_what_was_queued_for_a_slow_client_and_never_sent_is_told_again(tmp_path: Path) -> None:
    async def shout(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        while counted(server)["sessions_parked"] == 0:
            yield Partial("x" * 60_000)
        yield Result()

    gateway = {"close_timeout_ms": 100}
    async with running_server(tmp_path, gateway=gateway) as server, calling(server, "ann") as http:
        server.add_job_handler("shout", shout)
        async with stuck_client(server, "ann") as stuck:
            session_id = stuck.session_id
            job_id = await post(http, "shout")
            # The client is closed as a slow consumer, and its session parked.
            await until_over(http, job_id)
        async with connected(server) as ann:
            before, told = await resumed(ann, session_id)
            events = [packet["d"] for packet in before]
            # From the first one on that was not sent whole; without `jobs` what was sent counts as told.
            assert in_order(events, events[0]["event_seq"])
            assert events[-1]["state"] == "succeeded"
            assert told["jobs"][job_id]["recovered"]


async def test_a_session_that_begins_anew_may_state_jobs_too(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        gate = Gate()
        server.add_job_handler("wait", gate)
        server.add_job_handler("speak", speak)
        over, running = await post(http), await post(http, "wait")
        await until_over(http, over)
        with trio.fail_after(20):
            await gate.began.wait()
        async with connected(server) as ann:
            jobs = {over: 2, running: 0, "job_unknown": 0}
            await ann.send(IDENTIFY, {"token": SECRET, "user_id": "ann", "jobs": jobs})
            await ann.expect(READY)
            events = [await ann.expect(JOB_EVENT) for _ in range(6)]
            assert in_order([event for event in events if event["job_id"] == over], 3)
            gate.go_on.set()
            events += [await ann.expect(JOB_EVENT) for _ in range(2)]
            mine = [event for event in events if event["job_id"] == running]
            assert in_order(mine)
            assert mine[-1]["state"] == "succeeded"


async def test_another_users_jobs_are_not_told_to_who_identifies(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "bob") as bob:
        server.add_job_handler("speak", speak)
        job_id = await post(bob)
        await until_over(bob, job_id)
        async with connected(server) as ann:
            await ann.send(IDENTIFY, {"token": SECRET, "user_id": "ann", "jobs": {job_id: 0}})
            await ann.expect(READY)
            await ann.expect_silence()


async def test_the_events_of_a_session_that_is_over_are_there_for_get(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, gateway={"resume_window_ms": 20}) as server,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("speak", speak)
        async with identified(server, "ann") as ann:
            session_id: str = ann.ready["session_id"]
            await drop(ann)
        await wait_until(lambda: server.statistics()["gateway"]["sessions"] == 0)
        job_id = await post(http, session_id=session_id)
        await until_over(http, job_id)
        async with connected(server) as ann:
            await ann.send(RESUME, {"session_id": session_id, "token": SECRET})
            await ann.expect(INVALID_SESSION)
        assert in_order((await look(http, job_id))["events"])


@pytest.mark.parametrize("names_session", [False, True])
async def test_a_session_that_is_parked_misses_nothing_that_is_for_it(tmp_path: Path, names_session: bool) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        async with identified(server, "ann") as laptop:
            async with identified(server, "ann") as phone:
                session_id = await park(server, phone)
            fields = {"session_id": session_id} if names_session else {}
            job_id = await post(http, **fields)
            await until_over(http, job_id)
            if names_session:
                await laptop.expect_silence()
            else:
                assert in_order(await job_events(laptop, job_id))
            async with connected(server) as phone:
                before, _ = await resumed(phone, session_id)
                assert in_order([packet["d"] for packet in before])
                assert len(before) == 5

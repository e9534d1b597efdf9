"""How jobs end: by failure, by their owner, by their deadline; and what their handlers still may do then."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import trio

from livechat import JobContext, Partial, Progress, Result
from livechat.error import ChannelNotFound
from livechat.jobs.kinds import JobUpdate
from livechat.jobs.settings import JobSettings
from tests.support.api import calling
from tests.support.client import HEARTBEAT, HEARTBEAT_ACK, identified
from tests.support.jobs import Gate, in_order, job_events, look, post, speak, until_over
from tests.support.server import running_server, wait_until


async def test_why_a_job_failed_is_told_only_where_it_is_a_refusal(tmp_path: Path) -> None:
    async def refuse(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Progress(0.5)
        async with trio.open_nursery():
            # In a group of its nursery.
            raise ChannelNotFound("channel_id: no such channel")

    async def crash(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Progress(0.5)
        raise RuntimeError("the password is hunter2")

    async def nonsense(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield "text"  # type: ignore[misc]

    async def no_json(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Result({1, 2})

    internal = {"code": 9000, "reason": "the job failed for an internal reason"}
    async with (
        running_server(tmp_path) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        expected = {
            refuse: {"code": 2000, "reason": "channel_id: no such channel"},
            crash: internal,
            nonsense: internal,
            no_json: internal,
        }
        for handler, error in expected.items():
            server.add_job_handler(handler.__name__, handler)
            job_id = await post(http, handler.__name__)
            told = await job_events(ann, job_id)
            assert (told[-1]["state"], told[-1]["error"]) == ("failed", error)
            job = await look(http, job_id)
            assert (job["state"], job["error"]) == ("failed", error)
        # Its task ends a moment after its state.
        await wait_until(lambda: server.statistics()["jobs"]["running"] == 0)
        ended = {"succeeded": 0, "failed": 4, "cancelled": 0}
        assert server.statistics()["jobs"] == {"queued": 0, "running": 0} | ended


async def test_a_handler_that_yields_too_much_has_failed(tmp_path: Path) -> None:
    async def part(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Partial("é" * 51)

    async def result(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Result("x" * 99)

    async def output(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        async with job.open_output("a.bin") as file:
            await file.write(bytes(101))
        yield Result()

    settings = JobSettings(partial_bytes=100, result_bytes=100, output_bytes=100)
    async with running_server(tmp_path, jobs=settings) as server, calling(server, "ann") as http:
        for name, handler in (("partial", part), ("result", result), ("output", output)):
            server.add_job_handler(name, handler)
            job = await until_over(http, await post(http, name))
            assert job["error"]["code"] == 1005
            assert job["error"]["reason"].startswith(f"{name}: expected at most 100 bytes")
        await wait_until(lambda: not list((tmp_path / "jobs").iterdir()))


async def test_a_handler_that_ends_without_a_result_has_succeeded(tmp_path: Path) -> None:
    async def nothing(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        yield Progress(0.5)

    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("nothing", nothing)
        job = await until_over(http, await post(http, "nothing"))
        assert (job["state"], job["progress"], job.get("result")) == ("succeeded", 1.0, None)


async def test_a_running_job_is_cancelled_and_its_generator_closed(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        job_id = await post(http, "wait")
        told = await job_events(ann, job_id, until="running")
        with trio.fail_after(20):
            await gate.began.wait()
        for _ in range(2):
            answer = await http.delete(f"/jobs/{job_id}")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        with trio.fail_after(20):
            await gate.closed.wait()
        told += await job_events(ann, job_id)
        assert [event["state"] for event in told] == ["queued", "running", "running", "cancelled"]
        assert in_order(told)
        await ann.expect_silence()
        assert (await look(http, job_id))["state"] == "cancelled"
        assert server.statistics()["jobs"]["cancelled"] == 1


async def test_a_waiting_job_is_cancelled_and_never_runs(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(concurrency=1)) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        running, waiting = await post(http, "wait"), await post(http, "wait")
        await gate.began.wait()
        assert (await http.delete(f"/jobs/{waiting}")).json()["state"] == "cancelled"
        gate.go_on.set()
        assert (await until_over(http, running))["state"] == "succeeded"
        assert gate.attempts == [1]
        assert server.statistics()["jobs"]["queued"] == 0
        await ann.send(HEARTBEAT)
        seen = []
        while (packet := await ann.receive())["op"] != HEARTBEAT_ACK:
            seen.append((packet["d"]["job_id"] == waiting, packet["d"]["state"]))
        assert (True, "cancelled") in seen
        assert (True, "running") not in seen


async def test_a_job_that_is_over_is_not_cancelled_any_more(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        job_id = await post(http)
        before = await until_over(http, job_id)
        answer = (await http.delete(f"/jobs/{job_id}")).json()
        assert answer["state"] == "succeeded"
        assert await look(http, job_id) == before


async def test_a_job_that_takes_too_long_has_failed_and_says_so(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(timeout_ms=50)) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        gates = {"by_default": Gate(), "by_kind": Gate()}
        server.add_job_handler("by_default", gates["by_default"])
        server.add_job_handler("by_kind", gates["by_kind"], timeout_s=0.1)
        for kind, limit in (("by_default", "0.05"), ("by_kind", "0.1")):
            told = await job_events(ann, await post(http, kind))
            assert told[-1]["state"] == "failed"
            assert told[-1]["error"] == {"code": 9000, "reason": f"the job did not end within {limit} s"}
            assert gates[kind].closed.is_set()


async def test_a_handler_may_clean_up_but_not_for_ever(tmp_path: Path) -> None:
    cleaned = []

    async def tidy(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        try:
            yield Result("done")
        finally:
            await trio.lowlevel.checkpoint()
            cleaned.append("tidy")

    async def slow(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        try:
            yield Result("done")
        finally:
            await trio.sleep_forever()

    async with (
        running_server(tmp_path, jobs=JobSettings(cleanup_ms=20)) as server,
        calling(server, "ann") as http,
    ):
        for handler in (tidy, slow):
            server.add_job_handler(handler.__name__, handler)
            job = await until_over(http, await post(http, handler.__name__))
            assert (job["state"], job["result"]) == ("succeeded", "done")
        assert cleaned == ["tidy"]

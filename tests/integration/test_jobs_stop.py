"""What becomes of jobs when a server stops, in order or not, and when the next one starts."""

from __future__ import annotations

import signal
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx
import trio

import livechat
from livechat import JobContext, Partial
from livechat.jobs.kinds import JobUpdate
from livechat.jobs.settings import JobSettings
from tests.support.api import API, calling
from tests.support.client import IDENTIFY, READY, connected
from tests.support.jobs import JOB_EVENT, Gate, in_order, look, post, speak, until_over
from tests.support.process import clean_environment
from tests.support.server import DEADLINE_S, SECRET, make_config, running_server


async def wait_for(gate: Gate) -> None:
    with trio.fail_after(DEADLINE_S):
        await gate.began.wait()


def states(job: dict[str, Any]) -> list[str]:
    return [event["state"] for event in job["events"]]


# --- in order -------------------------------------------------------------------------------------


async def test_what_runs_when_a_server_stops_has_failed_or_waits_for_the_next_start(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        gates = {"once": Gate(), "again": Gate()}
        server.add_job_handler("once", gates["once"])
        server.add_job_handler("again", gates["again"], safe_to_rerun=True)
        once, again = await post(http, "once"), await post(http, "again")
        for gate in gates.values():
            await wait_for(gate)
    for gate in gates.values():
        assert gate.closed.is_set()
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        job = await look(http, once)
        assert (job["state"], job["error"]) == ("failed", {"code": 9002, "reason": "the server stopped"})
        assert in_order(job["events"])
        assert states(job) == ["queued", "running", "running", "failed"]
        # It waits until its kind is there.
        assert (await look(http, again))["state"] == "queued"
        gate = Gate()
        gate.go_on.set()
        server.add_job_handler("again", gate, safe_to_rerun=True)
        job = await until_over(http, again)
        assert gate.attempts == [2]
        assert in_order(job["events"])
        assert states(job) == [
            *("queued", "running", "running", "queued"),
            *("running", "running", "running", "succeeded"),
        ]


async def test_what_waited_when_a_server_stopped_is_run_by_the_next(tmp_path: Path) -> None:
    settings = JobSettings(concurrency=1)
    async with running_server(tmp_path, jobs=settings) as server, calling(server, "ann") as http:
        gate = Gate()
        server.add_job_handler("wait", gate)
        server.add_job_handler("speak", speak)
        await post(http, "wait")
        await wait_for(gate)
        waiting = [await post(http, "speak") for _ in range(3)]
    async with running_server(tmp_path, jobs=settings) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        for job_id in waiting:
            assert (await until_over(http, job_id))["state"] == "succeeded"


async def test_a_drain_gives_running_jobs_its_time_and_starts_no_more(tmp_path: Path) -> None:
    settings = JobSettings(concurrency=1)
    config = make_config(tmp_path, gateway={"drain_ms": int(DEADLINE_S * 1000)}, jobs=settings)
    gate = Gate()
    with trio.fail_after(2 * DEADLINE_S):
        async with livechat.open_server(config) as server, calling(server, "ann") as http:
            server.add_job_handler("wait", gate)
            running, waiting = await post(http, "wait"), await post(http, "wait")
            await wait_for(gate)
            gate.go_on.set()
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        assert (await look(http, running))["state"] == "succeeded"
        assert (await look(http, waiting))["state"] == "queued"
    assert gate.attempts == [1]


async def test_a_server_that_is_cancelled_writes_what_became_of_its_jobs(tmp_path: Path) -> None:
    gate = Gate()
    with trio.CancelScope() as scope:
        async with livechat.open_server(make_config(tmp_path)) as server, calling(server, "ann") as http:
            server.add_job_handler("wait", gate)
            job_id = await post(http, "wait")
            await wait_for(gate)
            scope.cancel()
            await trio.sleep_forever()
    assert gate.closed.is_set()
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        assert states(await look(http, job_id)) == ["queued", "running", "running", "failed"]


async def test_a_client_that_identifies_anew_hears_what_became_of_its_job(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        gate = Gate()
        server.add_job_handler("wait", gate)
        job_id = await post(http, "wait")
        await wait_for(gate)
    async with running_server(tmp_path) as server, connected(server) as ann:
        await ann.send(IDENTIFY, {"token": SECRET, "user_id": "ann", "jobs": {job_id: 3}})
        await ann.expect(READY)
        event = await ann.expect(JOB_EVENT)
        assert (event["state"], event["event_seq"]) == ("failed", 4)
        assert event["error"]["code"] == 9002


# --- kill -9 --------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path

import livechat, trio


async def main():
    config = livechat.Config(port=0, udp_port=0, data_dir=Path(sys.argv[1]), secret=sys.argv[2])
    async with livechat.open_server(config) as server:

        @server.job("once")
        async def once(job):
            yield livechat.Partial("began")
            await trio.sleep_forever()

        @server.job("again", safe_to_rerun=True)
        async def again(job):
            yield livechat.Partial(f"attempt {job.attempt}")
            if job.attempt < 3:
                await trio.sleep_forever()
            yield livechat.Result(job.input)

        print(server.url, flush=True)
        await trio.sleep_forever()


trio.run(main)
"""


@asynccontextmanager
async def process(program: Path, data_dir: Path) -> AsyncGenerator[tuple[trio.Process, httpx.AsyncClient]]:
    """Run the embedder's server in a process of its own; it is killed at the latest when the block is left."""
    server = await trio.lowlevel.open_process(
        [sys.executable, str(program), str(data_dir), SECRET],
        stdout=PIPE,
        env={**clean_environment(), "PYTHONPATH": str(Path(livechat.__file__).parents[1])},
    )
    assert server.stdout is not None
    try:
        printed = b""
        with trio.fail_after(DEADLINE_S):
            while b"/ws\n" not in printed:
                data = await server.stdout.receive_some()
                assert data, printed
                printed += data
        url = next(line for line in printed.decode().splitlines() if line.startswith("ws://"))
        origin = url.replace("ws", "http", 1).removesuffix("/ws")
        headers = {"Authorization": f"Bearer {SECRET}", "X-User-Id": "ann"}
        async with httpx.AsyncClient(base_url=origin + API, headers=headers, trust_env=False) as http:
            yield server, http
    finally:
        server.kill()
        with trio.CancelScope(shield=True):
            await server.wait()
            await server.stdout.aclose()


async def began(http: httpx.AsyncClient, job_id: str, part: str) -> dict[str, Any]:
    with trio.fail_after(DEADLINE_S):
        while True:
            job = await look(http, job_id)
            if part in [event.get("partial") for event in job["events"]]:
                return job
            await trio.sleep(0.01)


async def test_a_crash_marks_running_jobs_failed_or_runs_them_again_and_says_so(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    async with process(program, tmp_path / "data") as (server, http):
        once = await post(http, "once", key="k")
        again = await post(http, "again", input={"n": 1})
        await began(http, once, "began")
        await began(http, again, "attempt 1")
        server.send_signal(signal.SIGKILL)
        await server.wait()
    async with process(program, tmp_path / "data") as (server, http):
        job = await look(http, once)
        assert (job["state"], job["error"]) == ("failed", {"code": 9002, "reason": "the server stopped"})
        assert states(job) == ["queued", "running", "running", "failed"]
        assert await post(http, "once", key="k") == once
        job = await began(http, again, "attempt 2")
        assert states(job)[:6] == ["queued", "running", "running", "queued", "running", "running"]
        server.send_signal(signal.SIGKILL)
        await server.wait()
    async with process(program, tmp_path / "data") as (server, http):
        job = await until_over(http, again)
        assert (job["state"], job["result"]) == ("succeeded", {"n": 1})
        assert in_order(job["events"])


# --- several servers with one database ------------------------------------------------------------


async def test_servers_that_share_a_database_leave_each_other_their_jobs(
    tmp_path: Path, database_url: str
) -> None:
    store = livechat.StoreSettings(url=database_url)
    async with (
        running_server(tmp_path / "a", store=store) as one,
        calling(one, "ann") as http,
    ):
        closed = trio.Event()

        async def talk(_job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
            try:
                while True:
                    yield Partial("again")
            finally:
                closed.set()

        one.add_job_handler("talk", talk)
        job_id = await post(http, "talk")
        await began(http, job_id, "again")
        async with running_server(tmp_path / "b", store=store) as two, calling(two, "ann") as other:
            assert (await look(other, job_id))["state"] == "running"
            # Cancelled where it does not run: its state is final at once, and its server notices by itself.
            assert (await other.delete(f"/jobs/{job_id}")).json()["state"] == "cancelled"
        with trio.fail_after(DEADLINE_S):
            await closed.wait()
        job = await look(http, job_id)
        last = (await look(http, job_id, after=job["event_seq"] - 2))["events"]
        assert [event["state"] for event in last] == ["running", "cancelled"]

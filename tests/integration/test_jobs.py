"""Jobs over a real server: 202, then push; refusals; cancelling; deadlines; bounds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

import livechat
from livechat import JobContext, Progress, Result
from livechat.jobs.kinds import JobUpdate
from livechat.jobs.settings import JobSettings
from livechat.protocol.validators import between
from tests.support.api import calling, is_problem
from tests.support.client import identified
from tests.support.jobs import Gate, in_order, job_events, look, post, speak, until_over
from tests.support.server import running_server


@attrs.frozen
class Wanted:
    text: str
    times: int = attrs.field(default=1, validator=between(1, 3))


# --- 202, then push -------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_a_job_is_pushed_to_all_sessions_of_its_owner_and_nobody_elses(tmp_path: Path, binary: bool) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "ann", binary=binary) as phone,
        identified(server, "ann") as laptop,
        identified(server, "bob") as bob,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("speak", speak)
        job_id = await post(http, input={"text": "한"})
        told = await job_events(phone, job_id)
        assert told == await job_events(laptop, job_id)
        assert in_order(told)
        base = {"job_id": job_id, "kind": "speak"}
        assert told == [
            base | {"state": "queued", "progress": 0.0, "event_seq": 1},
            base | {"state": "running", "progress": 0.0, "event_seq": 2},
            base | {"state": "running", "progress": 0.5, "event_seq": 3, "partial": "안녕"},
            base | {"state": "running", "progress": 0.75, "event_seq": 4, "partial": b"\x00\xff"},
            base | {"state": "succeeded", "progress": 1.0, "event_seq": 5, "result": {"said": {"text": "한"}}},
        ]
        await bob.expect_silence()


async def test_a_job_is_there_for_get_as_it_was_pushed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        job_id = await post(http)
        job = await until_over(http, job_id)
        events = job.pop("events")
        assert in_order(events)
        assert [(e["state"], e.get("partial"), e.get("partial_base64")) for e in events] == [
            ("queued", None, None),
            ("running", None, None),
            ("running", "안녕", None),
            ("running", None, "AP8="),
            ("succeeded", None, None),
        ]
        assert job["created_at"] <= job.pop("started_at") <= job.pop("finished_at")
        del job["created_at"]
        assert job == {
            "job_id": job_id,
            "kind": "speak",
            "user_id": "ann",
            "state": "succeeded",
            "progress": 1.0,
            "event_seq": 5,
            "has_more": False,
            "result": {"said": {}},
        }
        rest = await look(http, job_id, after=2, limit=2)
        assert ([e["event_seq"] for e in rest["events"]], rest["has_more"]) == ([3, 4], True)
        assert (await look(http, job_id, after=5))["events"] == []


async def test_a_session_that_is_named_hears_of_it_alone_as_long_as_it_is_there(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "ann") as laptop,
        identified(server, "bob") as bob,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("speak", speak)
        async with identified(server, "ann") as phone:
            phone_id = phone.ready["session_id"]
            job_id = await post(http, session_id=phone_id)
            assert in_order(await job_events(phone, job_id))
            await laptop.expect_silence()
        # Closed with 1000: that session is over.
        assert in_order(await job_events(laptop, await post(http, session_id=phone_id)))
        # Another user's session is none of ours.
        job_id = await post(http, session_id=bob.ready["session_id"])
        assert in_order(await job_events(laptop, job_id))
        await bob.expect_silence()


async def test_of_much_progress_the_newest_is_told_and_the_rest_is_not(tmp_path: Path) -> None:
    go_on = trio.Event()

    async def count(_job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        for number in range(1000):
            yield Progress(number / 1000)
        await go_on.wait()
        yield Result()

    settings = JobSettings(progress_interval_ms=20)
    async with (
        running_server(tmp_path, jobs=settings) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("count", count)
        job_id = await post(http, "count")
        told: list[dict[str, Any]] = []
        while not told or told[-1]["progress"] != 0.999:
            told.append(await ann.expect(120))
        go_on.set()
        told += await job_events(ann, job_id)
        assert in_order(told)
        assert len(told) < 100
        progress = [event["progress"] for event in told]
        assert progress == sorted(progress)


async def test_the_embedder_decorates_a_handler_and_it_stays_a_function(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:

        @server.job("shout", input=Wanted, timeout_s=5, concurrency=1)
        async def shout(job: JobContext[Wanted]) -> AsyncGenerator[JobUpdate, None]:
            yield Result(job.input.text.upper() * job.input.times)

        assert callable(shout)
        job = await until_over(http, await post(http, "shout", input={"text": "a", "times": 2}))
        assert job["result"] == "AA"
        with pytest.raises(ValueError, match="registered already"):
            server.add_job_handler("shout", shout)


# --- refusals -------------------------------------------------------------------------------------


async def test_what_is_no_job_is_refused_and_keeps_nothing(tmp_path: Path) -> None:
    settings = JobSettings(input_bytes=200)
    async with running_server(tmp_path, jobs=settings) as server, calling(server, "ann") as http:
        server.add_job_handler("shout", speak, input=Wanted)

        async def refused(status: int, code: int, detail: str, **body: Any) -> None:
            assert is_problem(await http.post("/jobs", json=body), status, code, detail)

        await refused(422, 5001, "kind: ", kind="unknown")
        await refused(422, 1004, "kind: ", kind="")
        await refused(422, 1004, "kind: required")
        await refused(422, 1004, "input: expected an object", kind="shout", input=[])
        await refused(422, 1004, "input.text: required", kind="shout", input={})
        await refused(422, 1004, "input.times: ", kind="shout", input={"text": "a", "times": 9})
        await refused(422, 1004, "input.text: ", kind="shout", input={"text": 5})
        await refused(422, 1004, "session_id: ", kind="shout", input={"text": "a"}, session_id="a b")
        await refused(413, 1005, "input: ", kind="shout", input={"text": "x" * 200})
        for key in ("", "x" * 256, "é"):
            response = await http.post(
                "/jobs", json={"kind": "shout", "input": {"text": "a"}}, headers={b"Idempotency-Key": key.encode()}
            )
            assert is_problem(response, 422, 1004, "idempotency-key: "), key
        assert (await http.get("/jobs")).json() == {"jobs": []}


async def test_without_a_token_nothing_of_jobs_can_be_had(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann", token=None) as http:
        assert is_problem(await http.post("/jobs", json={"kind": "announce"}), 401, 1000)
        for path in ("/jobs", "/jobs/job_1", "/jobs/job_1/output"):
            assert is_problem(await http.get(path), 401, 1000)
        assert is_problem(await http.delete("/jobs/job_1"), 401, 1000)


async def test_a_kind_that_takes_a_scope_is_for_those_who_have_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        server.add_job_handler("publish", speak, scope="publish")
        ann, bot, root = (
            server.mint_token(user_id, scopes).token
            for user_id, scopes in (("ann", ["chat"]), ("bot", ["chat", "publish"]), ("root", ["admin"]))
        )
        async with calling(server, None, token=ann) as http:
            for kind, given in (("publish", {}), ("announce", {"title": "six"})):
                response = await http.post("/jobs", json={"kind": kind, "input": given})
                assert is_problem(response, 403, 1007, "authorization: ")
        for token in (bot, root):
            async with calling(server, None, token=token) as http:
                await post(http, "publish")


async def test_another_users_job_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        calling(server, "ann") as ann,
        calling(server, "bob") as bob,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        job_id = await post(ann, "wait")
        await gate.began.wait()
        for path in (f"/jobs/{job_id}", "/jobs/job_unknown"):
            assert is_problem(await bob.get(path), 404, 5000, "job_id: no such job")
            assert is_problem(await bob.get(f"{path}/output"), 404, 5000, "job_id: no such job")
            assert is_problem(await bob.delete(path), 404, 5000, "job_id: no such job")
        assert (await bob.get("/jobs")).json() == {"jobs": []}
        assert (await look(ann, job_id))["state"] == "running"


async def test_an_admin_may_look_at_and_cancel_any_job(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as ann:
        gate = Gate()
        server.add_job_handler("wait", gate)
        job_id = await post(ann, "wait")
        token = server.mint_token("root", ["admin"]).token
        async with calling(server, None, token=token) as root:
            assert (await look(root, job_id))["user_id"] == "ann"
            assert (await root.delete(f"/jobs/{job_id}")).json()["state"] == "cancelled"
        assert (await look(ann, job_id))["state"] == "cancelled"


# --- idempotency ----------------------------------------------------------------------------------


async def test_the_same_key_is_answered_as_the_first_and_does_nothing_twice(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http, calling(server, "bob") as bob:
        gate = Gate()
        gate.go_on.set()
        server.add_job_handler("wait", gate)
        first = await post(http, "wait", key="k1", input={"a": 1, "b": 2})
        assert (await until_over(http, first))["state"] == "succeeded"
        assert await post(http, "wait", key="k1", input={"b": 2, "a": 1}) == first
        others = ({"kind": "wait", "input": {"a": 2}}, {"kind": "wait", "session_id": "s"}, {"kind": "unknown"})
        for other in others:
            response = await http.post("/jobs", json=other, headers={"Idempotency-Key": "k1"})
            assert is_problem(response, 409, 5002, "idempotency-key: ")
        assert await post(http, "wait", key="k2") != first
        assert await post(bob, "wait", key="k1", input={"a": 1, "b": 2}) != first
        assert len((await http.get("/jobs")).json()["jobs"]) == 2


async def test_the_same_key_at_the_same_time_makes_one_job(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        ids: list[str] = []

        async def one() -> None:
            ids.append(await post(http, key="k", input={"text": "a"}))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
        assert len(ids) == 20
        assert len(set(ids)) == 1


async def test_a_key_is_known_after_a_restart_also_when_its_kind_is_not(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        first = await post(http, key="k")
        await until_over(http, first)
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        assert await post(http, key="k") == first


# --- bounds ---------------------------------------------------------------------------------------


async def test_so_many_run_at_a_time_in_all_and_of_a_kind(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(concurrency=2)) as server,
        calling(server, "ann") as http,
    ):
        gates = [Gate(), Gate()]
        server.add_job_handler("narrow", gates[0], concurrency=1)
        server.add_job_handler("wide", gates[1])
        ids = [await post(http, kind) for kind in ("narrow", "narrow", "wide", "wide")]
        for gate in gates:
            with trio.fail_after(20):
                await gate.began.wait()
        assert [(await look(http, job_id))["state"] for job_id in ids] == [
            "running",
            "queued",
            "running",
            "queued",
        ]
        assert server.statistics()["jobs"]["running"] == 2
        for gate in gates:
            gate.go_on.set()
        for job_id in ids:
            assert (await until_over(http, job_id))["state"] == "succeeded"


async def test_what_does_not_fit_into_the_queue_is_refused_and_taken_once_it_does(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(concurrency=1, queue_max=1)) as server,
        calling(server, "ann") as ann,
        calling(server, "bob") as bob,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        first = await post(ann, "wait", key="k")
        with trio.fail_after(20):
            await gate.began.wait()
        second = await post(ann, "wait")
        response = await bob.post("/jobs", json={"kind": "wait"})
        assert is_problem(response, 503, 9001, "jobs: 1 jobs wait")
        assert response.json()["retryable"]
        # Its key answers all the same.
        assert await post(ann, "wait", key="k") == first
        gate.go_on.set()
        await until_over(ann, second)
        await post(bob, "wait")


async def test_a_user_has_so_many_jobs_at_a_time(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(per_user=2)) as server,
        calling(server, "ann") as ann,
        calling(server, "bob") as bob,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        ids = [await post(ann, "wait") for _ in range(2)]
        assert is_problem(await ann.post("/jobs", json={"kind": "wait"}), 503, 9001, "jobs: the user has 2")
        await post(bob, "wait")
        assert (await ann.delete(f"/jobs/{ids[0]}")).status_code == 200
        gate.go_on.set()
        await until_over(ann, ids[1])
        await post(ann, "wait")


async def test_ones_jobs_are_listed_page_by_page_the_newest_first(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        ids = set()
        for _ in range(5):
            ids.add(await post(http))
        seen: list[dict[str, Any]] = []
        after = None
        while True:
            page = (
                await http.get("/jobs", params={"limit": 2} | ({} if after is None else {"after": after}))
            ).json()
            seen += page["jobs"]
            after = page.get("next")
            if after is None:
                break
        assert [job["job_id"] for job in seen] == sorted(ids, reverse=True)
        assert not any("events" in job or "result" in job for job in seen)
        assert is_problem(await http.get("/jobs", params={"limit": 101}), 422, 1004, "limit: ")
        assert is_problem(await http.get("/jobs", params={"after": "a b"}), 422, 1004, "after: ")


async def test_a_busy_store_of_jobs_is_cleaned_of_what_is_old(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(retention_ms=1)) as server,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("speak", speak)
        old = await post(http)
        await until_over(http, old)
    async with (
        running_server(tmp_path, jobs=JobSettings(retention_ms=1)) as server,
        calling(server, "ann") as http,
    ):
        with trio.fail_after(20):
            while (await http.get(f"/jobs/{old}")).status_code != 404:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_a_server_that_is_stopping_takes_no_more_jobs(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("speak", speak)
        first = await post(http, key="k")
        server._jobs.close()
        assert is_problem(await http.post("/jobs", json={"kind": "speak"}), 503, 9002)
        assert await post(http, key="k") == first


def test_the_classes_an_embedder_needs_are_public() -> None:
    assert livechat.Progress(0.5).value == 0.5
    assert livechat.Partial("a").content == "a"
    assert livechat.Result(1).value == 1

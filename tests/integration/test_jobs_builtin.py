"""The kinds of jobs that every server does, and the files that jobs make."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest

import livechat
from livechat import JobContext, Result
from livechat.jobs import builtin
from livechat.jobs.kinds import JobUpdate
from livechat.jobs.settings import JobSettings
from tests.support.api import calling, is_problem
from tests.support.client import ANNOUNCEMENT, CREATE, HISTORY, JOIN, identified
from tests.support.jobs import job_events, look, post, until_over
from tests.support.server import running_server


async def download(http: httpx.AsyncClient, job_id: str) -> httpx.Response:
    job = await look(http, job_id)
    assert job["output"]["url"] == f"/api/v1/jobs/{job_id}/output"
    response = await http.get(f"/jobs/{job_id}/output")
    assert response.status_code == 200
    assert len(response.content) == job["output"]["bytes"]
    return response


async def fill(
    server: livechat.Server, channel_id: str, count: int, *, private: bool = False
) -> list[dict[str, Any]]:
    """Let ann say something in a channel of hers; return its history."""
    async with identified(server, "ann") as ann:
        await ann.ack(CREATE, {"channel_id": channel_id, "private": private})
        await ann.ack(JOIN, {"channel_id": channel_id})
        for number in range(count):
            await ann.say(channel_id, f"안녕 {number}")
        page = await ann.ack(HISTORY, {"channel_id": channel_id, "limit": 100})
    messages: list[dict[str, Any]] = page["messages"]
    return messages


async def test_a_member_exports_the_history_of_a_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "PAGE_MESSAGES", 3)
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        messages = await fill(server, "한", 10, private=True)
        for after, expected in ((0, messages), (4, messages[4:]), (99, [])):
            job_id = await post(http, "export_history", input={"channel_id": "한", "after_seq": after})
            job = await until_over(http, job_id)
            assert job["result"] == {"channel_id": "한", "messages": len(expected), "last_seq": max(after, 11)}
            response = await download(http, job_id)
            assert response.headers["content-type"] == "application/x-ndjson"
            assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''%ED%95%9C.ndjson"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert [json.loads(line) for line in response.text.splitlines()] == expected


async def test_who_may_not_read_a_channel_gets_no_export(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "bob") as bob,
        calling(server, "bob") as http,
    ):
        await fill(server, "public", 1)
        await fill(server, "hidden", 1, private=True)
        for channel_id, code in (("public", 2004), ("hidden", 2002), ("nowhere", 2000)):
            job_id = await post(http, "export_history", input={"channel_id": channel_id})
            told = await job_events(bob, job_id)
            assert (told[-1]["state"], told[-1]["error"]["code"]) == ("failed", code)
            assert is_problem(
                await http.get(f"/jobs/{job_id}/output"), 404, 5000, "job_id: the job has made no file"
            )
        response = await http.post("/jobs", json={"kind": "export_history", "input": {"channel_id": "a b"}})
        assert is_problem(response, 422, 1004, "input.channel_id: ")
        # A token that is good for some channels only is good for none of the others here either.
        token = server.mint_token("ann", channels=["team-*"]).token
        async with calling(server, None, token=token) as ann:
            response = await ann.post("/jobs", json={"kind": "export_history", "input": {"channel_id": "public"}})
            assert is_problem(response, 403, 1007, "channel_id: ")


async def test_an_admin_exports_any_channel(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await fill(server, "hidden", 1, private=True)
        token = server.mint_token("root", ["admin"]).token
        async with calling(server, None, token=token) as http:
            job_id = await post(http, "export_history", input={"channel_id": "hidden"})
            assert (await until_over(http, job_id))["result"]["messages"] == 2


async def test_an_admin_announces_by_a_job(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "bob") as bob:
        token = server.mint_token("root", ["admin"]).token
        async with calling(server, None, token=token) as http:
            job_id = await post(http, "announce", input={"title": "at six", "severity": "warning"})
            news = await bob.expect(ANNOUNCEMENT)
            assert (news["title"], news["severity"]) == ("at six", "warning")
            job = await until_over(http, job_id)
            assert job["result"] == {"announcement_id": news["announcement_id"]}
            job = await until_over(http, await post(http, "announce", input={"title": "a", "url": "ftp://x"}))
            assert (job["state"], job["error"]["code"]) == ("failed", 1004)


async def test_the_last_file_that_a_job_made_is_the_one(tmp_path: Path) -> None:
    async def twice(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        for name in ("first.txt", 'the "last".txt'):
            async with job.open_output(name, "text/plain") as file:
                for _ in range(3):
                    await file.write(name.encode() * 10_000)
        yield Result()

    async with (
        running_server(tmp_path) as server,
        calling(server, "ann") as http,
        calling(server, "bob") as bob,
    ):
        server.add_job_handler("twice", twice)
        job_id = await post(http, "twice")
        await until_over(http, job_id)
        response = await download(http, job_id)
        assert response.text == 'the "last".txt' * 30_000
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''the%20%22last%22.txt"
        assert is_problem(await bob.get(f"/jobs/{job_id}/output"), 404, 5000, "job_id: no such job")
        file = tmp_path / "jobs" / job_id
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        file.unlink()
        assert is_problem(await http.get(f"/jobs/{job_id}/output"), 404, 5000, "job_id: its file is not here")


@pytest.mark.parametrize(
    ("name", "mime"), [("", "text/plain"), ("a/b", "a/b"), ("a\n", "a/b"), ("a", "한"), ("a", "")]
)
async def test_a_name_that_no_file_could_have_fails_the_job(tmp_path: Path, name: str, mime: str) -> None:
    async def named(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        async with job.open_output(name, mime):
            yield Result()

    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        server.add_job_handler("named", named)
        assert (await until_over(http, await post(http, "named")))["error"]["code"] == 9000


async def test_a_disk_that_takes_nothing_fails_the_job_and_not_the_server(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, "ann") as http:
        await fill(server, "lobby", 1)
        (tmp_path / "jobs").write_text("in the way")
        for _ in range(2):
            job = await until_over(http, await post(http, "export_history", input={"channel_id": "lobby"}))
            assert job["error"] == {"code": 9003, "reason": "the file can't be written"}


async def test_files_of_one_user_are_kept_only_up_to_a_bound(tmp_path: Path) -> None:
    settings = JobSettings(outputs_bytes=100)
    async with (
        running_server(tmp_path, jobs=settings) as server,
        calling(server, "ann") as ann,
        calling(server, "bob") as bob,
    ):

        @server.job("write")
        async def write(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
            async with job.open_output("a.txt") as file:
                await file.write(b"x" * 60)
            yield Result()

        for _ in range(2):
            assert (await until_over(ann, await post(ann, "write")))["output"]["bytes"] == 60
        failed = await until_over(ann, await post(ann, "write"))
        assert (failed["state"], failed["error"]["code"]) == ("failed", 9001)
        assert failed["error"]["reason"].startswith("output: the user's jobs have made files of 120 bytes")
        assert len(list((tmp_path / "jobs").iterdir())) == 2
        assert (await until_over(bob, await post(bob, "write")))["state"] == "succeeded"

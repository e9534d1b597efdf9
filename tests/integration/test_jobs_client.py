"""livechat's own client follows jobs of a real server: over losses of the connection, and over a restart."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from livechat import JobContext, JobEvent, Partial, Result
from livechat.client.settings import CodecName
from livechat.jobs.kinds import JobUpdate
from livechat.protocol.jobs import JobError
from tests.support.api import calling
from tests.support.jobs import Gate, in_order, post, speak
from tests.support.lossy import lossy_relay
from tests.support.server import DEADLINE_S, SECRET, running_server

PARTS = 300
PROMPT = livechat.ClientSettings(backoff=livechat.Backoff(base_s=0.01, cap_s=0.1, tries_max=None))
"""Comes back at once: the tests wait for nothing else."""


async def followed(client: livechat.Client, job_id: str) -> list[JobEvent]:
    with trio.fail_after(DEADLINE_S):
        return [event async for event in client.job_events(job_id)]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_job_is_followed_from_its_first_event_to_its_result(tmp_path: Path, codec: CodecName) -> None:
    settings = livechat.ClientSettings(codec=codec)
    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann", settings=settings) as client,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("speak", speak)
        everything = client.events()
        job_id = await post(http, input={"n": 1})
        # Asked for when it may be over already.
        for _ in range(2):
            events = await followed(client, job_id)
            assert in_order(events)
            assert [event.partial for event in events] == [None, None, "안녕", b"\x00\xff", None]
            assert events[-1].result == {"said": {"n": 1}}
        seen = [await anext(everything) for _ in events]
        assert seen == events


async def test_a_job_is_followed_over_losses_of_the_connection(tmp_path: Path) -> None:
    async def talk(_job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
        for number in range(PARTS):
            yield Partial(str(number))
        yield Result(PARTS)

    async with (
        running_server(tmp_path) as server,
        lossy_relay(server.url) as relay,
        livechat.open_client(relay.url, SECRET, user_id="ann", settings=PROMPT) as client,
        calling(server, "ann") as http,
    ):
        server.add_job_handler("talk", talk)
        job_id = await post(http, "talk")
        events = []
        with trio.fail_after(DEADLINE_S):
            async for event in client.job_events(job_id):
                events.append(event)
                if event.event_seq % 100 == 0:
                    await relay.cut()
        assert relay.connected > 1
        assert in_order(events)
        assert [event.partial for event in events if event.partial is not None] == [str(n) for n in range(PARTS)]
        assert events[-1].result == PARTS


async def test_a_job_is_followed_over_a_restart_of_the_server(tmp_path: Path) -> None:
    gate, stop, has_stopped = Gate(), trio.Event(), trio.Event()

    async def serve(*, task_status: trio.TaskStatus[livechat.Server]) -> None:
        async with running_server(tmp_path) as server:
            server.add_job_handler("wait", gate)
            task_status.started(server)
            await stop.wait()
        has_stopped.set()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with (
            lossy_relay(server.url) as relay,
            livechat.open_client(relay.url, SECRET, user_id="ann", settings=PROMPT) as client,
        ):
            async with calling(server, "ann") as http:
                job_id = await post(http, "wait")
            with trio.fail_after(DEADLINE_S):
                await gate.began.wait()
                relay.refuses = True
                stop.set()
                await has_stopped.wait()
            async with running_server(tmp_path) as server:
                relay.target = server.addresses.tcp[0]
                relay.refuses = False
                events = await followed(client, job_id)
                relay.refuses = True
            assert in_order(events)
            assert events[-1].state == "failed"
            assert events[-1].error == JobError(9002, "the server stopped")

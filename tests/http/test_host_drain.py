"""The host of a server that stops: requests that are being answered get their time, nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

import livechat
from livechat.http.host import HttpHost, HttpLimits, mark_endless
from tests.support.api import calling
from tests.support.client import CREATE, JOIN, identified
from tests.support.files import path_of
from tests.support.http import DEADLINE_S, exchange, read_response, serving_host
from tests.support.server import make_config, wait_until

CONTENT = b"x" * 20_000_000
"""More than the kernel takes for a client that does not read."""
GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.go_on = trio.Event()
        self.is_endless = False
        self.answered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.is_endless:
            mark_endless(scope)
        self.asked.set()
        await self.go_on.wait()
        self.answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def host_of(application: Slow) -> HttpHost:
    return HttpHost(application, HttpLimits(1000, DEADLINE_S))


async def test_a_request_that_is_being_answered_gets_its_answer_and_is_waited_for() -> None:
    slow = Slow()
    host = host_of(slow)
    answers: list[bytes] = []
    idle = trio.Event()

    async def ask() -> None:
        # The second one was sent ahead, and comes too late.
        answers.append(await exchange(address, GET + GET, eof=False))

    async def wait_idle() -> None:
        await host.wait_idle()
        assert slow.answered == 1
        idle.set()

    with trio.fail_after(DEADLINE_S):
        async with serving_host(host) as address, trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await slow.asked.wait()
            host.close()
            nursery.start_soon(wait_idle)
            await trio.testing.wait_all_tasks_blocked()
            assert not idle.is_set()
            slow.go_on.set()
    assert idle.is_set()
    assert answers[0].lower().count(b"http/1.1 200") == 1
    assert b"connection: close" in answers[0].lower()


async def test_who_waits_between_two_requests_is_let_go_at_once() -> None:
    slow = Slow()
    slow.go_on.set()
    host = host_of(slow)
    with trio.fail_after(DEADLINE_S):
        async with serving_host(host) as address, await trio.open_tcp_stream(*address) as stream:
            for _ in range(3):
                await stream.send_all(GET)
                assert (await read_response(stream)).status == 200
            host.close()
            assert await stream.receive_some() == b""
            await host.wait_idle()


async def test_a_head_that_was_read_before_still_gets_its_answer() -> None:
    slow = Slow()
    slow.go_on.set()
    host = host_of(slow)
    async with serving_host(host) as address:
        host.close()
        answer = await exchange(address, GET, eof=False)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()


async def test_a_response_without_an_end_is_not_waited_for() -> None:
    slow = Slow()
    slow.is_endless = True
    host = host_of(slow)
    with trio.fail_after(DEADLINE_S):
        async with serving_host(host) as address, await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(GET)
            await slow.asked.wait()
            host.close()
            await host.wait_idle()
            assert slow.answered == 0


# --- a real server -----------------------------------------------------------------------------------------


async def upload(server: livechat.Server, content: bytes) -> str:
    """Have alice upload a file; return where it is."""
    async with calling(server) as client, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        response = await client.post("/files", params={"channel_id": "x"}, content=content)
        return path_of(response.json())


async def download_while_it_stops(folder: Path, drain_ms: int) -> int:
    """Return how many bytes of a download of `CONTENT` come that has begun before the server stops."""
    leave = trio.Event()

    async def serve(task_status: trio.TaskStatus[livechat.Server]) -> None:
        async with livechat.open_server(make_config(folder, gateway={"drain_ms": drain_ms})) as server:
            task_status.started(server)
            await leave.wait()

    received = 0
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            url = await upload(server, CONTENT)
            async with calling(server) as client, client.stream("GET", url) as response:
                pieces = response.aiter_raw()
                received += len(await anext(pieces))
                leave.set()
                await wait_until(lambda: server._node.draining)
                async for piece in pieces:
                    received += len(piece)
    return received


async def test_a_drain_gives_a_download_its_time(tmp_path: Path) -> None:
    # The drain would end at once if nothing were waited for: there is no WebSocket and no job.
    assert await download_while_it_stops(tmp_path, int(DEADLINE_S * 1000)) == len(CONTENT)


async def test_a_download_that_outlasts_the_drain_is_cut(tmp_path: Path) -> None:
    with pytest.RaisesGroup(httpx.RemoteProtocolError):
        await download_while_it_stops(tmp_path, 0)

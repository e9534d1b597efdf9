"""The numbers for Prometheus: that they are right, that names stay, and who may read them."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families

import livechat
from livechat import JobContext, Progress
from livechat.error import InvalidToken
from livechat.handlers.auth import Identity
from livechat.http.observing import Observing
from livechat.jobs.kinds import JobUpdate
from livechat.jobs.settings import JobSettings
from livechat.protocol.types import UserId
from livechat.telemetry.instruments import Instruments
from tests.support.api import calling
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    INVALID_SESSION,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    RESUME,
    TYPING,
    Client,
    connected,
    identified,
)
from tests.support.http import exchange, serving
from tests.support.jobs import Gate, post, until_over
from tests.support.operate import Numbers, get, scrape
from tests.support.resume import park, resume_on, stuck_client
from tests.support.server import SECRET, counted, make_config, running_server, wait_until

NAMES = {
    *(
        "livechat_build_info",
        "livechat_connections",
        "livechat_connections_accepted",
        "livechat_connections_refused",
    ),
    *("livechat_connections_closed", "livechat_slow_consumers", "livechat_sessions", "livechat_sessions_parked"),
    *("livechat_sessions_started", "livechat_reconnects", "livechat_resumes", "livechat_channels"),
    *("livechat_subscriptions", "livechat_messages", "livechat_bytes", "livechat_egress_queue_depth"),
    *("livechat_chunks", "livechat_chunk_bytes", "livechat_streams", "livechat_stream_bytes"),
    *("livechat_egress_queue_depth_max", "livechat_egress_queue_bytes", "livechat_drops"),
    *("livechat_egress_held_bytes", "livechat_egress_limit_bytes", "livechat_egress_evictions"),
    *("livechat_egress_superseded", "livechat_egress_queues"),
    *("livechat_chunk_bytes", "livechat_chunks", "livechat_stream_bytes", "livechat_streams"),
    *("livechat_command_duration_seconds", "livechat_errors", "livechat_http_requests"),
    *("livechat_http_request_duration_seconds", "livechat_store_commit_duration_seconds"),
    *("livechat_store_queue_depth", "livechat_store_operations", "livechat_store_commits"),
    *("livechat_store_failures", "livechat_store_late", "livechat_media_peers", "livechat_media_packets"),
    *("livechat_media_workers", "livechat_media_worker_restarts", "livechat_media_worker_cpu_seconds"),
    *("livechat_media_worker_packets", "livechat_media_worker_peers", "livechat_media_worker_memory_bytes"),
    *("livechat_media_drops", "livechat_media_rtcp", "livechat_media_rekeys"),
    *("livechat_floor_taken", "livechat_floor_queue_depth", "livechat_floor_grants", "livechat_floor_denies"),
    *("livechat_floor_revokes", "livechat_jobs_queued", "livechat_jobs_running", "livechat_jobs_submitted"),
    *("livechat_jobs_finished", "livechat_job_duration_seconds", "livechat_trio_tasks"),
    *("livechat_trio_tasks_runnable", "livechat_trio_run_sync_soon_queue", "livechat_gc_pause_seconds"),
    *("process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
    *("process_start_time_seconds", "process_virtual_memory_bytes"),
}
"""Dashboards rest on them."""


# --- that they are there, and right ------------------------------------------------------------------------


async def test_every_name_is_there_and_none_is_global(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        numbers = await scrape(server)
        assert set(numbers.families) == NAMES
        assert numbers("livechat_build_info", version=livechat.__version__, node_id=server.node_id) == 1
        assert numbers("process_resident_memory_bytes") > 0
        assert not [family for family in REGISTRY.collect() if family.name.startswith("livechat")]


async def test_two_servers_of_one_process_count_each_for_itself(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "a") as one,
        running_server(tmp_path / "b") as other,
        identified(one, "alice"),
    ):
        assert (await scrape(one))("livechat_connections") == 1
        assert (await scrape(other))("livechat_connections") == 0


async def test_chat_is_counted(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob", binary=True) as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "c"})
        await alice.ack(JOIN, {"channel_id": "c"})
        await bob.ack(JOIN, {"channel_id": "c"})
        # Whatever was told of the joins is told by now.
        await alice.expect(CHANNEL_EVENT)
        before = await scrape(server)
        for number in range(10):
            await alice.send(MESSAGE, {"channel_id": "c", "content": f"message {number}"}, id=number)
        for _ in range(10):
            await bob.expect(MESSAGE_EVENT)
        for _ in range(20):
            await alice.receive()
        await alice.refused(MESSAGE, {"channel_id": "nowhere", "content": "x"})
        await alice.refused(999)
        after = await scrape(server)

        def rise(name: str, **labels: str) -> float:
            return after(name, **labels) - before(name, **labels)

        assert after("livechat_connections") == after("livechat_sessions") == 2
        assert after("livechat_subscriptions") == 2
        assert rise("livechat_messages_total", direction="in") == 12
        # Ten ACKs, ten events to each of both, two ERRORs.
        assert rise("livechat_messages_total", direction="out") == 32
        assert rise("livechat_bytes_total", direction="in") > 10 * len("message 0")
        assert rise("livechat_bytes_total", direction="out") > 20 * len("message 0")
        assert after("livechat_command_duration_seconds_count", op="MESSAGE_CREATE") == 11
        assert after("livechat_command_duration_seconds_sum", op="MESSAGE_CREATE") > 0
        assert after("livechat_command_duration_seconds_count", op="UNKNOWN") == 1
        assert after("livechat_errors_total", code="2000") == 1
        assert after("livechat_errors_total", code="1003") == 1
        assert rise("livechat_store_commit_duration_seconds_count") == rise("livechat_store_commits_total") >= 1
        assert rise("livechat_store_operations_total") >= 11


async def test_a_late_answer_is_timed_once(tmp_path: Path) -> None:
    """TYPING without an id is answered by nothing, and counts all the same."""
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "c"})
        await alice.ack(JOIN, {"channel_id": "c"})
        await alice.send(TYPING, {"channel_id": "c", "typing": True})
        await alice.expect_silence()
        numbers = await scrape(server)
        assert numbers("livechat_command_duration_seconds_count", op="TYPING") == 1
        assert numbers("livechat_command_duration_seconds_count", op="HEARTBEAT") == 1


async def test_resumes_are_counted_by_their_outcome(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            session_id = alice.ready["session_id"]
            await park(server, alice)
        numbers = await scrape(server)
        assert numbers("livechat_sessions_parked") == 1
        await resume_on(server, session_id)
        async with connected(server) as client:
            wrong = {"session_id": "sess_" + "0" * 40, "token": SECRET}
            assert (await client.request(RESUME, wrong))["op"] == INVALID_SESSION
            assert (await client.request(RESUME, wrong | {"token": "wrong"}))["op"] == INVALID_SESSION
        numbers = await scrape(server)
        assert numbers("livechat_reconnects_total") == 3
        assert numbers("livechat_resumes_total", result="ok", reason="") == 1
        assert numbers("livechat_resumes_total", result="failed", reason="no_session") == 1
        assert numbers("livechat_resumes_total", result="failed", reason="token") == 1
        assert numbers("livechat_resumes_total", result="failed", reason="unavailable") == 0
        assert numbers("livechat_sessions_started_total") == 1


@asynccontextmanager
async def chat_with_a_stuck_client(server: livechat.Server) -> AsyncGenerator[Client]:
    """Alice, who sends to a channel where Bob is as well, and reads nothing."""
    async with identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "c"})
        await alice.ack(JOIN, {"channel_id": "c"})
        async with identified(server, "bob") as bob:
            await bob.ack(JOIN, {"channel_id": "c"})
        await alice.expect(CHANNEL_EVENT)
        async with stuck_client(server, "bob"):
            yield alice


async def send_many(alice: Client) -> None:
    for _ in range(50):
        await alice.send(MESSAGE, {"channel_id": "c", "content": "x" * 2000})
    for _ in range(50):
        await alice.expect(MESSAGE_EVENT)


async def test_a_slow_consumer_shows(tmp_path: Path) -> None:
    small = {"egress_frames": 64, "egress_bytes": 100_000}
    async with running_server(tmp_path, gateway=small) as server, chat_with_a_stuck_client(server) as alice:
        while counted(server)["sessions_parked"] == 0:
            await send_many(alice)
        numbers = await scrape(server)
        assert numbers("livechat_slow_consumers_total") == 1
        assert numbers("livechat_connections_closed_total", code="4001") == 1
        assert numbers("livechat_drops_total", **{"class": "durable", "reason": "slow_consumer"}) > 0


async def test_what_waits_for_a_client_shows(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, chat_with_a_stuck_client(server) as alice:
        numbers = await scrape(server)
        while numbers("livechat_egress_queue_depth") < 5:
            await send_many(alice)
            numbers = await scrape(server)
        depth = numbers("livechat_egress_queue_depth")
        assert numbers("livechat_egress_queue_depth_max") == depth
        assert numbers("livechat_egress_queues") == 1
        assert numbers("livechat_egress_held_bytes") == numbers("livechat_egress_queue_bytes")
        # What is at the head may have gone in part.
        assert numbers("livechat_egress_queue_bytes") > 2000 * (depth - 1)


async def test_connections_that_come_to_nothing_are_counted_by_their_reason(tmp_path: Path) -> None:
    upgrade = "GET /ws{} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    async with running_server(tmp_path, gateway={"head_timeout_ms": 50}) as server:
        address = server.addresses.tcp[0]
        for query, headers in (("", ""), ("", key), ("?token=wrong", key + "Sec-WebSocket-Version: 13\r\n")):
            await exchange(address, upgrade.format(query, headers).encode(), eof=False)
        await exchange(address, b"GET /he", eof=False)
        numbers = await scrape(server)
        assert numbers("livechat_connections_refused_total", reason="bad_upgrade") == 2
        assert numbers("livechat_connections_refused_total", reason="token") == 1
        assert numbers("livechat_connections_refused_total", reason="no_request") == 1
        assert numbers("livechat_connections_refused_total", reason="tls") == 0
        assert numbers("livechat_connections_accepted_total") == 5


async def test_a_client_cannot_make_up_labels(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with connected(server) as client:
            await client.ws.aclose(4321, "as I like")
        async with identified(server, "alice") as alice:
            for op in range(1000, 1020):
                await alice.refused(op, id=1)
        for path in ("/a", "/b/c", "/api/v1/nothing"):
            assert (await get(server, path)).status == 404
        for method in ("BREW", "PROPFIND"):
            head = f"{method} /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            await exchange(server.addresses.tcp[0], head.encode())
        await wait_until(lambda: server.statistics()["gateway"]["connections"] == 0)
        numbers = await scrape(server)
        assert numbers("livechat_connections_closed_total", code="0") == 1
        assert numbers.labels_of("livechat_command_duration_seconds", "op") == {"IDENTIFY", "UNKNOWN"}
        assert numbers.labels_of("livechat_http_requests", "route") == {"OTHER", "/healthz"}
        assert numbers.labels_of("livechat_http_requests", "method") == {"GET", "OTHER"}


# --- HTTP ----------------------------------------------------------------------------------------------------


async def test_http_requests_are_counted_by_route_method_and_status(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for _ in range(3):
            await get(server, "/healthz")
        await get(server, "/api/v1/announcements")
        numbers = await scrape(server)
        assert numbers("livechat_http_requests_total", route="/healthz", method="GET", status="200") == 3
        assert numbers("livechat_http_request_duration_seconds_count", route="/healthz", method="GET") == 3
        refused = {"route": "/api/v1/announcements", "method": "GET", "status": "401"}
        assert numbers("livechat_http_requests_total", **refused) == 1
        assert numbers("livechat_errors_total", code="1000") == 1


async def failing(_scope: object, _receive: object, _send: object) -> None:
    raise RuntimeError("a bug")


async def reading(_scope: object, receive: object, _send: object) -> None:
    while True:
        await receive()  # type: ignore[operator] # ASGI's


@pytest.mark.parametrize(
    ("application", "request_", "status"),
    [
        (failing, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", 500),
        (reading, b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999, 413),
        (reading, b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", 400),
    ],
)
async def test_a_request_without_a_response_counts_as_what_the_host_answers(
    application: object, request_: bytes, status: int
) -> None:
    instruments = Instruments()
    observed = Observing(application, instruments)  # type: ignore[arg-type] # any ASGI application
    async with serving(observed, body_bytes=1000) as address:
        raw = await exchange(address, request_, eof=False)
        assert raw.startswith(b"HTTP/1.1 %d" % status)
    assert list(instruments.counters.http.items()) == [(("OTHER", request_.split()[0].decode(), status), 1)]


async def test_a_client_that_goes_away_has_a_status_of_its_own() -> None:
    instruments = Instruments()
    async with serving(Observing(reading, instruments)) as address:
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n")
            # Closing with this set resets the connection.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await wait_until(lambda: instruments.counters.http)
    assert list(instruments.counters.http) == [("OTHER", "POST", 499)]


# --- who may read them, and how --------------------------------------------------------------------------------


class Scopes:
    """Whoever says `admin` is one."""

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        if token not in ("admin", "chat"):
            raise InvalidToken("token: expected admin or chat")
        return Identity(UserId("ann"), scopes=frozenset({token}))


async def test_on_loopback_no_token_is_needed_but_by_a_proxy_or_a_foreign_name(tmp_path: Path) -> None:
    async with livechat.open_server(make_config(tmp_path), authenticator=Scopes()) as server:
        for headers, status in (
            ({}, 200),
            ({"host": "localhost:8080"}, 200),
            ({"x_forwarded_for": "203.0.113.7"}, 401),
            ({"forwarded": "for=203.0.113.7"}, 401),
            ({"host": "rebound.example"}, 401),
            ({"authorization": "Bearer chat"}, 403),
            ({"authorization": "Bearer wrong"}, 401),
            ({"authorization": "Bearer admin", "x_forwarded_for": "203.0.113.7"}, 200),
        ):
            response = await get(server, "/metrics", **headers)
            assert response.status == status, headers
            assert (b"livechat_connections" in response.body) == (status == 200)


async def test_beyond_loopback_the_admin_scope_is_needed(tmp_path: Path) -> None:
    config = make_config(tmp_path, host="0.0.0.0")
    async with livechat.open_server(config, authenticator=Scopes()) as server:
        assert (await get(server, "/metrics")).status == 401
        assert (await get(server, "/metrics", authorization="Bearer chat")).status == 403
        assert (await get(server, "/metrics", authorization="Bearer admin")).status == 200


async def test_the_description_of_the_api_says_that_there_is_a_way_without_a_token(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        document = json.loads((await get(server, "/api/v1/openapi.json")).body)
    assert {} in document["paths"]["/metrics"]["get"]["security"]
    assert {} not in document["paths"]["/api/v1/announcements"]["post"]["security"]


async def test_openmetrics_for_those_who_ask_for_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        response = await get(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")
        assert response.headers["content-type"].startswith("application/openmetrics-text")
        families = text_string_to_metric_families(response.body.decode())  # type: ignore[no-untyped-call]
        assert "livechat_connections" in {family.name for family in families}
        plain = await get(server, "/metrics")
        assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert plain.headers["cache-control"] == "no-store"


async def test_many_may_ask_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        found: list[Numbers] = []

        async def ask() -> None:
            found.append(await scrape(server))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert len(found) == 20


async def test_jobs_are_counted_as_they_come_and_go(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(concurrency=1)) as server,
        calling(server, "ann") as http,
    ):
        gate = Gate()
        server.add_job_handler("wait", gate)
        server.add_job_handler("fail", give_up)
        running = await post(http, "wait", key="k")
        await gate.began.wait()
        assert await post(http, "wait", key="k") == running
        queued = await post(http, "wait")
        numbers = await scrape(server)
        assert (numbers("livechat_jobs_queued"), numbers("livechat_jobs_running")) == (1, 1)
        assert numbers("livechat_jobs_submitted_total", kind="wait") == 2
        await http.delete(f"/jobs/{queued}")
        gate.go_on.set()
        await until_over(http, running)
        await until_over(http, await post(http, "fail"))
        await wait_until(lambda: server.statistics()["jobs"]["running"] == 0)
        numbers = await scrape(server)
        assert (numbers("livechat_jobs_queued"), numbers("livechat_jobs_running")) == (0, 0)
        finished = {
            labels: numbers("livechat_jobs_finished_total", kind=labels[0], state=labels[1])
            for labels in (("wait", "succeeded"), ("wait", "cancelled"), ("fail", "failed"))
        }
        assert set(finished.values()) == {1}
        # One was cancelled before it was started.
        assert numbers("livechat_job_duration_seconds_count", kind="wait") == 1
        assert numbers("livechat_job_duration_seconds_count", kind="fail") == 1
        assert server.statistics()["jobs"] == {
            "queued": 0,
            "running": 0,
            "succeeded": 1,
            "failed": 1,
            "cancelled": 1,
        }


async def give_up(job: JobContext[Any]) -> AsyncGenerator[JobUpdate, None]:
    yield Progress(0.5)
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"garbage\r\n\r\n", 400, 1004),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505, 1004),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, 1005),
        (b"GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, 1003),
        (b"PUT /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405, 1003),
    ],
)
async def test_a_problem_is_counted_whoever_answers_with_it(
    request_bytes: bytes, status: int, code: int, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server:
        answer = await exchange(server.addresses.tcp[0], request_bytes, eof=False)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert (await scrape(server))("livechat_errors_total", code=str(code)) == 1

"""OpenTelemetry: spans where an SDK is set up, and nothing at all where none is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import opentelemetry.trace as api
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import livechat
from livechat.telemetry.instruments import find_spans
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    HEARTBEAT,
    JOIN,
    MESSAGE,
    MESSAGE_EVENT,
    RESUME,
    connected,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.operate import get
from tests.support.server import SECRET, make_config, running_server, wait_until

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACE = f"00-{TRACE_ID}-{PARENT_ID}-01"
C = {"channel_id": "c"}


class Recorded:
    """The spans that ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """An SDK, as a host sets it up; undone afterwards, which the API itself has no way for."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(api, "_TRACER_PROVIDER", provider)
    yield Recorded(exporter)
    provider.shutdown()


def ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


async def test_a_command_is_a_span_of_its_clients_trace_and_its_events_follow_from_it(
    tmp_path: Path, spans: Recorded
) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        for client in (alice, bob):
            if client is alice:
                await client.ack(CREATE, C)
            await client.ack(JOIN, C)
        await alice.expect(CHANNEL_EVENT)
        reply = await alice.request(MESSAGE, {**C, "content": "a secret plan"}, id=1, trace=TRACE)
        event = await bob.receive()
        assert (reply["op"], event["op"]) == (ACK, MESSAGE_EVENT)
    span = spans.one("MESSAGE_CREATE")
    assert span.kind is SpanKind.SERVER
    assert span.attributes is not None
    assert span.attributes["livechat.op"] == MESSAGE
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE_ID, PARENT_ID)
    assert span.parent.is_remote
    assert span.status.status_code is StatusCode.UNSET
    trace_id, span_id = ids(span)
    assert trace_id == TRACE_ID
    assert reply["trace"] == event["trace"] == f"00-{trace_id}-{span_id}-01"
    assert "secret plan" not in span.to_json()


async def test_a_request_without_a_trace_begins_one_that_stays_with_the_server(
    tmp_path: Path, spans: Recorded
) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        reply = await alice.request(HEARTBEAT)
        assert "trace" not in reply
    assert spans.one("HEARTBEAT").parent is None
    assert spans.one("IDENTIFY").parent is None


async def test_a_commit_is_a_span_of_the_request_that_waits_for_it(tmp_path: Path, spans: Recorded) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, C, trace=TRACE)
    create = spans.one("CHANNEL_CREATE")
    (commit,) = [
        span
        for span in spans.named("store.commit")
        if span.parent is not None and span.parent.span_id == int(ids(create)[1], 16)
    ]
    assert ids(commit)[0] == TRACE_ID
    assert commit.attributes is not None
    assert commit.attributes["livechat.operations"] == 1
    assert commit.start_time is not None
    assert commit.end_time is not None
    assert commit.start_time <= commit.end_time


async def test_a_commit_that_many_share_is_linked_to_all_of_them(tmp_path: Path, spans: Recorded) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, C)
        await alice.ack(JOIN, C)
        for number in range(100):
            await alice.send(MESSAGE, {**C, "content": str(number)}, id=number)
        for _ in range(200):
            await alice.receive()
    requests = {ids(span)[1] for span in spans.named("MESSAGE_CREATE")}
    assert len(requests) == 100
    linked = []
    for commit in spans.named("store.commit"):
        parents = [] if commit.parent is None else [commit.parent]
        linked += [f"{context.span_id:016x}" for context in (*parents, *(link.context for link in commit.links))]
    # Every request once, with one of the commits; those before them are not named by it.
    assert sorted(span for span in linked if span in requests) == sorted(requests)


async def test_a_refusal_is_no_failure_of_the_server_but_a_bug_is(tmp_path: Path, spans: Recorded) -> None:
    class Broken:
        def filter(self, draft: livechat.Draft) -> str:
            raise RuntimeError("a bug")

    async with (
        livechat.open_server(make_config(tmp_path), content_filter=Broken()) as server,
        identified(server, "alice") as alice,
    ):
        await alice.ack(CREATE, C)
        await alice.refused(JOIN, {"channel_id": "nowhere"})
        await alice.refused(MESSAGE, {**C, "content": "x"})
        await alice.refused(4711)
    assert spans.one("CHANNEL_JOIN").status.status_code is StatusCode.UNSET
    assert spans.one("MESSAGE_CREATE").status.status_code is StatusCode.ERROR
    assert spans.one("UNKNOWN").status.status_code is StatusCode.UNSET


async def test_an_http_request_is_a_span_named_after_its_route(tmp_path: Path, spans: Recorded) -> None:
    async with running_server(tmp_path) as server:
        await get(server, "/healthz?token=hunter2", traceparent=TRACE)
        await get(server, "/no/such/thing")
        # The span ends when the response has gone, which the client sees a moment before.
        await wait_until(lambda: spans.named("GET OTHER"))
    span = spans.one("GET /healthz")
    assert span.kind is SpanKind.SERVER
    assert ids(span)[0] == TRACE_ID
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/healthz",
        "http.response.status_code": 200,
    }
    assert "hunter2" not in span.to_json()
    assert spans.one("GET OTHER").status.status_code is StatusCode.UNSET


async def test_a_request_whose_connection_ends_is_a_span_that_ends(tmp_path: Path, spans: Recorded) -> None:
    async with server_with_door(tmp_path) as (server, door):
        async with identified(server, "alice") as alice:
            session_id = alice.ready["session_id"]
            await alice.ws.stream.aclose()
        await wait_until(lambda: server.statistics()["gateway"]["sessions_parked"] == 1)
        door.close_for_queries()
        async with connected(server) as client:
            await client.send(RESUME, {"session_id": session_id, "token": SECRET}, trace=TRACE)
            await wait_until(lambda: door.fetches_waiting == 1)
            await client.ws.stream.aclose()
        await wait_until(lambda: spans.named("RESUME"))
        door.open()
    assert ids(spans.one("RESUME"))[0] == TRACE_ID


def test_there_are_none_with_the_api_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_TRACER_PROVIDER", None)
    assert find_spans() is None
    monkeypatch.setattr(api, "_TRACER_PROVIDER", api.NoOpTracerProvider())
    assert find_spans() is None


def test_a_server_loads_nothing_of_opentelemetry_by_itself() -> None:
    program = (
        "import sys, tempfile, pathlib, trio, livechat\n"
        "async def main():\n"
        "    data_dir = pathlib.Path(tempfile.mkdtemp())\n"
        "    config = livechat.Config(port=0, udp_port=0, data_dir=data_dir)\n"
        "    async with livechat.open_server(config):\n"
        "        pass\n"
        "trio.run(main)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    assert output.splitlines()[-1] == "[]"

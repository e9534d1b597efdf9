"""A W3C traceparent goes with a request into its answer, into the events that it causes, and into the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

import livechat
from livechat.jobs.settings import JobSettings
from tests.support.api import calling
from tests.support.client import (
    ACK,
    ANNOUNCEMENT,
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    FOCUS,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    IDENTIFY,
    JOIN,
    LEAVE,
    MESSAGE,
    MESSAGE_EVENT,
    NOTIFICATION,
    READ,
    READ_EVENT,
    READY,
    RESUME,
    RESUMED,
    SETTINGS_EVENT,
    SETTINGS_SET,
    SYNC,
    TYPING,
    TYPING_EVENT,
    UNREAD_EVENT,
    Client,
    Packet,
    connected,
    identified,
)
from tests.support.http import exchange, split_responses
from tests.support.jobs import JOB_EVENT, Gate, post
from tests.support.resume import park
from tests.support.server import SECRET, make_config, running_server

C = {"channel_id": "c"}


def trace(number: int) -> str:
    """Return the traceparent of a trace that has this number."""
    return f"00-{number:032x}-{number:016x}-01"


async def join(*clients: Client) -> None:
    """Make all members of a new channel, and read what that tells them."""
    await clients[0].ack(CREATE, C)
    for count, client in enumerate(clients, 1):
        await client.ack(JOIN, C)
        for other in clients[: count - 1]:
            await other.expect(CHANNEL_EVENT)


async def received(client: Client, op: int) -> Packet:
    """Return the next packet, which must have this op."""
    packet = await client.receive()
    assert packet["op"] == op, packet
    return packet


# --- answers and events ------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_answers_and_events_carry_the_trace_of_their_request(tmp_path: Path, binary: bool) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice", binary=binary) as alice,
        identified(server, "bob", binary=binary) as bob,
    ):
        reply = await alice.request(CREATE, C, trace=trace(1))
        assert (reply["op"], reply["trace"]) == (ACK, trace(1))
        await alice.ack(JOIN, C)
        reply = await bob.request(JOIN, C, trace=trace(2))
        assert (reply["op"], reply["trace"]) == (ACK, trace(2))
        assert (await received(alice, CHANNEL_EVENT))["trace"] == trace(2)

        say = {**C, "content": "hello", "mentions": ["bob"]}
        reply = await alice.request(MESSAGE, say, id=1, trace=trace(3))
        assert reply["trace"] == trace(3)
        assert (await received(alice, MESSAGE_EVENT))["trace"] == trace(3)
        assert (await received(bob, MESSAGE_EVENT))["trace"] == trace(3)
        assert (await received(bob, NOTIFICATION))["trace"] == trace(3)

        reply = await alice.request(MESSAGE, {**C, "content": ""}, trace=trace(4))
        assert (reply["op"], reply["trace"]) == (ERROR, trace(4))
        reply = await alice.request(MESSAGE, {**C, "content": 5}, trace=trace(5))
        assert (reply["op"], reply["trace"]) == (ERROR, trace(5))
        reply = await alice.request(999, trace=trace(6))
        assert (reply["op"], reply["trace"]) == (ERROR, trace(6))
        reply = await alice.request(HEARTBEAT, trace=trace(7))
        assert (reply["op"], reply["trace"]) == (HEARTBEAT_ACK, trace(7))


async def test_so_do_those_of_the_active_room_and_of_the_user(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "alice") as tablet,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, C)
        await alice.ack(JOIN, C)
        await tablet.expect(CHANNEL_EVENT)
        await bob.ack(JOIN, C)
        for client in (alice, tablet):
            await client.expect(CHANNEL_EVENT)
        await bob.ack(FOCUS, C)
        await alice.send(TYPING, {**C, "typing": True}, trace=trace(1))
        assert (await received(bob, TYPING_EVENT))["trace"] == trace(1)
        await alice.ack(READ, {**C, "seq": 2}, trace=trace(2))
        assert (await received(bob, READ_EVENT))["trace"] == trace(2)
        assert (await received(tablet, UNREAD_EVENT))["trace"] == trace(2)
        await alice.ack(SETTINGS_SET, {"settings": {"a": 1}}, trace=trace(3))
        assert (await received(tablet, SETTINGS_EVENT))["trace"] == trace(3)


async def test_identify_and_resume_have_traces_too(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with connected(server) as client:
            reply = await client.request(IDENTIFY, {"token": "wrong", "user_id": "alice"}, trace=trace(1))
            assert (reply["op"], reply["trace"]) == (ERROR, trace(1))
            reply = await client.request(IDENTIFY, {"token": SECRET, "user_id": "alice"}, trace=trace(2))
            assert (reply["op"], reply["trace"]) == (READY, trace(2))
            client.ready = reply["d"]
            session_id = await park(server, client)
        async with connected(server) as client:
            reply = await client.request(RESUME, {"session_id": session_id, "token": SECRET}, trace=trace(3))
            assert (reply["op"], reply["trace"]) == (RESUMED, trace(3))


async def test_what_a_trace_did_not_cause_does_not_carry_it(tmp_path: Path) -> None:
    """Requests that wait begin where the one before is answered, but belong to their own traces."""
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        await join(alice)
        assert "trace" not in await alice.request(HEARTBEAT)
        await alice.send(MESSAGE, {**C, "content": "x"}, id="a", trace=trace(1))
        await alice.send(FOCUS, C, id="b")
        await alice.send(HISTORY, C, id="c", trace=trace(2))
        await alice.send(SYNC, {"channels": {"c": {"after": 0}}}, id="d")
        await alice.send(MESSAGE, {**C, "content": "y"}, id="e")
        traces: dict[Any, str | None] = {}
        events: dict[int, str | None] = {}
        while "f" not in traces or "d" not in traces:
            packet = await alice.receive()
            if "id" in packet:
                assert packet["op"] == ACK, packet
                traces[packet["id"]] = packet.get("trace")
                if packet["id"] == "d":
                    # Only now: who is no member any more is replayed nothing, and SYNC waits for no other request.
                    await alice.send(LEAVE, C, id="f", trace=trace(3))
            elif packet["d"]["seq"] not in events:
                events[packet["d"]["seq"]] = packet.get("trace")
        assert traces == {"a": trace(1), "b": None, "c": trace(2), "d": None, "e": None, "f": trace(3)}
        # The join before had none; SYNC replays it.
        assert events[2] == trace(1)
        assert {seq: value for seq, value in events.items() if seq != 2} == {1: None, 3: None}


@pytest.mark.parametrize("bad", ["", "x", 5, None, {}, trace(0), trace(1).upper() + "-", "ff" + trace(1)[2:]])
async def test_a_bad_traceparent_is_ignored(tmp_path: Path, bad: Any) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        reply = await alice.request(CREATE, C, trace=bad)
        assert reply["op"] == ACK
        assert "trace" not in reply


async def test_the_trace_of_an_http_request_goes_into_the_events_that_it_causes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        for header, expected in (
            (f"traceparent: {trace(7)}\r\n", trace(7)),
            ("", None),
            ("traceparent: rubbish\r\n", None),
            # Sent twice it is ambiguous.
            (f"traceparent: {trace(7)}\r\ntraceparent: {trace(8)}\r\n", None),
        ):
            body = json.dumps({"title": "News"})
            head = (
                f"POST /api/v1/announcements HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}\r\n"
            )
            raw = await exchange(server.addresses.tcp[0], (head + body).encode())
            assert split_responses(raw)[0].status == 201
            assert (await received(alice, ANNOUNCEMENT)).get("trace") == expected


async def test_all_events_of_a_job_carry_the_trace_of_the_request_that_handed_it_in(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path, jobs=JobSettings(concurrency=1)) as server,
        identified(server, "ann") as ann,
        calling(server, "ann") as http,
    ):
        first, second, third = Gate(), Gate(), Gate()
        for kind, gate in (("a", first), ("b", second), ("c", third)):
            server.add_job_handler(kind, gate)
        await post(http, "a", traceparent=trace(1))
        assert [await traced(ann) for _ in range(3)] == [("queued", 1), ("running", 1), ("running", 1)]
        # These two wait, and are started by the end of another one.
        last = await post(http, "b")
        assert await traced(ann) == ("queued", None)
        await post(http, "c", traceparent=trace(3))
        assert await traced(ann) == ("queued", 3)
        first.go_on.set()
        assert [await traced(ann) for _ in range(2)] == [("running", 1), ("succeeded", 1)]
        assert [await traced(ann) for _ in range(2)] == [("running", None), ("running", None)]
        await http.delete(f"/jobs/{last}", headers={"traceparent": trace(4)})
        assert await traced(ann) == ("cancelled", 4)
        third.go_on.set()
        assert {await traced(ann) for _ in range(4)} == {("running", 3), ("succeeded", 3)}


async def traced(client: Client) -> tuple[str, int | None]:
    """Return the state that the next JOB_EVENT tells, and the number of its trace."""
    packet = await received(client, JOB_EVENT)
    carried = packet.get("trace")
    return packet["d"]["state"], None if carried is None else int(carried.split("-")[1], 16)


# --- log lines ---------------------------------------------------------------------------------------------


class Failing:
    """A content filter with a bug, that says something before."""

    def filter(self, draft: livechat.Draft) -> str:
        structlog.get_logger("host").info("looking at it", length=len(draft.content))
        raise RuntimeError("a bug")


async def test_log_lines_say_whose_request_it_was_and_which_trace(tmp_path: Path) -> None:
    lines = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, lines])
    try:
        async with (
            livechat.open_server(make_config(tmp_path), content_filter=Failing()) as server,
            identified(server, "alice") as alice,
        ):
            await join(alice)
            await alice.refused(MESSAGE, {**C, "content": "a secret plan"}, trace=trace(5))
            await alice.refused(MESSAGE, {**C, "content": "a secret plan"})
            session = alice.ready["session_id"][:13]
    finally:
        structlog.configure(**before)
    spoken = [line for line in lines.entries if line["event"] in ("looking at it", "content filter failed")]
    assert len(spoken) == 4
    for line in spoken:
        assert line["session"] == session
        assert line["user"] == "alice"
        assert line["channel"] == "c"
        assert line["peer"] == "127.0.0.1"
    assert [line.get("trace_id") for line in spoken] == [f"{5:032x}"] * 2 + [None] * 2
    assert "secret plan" not in str(lines.entries)


async def test_a_connection_belongs_to_the_trace_of_its_upgrade(tmp_path: Path) -> None:
    lines = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, lines])
    try:
        async with (
            running_server(tmp_path) as server,
            identified(server, "alice", headers={"traceparent": trace(9)}) as alice,
        ):
            for _ in range(20):
                await alice.ws.send("no packet")
            assert await alice.closed() == 4503
    finally:
        structlog.configure(**before)
    (line,) = [line for line in lines.entries if line["event"] == "connection closed"]
    assert line["trace_id"] == f"{9:032x}"
    assert (line["user"], line["code"]) == ("alice", 4503)
    assert line["session"] == alice.ready["session_id"][:13]

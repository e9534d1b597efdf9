"""The trace: server-sent events of a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import h11
import pytest
import trio

import livechat
from livechat.http import events
from livechat.telemetry import packets
from tests.support.api import calling, is_problem
from tests.support.client import CREATE, JOIN, Client, identified
from tests.support.raw import TEXT, RawClient, masked, raw_connected
from tests.support.server import DEADLINE_S, running_server, wait_until
from tests.support.token_client import auth, now_ms, sessions_of

Line = dict[str, Any]


class Watching:
    """A stream of events that is read as it comes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._received = b""

    async def begin(self, server: livechat.Server, query: dict[str, Any], token: str | None = None) -> None:
        """Ask for the trace; return when nothing that follows is missed."""
        host, port = server.addresses.tcp[0]
        target = "/api/v1/admin/trace?" + urlencode(query)
        shown = [] if token is None else [("authorization", f"Bearer {token}")]
        request = h11.Request(method="GET", target=target, headers=[("host", f"{host}:{port}"), *shown])
        await self._stream.send_all(self._http.send(request) + self._http.send(h11.EndOfMessage()))
        response = await self._next()
        assert isinstance(response, h11.Response)
        headers = dict(response.headers)
        assert response.status_code == 200
        assert headers[b"content-type"].startswith(b"text/event-stream")
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"x-accel-buffering"] == b"no"
        assert await self.raw() == ": livechat trace"

    async def _next(self) -> Any:
        with trio.fail_after(DEADLINE_S):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some(65536))
        return event

    async def raw(self) -> str | None:
        """Return the next line that is not empty; None at the end."""
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                if line:
                    return line.decode()
                continue
            event = await self._next()
            if isinstance(event, h11.EndOfMessage):
                return None
            self._received += bytes(event.data)

    async def event(self) -> tuple[str, Line]:
        """Return the next event as (name, data)."""
        line, name = await self.raw(), "message"
        assert line is not None
        if line.startswith("event: "):
            name, line = line.removeprefix("event: "), await self.raw()
        assert line is not None
        return name, json.loads(line.removeprefix("data: "))

    async def packets(self, number: int) -> list[Line]:
        """Return the next so many packets."""
        found = [await self.event() for _ in range(number)]
        assert {name for name, _ in found} == {"message"}
        return [data for _, data in found]


@asynccontextmanager
async def watching(server: livechat.Server, *, token: str | None = None, **query: Any) -> AsyncGenerator[Watching]:
    async with await trio.open_tcp_stream(*server.addresses.tcp[0]) as stream:
        watcher = Watching(stream)
        await watcher.begin(server, query, token)
        yield watcher


async def talk(alice: Client) -> None:
    await alice.ack(CREATE, {"channel_id": "x"})
    await alice.ack(JOIN, {"channel_id": "x"})
    await alice.say("x", "a secret that nobody else may see")
    await alice.expect(101)


async def test_every_packet_is_a_line_in_order(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, watching(server) as stream:
        async with identified(server, "alice") as alice:
            await talk(alice)
        lines = await stream.packets(11)
        assert [(line["direction"], line["name"]) for line in lines] == [
            *(("out", "HELLO"), ("in", "IDENTIFY"), ("out", "READY"), ("in", "CHANNEL_CREATE"), ("out", "ACK")),
            *(("in", "CHANNEL_JOIN"), ("out", "ACK"), ("in", "MESSAGE_CREATE"), ("out", "ACK")),
            *(("out", "MESSAGE_EVENT"), ("in", "CLOSE")),
        ]
        assert "user_id" not in lines[1]
        assert {line["user_id"] for line in lines[2:]} == {"alice"}
        assert lines[2]["session"] == alice.ready["session_id"][: len(lines[2]["session"])]
        assert (lines[8]["answers"], lines[8]["channel_id"], lines[8]["seq"]) == ("MESSAGE_CREATE", "x", 2)
        assert lines[10]["code"] == 1000
        text = json.dumps(lines)
        assert "secret" not in text
        assert alice.ready["session_id"] not in text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"channel": "x", "direction": "in"}, ["CHANNEL_CREATE", "CHANNEL_JOIN", "MESSAGE_CREATE"]),
        ({"user": "alice", "op": "message_create"}, ["MESSAGE_CREATE", "ACK"]),
        ({"op": "20, 101"}, ["MESSAGE_CREATE", "ACK", "MESSAGE_EVENT"]),
        ({"session": "sess_", "op": "READY,CLOSE"}, ["READY", "CLOSE"]),
        ({"direction": "out", "limit": "2"}, ["HELLO", "READY"]),
    ],
)
async def test_the_server_filters(query: dict[str, str], names: list[str], tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, watching(server, **query) as stream:
        async with identified(server, "alice") as alice:
            await talk(alice)
        assert [line["name"] for line in await stream.packets(len(names))] == names
        if "limit" in query:
            assert await stream.event() == ("end", {})
            assert await stream.raw() is None
            await wait_until(lambda: not server._node.packets.is_watched)


async def test_errors_alone_can_be_watched(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, watching(server, errors="true") as stream:
        async with identified(server, "alice") as alice:
            await alice.refused(JOIN, {"channel_id": "none"})
            await alice.ws.send("garbage")
            unreadable_and_errors = await stream.packets(3)
        assert [(line["name"], line.get("code")) for line in unreadable_and_errors] == [
            *(("ERROR", 2000), ("UNREADABLE", None), ("ERROR", 1004)),
        ]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"channel": "no id"}, "channel"),
        ({"user": ""}, "user"),
        ({"op": "NO_SUCH_OP"}, "op: expected names or numbers of ops"),
        ({"op": "99"}, "op: expected names or numbers of ops"),
        ({"op": "9" * 900}, "op: expected names or numbers of ops"),
        ({"op": "MESSAGE_CREATE,"}, "op: expected names or numbers of ops"),
        ({"op": ""}, "op"),
        ({"session": ""}, "session"),
        ({"direction": "up"}, "direction"),
        ({"errors": "perhaps"}, "errors"),
        ({"limit": "0"}, "limit"),
    ],
)
async def test_a_wrong_filter_is_refused_by_name(query: dict[str, str], detail: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        assert is_problem(await client.get("/admin/trace", params=query), 422, 1004, detail)
        assert len(server._node.packets) == 0


async def test_only_so_many_may_watch(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        with ExitStack() as stack:
            for _ in range(packets.WATCHERS_MAX):
                stack.enter_context(server._node.packets.watch(packets.PacketFilter()))
            assert is_problem(await client.get("/admin/trace"), 503, 9001, "trace: 16 are watching")
        async with watching(server):
            pass


async def test_it_ends_with_the_client_at_once(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with watching(server):
            assert server._node.packets.is_watched
        await wait_until(lambda: not server._node.packets.is_watched)


async def test_a_head_has_no_events_and_leaves_nobody_watching(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        response = await client.head("/admin/trace")
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"].startswith("text/event-stream")
        await wait_until(lambda: not server._node.packets.is_watched)


async def test_a_silent_stream_has_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("livechat.http.api.trace.HEARTBEAT_S", 0.01)
    async with running_server(tmp_path) as server, watching(server) as stream:
        assert await stream.raw() == ": heartbeat"
        assert await stream.raw() == ": heartbeat"
    assert events.HEARTBEAT_S == 15


async def test_a_watcher_that_reads_too_slowly_is_told_how_much_it_missed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, watching(server, op="HEARTBEAT") as stream:
        (watcher,) = server._node.packets._watchers
        watcher._lines_max = 10
        async with raw_connected(server) as client:
            await heartbeats(client, 100)
        seen, missed = 0, 0
        while seen + missed < 100:
            name, data = await stream.event()
            seen += name == "message"
            missed += data["dropped"] if name == "dropped" else 0
        assert seen + missed == 100
        assert missed > 0


# --- the end of the token ----------------------------------------------------------------------------------


async def test_it_ends_when_its_token_is_revoked_and_no_other_does(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        bad, good = (server.mint_token("op", ("admin",)) for _ in range(2))
        async with (
            watching(server, token=bad.token, op="READY") as ended,
            watching(server, token=good.token, op="READY") as other,
        ):
            server.revoke(token_id=bad.token_id, expires_at=bad.expires_at)
            assert await ended.event() == ("end", {"code": 1001, "reason": "token: revoked"})
            assert await ended.raw() is None
            await wait_until(lambda: len(server._node.packets) == 1)
            async with sessions_of(server, server.mint_token("alice").token):
                (line,) = await other.packets(1)
            assert line["name"] == "READY"


async def test_it_ends_when_its_token_expires(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth(leeway_s=0)) as server:
        token = server.mint_token("op", ("admin",), 0.5).token
        async with watching(server, token=token) as stream:
            assert await stream.event() == ("end", {"code": 1001, "reason": "token: expired"})
            assert await stream.raw() is None


async def test_it_ends_when_its_user_is_kept_out(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth()) as server:
        token = server.mint_token("op", ("admin",)).token
        async with watching(server, token=token) as stream:
            server.revoke(user_id="op", issued_by=now_ms() + 60_000)
            assert await stream.event() == ("end", {"code": 1007, "reason": "user_id: banned"})


async def test_a_token_shows_only_the_channels_that_it_is_good_for(tmp_path: Path) -> None:
    async with running_server(tmp_path, auth=auth("both")) as server:
        token = server.mint_token("op", ("admin",), channels=("team-*",)).token
        async with watching(server, token=token, op="CHANNEL_CREATE,CLOSE") as stream:
            async with identified(server, "alice") as alice:
                await alice.ack(CREATE, {"channel_id": "den"})
                await alice.ack(CREATE, {"channel_id": "team-a"})
            lines = await stream.packets(3)
        assert [(line["name"], line.get("channel_id")) for line in lines] == [
            ("CHANNEL_CREATE", "team-a"),
            ("ACK", "team-a"),
            ("CLOSE", None),
        ]
        async with calling(server, None, token=token) as client:
            response = await client.get("/admin/trace", params={"channel": "den"})
            assert is_problem(response, 403, 1007, "channel_id: the token is not good for den")


async def heartbeats(client: RawClient, number: int) -> None:
    """Send so many heartbeats at once; return when all are answered."""
    await client.send(masked(TEXT, b'{"op": 1}') * number)
    for _ in range(number + 1):  # and HELLO
        assert await client.frame()


async def test_a_stopped_server_ends_it(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(tmp_path))
        async with await trio.open_tcp_stream(*server.addresses.tcp[0]) as stream:
            watcher = Watching(stream)
            await watcher.begin(server, {})
            await stack.aclose()
            with pytest.raises(h11.RemoteProtocolError):
                await watcher.raw()

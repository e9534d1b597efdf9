"""Announcements: who is told when, and what may be announced by whom, in Python, over HTTP and from the shell."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from livechat.error import NotPersisted, ProtocolError
from livechat.store.operations import CreateAnnouncement, LoadUser
from tests.support.api import calling, is_problem
from tests.support.client import (
    ANNOUNCEMENT,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IDENTIFY,
    READY,
    RESUME,
    connected,
    identified,
)
from tests.support.faulty_store import server_with_door
from tests.support.http import exchange, split_responses
from tests.support.resume import park, resume_on, resumed
from tests.support.server import SECRET, counted, make_config, running_server, wait_until
from tests.support.store_sqlite import Rival


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def titles(announcements: list[dict[str, Any]]) -> list[str]:
    return [announcement["title"] for announcement in announcements]


# --- who is told -------------------------------------------------------------------------------------------


async def test_everybody_who_is_connected_is_told_at_once(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        identified(server, "alice") as alice,
        identified(server, "bob", binary=True) as bob,
        connected(server) as nobody,
    ):
        made = await server.announce(
            "News", "All of it", url="https://x.example/n", image_url="http://x.example/i.png", severity="warning"
        )
        for client in (alice, bob):
            assert await client.expect(ANNOUNCEMENT) == {
                "announcement_id": made.announcement_id,
                "title": "News",
                "body": "All of it",
                "severity": "warning",
                "created_at": made.created_at,
                "url": "https://x.example/n",
                "image_url": "http://x.example/i.png",
            }
        await nobody.expect_silence()


async def test_who_logs_in_is_told_what_was_announced_since_the_last_logout(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await server.announce("first")
        async with identified(server, "alice") as alice:
            # Who was never here has missed all of them.
            assert titles(alice.ready["announcements"]) == ["first"]
            await server.announce("heard")
        await wait_until(lambda: counted(server)["sessions"] == 0)
        # What was announced within the very millisecond of a logout is told: rather twice than never.
        logged_out_ms = now_ms()
        await wait_until(lambda: now_ms() > logged_out_ms)
        await server.announce("missed")
        await server.announce("missed too")
        async with identified(server, "alice") as alice:
            assert titles(alice.ready["announcements"]) == ["missed", "missed too"]
    async with running_server(tmp_path) as server, identified(server, "bob") as bob:
        assert titles(bob.ready["announcements"]) == ["first", "heard", "missed", "missed too"]


async def test_what_was_announced_while_a_session_was_parked_is_told_by_resumed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            await server.announce("heard")
            session_id = await park(server, alice)
        await server.announce("missed")
        await server.announce("missed too")
        _, done = await resume_on(server, session_id)
        assert titles(done["announcements"]) == ["missed", "missed too"]
        await wait_until(lambda: counted(server)["sessions_parked"] == 1)
        _, done = await resume_on(server, session_id)
        assert done["announcements"] == []


async def test_what_was_announced_while_a_session_was_parked_is_told_also_if_it_was_never_resumed(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path, gateway={"resume_window_ms": 300}) as server:
        async with identified(server, "alice") as alice:
            await park(server, alice)
        await server.announce("missed")
        assert counted(server)["sessions_parked"] == 1
        await wait_until(lambda: counted(server)["sessions"] == 0)
        async with identified(server, "alice") as alice:
            assert titles(alice.ready["announcements"]) == ["missed"]


async def test_what_a_failed_resume_was_about_to_tell_is_told_at_the_next_login(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door):
        async with identified(server, "alice") as alice:
            session_id = await park(server, alice)
        await server.announce("missed")
        parked_ms = now_ms()
        await wait_until(lambda: now_ms() > parked_ms)
        door.is_unreadable = True
        server._node.resume_window_s = 0.05
        async with connected(server) as alice:
            reply = await alice.request(RESUME, {"session_id": session_id, "token": SECRET})
            assert reply["d"]["code"] == 9003
        await wait_until(lambda: counted(server)["sessions"] == 0)
        async with identified(server, "alice") as alice:
            assert titles(alice.ready["announcements"]) == ["missed"]


async def test_of_what_has_expired_nobody_is_told_any_more(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            session_id = await park(server, alice)
        made = await server.announce("short", expires_at=now_ms() + 50)
        await server.announce("long", expires_at=now_ms() + 3_600_000)
        assert made.expires_at is not None
        await wait_until(lambda: now_ms() >= made.expires_at)
        async with identified(server, "bob") as bob:
            assert titles(bob.ready["announcements"]) == ["long"]
        _, done = await resume_on(server, session_id)
        assert titles(done["announcements"]) == ["long"]


@pytest.mark.parametrize("login_first", [True, False])
async def test_a_login_at_the_same_time_is_told_once(login_first: bool, tmp_path: Path) -> None:
    async with (
        server_with_door(tmp_path) as (server, door),
        connected(server) as alice,
        trio.open_nursery() as nursery,
    ):
        door.close_for(CreateAnnouncement, LoadUser)

        async def announce() -> None:
            await server.announce("News")

        async def identify() -> None:
            await alice.send(IDENTIFY, {"token": SECRET, "user_id": "alice"})

        for number, step in enumerate((identify, announce) if login_first else (announce, identify)):
            nursery.start_soon(step)
            await wait_until(lambda number=number: door.operations_waiting == number + 1)
        # Both go to the store in one go, in this order.
        door.open()
        ready = await alice.expect(READY)
        assert titles(ready["announcements"]) == ([] if login_first else ["News"])
        if login_first:
            assert (await alice.expect(ANNOUNCEMENT))["title"] == "News"
        await wait_until(lambda: not nursery.child_tasks)
        await alice.expect_silence()


async def test_a_resume_at_the_same_time_is_told_once(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door):
        async with identified(server, "alice") as alice:
            session_id = await park(server, alice)
        async with connected(server) as alice, trio.open_nursery() as nursery:
            door.close_for_queries()

            async def announce() -> None:
                # The session is live for the hubs by now, but has not been told that it is.
                await wait_until(lambda: door.fetches_waiting == 1)
                await server.announce("News")
                door.open()

            nursery.start_soon(announce)
            _, done = await resumed(alice, session_id)
            assert titles(done["announcements"]) == ["News"]
            await alice.expect_silence()


# --- what may be announced ---------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "title"),
    ({"title": "x" * 201}, "title"),
    ({"title": "a\0b"}, "title"),
    ({"title": "\ud800"}, "title"),
    ({"title": "x", "body": "x" * 4001}, "body"),
    ({"title": "x", "body": "\ud800"}, "body"),
    ({"title": "x", "url": "ftp://x.example"}, "url"),
    ({"title": "x", "url": ""}, "url"),
    ({"title": "x", "url": "https://" + "x" * 2048}, "url"),
    ({"title": "x", "image_url": "javascript:alert(1)"}, "image_url"),
    ({"title": "x", "severity": "loud"}, "severity"),
    ({"title": "x", "expires_at": 1}, "expires_at"),
    ({"title": "x", "expires_at": 2**63}, "expires_at"),
]


@pytest.mark.parametrize(
    ("fields", "name"), WRONG, ids=[f"{number}-{name}" for number, (_, name) in enumerate(WRONG)]
)
async def test_what_cannot_be_announced_names_the_field_and_tells_nobody(
    fields: dict[str, Any], name: str, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        with pytest.raises(ProtocolError) as refused:
            await server.announce(**fields)
        assert refused.value.reason.startswith(f"{name}: ")
        assert (await post(server, fields))[:2] == (422, 1004)
        await alice.expect_silence()


async def test_at_the_limits_it_is_announced(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        fields = {"title": "한" * 200, "body": "🙂" * 4000, "url": "https://" + "x" * 2040, "severity": "critical"}
        await server.announce(**fields)  # type: ignore[arg-type]
        assert (await alice.expect(ANNOUNCEMENT)).items() >= fields.items()


async def test_while_the_store_is_away_nobody_is_told(tmp_path: Path) -> None:
    store = livechat.StoreSettings(timeout_ms=300)
    async with running_server(tmp_path, store=store) as server, identified(server, "alice") as alice:
        rival = Rival(tmp_path)
        rival.lock()
        with pytest.raises(NotPersisted):
            await server.announce("lost")
        assert (await post(server, {"title": "lost"}))[:2] == (503, 3005)
        rival.unlock()
        rival.close()
        assert (await alice.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        await server.announce("healed")
        assert (await alice.expect(ANNOUNCEMENT))["title"] == "healed"


# --- over HTTP ---------------------------------------------------------------------------------------------


async def post(
    server: livechat.Server, body: Any, *, authorization: str | None = f"Bearer {SECRET}"
) -> tuple[int, Any, dict[str, Any]]:
    """Post an announcement; return (status, the `code` of a problem, the document).

    Args:
        body: bytes as they are, or what is to be JSON.
    """
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST /api/v1/announcements HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
    if authorization is not None:
        head += f"Authorization: {authorization}\r\n"
    (response,) = split_responses(await exchange(server.addresses.tcp[0], head.encode() + b"\r\n" + data))
    document = json.loads(response.body)
    if response.status == 201:
        assert response.headers["content-type"] == "application/json"
    else:
        assert response.headers["content-type"] == "application/problem+json"
        assert document["status"] == response.status
        assert document["title"]
        challenges = {1000: "Bearer", 1001: 'Bearer error="invalid_token"'}
        assert response.headers.get("www-authenticate") == challenges.get(document["code"])
    return response.status, document.get("code"), document


async def test_posting_announces_and_answers_what_was_made(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        fields = {"title": "News", "body": "b", "severity": "critical", "expires_at": now_ms() + 1_000_000}
        status, _, made = await post(server, {**fields, "url": None, "future": [1]})
        assert status == 201
        assert made.items() >= fields.items()
        assert await alice.expect(ANNOUNCEMENT) == made
        # The scheme is written as one likes.
        assert (await post(server, {"title": "x"}, authorization=f"bearer  {SECRET} "))[0] == 201
        assert (await alice.expect(ANNOUNCEMENT))["severity"] == "info"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, 1000),
        ("", 1000),
        ("Bearer", 1000),
        ("Basic dXNlcjpzZWNyZXQ=", 1000),
        (SECRET, 1000),
        ("Bearer wrong", 1001),
        (f"Bearer {SECRET}x", 1001),
        ("Bearer \xe9", 1001),
    ],
)
async def test_posting_takes_a_token(authorization: str | None, code: int, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        assert (await post(server, {"title": "x"}, authorization=authorization))[:2] == (401, code)
        await alice.expect_silence()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "body"),
        (b"not json", "body"),
        (b"\xff\xfe", "body"),
        (b"[" * 5000, "body"),
        ([], "body"),
        ("title", "body"),
        ({}, "title"),
        ({"title": None}, "title"),
        ({"title": 5}, "title"),
        ({"title": "x", "body": []}, "body"),
        ({"title": "x", "url": {}}, "url"),
        ({"title": "x", "severity": 1}, "severity"),
        ({"title": "x", "expires_at": "soon"}, "expires_at"),
        ({"title": "x", "expires_at": True}, "expires_at"),
        ({"title": "x", "expires_at": 1e20}, "expires_at"),
        (b'{"title": "x", "expires_at": NaN}', "body"),
        (b'{"title": "x", "expires_at": ' + b"9" * 5000 + b"}", "body"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_posting_what_is_no_announcement_names_the_field(body: Any, name: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, identified(server, "alice") as alice:
        status, code, problem = await post(server, body)
        assert (status, code) == (422, 1004)
        assert problem["detail"].startswith(f"{name}: ")
        await alice.expect_silence()


class Scopes:
    """Takes a token for the scope that it grants; `late` has expired, with `boom` it fails."""

    async def authenticate(self, token: str, user_id: str | None) -> livechat.Identity:
        if token == "boom":
            raise RuntimeError("the embedder's own bug")
        scopes = frozenset({"chat" if token == "chat" else "admin"})
        return livechat.Identity(livechat.UserId("root"), 1 if token == "late" else None, scopes)


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [("admin", 201, None), ("chat", 403, 1007), ("late", 401, 1001), ("boom", 503, 9003)],
)
async def test_with_scopes_posting_takes_the_admin_scope(
    token: str, status: int, code: int | None, tmp_path: Path
) -> None:
    async with livechat.open_server(make_config(tmp_path), authenticator=Scopes()) as server:
        assert (await post(server, {"title": "x"}, authorization=f"Bearer {token}"))[:2] == (status, code)


async def test_what_is_being_announced_while_somebody_logs_out_is_told_at_the_next_login(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with identified(server, "alice") as alice:
            with closing(Rival(tmp_path)) as rival:
                rival.lock()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.announce, "slow")
                    await wait_until(lambda: server.statistics()["store"]["operations"] > 0)
                    await alice.expect_silence()
                    dated_ms = now_ms()
                    await wait_until(lambda: now_ms() > dated_ms)
                    await alice.ws.aclose()
                    await wait_until(lambda: counted(server)["sessions"] == 0)
                    rival.unlock()
        async with identified(server, "alice") as alice:
            assert titles(alice.ready["announcements"]) == ["slow"]


async def test_an_announcement_is_told_where_the_store_is_in_memory(tmp_path: Path) -> None:
    store = livechat.StoreSettings(url="memory:")
    async with running_server(tmp_path, store=store) as server, identified(server, "alice") as alice:
        await server.announce("news")
        assert (await alice.expect(ANNOUNCEMENT))["title"] == "news"


async def test_what_was_announced_since_a_time_is_listed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server) as alice:
        assert (await alice.get("/announcements")).json() == {"announcements": []}
        first = await server.announce("first", expires_at=now_ms() + 3_600_000)
        await wait_until(lambda: now_ms() > first.created_at)
        second = await server.announce("second")
        short = await server.announce("short", expires_at=now_ms() + 20)
        assert short.expires_at is not None
        await wait_until(lambda: now_ms() >= short.expires_at)

        async def listed(**query: int) -> list[str]:
            return titles((await alice.get("/announcements", params=query)).json()["announcements"])

        assert await listed() == ["first", "second"]
        assert await listed(since=first.created_at) == ["first", "second"]
        assert await listed(since=second.created_at) == ["second"]
        assert await listed(since=second.created_at + 1_000_000) == []
        assert await listed(limit=1) == ["second"]
        for query in ({"since": -1}, {"since": 2**63}, {"limit": 0}, {"limit": 101}, {"since": "now"}):
            refused = await alice.get("/announcements", params=query)
            assert is_problem(refused, 422, 1004, f"{next(iter(query))}: ")

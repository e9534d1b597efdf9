"""Signed tokens over HTTP: header and cookie, scopes, channels, the end, revocation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

import livechat
from tests.support.api import calling, is_problem
from tests.support.client import JOIN
from tests.support.jobs import post, until_over
from tests.support.server import SECRET, running_server, wait_until
from tests.support.token_client import auth, now_ms, sessions_of
from tests.support.tokens import forged, hs256

ORIGIN = "https://chat.example"


@asynccontextmanager
async def taking_tokens(data_dir: Path, mode: str = "jwt") -> AsyncGenerator[livechat.Server]:
    async with running_server(data_dir, auth=auth(mode), gateway={"allowed_origins": (ORIGIN,)}) as server:
        yield server


# --- header ------------------------------------------------------------------------------------------------


async def test_a_token_says_who_asks_and_what_for(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server:
        issued = server.mint_token("alice", ("chat",), 600, name="Alice", channels=("team-*",))
        async with calling(server, None, token=issued.token) as alice:
            me = (await alice.get("/users/me")).json()
            assert (me["user_id"], me["name"], me["expires_at"]) == ("alice", "Alice", issued.expires_at)
            assert (me["scopes"], me["channels"]) == (["chat"], ["team-*"])
        async with calling(server, "bob", token=issued.token) as alice:
            assert is_problem(await alice.get("/users/me"), 401, 1001, "user_id: not the one of the token")


async def test_a_bad_token_opens_nothing(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server, calling(server, None, token=None) as client:
        claims = {"sub": "alice", "exp": now_ms() / 1000 + 600, "scope": "admin"}
        bad = [
            forged({"alg": "none"}, claims, lambda _signed: b""),
            forged({"alg": "HS256"}, claims, hs256(SECRET.encode())),
            forged({"alg": "HS256"}, claims, hs256(b"")),
            "x" * 9000,
            SECRET,
        ]
        for token in bad:
            response = await client.get("/users/me", headers={"Authorization": f"Bearer {token}"})
            assert is_problem(response, 401, 1001)
            assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert is_problem(await client.get("/users/me"), 401, 1000)
        # A token in the address ends up in logs and histories; only the upgrade, which can't send headers, has it.
        token = server.mint_token("alice").token
        assert is_problem(await client.get("/users/me", params={"token": token}), 401, 1000)


async def test_a_token_that_has_ended_or_was_revoked_opens_nothing(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server:
        short, other = server.mint_token("alice", lifetime_s=0.2), server.mint_token("alice")
        async with calling(server, None, token=short.token) as alice:
            await wait_until(lambda: now_ms() >= short.expires_at)
            assert is_problem(await alice.get("/users/me"), 401, 1001, "token: expired")
        async with calling(server, None, token=other.token) as alice:
            assert (await alice.get("/users/me")).status_code == 200
            server.revoke(token_id=other.token_id)
            assert is_problem(await alice.get("/users/me"), 401, 1001, "token: revoked")


# --- scopes and channels -----------------------------------------------------------------------------------


async def test_a_scope_opens_what_it_is_for(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server:
        statuses: dict[str, list[int]] = {}
        async with calling(server, None, token=server.mint_token("owner").token) as owner:
            assert (await owner.post("/channels", json={"channel_id": "lobby"})).status_code == 201
        for scope in ("chat", "publish", "admin"):
            async with calling(server, None, token=server.mint_token("alice", (scope,)).token) as alice:
                answers = [
                    await alice.get("/channels"),
                    await alice.post("/channels/lobby/messages", json={"content": "x"}),
                    await alice.post("/announcements", json={"title": "x"}),
                ]
                statuses[scope] = [answer.status_code for answer in answers]
                for answer in answers:
                    assert answer.status_code != 403 or answer.json()["code"] in (1007, 3002)
        assert statuses == {"chat": [200, 403, 403], "publish": [403, 201, 403], "admin": [200, 201, 201]}


async def test_what_names_a_channel_that_the_token_is_not_good_for_is_refused(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server:
        async with calling(server, None, token=server.mint_token("bob").token) as bob:
            for channel_id in ("den", "team-a"):
                assert (await bob.post("/channels", json={"channel_id": channel_id})).status_code == 201
        for scope in ("chat", "admin"):
            token = server.mint_token("alice", (scope, "publish"), channels=("team-*",)).token
            async with calling(server, None, token=token) as alice:
                refused: list[httpx.Response] = [
                    await alice.get("/channels/den"),
                    await alice.patch("/channels/den", json={"channel_name": "x"}),
                    await alice.delete("/channels/den"),
                    await alice.get("/channels/den/members"),
                    await alice.get("/channels/den/messages"),
                    await alice.post("/channels/den/messages", json={"content": "x"}),
                    await alice.post("/channels", json={"channel_id": "mine"}),
                ]
                for response in refused:
                    assert is_problem(response, 403, 1007, "channel_id: the token is not good for")
                listed = (await alice.get("/channels")).json()
                assert [row["channel_id"] for row in listed["channels"]] == ["team-a"]
                assert (await alice.post("/channels/team-a/messages", json={"content": "x"})).status_code == 201


async def test_a_job_about_a_channel_that_the_token_is_not_good_for_is_closed_to_it(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server:
        async with calling(server, None, token=server.mint_token("alice").token) as alice:
            for channel_id in ("den", "team-a"):
                assert (await alice.post("/channels", json={"channel_id": channel_id})).status_code == 201
            async with sessions_of(server, server.mint_token("alice").token) as (session,):
                for channel_id in ("den", "team-a"):
                    await session.ack(JOIN, {"channel_id": channel_id})
            den, team = [
                await post(alice, "export_history", input={"channel_id": channel_id})
                for channel_id in ("den", "team-a")
            ]
            for job_id in (den, team):
                assert (await until_over(alice, job_id))["state"] == "succeeded"
        for scope in ("chat", "admin"):
            token = server.mint_token("alice", (scope,), channels=("team-*",)).token
            async with calling(server, None, token=token) as alice:
                for response in (
                    await alice.get(f"/jobs/{den}"),
                    await alice.get(f"/jobs/{den}/output"),
                    await alice.delete(f"/jobs/{den}"),
                    await alice.post("/jobs", json={"kind": "export_history", "input": {"channel_id": "den"}}),
                ):
                    assert is_problem(response, 403, 1007, "channel_id: the token is not good for den")
                assert [job["job_id"] for job in (await alice.get("/jobs")).json()["jobs"]] == [team]
                assert (await alice.get(f"/jobs/{team}/output")).status_code == 200
                assert (await alice.delete(f"/jobs/{team}")).json()["state"] == "succeeded"


# --- the cookie --------------------------------------------------------------------------------------------

SAME_SITE = {"Sec-Fetch-Site": "same-origin"}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


@pytest.mark.parametrize(
    ("method", "headers", "is_good"),
    [
        ("GET", {"Origin": ORIGIN}, True),
        ("GET", {}, True),
        ("GET", SAME_SITE, True),
        ("GET", CROSS_SITE, False),
        ("GET", {"Origin": "https://evil.example"}, False),
        ("GET", {"Origin": "null"}, False),
        ("GET", {"Origin": ""}, False),
        ("POST", {"Origin": ORIGIN}, True),
        ("POST", {"Origin": ORIGIN, **CROSS_SITE}, True),
        ("POST", {}, False),
        ("POST", SAME_SITE, False),
        ("POST", {"Origin": "https://evil.example"}, False),
        ("POST", {"Origin": "https://chat.example.evil.example"}, False),
        ("POST", {"Origin": "http://chat.example"}, False),
        ("POST", {"Origin": "null", "Referer": ORIGIN}, False),
        ("DELETE", {}, False),
        ("PATCH", {}, False),
    ],
)
async def test_the_cookie_counts_from_where_its_pages_are(
    method: str, headers: dict[str, str], is_good: bool, tmp_path: Path
) -> None:
    async with taking_tokens(tmp_path) as server, calling(server, None, token=None) as client:
        cookie = {"Cookie": f"livechat_token={server.mint_token('alice').token}"}
        path = "/channels" if method in ("GET", "POST") else "/channels/lobby"
        body = None if method == "GET" else {"channel_id": "lobby"}
        response = await client.request(method, path, json=body, headers={**cookie, **headers})
        if is_good:
            assert response.status_code == (200 if method == "GET" else 201), response.text
        else:
            assert is_problem(response, 403, 1007, "origin: the cookie counts only from an allowed origin")
            owner = {"Authorization": f"Bearer {server.mint_token('alice').token}"}
            assert (await client.get("/channels", headers=owner)).json()["channels"] == [], "nothing was done"


async def test_a_header_goes_before_the_cookie(tmp_path: Path) -> None:
    async with taking_tokens(tmp_path) as server, calling(server, None, token=None) as client:
        good = server.mint_token("alice").token
        cookie = {"Cookie": f"livechat_token={good}", "Origin": "https://evil.example"}
        response = await client.get("/users/me", headers={**cookie, "Authorization": f"Bearer {good}"})
        assert response.json()["user_id"] == "alice"
        allowed = {"Cookie": f"livechat_token={good}", "Origin": ORIGIN}
        response = await client.get("/users/me", headers={**allowed, "Authorization": "Bearer a.b.c"})
        assert is_problem(response, 401, 1001)
        response = await client.get("/users/me", headers={**allowed, "Authorization": "Basic eDp5"})
        assert is_problem(response, 401, 1000)

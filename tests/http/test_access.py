"""Who may call what: tokens, scopes, the shared secret, and the machine's own operator."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request

import livechat
from livechat.handlers.auth import Identity
from livechat.http.access import is_local, may_call
from livechat.http.endpoint import Access
from livechat.protocol.types import UserId
from tests.support.api import API, PROBLEM, calling, is_problem, origin_of
from tests.support.operate import get
from tests.support.server import SECRET, running_server


@pytest.mark.parametrize(
    ("access", "scopes"),
    [
        ("user", {"chat", "admin"}),
        ("publish", {"publish", "admin"}),
        ("send", {"chat", "publish", "admin"}),
        ("admin", {"admin"}),
    ],
)
def test_an_endpoint_is_open_to_its_scopes_and_no_others(access: Access, scopes: set[str]) -> None:
    for scope in ("chat", "publish", "admin", "other"):
        identity = Identity(UserId("alice"), scopes=frozenset({scope}))
        assert may_call(identity, access) == (scope in scopes), scope
    assert not may_call(Identity(UserId("alice"), scopes=frozenset()), access)
    assert may_call(Identity(UserId("alice"), holds_secret=True), access)


# --- the shared secret -------------------------------------------------------------------------------------


@asynccontextmanager
async def bare(server: livechat.Server) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that sends nothing of itself."""
    async with httpx.AsyncClient(base_url=origin_of(server), trust_env=False) as client:
        yield client


@pytest.mark.parametrize("way", ["header", "query"])
async def test_who_has_the_secret_says_who_that_is(way: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as client:
        for user_id in ("alice", "앨리스"):
            headers = {b"X-User-Id": user_id.encode()} if way == "header" else None
            params = {"user_id": user_id} if way == "query" else None
            me = await client.get("/users/me", headers=headers, params=params)
            assert me.json()["user_id"] == user_id
        assert is_problem(await client.get("/users/me"), 401, 1001, "user_id: required")
        assert is_problem(await client.get("/users/me", params={"user_id": "a b"}), 401, 1001, "user_id: expected")


async def test_what_concerns_no_user_needs_none(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server, calling(server, None) as operator:
        assert (await operator.post("/announcements", json={"title": "News"})).status_code == 201
        (told,) = (await operator.get("/announcements")).json()["announcements"]
        assert told["title"] == "News"


@pytest.mark.parametrize(
    ("authorization", "code", "challenge"),
    [
        (None, 1000, "Bearer"),
        ("Bearer", 1000, "Bearer"),
        ("Basic YTpi", 1000, "Bearer"),
        (f"Basic {SECRET}", 1000, "Bearer"),
        ("Bearer wrong", 1001, 'Bearer error="invalid_token"'),
        (f"Bearer {SECRET} {SECRET}", 1001, 'Bearer error="invalid_token"'),
    ],
)
async def test_without_a_good_token_nothing_is_read_or_done(
    authorization: str | None, code: int, challenge: str, tmp_path: Path
) -> None:
    async with running_server(tmp_path) as server, bare(server) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        # The body is not even looked at.
        for method, path in (("GET", "/users/me"), ("POST", "/channels"), ("POST", "/announcements")):
            content = b"no json" if method == "POST" else None
            refused = await client.request(method, API + path, headers=headers, content=content)
            assert is_problem(refused, 401, code), path
            assert refused.headers["www-authenticate"] == challenge
            assert SECRET not in refused.text


async def test_a_secret_need_not_be_ascii(tmp_path: Path) -> None:
    secret = "비밀은-열여섯-글자보다-길어야-한다"
    config = livechat.Config(port=0, udp_port=0, data_dir=tmp_path, secret=secret)
    async with livechat.open_server(config) as server, bare(server) as client:
        headers = {b"Authorization": f"Bearer {secret}".encode(), b"X-User-Id": b"alice"}
        assert (await client.get(f"{API}/users/me", headers=headers)).status_code == 200


async def test_a_token_in_the_query_is_none(tmp_path: Path) -> None:
    """It would end up in the logs of every proxy; only browsers' WebSockets have no other way."""
    async with running_server(tmp_path) as server, bare(server) as client:
        refused = await client.get(f"{API}/users/me", params={"token": SECRET, "user_id": "alice"})
        assert is_problem(refused, 401, 1000)
        assert refused.headers["content-type"] == PROBLEM


# --- the machine's own operator ----------------------------------------------------------------------------


def request(client: str = "127.0.0.1", **headers: str) -> Request:
    sent = {"host": "127.0.0.1:8080", **headers}
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in sent.items()]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": pairs, "client": (client, 1)})


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "127.0.0.1", "localhost", "localhost:80", "[::1]:8080"])
def test_a_program_on_this_machine_is_local(host: str) -> None:
    assert is_local(request(host=host))
    assert is_local(request("::1", host=host))
    assert is_local(request("::ffff:127.0.0.1", host=host))
    assert is_local(request(host=host, sec_fetch_site="none"))


@pytest.mark.parametrize(
    "asked",
    [
        request("192.0.2.1"),
        request(host="chat.example"),
        request(host="127.0.0.1.chat.example"),
        request(host="localhost.chat.example:8080"),
        request(host=""),
        request(host="[::1"),
        request(x_forwarded_for="192.0.2.1"),
        request(forwarded="for=192.0.2.1"),
        request(x_real_ip="192.0.2.1"),
        request(via="1.1 proxy"),
        request(origin="https://chat.example"),
        request(sec_fetch_site="cross-site"),
        request(sec_fetch_site="same-site"),
    ],
    ids=lambda asked: str(dict(asked.headers)),
)
def test_what_came_by_a_proxy_or_a_page_is_not_local(asked: Request) -> None:
    assert not is_local(asked)


def test_a_proxy_on_this_machine_is_not_local_whatever_it_leaves_out() -> None:
    asked = request(host="127.0.0.1:8080")
    assert not is_local(asked, ("127.0.0.1",))
    assert not is_local(asked, ("10.0.0.0/8", "127.0.0.0/8"))
    assert is_local(asked, ("10.0.0.0/8", "::1"))


@pytest.mark.parametrize("path", ["/api/v1/admin/status", "/metrics"])
async def test_behind_a_proxy_on_this_machine_operators_need_a_token(path: str, tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert (await get(server, path)).status == 200
    async with running_server(tmp_path, gateway={"trusted_proxies": ("127.0.0.1",)}) as server:
        assert (await get(server, path)).status == 401
        assert (await get(server, path, authorization=f"Bearer {SECRET}")).status == 200

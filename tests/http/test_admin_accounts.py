"""The built-in accounts as operators see them over HTTP, and as embedders do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

import livechat
from livechat.accounts import records
from livechat.protocol.types import UserId
from livechat.store.base import perform
from livechat.store.side import Tables, Transact
from tests.support.accounts import NEW_PASSWORD, PASSWORD
from tests.support.api import calling, is_problem
from tests.support.client import CREATE, identified
from tests.support.logins import at, bearer, log_in, refresh, register, serving
from tests.support.server import running_server

BOB = {"user_id": "bob", "password": PASSWORD}


async def test_an_operator_makes_lists_changes_and_removes_accounts(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, calling(server, None) as operator, at(server) as client:
        made = await operator.post("/admin/accounts", json=BOB | {"display_name": "Bob", "scopes": ["admin"]})
        assert made.status_code == 201
        view = made.json()
        assert view == {
            "user_id": "bob",
            "display_name": "Bob",
            "scopes": ["admin"],
            "created_at": view["created_at"],
        }
        assert (await operator.get("/admin/accounts")).json() == {"accounts": [view]}
        tokens = await log_in(client, "bob")
        async with calling(server, None, token=tokens["access_token"]) as bob:
            assert (await bob.get("/admin/accounts")).status_code == 200
        async with identified(server, "bob", token=tokens["access_token"]) as bob_here:
            changed = await operator.put("/admin/accounts/BOB/password", json={"password": NEW_PASSWORD})
            assert (changed.status_code, changed.json()) == (200, {"user_id": "bob"})
            assert await bob_here.closed() == 4502
        assert is_problem(await refresh(client, tokens), 401, 1001)
        tokens = await log_in(client, "bob", password=NEW_PASSWORD)
        async with identified(server, "bob", token=tokens["access_token"]) as bob_here:
            removed = await operator.delete("/admin/accounts/bob")
            assert (removed.status_code, removed.json()) == (200, {"user_id": "bob"})
            assert await bob_here.closed() == 4502
        assert is_problem(await refresh(client, tokens), 401, 1001)
        assert (await operator.get("/admin/accounts")).json() == {"accounts": []}


async def test_pages(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, calling(server, None) as operator:
        for index in range(5):
            await server.accounts.create(f"user{index}", PASSWORD)
        seen: list[str] = []
        after = ""
        while True:
            page = (await operator.get("/admin/accounts", params={"limit": 2, "after": after})).json()
            seen += [each["user_id"] for each in page["accounts"]]
            if "next" not in page:
                break
            after = page["next"]
        assert seen == [f"user{index}" for index in range(5)]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/admin/accounts", None),
        ("POST", "/admin/accounts", BOB),
        ("PUT", "/admin/accounts/ann/password", {"password": NEW_PASSWORD}),
        ("DELETE", "/admin/accounts/ann", None),
    ],
)
async def test_only_operators_may(tmp_path: Path, method: str, path: str, body: Any) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        tokens = await register(client)
        assert is_problem(await client.request(method, path, json=body), 401, 1000)
        refused = await client.request(method, path, json=body, headers=bearer(tokens))
        assert is_problem(refused, 403, 1007)
        await log_in(client)
        assert len(await server.accounts.list()) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "", BOB | {"user_id": "ANN"}, 409, "user_id: taken"),
        ("POST", "", BOB | {"user_id": "a b"}, 422, "user_id: expected"),
        ("POST", "", BOB | {"password": "short"}, 422, "password: expected"),
        ("POST", "", BOB | {"scopes": []}, 422, "scopes: expected"),
        ("POST", "", BOB | {"scopes": ["root"]}, 422, "scopes"),
        ("POST", "", BOB | {"display_name": "x" * 101}, 422, "display_name: expected"),
        ("PUT", "/nobody/password", {"password": NEW_PASSWORD}, 404, "user_id: there is no such account"),
        ("PUT", "/ann/password", {"password": "short"}, 422, "password: expected"),
        ("PUT", "/ann/password", {}, 422, "password: required"),
        ("PUT", "/a%20b/password", {"password": NEW_PASSWORD}, 422, "user_id: expected"),
        ("DELETE", "/nobody", None, 404, "user_id: there is no such account"),
        ("GET", "?limit=0", None, 422, "limit: expected 1 to 1000"),
        ("GET", "?limit=1001", None, 422, "limit: expected 1 to 1000"),
    ],
)
async def test_what_is_wrong_is_named(
    tmp_path: Path, method: str, path: str, body: Any, status: int, detail: str
) -> None:
    async with serving(tmp_path) as server, calling(server, None) as operator:
        await server.accounts.create("ann", PASSWORD)
        assert is_problem(
            await operator.request(method, f"/admin/accounts{path}", json=body), status, 1004, detail
        )
        assert [account.user_id for account in await server.accounts.list()] == ["ann"]


async def test_the_largest_page_has_a_next_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, calling(server, None) as operator:
        account = await server.accounts.create("ann", PASSWORD)

        def fill(tables: Tables) -> int:
            for index in range(1000):
                user_id = UserId(f"user{index:04}")
                records.insert(attrs.evolve(account, user_id=user_id, same_as=user_id))(tables)
            return 1000

        await perform(server._node.store, Transact(fill))
        page = (await operator.get("/admin/accounts", params={"limit": 1000})).json()
        assert (len(page["accounts"]), page["next"]) == (1000, "user0998")
        page = (await operator.get("/admin/accounts", params={"limit": 1000, "after": page["next"]})).json()
        assert [each["user_id"] for each in page["accounts"]] == ["user0999"]
        assert "next" not in page


async def test_a_server_without_accounts_has_none_to_show(tmp_path: Path) -> None:
    auth = livechat.AuthSettings(mode="shared-secret")
    async with running_server(tmp_path, auth=auth) as server, calling(server, None) as operator:
        for method, path, body in (
            ("GET", "", None),
            ("POST", "", BOB),
            ("PUT", "/bob/password", {"password": NEW_PASSWORD}),
            ("DELETE", "/bob", None),
        ):
            response = await operator.request(method, f"/admin/accounts{path}", json=body)
            assert is_problem(response, 404, 1003, "path: this server has no accounts")


async def test_an_embedder_does_the_same(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, at(server) as client:
        account = await server.accounts.create("ann", PASSWORD, display_name="Ann")
        assert isinstance(account, livechat.Account)
        assert await server.accounts.find("ANN") == account
        tokens = await log_in(client)
        async with identified(server, "ann", token=tokens["access_token"]) as ann:
            await ann.ack(CREATE, {"channel_id": "den"})
            await server.accounts.set_password("ann", NEW_PASSWORD)
            assert await ann.closed() == 4502
        assert await server.accounts.delete("ann") == "ann"
        assert await server.accounts.find("ann") is None

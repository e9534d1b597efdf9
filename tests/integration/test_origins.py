"""Which pages may open a WebSocket, where the operator says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

import livechat
from livechat.http.settings import HttpSettings
from tests.support.client import LIST, connected
from tests.support.server import SECRET, running_server

OURS = "https://chat.example"
CONFIGURED: dict[str, dict[str, Any]] = {
    "gateway": {"gateway": {"allowed_origins": (OURS,)}},
    "cors": {"http": HttpSettings(cors_origins=(OURS,))},
}


async def opens(server: livechat.Server, *, query: str = "", **headers: str) -> bool:
    """Tell whether an upgrade with these headers is taken."""
    try:
        async with connected(server, query=query, headers=headers):
            return True
    except InvalidStatus as exc:
        return exc.response.status_code != 403


@pytest.mark.parametrize("where", CONFIGURED)
async def test_pages_of_foreign_origins_are_refused_with_or_without_a_token(where: str, tmp_path: Path) -> None:
    token = f"?token={SECRET}&user_id=alice"
    async with running_server(tmp_path, **CONFIGURED[where]) as server:
        for query in ("", token):
            for foreign in (
                "https://evil.example",
                "http://chat.example",
                f"{OURS}:444",
                f"{OURS}.evil",
                "null",
                "",
            ):
                assert not await opens(server, query=query, Origin=foreign), foreign
            assert await opens(server, query=query, Origin=OURS)
            # A program that is no browser.
            assert await opens(server, query=query)


async def test_a_page_may_reach_the_server_that_it_came_from(tmp_path: Path) -> None:
    async with running_server(tmp_path, **CONFIGURED["gateway"]) as server:
        host, port = server.addresses.tcp[0]
        assert await opens(server, Origin=f"http://{host}:{port}")
        assert await opens(server, Origin=f"https://{host}:{port}")
        assert not await opens(server, Origin=f"http://{host}:{port + 1}")
        assert not await opens(server, Origin=f"http://{host}")


async def test_without_origins_all_pages_may_but_none_by_cookie(tmp_path: Path) -> None:
    headers = {"Origin": "https://any.example", "Cookie": f"livechat_token={SECRET}"}
    async with (
        running_server(tmp_path) as server,
        connected(server, query="?user_id=alice", headers=headers) as client,
    ):
        assert (await client.refused(LIST))["code"] == 1000


async def test_all_origins_may_be_allowed_and_still_only_named_ones_by_cookie(tmp_path: Path) -> None:
    anywhere = HttpSettings(cors_origins=("*",))
    headers = {"Origin": "https://any.example", "Cookie": f"livechat_token={SECRET}"}
    async with running_server(tmp_path, http=anywhere, **CONFIGURED["gateway"]) as server:
        async with connected(server, query="?user_id=alice", headers=headers) as client:
            assert (await client.refused(LIST))["code"] == 1000
        async with connected(server, query="?user_id=alice", headers={**headers, "Origin": OURS}) as client:
            assert (await client.expect(4))["user_id"] == "alice"

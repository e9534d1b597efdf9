"""A server on each of the stores that its configuration can name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import livechat
from tests.support.client import CREATE, INFO, JOIN, MESSAGE, MESSAGE_EVENT, identified
from tests.support.postgres import PostgresServer
from tests.support.process import serving
from tests.support.server import running_server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store is that outlives its server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'elsewhere' / 'chat.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


async def test_what_was_said_is_there_after_a_restart(url: str, tmp_path: Path) -> None:
    store = livechat.StoreSettings(url=url)
    async with (
        running_server(tmp_path / "data", store=store) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, {"channel_id": "x"})
        for client in (alice, bob):
            await client.ack(JOIN, {"channel_id": "x"})
        first = await alice.say("x", "hello", nonce="n1")
        assert (await bob.expect(MESSAGE_EVENT))["content"] == "hello"
    async with running_server(tmp_path / "data", store=store) as server, identified(server, "alice") as alice:
        assert (await alice.ack(INFO, {"channel_id": "x"}))["last_seq"] == first["seq"]
        again = await alice.ack(MESSAGE, {"channel_id": "x", "content": "hello", "nonce": "n1"}, id=1)
        assert (again["seq"], again["duplicate"]) == (first["seq"], True)


async def test_in_memory_it_is_said_and_gone(tmp_path: Path) -> None:
    store = livechat.StoreSettings(url="memory:")
    async with running_server(tmp_path, store=store) as server, identified(server, "alice") as alice:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        assert (await alice.say("x", "hello"))["seq"] == 2
        assert (await alice.expect(MESSAGE_EVENT))["content"] == "hello"
        assert server.statistics()["store"]["failures"] == 0
    async with running_server(tmp_path, store=store) as server, identified(server, "alice") as alice:
        assert (await alice.refused(JOIN, {"channel_id": "x"}))["code"] == 2000


async def test_secret_and_key_are_kept_in_the_data_folder_whatever_the_store(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with serving(data_dir, "--store-url", "memory:"):
        secret = (data_dir / "secret").read_text()
        assert {file.name for file in data_dir.iterdir()} == {"secret", "token-key"}
    async with serving(data_dir, env={"LIVECHAT_STORE_URL": "memory:"}):
        assert (data_dir / "secret").read_text() == secret

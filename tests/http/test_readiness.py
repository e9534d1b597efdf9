"""`/readyz` over real sockets: what it says, and that the probe leaves nothing behind."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import livechat
from livechat.store.side import Transact
from tests.support.client import HEARTBEAT, HEARTBEAT_ACK, identified
from tests.support.faulty_store import server_with_door
from tests.support.operate import get
from tests.support.server import make_config, running_server


async def test_a_running_server_is_ready_and_the_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        response = await get(server, "/readyz")
        assert response.status == 200
        assert response.headers["cache-control"] == "no-store"
        assert json.loads(response.body) == {"status": "ready", "checks": {"store": "ok", "backplane": "ok"}}
        # The server has work of its own in the store, but less than a transaction for each of these.
        before = server.statistics()["store"]["batches"]
        for _ in range(50):
            assert (await get(server, "/readyz")).status == 200
        assert server.statistics()["store"]["batches"] < before + 50
    assert rows(tmp_path) == 0


def rows(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "livechat.db")) as database:
        return int(database.execute("SELECT count(*) FROM writer").fetchone()[0])


async def test_it_says_that_the_store_does_not_answer_while_the_server_lives(tmp_path: Path) -> None:
    async with server_with_door(tmp_path) as (server, door), identified(server, "alice") as alice:
        door.close_for(Transact)
        response = await get(server, "/readyz")
        assert response.status == 503
        assert json.loads(response.body) == {
            "status": "not ready",
            "checks": {"store": "no answer in time", "backplane": "ok"},
        }
        assert (await get(server, "/healthz")).status == 200
        await alice.send(HEARTBEAT)
        await alice.expect(HEARTBEAT_ACK)


async def test_a_draining_server_is_not_ready(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        server._node.draining = True
        response = await get(server, "/readyz")
        assert response.status == 503
        assert json.loads(response.body) == {"status": "draining"}
        assert (await get(server, "/healthz")).status == 200


async def test_the_probe_is_there_with_any_name_of_a_node(tmp_path: Path) -> None:
    config = make_config(tmp_path, node_id="x" * 64)
    async with livechat.open_server(config) as server:
        assert (await get(server, "/readyz")).status == 200

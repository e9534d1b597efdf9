"""The store fails under a running server: senders are told, nothing is fanned out, and it heals by itself."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

import livechat
from livechat.error import NotPersisted
from livechat.store.base import Store
from livechat.store.sqlite import DATABASE_NAME, open_sqlite_store
from tests.support.api import calling, is_problem
from tests.support.client import (
    ANNOUNCEMENT,
    CHANNEL_EVENT,
    CREATE,
    ERROR,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IDENTIFY,
    INFO,
    JOIN,
    LEAVE,
    MESSAGE,
    MESSAGE_EVENT,
    READY,
    Client,
    connected,
    identified,
)
from tests.support.server import SECRET, counted, make_config, running_server, store_at_rest, wait_until

STORE_TIMEOUT_MS = 300
ROLLBACK = {"code": 3005, "action": "ROLLBACK", "retryable": True}


@contextmanager
def database_locked(data_dir: Path) -> Generator[None]:
    """Hold the write lock as another process would."""
    with closing(sqlite3.connect(data_dir / DATABASE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def pair_in_a_channel(server: livechat.Server) -> AsyncGenerator[tuple[Client, Client]]:
    """Alice and Bob, both in the channel `x`; its last seq is 2."""
    async with identified(server, "alice") as alice, identified(server, "bob") as bob:
        await alice.ack(CREATE, {"channel_id": "x"})
        await alice.ack(JOIN, {"channel_id": "x"})
        await bob.ack(JOIN, {"channel_id": "x"})
        await alice.expect(CHANNEL_EVENT)
        yield alice, bob


async def assert_healed(alice: Client, bob: Client) -> None:
    """The next message goes through, and follows the last one without a hole."""
    assert (await alice.say("x", "healed"))["seq"] == 3
    assert (await bob.expect(MESSAGE_EVENT))["seq"] == 3


async def test_a_locked_database_rolls_back_and_heals(tmp_path: Path) -> None:
    store = livechat.StoreSettings(timeout_ms=STORE_TIMEOUT_MS)
    async with running_server(tmp_path, store=store) as server, pair_in_a_channel(server) as (alice, bob):
        with database_locked(tmp_path):
            # Several at once: those in the transaction's batch and those that wait behind it.
            for index in range(5):
                await alice.send(MESSAGE, {"channel_id": "x", "content": "lost", "nonce": f"n{index}"})
            await bob.send(LEAVE, {"channel_id": "x"}, id="leave")
            # A heartbeat does not wait for the store, not even behind a request that does.
            assert (await bob.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
            for index in range(5):
                error = await alice.expect(ERROR)
                assert error.items() >= {**ROLLBACK, "nonce": f"n{index}", "op": MESSAGE}.items()
            assert (await bob.expect(ERROR)).items() >= {**ROLLBACK, "op": LEAVE}.items()
            # What needs no write goes on.
            assert (await bob.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
            assert (await bob.ack(INFO, {"channel_id": "x"}))["last_seq"] == 2
            async with connected(server) as carol:
                reply = await carol.request(IDENTIFY, {"token": SECRET, "user_id": "carol"})
                assert reply["op"] == READY
        await bob.expect_silence()
        await assert_healed(alice, bob)


class FullDisk(sqlite3.Connection):
    """A database that may not grow while `full` is set."""

    full: ClassVar[threading.Event]

    def execute(self, sql: str, *args: object) -> sqlite3.Cursor:
        if sql.startswith("BEGIN IMMEDIATE"):
            (pages,) = super().execute("PRAGMA page_count").fetchone()
            super().execute(f"PRAGMA max_page_count = {pages if self.full.is_set() else 2**30}")
        return super().execute(sql, *args)  # type: ignore[arg-type]


class SlowCommit(sqlite3.Connection):
    """A database whose COMMIT waits until it is let go."""

    let_go: ClassVar[threading.Event]

    def commit(self) -> None:
        self.let_go.wait(10)
        super().commit()


@asynccontextmanager
async def server_on(
    data_dir: Path, factory: type[sqlite3.Connection], *, timeout_s: float = STORE_TIMEOUT_MS / 1000
) -> AsyncGenerator[livechat.Server]:
    """A server whose writer connection is of the given class, once its store is at rest."""

    def open_store(config: livechat.Config) -> AbstractAsyncContextManager[Store]:
        return open_sqlite_store(config.data_dir, timeout_s=timeout_s, connection_factory=factory)

    async with livechat.open_server(make_config(data_dir), open_store=open_store) as server:
        await store_at_rest(server)
        yield server


async def test_a_full_disk_rolls_back_and_heals(tmp_path: Path) -> None:
    FullDisk.full = threading.Event()
    async with server_on(tmp_path, FullDisk) as server, pair_in_a_channel(server) as (alice, bob):
        FullDisk.full.set()
        refused = 0
        # Pages that are there already are filled first, so some still fit.
        while refused < 3:
            reply = await alice.request(MESSAGE, {"channel_id": "x", "content": "y" * 2000}, id=1)
            if reply["op"] == ERROR:
                assert reply["d"].items() >= ROLLBACK.items()
                refused += 1
        last_seq = (await bob.ack(INFO, {"channel_id": "x"}))["last_seq"]
        FullDisk.full.clear()
        assert (await alice.say("x", "healed"))["seq"] == last_seq + 1
        seqs = [(await bob.expect(MESSAGE_EVENT))["seq"] for _ in range(last_seq - 1)]
        assert seqs == list(range(3, last_seq + 2))


async def test_a_commit_that_ends_after_its_deadline_is_in_doubt_and_then_fanned_out(tmp_path: Path) -> None:
    SlowCommit.let_go = threading.Event()
    SlowCommit.let_go.set()
    async with server_on(tmp_path, SlowCommit) as server, pair_in_a_channel(server) as (alice, bob):
        SlowCommit.let_go.clear()
        d = {"channel_id": "x", "content": "late", "nonce": "n"}
        await alice.send(MESSAGE, d, id=1)
        # The COMMIT is running: nobody can know its outcome, so the client is told to repeat the nonce.
        error = await alice.expect(ERROR)
        assert error.items() >= {"code": 3005, "action": "RETRY", "nonce": "n"}.items()
        await bob.expect_silence()
        # A write that waits behind it has not begun: it is withdrawn for sure.
        withdrawn = await bob.refused(MESSAGE, {"channel_id": "x", "content": "behind"}, id=2)
        assert withdrawn.items() >= ROLLBACK.items()
        SlowCommit.let_go.set()
        # It proves committed: everybody gets it, the author too, and the repeated nonce finds it.
        assert (await bob.expect(MESSAGE_EVENT))["content"] == "late"
        assert (await alice.expect(MESSAGE_EVENT))["seq"] == 3
        assert (await alice.ack(MESSAGE, d, id=3))["duplicate"] is True
        assert (await alice.say("x", "next"))["seq"] == 4


async def test_a_join_in_doubt_is_told_as_an_event_once_it_proves_committed(tmp_path: Path) -> None:
    SlowCommit.let_go = threading.Event()
    SlowCommit.let_go.set()
    async with (
        server_on(tmp_path, SlowCommit) as server,
        pair_in_a_channel(server) as (alice, bob),
        identified(server, "carol") as carol,
    ):
        SlowCommit.let_go.clear()
        refused = await carol.refused(JOIN, {"channel_id": "x", "ssrc": 5})
        assert (refused["code"], refused["action"]) == (3005, "RETRY")
        SlowCommit.let_go.set()
        for client in (alice, bob, carol):
            event = await client.expect(CHANNEL_EVENT)
            assert (event["event"], event["member"], event["seq"]) == (
                "join",
                {"user_id": "carol", "ssrc": None},
                3,
            )
        # No voice was begun whose keys nobody was told; the repeated JOIN begins it.
        assert server.statistics()["media"]["peers"] == 0
        assert (await carol.ack(JOIN, {"channel_id": "x", "ssrc": 5}))["media"]["ssrc"] == 5
        assert (await carol.ack(LEAVE, {"channel_id": "x"})) == {"channel_id": "x"}


async def test_an_announcement_in_doubt_is_told_once_it_proves_committed(tmp_path: Path) -> None:
    SlowCommit.let_go = threading.Event()
    SlowCommit.let_go.set()
    async with server_on(tmp_path, SlowCommit) as server, identified(server, "alice") as alice:
        SlowCommit.let_go.clear()
        with pytest.raises(NotPersisted) as refused:
            await server.announce("News")
        assert refused.value.action == "RETRY"
        await alice.expect_silence()
        SlowCommit.let_go.set()
        assert (await alice.expect(ANNOUNCEMENT))["title"] == "News"


async def test_a_store_that_does_not_answer_at_start_is_the_operators_to_mend(tmp_path: Path) -> None:
    async with running_server(tmp_path):
        pass
    store = livechat.StoreSettings(timeout_ms=STORE_TIMEOUT_MS)
    with database_locked(tmp_path), pytest.raises(livechat.ConfigError, match=r"^[^\n]+$"):
        async with running_server(tmp_path, store=store):
            pass


async def test_who_is_coming_in_keeps_a_transient_membership_when_the_old_session_ends(tmp_path: Path) -> None:
    SlowCommit.let_go = threading.Event()
    SlowCommit.let_go.set()
    async with (
        server_on(tmp_path, SlowCommit, timeout_s=10.0) as server,
        identified(server, "witness") as witness,
        connected(server) as next_one,
    ):
        await witness.ack(CREATE, {"channel_id": "radio", "freq": 1})
        await witness.ack(JOIN, {"channel_id": "radio"})
        async with identified(server, "alice") as alice:
            await alice.ack(JOIN, {"channel_id": "radio"})
            await witness.expect(CHANNEL_EVENT)
            # The commit holds the store up, so that the IDENTIFY behind it waits while the old session ends.
            SlowCommit.let_go.clear()
            await witness.send(MESSAGE, {"channel_id": "radio", "content": "hold"})
            await next_one.send(IDENTIFY, {"token": SECRET, "user_id": "alice"})
            await wait_until(lambda: server.statistics()["store"]["queue_depth"] == 1)
        await wait_until(lambda: counted(server)["sessions"] == 1)
        SlowCommit.let_go.set()
        ready = await next_one.expect(READY)
        assert [channel["channel_id"] for channel in ready["channels"]] == ["radio"]
        assert (await witness.expect(MESSAGE_EVENT))["content"] == "hold"
        assert (await next_one.say("radio", "still a member"))["seq"] == 4
        assert (await witness.expect(MESSAGE_EVENT))["seq"] == 4


async def test_a_message_of_the_api_in_doubt_is_told_once_it_proves_committed(tmp_path: Path) -> None:
    SlowCommit.let_go = threading.Event()
    SlowCommit.let_go.set()
    async with (
        server_on(tmp_path, SlowCommit) as server,
        pair_in_a_channel(server) as (alice, bob),
        calling(server) as poster,
    ):
        SlowCommit.let_go.clear()
        body = {"content": "late", "nonce": "n"}
        refused = await poster.post("/channels/x/messages", json=body)
        assert is_problem(refused, 503, 3005)
        assert refused.json()["action"] == "RETRY"
        await bob.expect_silence()
        SlowCommit.let_go.set()
        for client in (alice, bob):
            assert (await client.expect(MESSAGE_EVENT))["content"] == "late"
        repeated = await poster.post("/channels/x/messages", json=body)
        assert (repeated.status_code, repeated.json()["duplicate"]) == (200, True)

"""Another process holds the database's lock: what needs no write goes on, writes are rolled back, and it heals."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

import livechat
from livechat.handlers import lifecycle
from tests.support.client import (
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    FOCUS,
    HEARTBEAT,
    HEARTBEAT_ACK,
    HISTORY,
    INFO,
    JOIN,
    LEAVE,
    LIST,
    MEMBER_ADD,
    MEMBER_LIST,
    MEMBER_REMOVE,
    MESSAGE,
    MESSAGE_EVENT,
    PRESENCE_UPDATE,
    READ,
    SETTINGS_SET,
    SUBSCRIBE,
    SYNC,
    TYPING,
    TYPING_EVENT,
    UNSUBSCRIBE,
    UPDATE,
    Client,
    connected,
    identified,
)
from tests.support.resume import park, resumed, seqs
from tests.support.server import counted, running_server, store_at_rest, wait_until
from tests.support.store_sqlite import Rival

X = {"channel_id": "x"}


@attrs.define
class Stage:
    """Alice and Bob in the channel `x`, with one message (seq 3) that Bob has not read; the store is away."""

    server: livechat.Server
    alice: Client
    bob: Client
    rival: Rival


@asynccontextmanager
async def store_away(data_dir: Path) -> AsyncGenerator[Stage]:
    store = livechat.StoreSettings(timeout_ms=200)
    async with (
        running_server(data_dir, store=store) as server,
        identified(server, "alice") as alice,
        identified(server, "bob") as bob,
    ):
        await alice.ack(CREATE, X)
        await alice.ack(JOIN, X)
        await bob.ack(JOIN, X)
        await alice.expect(CHANNEL_EVENT)
        await alice.say("x", "three")
        await alice.expect(MESSAGE_EVENT)
        await bob.expect(MESSAGE_EVENT)
        await store_at_rest(server)
        rival = Rival(data_dir)
        rival.lock()
        try:
            yield Stage(server, alice, bob, rival)
        finally:
            rival.close()


async def test_what_needs_no_write_goes_on(tmp_path: Path) -> None:
    async with store_away(tmp_path) as stage:
        alice, bob = stage.alice, stage.bob
        assert await alice.ack(FOCUS, X) == X
        await bob.ack(TYPING, {**X, "typing": True}, id=1)
        assert (await alice.expect(TYPING_EVENT))["typing"] is True
        assert (await bob.request(HEARTBEAT))["op"] == HEARTBEAT_ACK
        await bob.ack(UNSUBSCRIBE, X)
        assert (await bob.ack(SUBSCRIBE, X))["last_seq"] == 3
        assert [entry["seq"] for entry in (await bob.ack(HISTORY, X))["messages"]] == [1, 2, 3]
        synced = await bob.ack(SYNC, {"channels": {"x": {"after": 2}}})
        assert synced["channels"]["x"]["replayed"] == 1
        assert (await bob.expect(MESSAGE_EVENT))["seq"] == 3
        assert (await bob.ack(INFO, X))["last_seq"] == 3
        assert len((await bob.ack(MEMBER_LIST, X))["members"]) == 2
        assert len((await bob.ack(LIST))["channels"]) == 1
        assert await bob.ack(PRESENCE_UPDATE, {"status": "AWAY"}) == {"status": "AWAY"}
        async with identified(stage.server, "bob") as bob_too:
            assert bob_too.ready["channels"][0]["unread"] == 1


async def test_a_session_is_resumed_without_a_write(tmp_path: Path) -> None:
    async with store_away(tmp_path) as stage:
        session_id = await park(stage.server, stage.bob)
        async with connected(stage.server) as bob:
            before, done = await resumed(bob, session_id, channels={"x": 1})
            assert seqs(before, "x") == [2, 3]
            assert done["channels"]["x"]["unread"] == 1


WRITES: list[tuple[str, int, dict[str, Any]]] = [
    ("create", CREATE, {"channel_id": "y"}),
    ("update", UPDATE, {**X, "channel_name": "new"}),
    ("delete", DELETE, X),
    ("leave", LEAVE, X),
    ("message", MESSAGE, {**X, "content": "lost", "nonce": "n"}),
    ("read", READ, {**X, "seq": 3}),
    ("add", MEMBER_ADD, {**X, "user_id": "carol"}),
    ("role", MEMBER_ADD, {**X, "user_id": "bob", "role": "moderator"}),
    ("remove", MEMBER_REMOVE, {**X, "user_id": "bob"}),
    ("ban", MEMBER_REMOVE, {**X, "user_id": "carol", "ban": True}),
    ("settings", SETTINGS_SET, {"settings": {"a": 1}}),
]


async def test_every_write_is_rolled_back_and_told_to_nobody_and_then_it_heals(tmp_path: Path) -> None:
    async with store_away(tmp_path) as stage:
        alice, bob = stage.alice, stage.bob
        for name, op, d in WRITES:
            await (bob if name == "read" else alice).send(op, d, id=name)
        refused = {}
        for _ in WRITES[:-1]:
            reply = await alice.receive()
            refused[reply["id"]] = reply["d"]
        reply = await bob.receive()
        refused[reply["id"]] = reply["d"]
        assert refused.keys() == {name for name, *_ in WRITES}
        for name, op, d in WRITES:
            error = refused[name]
            assert (error["code"], error["action"], error["retryable"], error["op"]) == (
                3005,
                "ROLLBACK",
                True,
                op,
            )
            assert error.get("nonce") == d.get("nonce")
        stage.rival.unlock()
        # All is as it was, for the hubs as for the store; the same requests go through now.
        async with identified(stage.server, "alice") as again:
            (state,) = again.ready["channels"]
            assert (state["last_seq"], state["member_count"], again.ready["settings"]) == (3, 2, {})
        assert (await alice.say("x", "lost", nonce="n")).items() >= {"seq": 4, "duplicate": False}.items()
        assert (await bob.expect(MESSAGE_EVENT))["seq"] == 4
        await alice.expect(MESSAGE_EVENT)
        assert (await bob.ack(READ, {**X, "seq": 4}))["unread"] == 0
        for name, op, d in WRITES:
            if name not in ("message", "read", "leave", "delete"):
                await alice.ack(op, d, id=name)


async def test_a_transient_membership_ends_once_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "LEAVE_RETRY_S", 0.05)
    async with store_away(tmp_path) as stage:
        stage.rival.unlock()
        async with identified(stage.server, "carol") as carol:
            await carol.ack(CREATE, {"channel_id": "radio", "freq": 1})
            await carol.ack(JOIN, {"channel_id": "radio"})
            await stage.alice.ack(JOIN, {"channel_id": "radio"})
            await carol.expect(CHANNEL_EVENT)
            stage.rival.lock()
        # The session has ended; the leave that this causes is tried again until it is written.
        failures = stage.server.statistics()["store"]["failures"]
        await wait_until(lambda: stage.server.statistics()["store"]["failures"] >= failures + 3)
        assert counted(stage.server)["sessions"] == 2
        await stage.alice.expect_silence()
        stage.rival.unlock()
        event = await stage.alice.expect(CHANNEL_EVENT)
        assert (event["event"], event["member"]["user_id"], event["cause"]) == ("leave", "carol", "disconnect")
        assert await stage.alice.ack(MEMBER_LIST, {"channel_id": "radio"})

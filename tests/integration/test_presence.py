"""Presence over real connections: who is told what of whom, and what nobody is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import livechat
from tests.support.client import (
    CREATE,
    HEARTBEAT,
    HEARTBEAT_ACK,
    IDENTIFY,
    JOIN,
    LEAVE,
    MEMBER_ADD,
    PRESENCE_EVENT,
    PRESENCE_UPDATE,
    READY,
    UNSUBSCRIBE,
    Client,
    connected,
    identified,
)
from tests.support.resume import drop, park, resumed
from tests.support.server import SECRET, running_server, wait_until

FOREVER_MS = 3_600_000


def quick(*, grace_ms: int = 0) -> livechat.ChatLimits:
    """Limits with which changes are told at once."""
    return livechat.ChatLimits(presence_grace_ms=grace_ms, presence_interval_ms=0)


@asynccontextmanager
async def lobby(data_dir: Path, *user_ids: str, **overrides: Any) -> AsyncGenerator[livechat.Server]:
    """A server with a channel `lobby` that these users are members of; none was ever connected."""
    async with running_server(data_dir, **{"chat": quick(), **overrides}) as server:
        async with identified(server, "owner") as owner:
            await owner.ack(CREATE, {"channel_id": "lobby"})
            for user_id in user_ids:
                await owner.ack(MEMBER_ADD, {"channel_id": "lobby", "user_id": user_id})
        yield server


@asynccontextmanager
async def witness(server: livechat.Server, user_id: str = "witness", **options: Any) -> AsyncGenerator[Client]:
    """A client that reads PRESENCE_EVENTs."""
    async with connected(server) as client:
        client.hears_presence = True
        credentials = {"token": SECRET, "user_id": user_id, **options}
        reply = await client.request(IDENTIFY, credentials)
        assert reply["op"] == READY, reply
        client.ready = reply["d"]
        yield client


async def shown(client: Client) -> tuple[str, str, str | None]:
    """Return the next thing a witness hears of somebody: (user, status, text)."""
    event = await client.expect(PRESENCE_EVENT)
    assert event["last_seen"] is None or isinstance(event["last_seen"], int)
    return event["user_id"], event["status"], event.get("text")


async def heard_until_marker(client: Client, marker: Client, user_id: str) -> list[tuple[str, str, str | None]]:
    """Have a marker show itself otherwise; return what the witness heard before: what was due is told by then."""
    await marker.ack(PRESENCE_UPDATE, {"status": "AWAY", "text": "marker"})
    heard = []
    while (event := await shown(client)) != (user_id, "AWAY", "marker"):
        heard.append(event)
    await marker.ack(PRESENCE_UPDATE, {"status": "ONLINE"})
    assert await shown(client) == (user_id, "ONLINE", None)
    return heard


async def test_coming_and_going_is_told_to_who_shares_a_channel_and_not_to_oneself(tmp_path: Path) -> None:
    async with lobby(tmp_path, "witness", "bob") as server, witness(server) as alice:
        assert alice.ready["presence"] == {}
        async with witness(server, "bob") as bob:
            assert bob.ready["presence"] == {"witness": "ONLINE"}
            assert await shown(alice) == ("bob", "ONLINE", None)
            await bob.expect_silence()
        assert await shown(alice) == ("bob", "OFFLINE", None)


@pytest.mark.parametrize("way", ["logout", "parked", "window over"])
async def test_who_is_gone_for_good_is_offline_whatever_way_the_connection_ended(way: str, tmp_path: Path) -> None:
    window_ms = 20 if way == "window over" else FOREVER_MS
    async with (
        lobby(
            tmp_path, "witness", "bob", chat=quick(grace_ms=50), gateway={"resume_window_ms": window_ms}
        ) as server,
        witness(server) as alice,
    ):
        async with identified(server, "bob") as bob:
            assert await shown(alice) == ("bob", "ONLINE", None)
            if way != "logout":
                await drop(bob)
        event = await alice.expect(PRESENCE_EVENT)
        assert (event["user_id"], event["status"]) == ("bob", "OFFLINE")
        assert isinstance(event["last_seen"], int)
        # Of who has gone and was told to have gone nothing is kept.
        await wait_until(lambda: not server._node.channels._gone)


async def test_who_comes_back_within_the_grace_was_never_away(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob", "marker", chat=quick(grace_ms=FOREVER_MS)) as server,
        witness(server) as alice,
        identified(server, "marker") as marker,
    ):
        assert await shown(alice) == ("marker", "ONLINE", None)
        async with identified(server, "bob") as bob:
            assert await shown(alice) == ("bob", "ONLINE", None)
            session_id = await park(server, bob)
        assert await heard_until_marker(alice, marker, "marker") == []
        # Who comes now sees no difference either.
        async with witness(server, "witness") as late:
            assert late.ready["presence"] == {"bob": "ONLINE", "marker": "ONLINE"}
        async with connected(server) as bob:
            await resumed(bob, session_id)
        async with identified(server, "bob"):
            assert await heard_until_marker(alice, marker, "marker") == []


async def test_what_a_user_chooses_to_show_is_told_and_acknowledged(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob") as server,
        witness(server) as alice,
        identified(server, "bob") as bob,
    ):
        assert await shown(alice) == ("bob", "ONLINE", None)
        for status, text in (("AWAY", "lunch"), ("AWAY", None), ("ONLINE", "안녕"), ("OFFLINE", None)):
            update = {"status": status} if text is None else {"status": status, "text": text}
            assert await bob.ack(PRESENCE_UPDATE, update) == {"status": status}
            assert await shown(alice) == ("bob", status, text)
        assert (await bob.refused(PRESENCE_UPDATE, {"status": "BUSY"}))["code"] == 1004
        assert (await bob.refused(PRESENCE_UPDATE, {"status": "AWAY", "text": "x" * 129}))["code"] == 1004


async def test_an_invisible_user_is_seen_by_nobody_until_it_shows_itself(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob", "marker") as server,
        witness(server) as alice,
        identified(server, "marker") as marker,
        connected(server) as bob,
    ):
        assert await shown(alice) == ("marker", "ONLINE", None)
        ready = await bob.request(IDENTIFY, {"token": SECRET, "user_id": "bob", "status": "OFFLINE"})
        assert ready["d"]["presence"] == {"marker": "ONLINE", "witness": "ONLINE"}
        assert await heard_until_marker(alice, marker, "marker") == []
        async with witness(server) as late:
            assert late.ready["presence"] == {"marker": "ONLINE"}
        await bob.ack(PRESENCE_UPDATE, {"status": "ONLINE"})
        assert await shown(alice) == ("bob", "ONLINE", None)


async def test_an_invisible_user_is_active_for_nobody_but_itself_unless_it_can_be_heard(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob") as server,
        identified(server, "witness") as alice,
        connected(server) as bob,
    ):
        await bob.request(IDENTIFY, {"token": SECRET, "user_id": "bob", "status": "OFFLINE"})

        async def active(client: Client, **voice: int) -> list[str]:
            joined = await client.ack(JOIN, {"channel_id": "lobby", **voice})
            return sorted(member["user_id"] for member in joined["active_members"])

        assert await active(bob) == ["bob", "witness"]
        assert await active(alice) == ["witness"]
        # Nor does a RESUME show it; but who does not listen is there all the same.
        await bob.ack(UNSUBSCRIBE, {"channel_id": "lobby"})
        session_id = await park(server, alice)
        async with connected(server) as alice:
            _, done = await resumed(alice, session_id)
            members = done["channels"]["lobby"]["active_members"]
            assert [member["user_id"] for member in members] == ["witness"]
            await bob.ack(PRESENCE_UPDATE, {"status": "AWAY"})
            assert await active(alice, ssrc=3) == ["bob", "witness"]
            await bob.ack(PRESENCE_UPDATE, {"status": "OFFLINE"})
            await bob.ack(JOIN, {"channel_id": "lobby", "ssrc": 5})
            assert await active(alice, ssrc=3) == ["bob", "witness"]


async def test_of_several_devices_the_most_present_one_is_shown(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob", "marker") as server,
        witness(server) as alice,
        identified(server, "marker") as marker,
        identified(server, "bob") as desk,
    ):
        assert {await shown(alice), await shown(alice)} == {("marker", "ONLINE", None), ("bob", "ONLINE", None)}
        async with identified(server, "bob") as phone:
            # Neither a second device that comes, nor one of two that goes away, changes anything.
            assert await phone.ack(PRESENCE_UPDATE, {"status": "AWAY"}) == {"status": "ONLINE"}
            assert await heard_until_marker(alice, marker, "marker") == []
            assert await desk.ack(PRESENCE_UPDATE, {"status": "OFFLINE"}) == {"status": "AWAY"}
            assert await shown(alice) == ("bob", "AWAY", None)
            assert await phone.ack(PRESENCE_UPDATE, {"status": "ONLINE"}) == {"status": "ONLINE"}
            assert await shown(alice) == ("bob", "ONLINE", None)
        # What is left is a device that hides.
        assert await shown(alice) == ("bob", "OFFLINE", None)


async def test_nobody_outside_a_shared_channel_hears(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "marker") as server,
        witness(server) as alice,
        identified(server, "marker") as marker,
    ):
        assert await shown(alice) == ("marker", "ONLINE", None)
        async with witness(server, "stranger") as stranger:
            assert stranger.ready["presence"] == {}
            await stranger.ack(PRESENCE_UPDATE, {"status": "AWAY"})
            await stranger.ack(CREATE, {"channel_id": "elsewhere"})
            await stranger.ack(JOIN, {"channel_id": "elsewhere"})
            assert await heard_until_marker(alice, marker, "marker") == []
            await stranger.expect_silence()
        assert await heard_until_marker(alice, marker, "marker") == []


async def test_who_left_the_shared_channel_hears_no_more(tmp_path: Path) -> None:
    async with (
        lobby(tmp_path, "witness", "bob") as server,
        witness(server) as alice,
        witness(server, "bob") as bob,
    ):
        assert await shown(alice) == ("bob", "ONLINE", None)
        await alice.ack(LEAVE, {"channel_id": "lobby"})
        assert (await bob.receive())["d"]["event"] == "leave"
        await bob.ack(PRESENCE_UPDATE, {"status": "AWAY"})
        await alice.ack(PRESENCE_UPDATE, {"status": "AWAY"})
        await alice.ack(JOIN, {"channel_id": "lobby"})
        assert (await bob.receive())["d"]["event"] == "join"
        await bob.ack(PRESENCE_UPDATE, {"status": "ONLINE"})
        assert await shown(alice) == ("bob", "ONLINE", None)


async def test_a_client_that_asks_for_batches_gets_many_users_in_one_packet(tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(5)]
    limits = livechat.ChatLimits(presence_grace_ms=0, presence_interval_ms=300)
    async with (
        lobby(tmp_path, "witness", *names, chat=limits) as server,
        witness(server, presence_batches=True) as asks,
        witness(server) as does_not,
        AsyncExitStack() as stack,
    ):
        for name in names:
            await stack.enter_async_context(identified(server, name))
        told: list[str] = []
        packets = 0
        while len(told) < len(names):
            event = await asks.expect(PRESENCE_EVENT)
            packets += 1
            users = event.get("users", [event])
            # A packet for one has the plain shape.
            assert ("users" in event) == (len(users) > 1)
            assert all(user["status"] == "ONLINE" for user in users)
            told += [user["user_id"] for user in users]
        assert sorted(told) == names
        assert packets < len(names)
        assert sorted([(await shown(does_not))[0] for _ in names]) == names


async def test_a_session_that_is_resumed_asks_for_batches_anew(tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    limits = livechat.ChatLimits(presence_grace_ms=0, presence_interval_ms=300)
    async with lobby(tmp_path, "witness", *names, chat=limits) as server:
        async with witness(server) as alice:
            session_id = await park(server, alice)
        async with connected(server) as alice, AsyncExitStack() as stack:
            alice.hears_presence = True
            _, done = await resumed(alice, session_id, presence_batches=True)
            assert done["presence"] == {}
            for name in names:
                await stack.enter_async_context(identified(server, name))
            told = 0
            packets = 0
            while told < len(names):
                told += len((await alice.expect(PRESENCE_EVENT)).get("users", [None]))
                packets += 1
            assert packets < len(names)


@pytest.mark.parametrize("batches", [True, False], ids=["batches", "singles"])
async def test_a_storm_of_arrivals_tells_everybody_of_everybody_once(batches: bool, tmp_path: Path) -> None:
    names = [f"user{number:03}" for number in range(100)]
    limits = livechat.ChatLimits(presence_grace_ms=FOREVER_MS, presence_interval_ms=100)
    clients: dict[str, Client] = {}
    async with running_server(tmp_path, chat=limits) as server, AsyncExitStack() as stack:
        async with identified(server, "owner") as owner:
            await owner.ack(CREATE, {"channel_id": "lobby", "capacity": 1000})
            for name in names:
                await owner.send(MEMBER_ADD, {"channel_id": "lobby", "user_id": name})
            for _ in names:
                await owner.receive()
        packets = 0
        for name in names:
            options = {"presence_batches": True} if batches else {}
            clients[name] = await stack.enter_async_context(witness(server, name, **options))
        await wait_until(lambda: not server._node.presence.is_changed)
        for name, client in clients.items():
            known = dict(client.ready["presence"])
            # The take that comes last may still be on its way; the heartbeat's answer is not ordered with it.
            while len(known) < len(names) - 1:
                event = await client.expect(PRESENCE_EVENT)
                packets += 1
                for user in event.get("users", [event]):
                    assert user["user_id"] not in known, "READY or an event has told it already"
                    known[user["user_id"]] = user["status"]
            assert set(known) == set(names) - {name}
            assert set(known.values()) == {"ONLINE"}
            await client.send(HEARTBEAT)
            assert (await client.receive())["op"] == HEARTBEAT_ACK
    told_one_by_one = len(names) * (len(names) - 1) // 2
    assert packets < told_one_by_one / 5 if batches else packets <= told_one_by_one


async def test_a_storm_of_departures_is_told_as_well(tmp_path: Path) -> None:
    names = [f"user{number:02}" for number in range(20)]
    async with (
        lobby(tmp_path, "witness", *names, chat=livechat.ChatLimits(presence_grace_ms=0)) as server,
        witness(server) as alice,
    ):
        async with trio.open_nursery() as nursery:
            leave = trio.Event()

            async def visit(name: str) -> None:
                async with identified(server, name):
                    await leave.wait()

            for name in names:
                nursery.start_soon(visit, name)
            assert sorted([await shown(alice) for _ in names]) == [(name, "ONLINE", None) for name in names]
            leave.set()
        assert sorted([await shown(alice) for _ in names]) == [(name, "OFFLINE", None) for name in names]

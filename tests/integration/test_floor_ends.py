"""Push-to-talk with real clients: whatever ends a turn, or the wait for one."""

from __future__ import annotations

from pathlib import Path

from livechat.hub.settings import FloorSettings
from tests.support.api import calling
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    DELETE,
    FLOOR_GRANTED,
    FLOOR_RELEASE,
    FLOOR_REVOKE,
    IDENTIFY,
    JOIN,
    LEAVE,
    MEMBER_REMOVE,
    connected,
    identified,
)
from tests.support.floor import OPS, ask, at_place, granted, idle, revoked, taken, talking
from tests.support.resume import park, resumed
from tests.support.server import wait_until


async def test_who_does_not_ping_loses_the_floor(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", floor=FloorSettings(ping_timeout_ms=50)) as (_, (ann, bob)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await revoked(ann, "ping_timeout")
        await idle(ann, bob)


async def test_nobody_talks_for_longer_than_allowed(tmp_path: Path) -> None:
    settings = FloorSettings(duration_max_ms=50, ping_timeout_ms=60_000)
    async with talking(tmp_path, "ann", "bob", floor=settings) as (server, (ann, bob)):
        await ask(ann)
        assert (await ann.expect(FLOOR_GRANTED))["duration"] == 50
        await taken("ann", bob)
        await revoked(ann, "max_duration")
        await idle(ann, bob)
        # One deadline a channel, however often the floor changes hands, and none once it is at rest.
        await wait_until(lambda: len(server._node.floors) == 0)


async def test_who_is_lost_loses_the_floor_and_learns_so(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (server, (ann, bob, cyd)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, cyd)
        await ask(bob)
        await at_place(bob, 1, 1)
        session_id = await park(server, ann)
        await granted(bob)
        await taken("bob", cyd)
        async with connected(server) as again:
            before, _ = await resumed(again, session_id)
            assert before == [{"op": FLOOR_REVOKE, "d": {**OPS, "cause": "disconnect"}}]
            await taken("bob", again)
            await bob.send(FLOOR_RELEASE, OPS)
            await idle(again, bob, cyd)


async def test_who_waits_and_is_lost_waits_no_more(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (server, (ann, bob, cyd)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, cyd)
        await ask(bob)
        await at_place(bob, 1, 1)
        await ask(cyd)
        await at_place(cyd, 2, 2)
        session_id = await park(server, bob)
        await at_place(cyd, 1, 1)
        await ann.send(FLOOR_RELEASE, OPS)
        await granted(cyd)
        await taken("cyd", ann)
        await cyd.send(FLOOR_RELEASE, OPS)
        await idle(ann, cyd)
        async with connected(server) as again:
            before, _ = await resumed(again, session_id)
            assert before == []
            await idle(again)  # what it knew may be wrong


async def test_who_ends_the_session_leaves_the_floor(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (_, (ann, bob)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await ann.ws.aclose(1000)
        await idle(bob)


async def test_who_leaves_the_channel_leaves_the_floor(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (_, (ann, bob, cyd)):
        await ask(bob)
        await granted(bob)
        await taken("bob", ann, cyd)
        await bob.ack(LEAVE, OPS)
        for client in (ann, cyd):
            assert (await client.expect(CHANNEL_EVENT))["event"] == "leave"
        await idle(ann, cyd)
        await bob.expect_silence()
        await ask(cyd)
        await granted(cyd)
        await taken("cyd", ann)
        await ann.ack(MEMBER_REMOVE, {**OPS, "user_id": "cyd"})
        for client in (ann, cyd):
            assert (await client.expect(CHANNEL_EVENT))["event"] == "leave"
        await idle(ann)
        await cyd.expect_silence()


async def test_a_kicked_user_loses_the_floor(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)), calling(server, None) as operator:
        await ask(bob)
        await granted(bob)
        await taken("bob", ann)
        await operator.post("/admin/kick/bob")
        await idle(ann)


async def test_a_deleted_channel_has_no_floor(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)):
        await ask(bob)
        await granted(bob)
        await taken("bob", ann)
        await ann.ack(DELETE, OPS)
        for client in (ann, bob):
            assert (await client.expect(CHANNEL_EVENT))["event"] == "delete"
            await client.expect_silence()
        assert len(server._node.floors) == 0
        await ann.ack(CREATE, {**OPS, "mode": "ptt"})
        await ann.ack(JOIN, OPS)
        await ask(ann)
        await granted(ann)


async def test_a_token_that_is_good_for_the_channel_no_more_ends_it(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann") as (server, (ann,)):
        tokens = [server.mint_token("bob", channels=[pattern]).token for pattern in ("*", "den")]
        async with identified(server, "bob", token=tokens[0]) as bob:
            await bob.ack(JOIN, OPS)
            await ann.expect(CHANNEL_EVENT)
            await ask(bob)
            await granted(bob)
            await taken("bob", ann)
            await bob.send(IDENTIFY, {"token": tokens[1]})
            await revoked(bob, "disconnect")
            assert (await bob.receive())["op"] == ACK
            await idle(ann)
            # And back: who hears the channel again is told who talks.
            await ask(ann)
            await granted(ann)
            await bob.ack(IDENTIFY, {"token": tokens[0]})
            await taken("ann", bob)

"""Push-to-talk with real clients: who may talk, and who is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs

import livechat
from livechat.hub.settings import FloorSettings
from tests.support.api import calling, is_problem
from tests.support.client import (
    ACK,
    CHANNEL_EVENT,
    CREATE,
    FLOOR_DENY,
    FLOOR_GRANTED,
    FLOOR_IDLE,
    FLOOR_PING,
    FLOOR_PONG,
    FLOOR_RELEASE,
    FLOOR_REQUEST,
    IDENTIFY,
    INFO,
    JOIN,
    MEMBER_ADD,
    READY,
    SUBSCRIBE,
    UNSUBSCRIBE,
    connected,
    identified,
)
from tests.support.floor import OPS, ask, at_place, granted, idle, revoked, taken, talking
from tests.support.resume import drop
from tests.support.server import SECRET, running_server

# --- one talks, the others wait ------------------------------------------------------------------------------


async def test_one_talks_and_the_others_are_told(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (_, (ann, bob, cyd)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, cyd)
        await ask(bob)
        await at_place(bob, 1, 1)
        await ask(cyd)
        await at_place(cyd, 2, 2)
        await ann.send(FLOOR_PING, OPS)
        assert await ann.expect(FLOOR_PONG) == OPS
        await ann.send(FLOOR_RELEASE, OPS)
        await granted(bob)
        await taken("bob", ann, cyd)
        await at_place(cyd, 1, 1)
        await cyd.send(FLOOR_RELEASE, OPS)  # it waits no more
        await bob.send(FLOOR_RELEASE, OPS)
        await idle(ann, bob, cyd)


async def test_what_carries_an_id_is_acknowledged_before_what_it_causes(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (_, (ann, bob)):
        for op, then in ((FLOOR_REQUEST, FLOOR_GRANTED), (FLOOR_PING, FLOOR_PONG), (FLOOR_RELEASE, FLOOR_IDLE)):
            await ann.send(op, OPS, id=f"r{op}")
            assert await ann.receive() == {"op": ACK, "d": {"op": op, "data": OPS}, "id": f"r{op}"}
            assert (await ann.receive())["op"] == then
        await taken("ann", bob)
        await idle(bob)


async def test_who_asks_again_is_told_again(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (_, (ann, bob)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await ask(ann)
        assert 0 < (await ann.expect(FLOOR_GRANTED))["duration"] <= 30_000
        for _ in range(2):
            await ask(bob)
            await at_place(bob, 1, 1)
        await ann.expect_silence()


async def test_the_more_urgent_takes_the_floor_away(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (_, (ann, bob, cyd)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, cyd)
        await ask(bob, priority=255)
        await granted(bob)
        await revoked(ann, "preempted")
        await taken("bob", ann, cyd)
        await ask(cyd, indicator="emergency")
        await granted(cyd)
        await revoked(bob, "preempted")
        await taken("cyd", ann, bob, indicator="emergency")
        await ask(bob, indicator="emergency")
        await at_place(bob, 1, 1)
        refusal = await ann.refused(FLOOR_RELEASE, OPS)
        assert refusal["code"] == 4001
        assert refusal["op"] == FLOOR_RELEASE


async def test_the_priority_of_identify_is_that_of_requests_without_one(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)), connected(server) as chief:
        await ann.ack(MEMBER_ADD, {**OPS, "user_id": "chief"})
        for client in (ann, bob):
            await client.expect(CHANNEL_EVENT)
        assert (await chief.request(IDENTIFY, {"token": SECRET, "user_id": "chief", "priority": 101}))[
            "op"
        ] == READY
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, chief)
        await ask(chief, priority=99)
        await at_place(chief, 1, 1)
        await ask(chief)
        await granted(chief)
        await revoked(ann, "preempted")


async def test_a_token_bounds_the_priority(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        low = server.mint_token("low", priority=5).token
        async with identified(server, "ann") as ann, identified(server, "low", token=low) as bound:
            await ann.ack(CREATE, {**OPS, "mode": "ptt"})
            await ann.ack(JOIN, OPS)
            await bound.ack(JOIN, OPS)
            await ann.expect(CHANNEL_EVENT)
            await ask(ann, priority=6)
            await granted(ann)
            await taken("ann", bound)
            await ask(bound, priority=2**31 - 1)
            await at_place(bound, 1, 1)


async def test_a_full_queue_denies(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd", floor=FloorSettings(waiting_max=1)) as (_, (ann, bob, cyd)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, cyd)
        await ask(bob)
        await at_place(bob, 1, 1)
        await ask(cyd)
        assert await cyd.expect(FLOOR_DENY) == {**OPS, "reason": "queue_full"}


# --- who may not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [FLOOR_REQUEST, FLOOR_RELEASE, FLOOR_PING])
async def test_who_may_not_is_told_why(op: int, tmp_path: Path) -> None:
    async with talking(tmp_path, "ann") as (server, (ann,)), identified(server, "bob") as bob:
        await ann.ack(CREATE, {"channel_id": "meet"})
        await ann.ack(JOIN, {"channel_id": "meet"})
        await ann.ack(CREATE, {"channel_id": "den", "mode": "ptt", "private": True})
        assert (await ann.refused(op, {"channel_id": "meet"}))["code"] == 4000
        assert (await bob.refused(op, {"channel_id": "meet"}))["code"] == 2004
        assert (await bob.refused(op, {"channel_id": "none"}))["code"] == 2000
        assert (await bob.refused(op, {"channel_id": "den"}))["code"] == 2002
        assert (await bob.refused(op, {}))["code"] == 1004
        if op != FLOOR_REQUEST:
            assert (await ann.refused(op, OPS))["code"] == 4001
        assert len(server._node.floors) == 0


async def test_only_the_holders_pings_count(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (_, (ann, bob)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await ask(bob)
        await at_place(bob, 1, 1)
        assert (await bob.refused(FLOOR_PING, OPS))["code"] == 4001


async def test_a_request_that_follows_its_join_finds_the_membership(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann") as (server, _), identified(server, "bob") as bob:
        await bob.send(JOIN, OPS, id=1)
        await bob.send(FLOOR_REQUEST, OPS)
        assert (await bob.receive())["id"] == 1
        await granted(bob)


# --- who begins to listen ------------------------------------------------------------------------------------


async def test_who_begins_to_listen_is_told_who_talks(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)):
        await ask(ann, indicator="broadcast")
        await granted(ann)
        await taken("ann", bob, indicator="broadcast")
        async with identified(server, "bob") as other:
            await taken("ann", other, indicator="broadcast")
            await bob.ack(UNSUBSCRIBE, OPS)
            await bob.ack(SUBSCRIBE, OPS)
            await taken("ann", bob, indicator="broadcast")
            async with identified(server, "cyd") as cyd:
                await cyd.send(JOIN, OPS, id="j")
                assert (await cyd.receive())["id"] == "j"
                await taken("ann", cyd, indicator="broadcast")
                async with identified(server, "dan") as dan:
                    await ann.ack(MEMBER_ADD, {**OPS, "user_id": "dan"})
                    assert (await dan.expect(CHANNEL_EVENT))["event"] == "join"
                    await taken("ann", dan, indicator="broadcast")


async def test_an_idle_floor_is_told_to_who_was_away(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)):
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await bob.ack(UNSUBSCRIBE, OPS)
        await ann.send(FLOOR_RELEASE, OPS)
        await idle(ann)
        await bob.expect_silence()
        await bob.ack(SUBSCRIBE, OPS)
        await idle(bob)
        async with identified(server, "cyd") as cyd:
            await cyd.ack(JOIN, OPS)
            await cyd.expect_silence()


async def test_who_hears_nothing_of_the_channel_may_talk(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (_, (ann, bob)):
        await bob.ack(UNSUBSCRIBE, OPS)
        await ask(bob)
        await granted(bob)
        await taken("bob", ann)
        await bob.send(FLOOR_RELEASE, OPS)
        await idle(ann)
        await bob.expect_silence()


async def test_each_device_of_a_user_is_one_participant(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)), identified(server, "ann") as phone:
        await ask(ann)
        await granted(ann)
        await taken("ann", bob, phone)
        await ask(phone)
        await at_place(phone, 1, 1)
        await ann.send(FLOOR_RELEASE, OPS)
        await granted(phone)
        await taken("ann", ann, bob)


# --- those who may take it away ------------------------------------------------------------------------------


async def test_an_operator_takes_the_floor_away(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)), calling(server, None) as operator:
        await ask(bob, priority=7)
        await granted(bob)
        await taken("bob", ann)
        await ask(ann, priority=6)
        await at_place(ann, 1, 1)
        assert (await ann.ack(INFO, OPS))["floor"] == {"user_id": "bob", "indicator": "normal", "queue_size": 1}
        shown = (await operator.get("/admin/channels/ops")).json()["floor"]
        assert (shown["user_id"], shown["priority"], shown["held_s"] + shown["left_s"]) == (
            "bob",
            7,
            pytest.approx(30),
        )
        assert [(claim["user_id"], claim["priority"]) for claim in shown["waiting"]] == [("ann", 6)]
        with capture_logs() as logs:
            answer = await operator.post("/admin/floor-revoke/ops")
        assert (answer.status_code, answer.json()) == (200, {**OPS, "user_id": "bob"})
        (line,) = [entry for entry in logs if entry["event"] == "floor revoked"]
        assert (line["channel"], line["user"], line["actor"]) == ("ops", "bob", "operator")
        await revoked(bob, "admin_revoke")
        await granted(ann)
        await taken("ann", bob)
        assert (await operator.post("/admin/floor-revoke/ops")).status_code == 200
        assert is_problem(await operator.post("/admin/floor-revoke/ops"), 409, 4001)
        assert "floor" not in await ann.ack(INFO, OPS)
        assert "floor" not in (await operator.get("/admin/channels/ops")).json()


async def test_the_owner_and_moderators_take_the_floor_away(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob", "cyd") as (server, (ann, bob, cyd)):
        await ann.ack(MEMBER_ADD, {**OPS, "user_id": "bob", "role": "moderator"})
        for client in (ann, bob, cyd):
            await client.expect(CHANNEL_EVENT)
        await ann.ack(CREATE, {"channel_id": "den", "mode": "ptt", "private": True})
        for user, status in (("ann", 200), ("bob", 200), ("cyd", 403), ("dan", 403)):
            await ask(cyd)
            await granted(cyd)
            await taken("cyd", ann, bob)
            token = server.mint_token(user).token
            async with calling(server, None, token=token) as caller:
                answer = await caller.post("/admin/floor-revoke/ops")
                assert answer.status_code == status, answer.text
                if status == 403:
                    assert is_problem(answer, 403, 1007)
                    # Nobody learns here what there is.
                    for unknown in ("den", "none"):
                        assert is_problem(await caller.post(f"/admin/floor-revoke/{unknown}"), 403, 1007)
                    await cyd.send(FLOOR_RELEASE, OPS)
                else:
                    await revoked(cyd, "admin_revoke")
            await idle(ann, bob, cyd)


async def test_what_becomes_of_floors_is_counted(tmp_path: Path) -> None:
    async with talking(tmp_path, "ann", "bob") as (server, (ann, bob)):
        counters = server._node.instruments.counters.floor
        await ask(ann)
        await granted(ann)
        await taken("ann", bob)
        await ask(bob)
        await at_place(bob, 1, 1)
        gauges = server._node.instruments.gauges()
        assert (gauges.floors_taken, gauges.floor_queue) == (1, 1)
        await drop(ann)
        await granted(bob)
        assert counters.grants == 2
        assert {cause: count for cause, count in counters.revokes.items() if count} == {"disconnect": 1}
        assert not any(counters.denies.values())


# --- the client library --------------------------------------------------------------------------------------


async def test_clients_take_turns_and_the_more_urgent_cuts_in(tmp_path: Path) -> None:
    has_begun = trio.Event()

    async def talk_on(client: livechat.Client) -> None:
        async with client.floor("ops"):
            has_begun.set()
            await trio.sleep_forever()

    async def cut_in(client: livechat.Client) -> None:
        await has_begun.wait()
        async with client.floor("ops", indicator="emergency") as held:
            assert held.until > trio.current_time()
            assert client.channels["ops"].talker == "bob"

    async with (
        running_server(tmp_path) as server,
        livechat.open_client(server.url, SECRET, user_id="ann") as ann,
        livechat.open_client(server.url, SECRET, user_id="bob") as bob,
        trio.open_nursery() as nursery,
    ):
        await ann.create_channel("ops", mode="ptt")
        for client in (ann, bob):
            await client.join("ops")
        async with bob.floor("ops", priority=1):
            pass
        nursery.start_soon(cut_in, bob)
        with pytest.raises(livechat.FloorLost) as lost:
            await talk_on(ann)
        assert lost.value.cause == "preempted"

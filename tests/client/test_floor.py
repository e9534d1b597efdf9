"""Having the floor while a block runs: asking, waiting, pinging, losing it, giving it back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from livechat.client.client import Client, open_client
from livechat.client.error import FloorDenied, FloorLost, SessionEnded
from livechat.client.floor import GIVE_BACK_S, PING_S, HeldFloor
from livechat.client.settings import ClientSettings
from livechat.error import NotPttChannel
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId
from livechat.protocol.voice_events import (
    FloorGranted,
    FloorIdle,
    FloorQueuePosInfo,
    FloorRevoke,
    FloorTaken,
)
from tests.support.client_pair import URL, Pair, next_of, online, scripted
from tests.support.fake_gateway import FakeConnection, FakeGateway, channel, ready, resumed, resumed_channel

DEN = {"channel_id": "den"}
GRANTED = DEN | {"user_id": "ann", "duration": 30_000}


async def asked(server: FakeConnection, **wanted: Any) -> None:
    """Take a request for the floor."""
    packet = await server.expect(Op.FLOOR_REQUEST)
    assert {name: value for name, value in packet["d"].items() if value is not None} == DEN | wanted
    await server.ack(packet, DEN)


async def take_back(server: FakeConnection) -> None:
    """Take the floor back."""
    await server.ack(await server.expect(Op.FLOOR_RELEASE), DEN)


async def assert_silent(pair: Pair) -> None:
    """Assert that the client has sent nothing more, nor pings."""
    with trio.move_on_after(10 * PING_S) as patience:
        raise AssertionError(await pair.server.receive())
    assert patience.cancelled_caught


async def hold_for(client: Client, seconds: float, held: list[HeldFloor], **wanted: Any) -> None:
    async with client.floor("den", **wanted) as floor:
        held.append(floor)
        await trio.sleep(seconds)


async def test_the_floor_is_kept_by_pings_and_given_back(autojump_clock: MockClock) -> None:
    held: list[HeldFloor] = []
    async with online() as pair, trio.open_nursery() as nursery:
        hold = partial(hold_for, pair.client, 3 * PING_S + 1, held, priority=7, indicator="emergency")
        nursery.start_soon(hold)
        await asked(pair.server, priority=7, indicator="emergency")
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        began = trio.current_time()
        for _ in range(3):
            await pair.server.ack(await pair.server.expect(Op.FLOOR_PING), DEN)
        await take_back(pair.server)
        assert trio.current_time() - began == pytest.approx(3 * PING_S + 1)
    assert [floor.channel_id for floor in held] == ["den"]
    assert held[0].until == pytest.approx(began + 30)


async def test_who_waits_hears_where_and_enters_the_block_once_it_is_granted(autojump_clock: MockClock) -> None:
    held: list[HeldFloor] = []
    async with online() as pair, trio.open_nursery() as nursery:
        events = pair.client.events()
        nursery.start_soon(hold_for, pair.client, 1, held)
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_QUEUE_POS_INFO, DEN | {"queue_position": 1, "queue_size": 2})
        assert await next_of(events, FloorQueuePosInfo) == FloorQueuePosInfo(ChannelId("den"), 1, 2)
        await trio.sleep(10)
        assert not held
        await pair.server.send(Op.FLOOR_GRANTED, {**GRANTED, "channel_id": "hall"})  # another one's
        await trio.sleep(1)
        assert not held
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        await take_back(pair.server)
    assert len(held) == 1


async def test_who_waits_no_more_says_so(autojump_clock: MockClock) -> None:
    async with online() as pair:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hold_for, pair.client, 1, [])
                await asked(pair.server)
                scope.cancel()
        await take_back(pair.server)
        await assert_silent(pair)


async def test_a_denial_is_raised_and_nothing_is_given_back(autojump_clock: MockClock) -> None:
    async def deny() -> None:
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_DENY, DEN | {"reason": "queue_full"})

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(deny)
        with pytest.raises(FloorDenied, match="the floor of den was denied: queue_full") as denied:
            await hold_for(pair.client, 1, [])
        assert denied.value.reason == "queue_full"
        await assert_silent(pair)


async def test_a_refusal_is_raised_as_it_is(autojump_clock: MockClock) -> None:
    async def refuse() -> None:
        await pair.server.refuse(await pair.server.expect(Op.FLOOR_REQUEST), 4000)

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(NotPttChannel):
            await hold_for(pair.client, 1, [])


@pytest.mark.parametrize("cause", ["preempted", "ping_timeout", "max_duration", "admin_revoke"])
async def test_what_is_revoked_ends_the_block_at_once(cause: str, autojump_clock: MockClock) -> None:
    async def revoke() -> None:
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        await trio.sleep(1)
        await pair.server.send(Op.FLOOR_REVOKE, DEN | {"cause": cause})

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(revoke)
        with pytest.raises(FloorLost, match=f"the floor of den was lost: {cause}") as lost:
            await hold_for(pair.client, 1000, [])
        assert lost.value.cause == cause
        assert trio.current_time() < 100
        await assert_silent(pair)


async def test_a_lost_connection_ends_the_block_without_waiting_for_another(autojump_clock: MockClock) -> None:
    async def lose() -> None:
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        await trio.sleep(1)
        pair.gateway.refusals = 3
        await pair.server.drop()

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        with pytest.raises(FloorLost, match="disconnect"):
            await hold_for(pair.client, 1000, [])
        assert not pair.client.is_online
        await (await pair.gateway.accept()).resume()


async def test_who_waits_asks_anew_on_another_connection(autojump_clock: MockClock) -> None:
    held: list[HeldFloor] = []
    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(hold_for, pair.client, 1, held)
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_QUEUE_POS_INFO, DEN | {"queue_position": 1, "queue_size": 1})
        await trio.sleep(1)
        await pair.server.drop()
        server = await pair.gateway.accept()
        await server.resume()
        await server.send(Op.RESUMED, resumed(den=resumed_channel(5)))
        await asked(server)
        assert not held
        await server.send(Op.FLOOR_GRANTED, GRANTED)
        await take_back(server)
    assert len(held) == 1


async def test_the_blocks_own_error_is_raised_as_it_is_and_the_floor_is_given_back(
    autojump_clock: MockClock,
) -> None:
    async def serve() -> None:
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        await take_back(pair.server)

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(KeyError, match="mine"):
            async with pair.client.floor("den"):
                raise KeyError("mine")


async def test_a_server_that_takes_nothing_back_is_not_waited_for(autojump_clock: MockClock) -> None:
    async def serve() -> None:
        await asked(pair.server)
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)

    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await hold_for(pair.client, 1, [])
        assert trio.current_time() == pytest.approx(1 + GIVE_BACK_S, abs=0.1)


async def test_one_block_at_a_time_has_the_floor_of_a_channel(autojump_clock: MockClock) -> None:
    async with online() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(hold_for, pair.client, 1, [])
        await asked(pair.server)
        with pytest.raises(ValueError, match="about the floor of den already"):
            await hold_for(pair.client, 1, [])
        await pair.server.send(Op.FLOOR_GRANTED, GRANTED)
        await take_back(pair.server)
        await trio.sleep(1)
        nursery.start_soon(hold_for, pair.client, 1, [])
        await asked(pair.server)
        nursery.cancel_scope.cancel()


async def test_a_value_that_does_not_fit_is_told_at_once(autojump_clock: MockClock) -> None:
    async with online() as pair:
        with pytest.raises(ValueError, match="priority"):
            await hold_for(pair.client, 1, [], priority=-1)
        await assert_silent(pair)


async def test_the_end_of_the_client_ends_the_block(autojump_clock: MockClock) -> None:
    async def script(gateway: FakeGateway) -> None:
        server = await gateway.accept()
        await server.identify(ready(channel("den")))
        await asked(server)
        await server.send(Op.FLOOR_GRANTED, GRANTED)
        await trio.sleep(1)
        await server.close(4507, "kicked")

    async with scripted(script) as gateway:
        with pytest.raises(SessionEnded, match="4507 kicked"):
            async with open_client(URL, "token", dial=gateway.dial) as client:
                await hold_for(client, 1000, [])


async def test_a_channel_shows_who_talks(autojump_clock: MockClock) -> None:
    said: tuple[tuple[Op, dict[str, Any], type[Any], str | None], ...] = (
        (Op.FLOOR_TAKEN, {"user_id": "bob", "indicator": "normal"}, FloorTaken, "bob"),
        (Op.FLOOR_IDLE, {}, FloorIdle, None),
        (Op.FLOOR_GRANTED, {"user_id": "ann", "duration": 5}, FloorGranted, "ann"),
        (Op.FLOOR_REVOKE, {"cause": "preempted"}, FloorRevoke, None),
    )
    async with online() as pair:
        events = pair.client.events()
        for op, fields, kind, talker in said:
            await pair.server.send(op, {"channel_id": "hall", **fields})  # one that it is not in
            await pair.server.send(op, DEN | fields)
            await next_of(events, kind, channel_id="den")
            assert pair.client.channels["den"].talker == talker


async def test_identify_states_the_priority() -> None:
    said: list[Any] = []

    async def script(gateway: FakeGateway) -> None:
        said.append(await (await gateway.accept()).identify(ready(channel("den"))))

    async with scripted(script) as gateway:
        settings = ClientSettings(priority=250)
        async with open_client(URL, "token", settings=settings, dial=gateway.dial):
            assert said[0]["priority"] == 250

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from livechat.gateway.entrance import WAITING_MAX, Entrance


class Rounds(trio.abc.Instrument):
    """Counts how often the event loop went round."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, _timeout: float) -> None:
        self.count += 1


async def rounds_of_turns(entrance: Entrance, clients: int) -> list[int]:
    """Have so many ask for a turn in the same round; return in which round of the loop each had it."""
    rounds = Rounds()
    had: list[int] = []

    async def come_in() -> None:
        await entrance.turn()
        had.append(rounds.count)

    trio.lowlevel.add_instrument(rounds)
    try:
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(come_in)
    finally:
        trio.lowlevel.remove_instrument(rounds)
    return had


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize("clients", [1, 2, 50])
async def test_no_more_than_so_many_have_their_turn_in_one_round(at_once: int, clients: int) -> None:
    had = await rounds_of_turns(Entrance(at_once), clients)
    assert len(had) == clients
    assert max(had.count(number) for number in had) <= at_once
    # And nobody waits for longer than that takes.
    assert max(had) - min(had) <= -(-clients // at_once) + 1


async def test_who_gives_up_waiting_leaves_the_turns_to_the_others() -> None:
    entrance = Entrance(1)
    had = []

    async def come_in(number: int) -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await entrance.turn()
            had.append(number)

    scopes: list[trio.CancelScope] = []
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(come_in, number)
        await trio.lowlevel.checkpoint()
        for scope in scopes[::2]:
            scope.cancel()
    assert len(had) >= 10
    await entrance.turn()
    assert entrance.waiting == 0


async def test_while_a_crowd_waits_for_turns_nobody_is_accepted() -> None:
    entrance = Entrance(1)
    order: list[str] = []

    async def come_in() -> None:
        await entrance.turn()
        order.append("turn")

    async def accept() -> None:
        await entrance.wait_open()
        order.append("accept")

    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX + 10):
            nursery.start_soon(come_in)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        assert entrance.waiting >= WAITING_MAX
        nursery.start_soon(accept)
    assert 1 <= order.index("accept") < WAITING_MAX + 10


async def test_with_room_nobody_waits_to_be_accepted() -> None:
    entrance = Entrance(1)
    with trio.fail_after(1):
        await entrance.wait_open()


async def test_a_second_s_worth_is_accepted_at_once_and_then_so_many_a_second(autojump_clock: MockClock) -> None:
    entrance = Entrance(1, accepts_per_s=10)
    begun = trio.current_time()
    times = []
    for _ in range(30):
        await entrance.wait_open()
        entrance.accepted()
        times.append(round(trio.current_time() - begun, 3))
    assert times[:10] == [0.0] * 10
    assert times[10:] == [round((number + 1) / 10, 3) for number in range(20)]
    # A pause gives the burst back, and no more than that.
    await trio.sleep(100)
    begun = trio.current_time()
    for _ in range(11):
        await entrance.wait_open()
        entrance.accepted()
    assert round(trio.current_time() - begun, 3) == 0.1


async def test_an_accept_that_waits_for_its_time_can_be_cancelled(autojump_clock: MockClock) -> None:
    entrance = Entrance(1, accepts_per_s=1)
    entrance.accepted()
    with trio.move_on_after(0.5) as scope:
        await entrance.wait_open()
    assert scope.cancelled_caught
    await wait_all_tasks_blocked()

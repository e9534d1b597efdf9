"""What the delivery classes make of an egress queue whose client reads too slowly."""

from __future__ import annotations

import sys

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.backlog import HOLES_MIN
from livechat.gateway.budget import Budget
from livechat.protocol.delivery import StateMark
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import ChunkMark, Tag
from livechat.protocol.types import ChannelId, StreamId, UserId
from tests.support.egress import Egress, frame
from tests.support.transport import ScriptedTransport

LOBBY = ChannelId("lobby")


def typing(user: str) -> StateMark:
    return StateMark(Op.TYPING_EVENT, LOBBY, UserId(user))


def chunk(stream: str = "s", *, key: bool = False, init: bool = False, channel: str = "lobby") -> ChunkMark:
    return ChunkMark((ChannelId(channel), UserId("ann"), StreamId(stream)), is_keyframe=key, is_init=init)


def numbers(egress: Egress) -> list[int]:
    """Return what the client has received, by the numbers of the frames."""
    return [int(payload.rstrip(b".")) for payload in egress.payloads]


def remembers(egress: Egress) -> bool:
    """Tell whether the queue, in which nothing waits, is larger than an idle one."""
    return egress.queue._backlog is not None


async def open_up(egress: Egress) -> list[int]:
    """Let the client read all that waits; return all that it has received by then."""
    egress.transport.open()
    async with trio.open_nursery() as nursery:
        egress.write_in(nursery)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return numbers(egress)


# --- coalesced -----------------------------------------------------------------------------------------


async def test_a_newer_state_takes_its_place_at_the_end_and_the_older_one_is_left_out() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1), typing("ann"))
    egress.queue.push(frame(2))
    egress.queue.push(frame(3), typing("bob"))
    egress.queue.push(frame(4), typing("ann"))
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (3, 3 * len(frame(1)))
    assert egress.counters.superseded == 1
    assert await open_up(egress) == [2, 3, 4]


async def test_a_state_that_has_begun_to_leave_is_not_taken_back() -> None:
    egress = Egress(ScriptedTransport(1))
    egress.queue.push(frame(1), typing("ann"))
    egress.queue.push(frame(2), typing("ann"))
    egress.queue.push(frame(3), typing("ann"))
    assert await open_up(egress) == [1, 3]


async def test_states_that_change_for_ever_neither_fill_the_queue_nor_its_memory() -> None:
    egress = Egress(ScriptedTransport(0), frames_max=5)
    egress.queue.push(frame(1))
    for _ in range(20 * HOLES_MIN):
        egress.queue.push(frame(2), typing("ann"))
        egress.queue.push(frame(3), typing("bob"))
    assert (egress.overflows, egress.queue.queued_frames) == (0, 3)
    assert egress.queue._backlog is not None
    assert len(egress.queue._backlog._frames) <= HOLES_MIN + 3
    assert await open_up(egress) == [1, 2, 3]


# --- droppable -----------------------------------------------------------------------------------------


async def test_the_oldest_chunk_goes_and_its_stream_waits_for_the_next_keyframe() -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=3)
    for number, is_key in enumerate([True, False, False, False, False, True, False]):
        egress.queue.push(frame(number), chunk(key=is_key))
    assert egress.queue.chunks_dropped == 5
    assert egress.counters.drops["droppable", "queue_full"] == 5
    assert await open_up(egress) == [5, 6]


async def test_the_rule_outlives_the_moment_in_which_the_queue_is_empty() -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=1)
    egress.queue.push(frame(0), chunk(key=True))
    egress.queue.push(frame(1), chunk())
    egress.queue.push(frame(2), chunk("other"))
    assert await open_up(egress) == [2]
    for number, is_key in ((3, False), (4, True), (5, False)):
        egress.queue.push(frame(number), chunk(key=is_key))
    assert numbers(egress) == [2, 4, 5]
    assert not remembers(egress)


async def test_one_stream_does_not_stop_for_what_another_has_lost() -> None:
    egress = Egress(ScriptedTransport(0), chunk_bytes_max=5 * len(frame(1)))
    for number in range(3):
        egress.queue.push(frame(number), chunk("a", key=number == 0))
    for number in range(3, 7):
        egress.queue.push(frame(number), chunk("b", key=number == 3))
    assert await open_up(egress) == [3, 4, 5, 6]


async def test_an_init_chunk_that_was_dropped_comes_again_before_the_keyframe() -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=3)
    egress.queue.push(frame(0), chunk(init=True))
    for number, is_key in enumerate([True, False, False, False], 1):
        egress.queue.push(frame(number), chunk(key=is_key))
    egress.queue.push(frame(5), chunk(key=True))
    assert await open_up(egress) == [0, 5]


async def test_of_a_stream_with_one_init_chunk_the_oldest_part_goes_and_the_newest_stays() -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=4)
    egress.queue.push(frame(0), chunk(init=True))
    for number in range(1, 9):
        egress.queue.push(frame(number), chunk(key=number % 2 == 1))
    # 0 1 2 3 | 4: 0 3 4 | 5 6: 0 5 6 | 7 8: 0 7 8
    assert egress.queue.chunks_dropped == 6
    assert await open_up(egress) == [0, 7, 8]


async def test_of_init_chunks_the_newest_is_owed() -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=2)
    for number, init in enumerate([True, False, False, True, False]):
        egress.queue.push(frame(number), chunk(init=init))
    egress.queue.push(frame(5), chunk(key=True))
    assert await open_up(egress) == [3, 5]


async def test_a_client_that_reads_no_chunks_keeps_its_chat() -> None:
    egress = Egress(ScriptedTransport(0), frames_max=3, bytes_max=100, chunk_bytes_max=1000)
    for number in range(200):
        egress.queue.push(frame(number, 50), chunk(key=True))
    for number in range(3):
        egress.queue.push(frame(1000 + number))
    assert egress.overflows == 0
    assert not egress.queue.is_crowded or egress.queue.queued_frames > 3
    received = await open_up(egress)
    assert received[:3] == [1000, 1001, 1002]
    assert received[3:] == list(range(200 - len(received[3:]), 200))


async def test_chunks_of_a_channel_that_was_left_are_dropped() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(0), chunk(key=True))
    egress.queue.push(frame(1), chunk(key=True, channel="den"))
    egress.queue.drop_chunks(LOBBY)
    assert await open_up(egress) == [1]


@pytest.mark.parametrize("how", ["over", "left"])
async def test_nothing_is_kept_of_a_stream_that_is_over_or_not_heard_any_more(how: str) -> None:
    egress = Egress(ScriptedTransport(0), chunk_frames_max=1)
    for number, stream in enumerate(["s", "s", "other"]):
        egress.queue.push(frame(number), chunk(stream, init=number == 0))
    # A chunk of one is begun, another waits and the third was left out.
    assert await open_up(egress) == [2]
    assert remembers(egress)
    if how == "over":
        egress.queue.forget_stream(chunk("other").stream)
        assert remembers(egress)
        egress.queue.forget_stream(chunk("s").stream)
    else:
        egress.queue.drop_chunks(ChannelId("den"))
        assert remembers(egress)
        egress.queue.drop_chunks(LOBBY)
    assert not remembers(egress)
    egress.queue.push(frame(3), chunk("s"))
    assert numbers(egress) == [2, 3]


async def test_no_chunk_follows_a_close_frame() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(0), chunk(key=True))
    egress.queue.push(frame(1))
    egress.queue.push_close(4003, "")
    egress.queue.push(frame(2), chunk(key=True))
    egress.transport.open()
    async with trio.open_nursery() as nursery:
        egress.write_in(nursery)
        await wait_all_tasks_blocked()
    assert len(egress.payloads) == 2
    assert egress.payloads[0] == b"1"
    assert egress.counters.drops["droppable", "connection_closed"] == 2


# --- all queues together -------------------------------------------------------------------------------


def waiting(budget: Budget, count: int, **more: int) -> list[Egress]:
    return [
        Egress(ScriptedTransport(0), budget=budget, closes_on_overflow=True, **more)  # type: ignore[arg-type]
        for _ in range(count)
    ]


def test_past_the_budget_chunks_go_before_anybody_is_closed() -> None:
    budget = Budget(1000)
    first, second = waiting(budget, 2)
    first.queue.push(frame(1, 397))
    second.queue.push(frame(2, 297), chunk(key=True))
    assert budget.used_bytes == first.queue.queued_bytes + second.queue.queued_bytes
    assert budget.holders == 2
    first.queue.push(frame(3, 397))
    assert (first.overflows, second.overflows, budget.closed) == (0, 0, 0)
    assert (second.queue.queued_bytes, second.queue.chunks_dropped) == (0, 1)
    assert budget.used_bytes == first.queue.queued_bytes
    assert budget.holders == 1


def test_past_the_budget_the_largest_queue_is_closed() -> None:
    budget = Budget(1000)
    small, large, newest = waiting(budget, 3)
    small.queue.push(frame(1, 200), (LOBBY, 1))
    large.queue.push(frame(2, 500), (LOBBY, 2))
    newest.queue.push(frame(3, 400), (LOBBY, 3))
    assert [each.overflows for each in (small, large, newest)] == [0, 1, 0]
    assert (budget.closed, list(large.queue.cut())) == (1, [(LOBBY, 2)])
    assert budget.used_bytes <= 900
    for each in (small, large, newest):
        each.queue.abort()
    assert (budget.used_bytes, budget._holders) == (0, set())


async def test_what_has_left_is_no_longer_held() -> None:
    budget = Budget(1000)
    [egress] = waiting(budget, 1)
    egress.queue.push(frame(1, 500))
    await open_up(egress)
    assert (budget.used_bytes, budget._holders) == (0, set())


# --- at rest -------------------------------------------------------------------------------------------


async def test_there_is_a_writer_only_while_something_waits(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport())
    egress.write_in(nursery)
    egress.queue.push(frame(1))
    await wait_all_tasks_blocked()
    assert (egress.writers_started, len(nursery.child_tasks)) == (0, 0)
    egress.transport.room = 0
    for number in (2, 3):
        egress.queue.push(frame(number))
    await wait_all_tasks_blocked()
    assert (egress.writers_started, len(nursery.child_tasks)) == (1, 1)
    egress.transport.open()
    await wait_all_tasks_blocked()
    assert (numbers(egress), len(nursery.child_tasks)) == ([1, 2, 3], 0)


def test_an_idle_queue_is_small() -> None:
    queue = Egress(ScriptedTransport()).queue
    queue.push(frame(1))
    assert not hasattr(queue, "__dict__")
    own = [
        getattr(queue, name)
        for name in queue.__slots__
        if name not in ("_transport", "_pool", "_owner", "_counters")
    ]
    assert sys.getsizeof(queue) + sum(sys.getsizeof(value) for value in own) < 600


def test_of_joined_frames_each_part_is_on_its_own_again() -> None:
    egress = Egress(ScriptedTransport(len(frame(0)) + 1))
    frames = [frame(number) for number in range(4)]
    tags: list[Tag | None] = [(LOBBY, 0), (LOBBY, 1), typing("ann"), (LOBBY, 3)]
    egress.queue.push_all(b"".join(frames), frames, tags)
    egress.queue.push(frame(4), typing("ann"))
    assert egress.counters.superseded == 1
    assert list(egress.queue.cut()) == [(LOBBY, 1), (LOBBY, 3)]

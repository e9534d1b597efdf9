"""What an egress queue knows of the events in it: each one pushed was sent whole, or is named by `cut`."""

from __future__ import annotations

from typing import Literal

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from livechat.hub.users import Mark
from livechat.protocol.types import ChannelId
from tests.support.egress import Egress, frame
from tests.support.transport import UNLIMITED, ScriptedTransport

LOBBY = ChannelId("lobby")


def mark(seq: int) -> Mark:
    return (LOBBY, seq)


def push(egress: Egress, seq: int, size: int = 0) -> None:
    egress.queue.push(frame(seq, size), mark(seq))


def named(egress: Egress) -> list[int]:
    """Cut; return the seqs of what was not sent, ascending."""
    return sorted(each[1] for each in egress.queue.cut() if isinstance(each, tuple))


def test_what_was_sent_at_once_is_not_named() -> None:
    egress = Egress(ScriptedTransport())
    for seq in range(3):
        push(egress, seq)
    assert list(egress.queue.cut()) == []
    assert egress.transport.log == []


def test_what_waits_is_named_and_never_sent() -> None:
    egress = Egress(ScriptedTransport(0))
    for seq in range(3):
        push(egress, seq)
    assert egress.queue.cut() == [mark(0), mark(1), mark(2)]
    assert egress.transport.log == ["abort"]
    assert not egress.transport.sent
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)


def test_a_frame_sent_in_part_is_named() -> None:
    egress = Egress(ScriptedTransport(5))
    push(egress, 1, 20)
    push(egress, 2)
    assert egress.queue.cut() == [mark(1), mark(2)]


def test_frames_without_a_mark_are_left_to_be_sent() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    assert list(egress.queue.cut()) == []
    assert (egress.transport.log, egress.queue.queued_frames) == ([], 1)


def test_what_is_pushed_behind_a_close_frame_is_named() -> None:
    egress = Egress(ScriptedTransport())
    push(egress, 1)
    egress.queue.push_close(4003, "drain")
    push(egress, 2)
    assert egress.queue.cut() == [mark(2)]


def test_what_a_close_frame_drops_is_named_with_what_had_begun_to_leave() -> None:
    egress = Egress(ScriptedTransport(5))
    for seq in range(3):
        push(egress, seq, 20)
    egress.queue.push_close(4001, "slow consumer", drop_queue=True)
    assert named(egress) == [0, 1, 2]


def test_what_a_broken_socket_refuses_is_named() -> None:
    egress = Egress(ScriptedTransport())
    push(egress, 1)
    egress.transport.fail()
    push(egress, 2)
    push(egress, 3)
    assert egress.queue.cut() == [mark(2), mark(3)]


def test_what_is_pushed_past_the_limit_is_named() -> None:
    egress = Egress(ScriptedTransport(0), frames_max=2, closes_on_overflow=True)
    for seq in range(5):
        push(egress, seq)
    assert egress.overflows == 1
    assert egress.queue.cut() == [mark(seq) for seq in range(5)]


async def test_the_writer_takes_no_cut_frame_any_more(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    egress.write_in(nursery)
    for seq in range(3):
        push(egress, seq)
    await wait_all_tasks_blocked()
    assert egress.queue.cut() == [mark(0), mark(1), mark(2)]
    egress.transport.open()
    await wait_all_tasks_blocked()
    assert (len(egress.transport.sent), egress.queue.queued_bytes) == (0, 0)
    assert not nursery.child_tasks


Step = tuple[Literal["push", "plain", "room", "run"], int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from([0, 10, 125, 126, 3000, 70_000])),
        st.tuples(st.just("plain"), st.sampled_from([0, 200])),
        st.tuples(st.just("room"), st.sampled_from([1, 5, 12, 13, 300, 10_000])),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=25,
)
ENDINGS = ["cut", "close", "drop", "break", "abort"]
BEGUN: list[Step] = [("push", 0), ("push", 0), ("room", 5), ("run", 0)]


@settings(deadline=None, max_examples=100)
@example(before=BEGUN, ending="drop", after=[("push", 0)], most=UNLIMITED, frames_max=UNLIMITED)
@example(before=BEGUN, ending="close", after=[("room", 300), ("run", 0)], most=1, frames_max=UNLIMITED)
@example(before=[("push", 0)] * 5, ending="cut", after=[], most=UNLIMITED, frames_max=3)
@given(
    before=STEPS,
    ending=st.sampled_from(ENDINGS),
    after=STEPS,
    most=st.sampled_from([1, 7, 1000, UNLIMITED]),
    frames_max=st.sampled_from([3, UNLIMITED]),
)
async def test_every_mark_is_sent_whole_or_named(
    before: list[Step], ending: str, after: list[Step], most: int, frames_max: int
) -> None:
    egress = Egress(ScriptedTransport(0, most=most), frames_max=frames_max, closes_on_overflow=True)
    pushed: list[int] = []

    async def do(steps: list[Step]) -> None:
        for step, size in steps:
            if step == "push":
                pushed.append(len(pushed))
                push(egress, pushed[-1], size)
            elif step == "plain":
                egress.queue.push(frame(99, size))
            elif step == "room":
                egress.transport.open(size)
            else:
                await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        egress.write_in(nursery)
        await do(before)
        if ending in ("close", "drop"):
            egress.queue.push_close(4003, "", drop_queue=ending == "drop")
        elif ending == "break":
            egress.transport.fail()
        elif ending == "abort":
            egress.queue.abort()
        if ending != "cut":
            await do(after)
        unsent = named(egress)
        egress.transport.most = UNLIMITED
        egress.transport.open()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    whole = [int(number) for number in sent_whole(bytes(egress.transport.sent)) if number != b"99"]
    assert len(set(unsent)) == len(unsent)
    assert sorted([*whole, *unsent]) == pushed
    assert whole == sorted(whole)


def sent_whole(stream: bytes) -> list[bytes]:
    """Return the numbers of the data frames that went out whole; the last frame may be cut short."""
    numbers = []
    while len(stream) >= 2:
        first, size, head = stream[0], stream[1], 2
        if size >= 126:
            head += 2 if size == 126 else 8
            size = int.from_bytes(stream[2:head], "big")
        if len(stream) < head + size:
            break
        if first == 0x82:
            numbers.append(stream[head : head + size].rstrip(b"."))
        stream = stream[head + size :]
    return numbers


# --- crowded -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames_max", "bytes_max"), [(40, UNLIMITED), (UNLIMITED, 480)])
def test_a_queue_is_crowded_past_a_quarter_of_either_limit(frames_max: int, bytes_max: int) -> None:
    egress = Egress(ScriptedTransport(0), frames_max=frames_max, bytes_max=bytes_max)
    crowded = []
    for _ in range(12):
        crowded.append(egress.queue.is_crowded)
        push(egress, 1, 9)
    assert crowded == [False] * 11 + [True]
    assert egress.overflows == 0


@pytest.mark.parametrize("bytes_max", [10, 100])
async def test_room_is_waited_for_until_the_client_has_read_enough(nursery: trio.Nursery, bytes_max: int) -> None:
    egress = Egress(ScriptedTransport(0), bytes_max=bytes_max)
    egress.write_in(nursery)
    push(egress, 1, 49)
    room = trio.Event()

    async def wait() -> None:
        await egress.queue.wait_room()
        room.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert egress.queue.is_crowded
    assert not room.is_set()
    egress.transport.open(52 - bytes_max // 4 - 1)
    await wait_all_tasks_blocked()
    assert not room.is_set()
    egress.transport.open(1)
    await wait_all_tasks_blocked()
    assert room.is_set()


async def test_in_an_empty_queue_there_is_room() -> None:
    egress = Egress(ScriptedTransport(), frames_max=1, bytes_max=1)
    push(egress, 1)
    await egress.queue.wait_room()

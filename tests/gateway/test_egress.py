from __future__ import annotations

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.backlog import JOIN_BYTES_MAX, JOIN_FRAMES_MAX
from livechat.gateway.egress import LINGER_BYTES_MAX
from livechat.protocol.frames import serialize_close, serialize_frame
from tests.support.egress import Egress, frame
from tests.support.transport import UNLIMITED, ScriptedTransport, split_frames

CLOSE = 0x88

# --- the direct way, and the queue -----------------------------------------------------------------------


def test_a_frame_is_sent_at_once_while_the_queue_is_empty() -> None:
    egress = Egress(ScriptedTransport())
    for number in range(3):
        egress.queue.push(frame(number))
        assert egress.payloads == [b"%d" % n for n in range(number + 1)]
        assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)


def test_what_the_socket_does_not_take_waits_and_is_counted() -> None:
    egress = Egress(ScriptedTransport(5))
    egress.queue.push(frame(1, 9))
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (1, 12 - 5)
    egress.queue.push(frame(2, 9))
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (2, 24 - 5)
    assert len(egress.transport.sent) == 5


def test_nothing_overtakes_what_waits() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    egress.transport.open()
    egress.queue.push(frame(2))
    assert (bytes(egress.transport.sent), egress.queue.queued_frames) == (b"", 2)


async def test_the_writer_sends_what_waits_as_room_comes(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    egress.write_in(nursery)
    for number in range(100):
        egress.queue.push(frame(number))
    await wait_all_tasks_blocked()
    assert egress.transport.sent == b""
    egress.transport.open()
    await wait_all_tasks_blocked()
    assert egress.payloads == [b"%d" % number for number in range(100)]
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)
    egress.queue.push(frame(100))
    assert egress.payloads[-1] == b"100"


async def test_frames_that_gathered_leave_joined_within_bounds(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    for number in range(10 * JOIN_FRAMES_MAX):
        egress.queue.push(frame(number))
    for number in range(10):
        egress.queue.push(frame(number, JOIN_BYTES_MAX // 4))
    egress.queue.push(frame(0, 2 * JOIN_BYTES_MAX))
    egress.write_in(nursery)
    egress.transport.open()
    await wait_all_tasks_blocked()
    assert len(egress.payloads) == 10 * JOIN_FRAMES_MAX + 11
    assert len(egress.transport.sends) <= 10 + 10 // 3 + 3
    assert max(egress.transport.sends[:-1]) <= JOIN_BYTES_MAX < egress.transport.sends[-1]


Steps = list[tuple[str, int]]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.sampled_from([0, 1, 100, 125, 126, 1000, 70_000])),
        st.tuples(st.just("send_all"), st.integers(0, 20)),
        st.tuples(st.just("room"), st.integers(0, 3000)),
        st.tuples(st.just("run"), st.just(0)),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, most=st.sampled_from([1, 2, 7, 1000, UNLIMITED]), runs=st.booleans())
async def test_order_is_kept_whatever_the_socket_takes_when(steps: Steps, most: int, runs: bool) -> None:
    egress = Egress(ScriptedTransport(0, most=most if runs else UNLIMITED))
    await egress.upgrade()
    pushed = []
    async with trio.open_nursery() as nursery:
        egress.write_in(nursery)
        for number, (step, size) in enumerate(steps):
            if step == "push":
                egress.queue.push(frame(number, size))
                pushed.append(b"%d" % number + b"." * size)
            elif step == "send_all":
                await egress.stream.send_all(frame(number, size))
                pushed.append(b"%d" % number + b"." * size)
            elif step == "room":
                egress.transport.open(size)
            else:
                await wait_all_tasks_blocked()
            in_flight = len(b"".join(map(serialized, pushed))) - len(egress.transport.sent)
            assert egress.queue.queued_bytes == in_flight
        egress.transport.most = UNLIMITED
        egress.transport.open()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert egress.payloads == pushed


def serialized(payload: bytes) -> bytes:
    return serialize_frame(payload, binary=True)


async def test_frames_of_many_sources_stay_whole_and_each_source_in_order(autojump_clock: trio.abc.Clock) -> None:
    egress = Egress(ScriptedTransport(0, most=13))
    await egress.upgrade()
    pushed: list[bytes] = []

    async def source(name: int, pause: float) -> None:
        for number in range(20):
            payload = b"%d-%d-" % (name, number) + b"x" * (name * 50)
            pushed.append(payload)
            if name == 3:
                # trio-websocket's way in; its checkpoint comes before the frame takes its place.
                await egress.stream.send_all(serialized(pushed.pop()))
                pushed.append(payload)
            else:
                egress.queue.push(serialized(payload))
            await trio.sleep(pause)

    async def drain() -> None:
        while True:
            egress.transport.open(97)
            await trio.sleep(0.003)

    async with trio.open_nursery() as background:
        egress.write_in(background)
        background.start_soon(drain)
        async with trio.open_nursery() as sources:
            for name, pause in ((1, 0.001), (2, 0.002), (3, 0.0015)):
                sources.start_soon(source, name, pause)
        egress.transport.open()
        await trio.sleep(1)
        background.cancel_scope.cancel()
    assert egress.payloads == pushed
    for prefix in (b"1-", b"2-", b"3-"):
        own = [payload for payload in egress.payloads if payload.startswith(prefix)]
        assert [int(payload.split(b"-")[1]) for payload in own] == list(range(20))


# --- slow consumers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bytes_max", "frames_max", "taken"), [(50, UNLIMITED, 5), (UNLIMITED, 4, 5), (50, 2, 3)])
def test_past_either_limit_the_owner_is_told_once_and_nothing_more_is_taken(
    bytes_max: int, frames_max: int, taken: int
) -> None:
    egress = Egress(ScriptedTransport(0), bytes_max=bytes_max, frames_max=frames_max)
    for number in range(4):
        egress.queue.push(frame(number, 9))
    for number in range(4, 100):
        egress.queue.push(frame(number, 9))
    assert egress.overflows == 1
    assert (egress.queue.overflowed, egress.queue.queued_frames) == (True, taken)


def test_exactly_at_the_limits_nothing_is_wrong() -> None:
    egress = Egress(ScriptedTransport(0), bytes_max=48, frames_max=4)
    for number in range(4):
        egress.queue.push(frame(number, 9))
    assert (egress.overflows, egress.queue.queued_bytes) == (0, 48)


async def test_what_left_no_longer_counts(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0), bytes_max=48, frames_max=4)
    egress.write_in(nursery)
    for number in range(100):
        egress.queue.push(frame(number, 8))
        if number % 4 == 3:
            egress.transport.open(50)
            await wait_all_tasks_blocked()
    assert egress.overflows == 0


async def test_a_slow_consumer_gets_the_close_frame_after_what_had_begun_to_leave(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(5), frames_max=10, closes_on_overflow=True)
    for number in range(50):
        egress.queue.push(frame(number, 20))
    assert egress.overflows == 1
    egress.transport.open()
    egress.write_in(nursery)
    await wait_all_tasks_blocked()
    first, last = split_frames(bytes(egress.transport.sent))
    assert first[1] == b"0" + b"." * 20
    assert last == (CLOSE, serialize_close(4001, "slow consumer")[2:])


# --- the close frame ---------------------------------------------------------------------------------------


Pushes = list[tuple[int, int | None]]
PUSHES = st.lists(
    st.tuples(
        st.sampled_from([0, 10, 200, 70_000]),
        st.none() | st.sampled_from([0, 1, 5, 15, 300]),
    ),
    min_size=1,
    max_size=12,
)
"""Sizes of frames, and by how much room opens after each (None: the writer does not even get its turn)."""


@settings(deadline=None, max_examples=150)
@example(pushes=[(10, 5), (10, 0), (10, None)], most=UNLIMITED, writes=True, drops=True, cancelled="before")
@example(pushes=[(10, 0), (10, None)], most=UNLIMITED, writes=True, drops=True, cancelled="never")
@example(pushes=[(10, 0), (10, 5), (10, 0)], most=5, writes=True, drops=True, cancelled="after")
@given(
    pushes=PUSHES,
    most=st.sampled_from([1, 5, 1000, UNLIMITED]),
    writes=st.booleans(),
    drops=st.booleans(),
    cancelled=st.sampled_from(["before", "after", "never"]),
)
async def test_a_close_frame_is_whole_and_last_and_tears_no_other(
    pushes: Pushes, most: int, writes: bool, drops: bool, cancelled: str
) -> None:
    """As connections end: close pushed, the writer cancelled wherever it is, and then `finish`."""
    egress = Egress(ScriptedTransport(0, most=most))
    await egress.upgrade()
    async with trio.open_nursery() as nursery:
        if writes:
            egress.write_in(nursery)
        for number, (size, room) in enumerate(pushes):
            egress.queue.push(frame(number, size))
            if room is not None:
                egress.transport.open(room)
                await wait_all_tasks_blocked()
        if cancelled == "before":
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
        begun = len(egress.transport.sent)
        egress.queue.push_close(4003, "drain", drop_queue=drops)
        egress.transport.most = UNLIMITED
        if cancelled == "never":
            egress.transport.open()
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for late in (frame(999), serialize_close(1000, "")):
        egress.queue.push(frame(998))
        await egress.stream.send_all(late)
    egress.queue.push_close(4000, "too late", drop_queue=True)
    egress.transport.open()
    egress.transport.feed(b"")
    await egress.queue.finish()
    *data, close = split_frames(bytes(egress.transport.sent))
    assert close == (CLOSE, serialize_close(4003, "drain")[2:])
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)
    expected = [b"%d" % number + b"." * size for number, (size, _) in enumerate(pushes)]
    received = [payload for _, payload in data]
    assert received == expected[: len(received)]
    if not drops:
        assert received == expected
    elif not writes or cancelled == "before":
        # Only what had begun to leave is ahead of the close frame.
        assert len(b"".join(map(serialized, received[:-1]))) < max(begun, 1)


def test_a_close_with_dropping_goes_ahead_of_all_that_has_not_begun_to_leave() -> None:
    egress = Egress(ScriptedTransport(0))
    for number in range(10):
        egress.queue.push(frame(number))
    egress.transport.open()
    egress.queue.push_close(4001, "slow consumer", drop_queue=True)
    assert split_frames(bytes(egress.transport.sent)) == [(CLOSE, serialize_close(4001, "slow consumer")[2:])]
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)


async def test_nothing_follows_the_close_frame_of_trio_websocket() -> None:
    egress = Egress(ScriptedTransport())
    await egress.upgrade()
    await egress.stream.send_all(serialize_close(1000, ""))
    assert egress.queue.close_sent
    egress.queue.push(frame(1))
    egress.queue.push_close(4000, "")
    await egress.stream.send_all(frame(2))
    assert egress.payloads == [serialize_close(1000, "")[2:]]


def test_a_close_frame_past_the_limits_is_no_overflow() -> None:
    egress = Egress(ScriptedTransport(0), bytes_max=5, frames_max=1)
    egress.queue.push(frame(1))
    egress.queue.push_close(4003, "server is shutting down")
    assert (egress.overflows, egress.queue.queued_frames) == (0, 2)


# --- the end -----------------------------------------------------------------------------------------------


async def test_finish_sends_what_is_left_then_eof_then_reads_up_to_the_peers_end(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    for number in range(5):
        egress.queue.push(frame(number))
    finished = trio.Event()

    async def finish() -> None:
        await egress.queue.finish()
        finished.set()

    nursery.start_soon(finish)
    await wait_all_tasks_blocked()
    assert egress.transport.log == []
    egress.transport.open()
    await wait_all_tasks_blocked()
    assert egress.transport.log == ["flush", "eof"]
    assert len(egress.payloads) == 5
    egress.transport.feed(b"last words", b"more")
    await wait_all_tasks_blocked()
    assert not finished.is_set()
    egress.transport.feed(b"")
    await wait_all_tasks_blocked()
    assert finished.is_set()
    assert not egress.queue.broken


async def test_finish_does_not_listen_for_ever_to_a_peer_that_goes_on_sending() -> None:
    egress = Egress(ScriptedTransport())
    egress.transport.feed(*[b"x" * 65536] * (LINGER_BYTES_MAX // 65536 + 10))
    await egress.queue.finish()
    assert len(egress.transport._incoming) >= 9


async def test_finish_ends_when_the_peer_is_gone() -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    egress.transport.fail()
    await egress.queue.finish()
    assert egress.queue.broken


async def test_finish_ends_when_the_peer_goes_while_it_lingers(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport())
    nursery.start_soon(egress.queue.finish)
    await wait_all_tasks_blocked()
    egress.transport.fail()
    await wait_all_tasks_blocked()
    assert egress.queue.broken


async def test_a_broken_connection_ends_the_writer_and_takes_nothing_more(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport())
    egress.write_in(nursery)
    egress.transport.fail()
    egress.queue.push(frame(1))
    assert egress.writers_started == 1
    await wait_all_tasks_blocked()
    assert egress.queue.broken
    assert not nursery.child_tasks
    egress.queue.push(frame(2))
    egress.queue.push_close(4000, "")
    assert (egress.queue.queued_frames, egress.queue.close_sent) == (0, False)


async def test_a_connection_that_breaks_under_the_writer_ends_it(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    egress.write_in(nursery)
    await wait_all_tasks_blocked()
    egress.transport.fail()
    await wait_all_tasks_blocked()
    assert egress.queue.broken
    assert not nursery.child_tasks


@pytest.mark.parametrize("how", ["reset", "the reader finds out", "the reader finds out first", "abort"])
async def test_however_the_connection_breaks_the_writer_that_waits_for_room_ends(
    how: str, nursery: trio.Nursery
) -> None:
    egress = Egress(ScriptedTransport(0))
    egress.write_in(nursery)
    egress.queue.push(frame(1))
    await wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 1
    if how == "reset":
        egress.transport.fail()
    elif how == "the reader finds out":
        # And the system does not wake the writer.
        egress.queue.fail()
    elif how == "the reader finds out first":
        egress.transport.fail()
        egress.queue.fail()
    else:
        egress.queue.abort()
    await wait_all_tasks_blocked()
    assert egress.queue.broken
    assert not nursery.child_tasks
    egress.transport.room = UNLIMITED
    egress.queue.push(frame(2))
    await wait_all_tasks_blocked()
    assert (bytes(egress.transport.sent), len(nursery.child_tasks)) == (b"", 0)


async def test_abort_forgets_the_queue_and_ends_the_writer(nursery: trio.Nursery) -> None:
    egress = Egress(ScriptedTransport(0))
    egress.queue.push(frame(1))
    egress.write_in(nursery)
    await wait_all_tasks_blocked()
    egress.queue.abort()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert egress.transport.log == ["abort"]
    assert (egress.queue.queued_frames, egress.queue.queued_bytes) == (0, 0)

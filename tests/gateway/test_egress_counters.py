"""What an egress queue counts: the bytes that went, and each frame that did not, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.hub.users import Mark
from livechat.protocol.types import ChannelId
from tests.support.egress import HEAD, Egress, frame
from tests.support.transport import UNLIMITED, ScriptedTransport


def mark(seq: int) -> Mark:
    return (ChannelId("lobby"), seq)


def drops(egress: Egress) -> dict[tuple[str, str], int]:
    """Return the drops that there were."""
    return {labels: number for labels, number in egress.counters.drops.items() if number}


def test_what_goes_at_once_is_counted_in_bytes() -> None:
    egress = Egress(ScriptedTransport())
    egress.queue.push(frame(1), mark(1))
    egress.queue.push(frame(2))
    assert egress.counters.bytes_out == len(frame(1)) + len(frame(2))
    assert not drops(egress)


def test_a_slow_consumer_costs_what_its_queue_held_and_what_comes_after() -> None:
    egress = Egress(ScriptedTransport(0), frames_max=2, closes_on_overflow=True)
    for seq in range(3):
        egress.queue.push(frame(seq), mark(seq))
    egress.queue.push(frame(3))
    assert drops(egress) == {("durable", "slow_consumer"): 3, ("transient", "slow_consumer"): 1}


def test_a_connection_that_is_closed_drops_what_comes_after() -> None:
    egress = Egress(ScriptedTransport())
    egress.queue.push_close(1000, "")
    egress.queue.push(frame(1), mark(1))
    assert drops(egress) == {("durable", "connection_closed"): 1}


def test_a_connection_that_breaks_drops_what_was_queued() -> None:
    transport = ScriptedTransport(0)
    egress = Egress(transport)
    egress.queue.push(frame(1), mark(1))
    egress.queue.fail()
    egress.queue.push(frame(2))
    egress.queue.abort()
    assert drops(egress) == {("durable", "connection_lost"): 1, ("transient", "connection_lost"): 1}


async def test_what_comes_is_counted_with_the_head_and_what_came_along() -> None:
    transport = ScriptedTransport()
    egress = Egress(transport, rest=frame(1))
    transport.feed(frame(2))
    assert await egress.ingress.receive() == frame(1)
    assert await egress.ingress.receive() == frame(2)
    assert egress.counters.bytes_in == len(HEAD + frame(1) + frame(2))


@given(
    room=st.integers(0, 60),
    frames=st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=20),
    end=st.sampled_from(["overflow", "close", "abort"]),
)
def test_every_frame_went_or_is_counted(room: int, frames: list[tuple[int, bool]], end: str) -> None:
    transport = ScriptedTransport(room)
    egress = Egress(transport, frames_max=5 if end == "overflow" else UNLIMITED, closes_on_overflow=True)
    for number, (size, is_marked) in enumerate(frames):
        egress.queue.push(frame(number, size), mark(number) if is_marked else None)
    if end == "close":
        egress.queue.push_close(4505, "", drop_queue=True)
    egress.queue.abort()
    assert egress.counters.bytes_out == len(transport.sent)
    sizes = [len(frame(number, size)) for number, (size, _) in enumerate(frames)]
    whole = sum(sum(sizes[: index + 1]) <= room for index in range(len(sizes)))
    # A close frame that waits in the queue counts as well.
    assert sum(drops(egress).values()) - (len(frames) - whole) in (0, 1)
    durable = sum(is_marked for _, is_marked in frames[whole:])
    assert sum(number for (kind, _), number in drops(egress).items() if kind == "durable") == durable

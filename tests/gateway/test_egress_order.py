"""The order in which an egress queue sends, over every path at once: direct, queued, joined, superseded, dropped,
control frames, the two ways of closing, and TLS; on a socket that stalls, takes parts and breaks as it likes.

A queue is pushed numbered frames. Whatever happens, the client gets whole frames in the order in which they were
pushed (chunks among themselves, all others among themselves), none twice; nothing after a close frame; and of
those that must be told again exactly the ones that it has not got are named.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from livechat.gateway.budget import Budget, EgressLimits, EgressPool
from livechat.gateway.egress import EgressQueue, push_to_all
from livechat.gateway.transport import Transport
from livechat.protocol.delivery import StateMark
from livechat.protocol.frames import CLOSE_HEAD, serialize_frame
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import ChunkMark, Tag, is_mark
from livechat.protocol.types import ChannelId, StreamId, UserId
from livechat.telemetry.counters import Counters
from tests.support.memory_tls import Peer, tls_pair
from tests.support.transport import UNLIMITED, ScriptedTransport

KINDS = ("durable", "state", "chunk", "keyframe", "init", "reply")
STREAMS = ("a", "b")
PONG_HEAD = 0x8A

Step = tuple[str, Any]
KIND = st.sampled_from(KINDS)
SIZE = st.sampled_from([0, 10, 119, 126, 3000, 20_000])
WHICH = st.integers(0, 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("push"), st.tuples(KIND, SIZE, WHICH)),
        st.tuples(st.just("push"), st.tuples(KIND, SIZE, WHICH)),
        st.tuples(st.just("push_later"), st.tuples(KIND, SIZE, WHICH)),
        st.tuples(st.just("push_all"), st.lists(st.tuples(KIND, SIZE, WHICH), min_size=1, max_size=5)),
        st.tuples(st.just("push_to_all"), st.lists(st.tuples(KIND, SIZE, WHICH), min_size=1, max_size=5)),
        st.tuples(st.just("pong"), st.none()),
        st.tuples(st.just("room"), st.sampled_from([1, 5, 17, 150, 5000])),
        st.tuples(st.just("run"), st.none()),
        st.tuples(st.just("leave"), WHICH),
    ),
    max_size=40,
)


class Script:
    """Pushes numbered frames into a queue, and says in the end whether all is well."""

    def __init__(self, transport: Transport, pool: EgressPool, nursery: trio.Nursery) -> None:
        self.pool = pool
        self.queue = EgressQueue(transport, pool, self)
        self.nursery = nursery
        self.is_serving = True
        self.pushed: list[Tag | None] = []
        self.left: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        """Where among the pushed each stream's channel was left: what is pushed then is for who came again."""
        self.pongs = 0
        self.largest = 0
        """Bytes of what was pushed at once."""

    def start_writer(self) -> None:
        """Run the writer, as a connection does."""
        if self.is_serving:
            self.nursery.start_soon(self.queue.write_loop)

    def overflow(self) -> None:
        """Close as a connection does."""
        self.queue.push_close(4001, "slow consumer", drop_queue=True)

    def frame(self, kind: str, size: int, which: int) -> tuple[bytes, Tag | None]:
        """Make the next frame."""
        number = len(self.pushed)
        channel_id = ChannelId(STREAMS[which])
        stream = (channel_id, UserId("ann"), StreamId(STREAMS[which]))
        tags: dict[str, Tag | None] = {
            "durable": (channel_id, number),
            "state": StateMark(Op.TYPING_EVENT, channel_id, UserId("ann")),
            "chunk": ChunkMark(stream, is_keyframe=False),
            "keyframe": ChunkMark(stream, is_keyframe=True),
            "init": ChunkMark(stream, is_keyframe=False, is_init=True),
            "reply": None,
        }
        self.pushed.append(tags[kind])
        frame = serialize_frame(b"%06d" % number + b"." * size, binary=True)
        self.largest = max(self.largest, len(frame))
        return frame, tags[kind]

    async def do(self, socket: ScriptedTransport, steps: list[Step]) -> None:
        """Follow a script."""
        queue, budget = self.queue, self.pool.budget
        for step, details in steps:
            if step == "push":
                queue.push(*self.frame(*details))
            elif step == "push_later":
                queue.push_later(*self.frame(*details))
            elif step in ("push_all", "push_to_all"):
                made = [self.frame(*each) for each in details]
                frames, tags = [frame for frame, _ in made], [tag for _, tag in made]
                joined = b"".join(frames)
                self.largest = max(self.largest, len(joined))
                if step == "push_all":
                    queue.push_all(joined, frames, tags)
                else:
                    push_to_all([queue], joined, frames, tags)
            elif step == "pong":
                queue.push_control(bytes((PONG_HEAD, 0)))
                self.pongs += 1
            elif step == "room":
                socket.open(details)
            elif step == "leave":
                queue.drop_chunks(ChannelId(STREAMS[details]))
                self.left[STREAMS[details]].append(len(self.pushed))
            else:
                await wait_all_tasks_blocked()
            assert 0 <= budget.used_bytes <= budget.limit_bytes + 2 * self.largest + 200
            assert queue.droppable_bytes <= self.pool.limits.chunk_bytes_max

    def check(self, received: bytes, unsent: list[Any]) -> None:
        """Compare what the client has got with what was pushed."""
        frames = whole_frames(received)
        heads = [head for head, _ in frames]
        assert heads.count(CLOSE_HEAD) <= 1
        assert CLOSE_HEAD not in heads[:-1]
        assert heads.count(PONG_HEAD) <= self.pongs
        numbers = [int(payload[:6]) for head, payload in frames if head == 0x82]
        assert len(set(numbers)) == len(numbers)
        others = [number for number in numbers if not isinstance(self.pushed[number], ChunkMark)]
        assert others == sorted(others)
        for stream in STREAMS:
            self.check_stream([number for number in numbers if self.is_of(number, stream)], stream)
        missing = {tag for number, tag in enumerate(self.pushed) if is_mark(tag) and number not in numbers}
        assert len(set(unsent)) == len(unsent)
        assert set(unsent) == missing
        self.check_states(others)

    def is_of(self, number: int, stream: str) -> bool:
        """Tell whether a frame is a chunk of a stream."""
        tag = self.pushed[number]
        return isinstance(tag, ChunkMark) and tag.stream[2] == stream

    def check_stream(self, numbers: list[int], stream: str) -> None:
        """Check a stream's order, and that after a chunk that is missing nothing comes but a keyframe."""
        assert numbers == sorted(numbers)
        every = [number for number in range(len(self.pushed)) if self.is_of(number, stream)]
        in_step, owed, before = True, None, -1
        for number in every[: every.index(numbers[-1]) + 1 if numbers else 0]:
            mark = self.pushed[number]
            assert isinstance(mark, ChunkMark)
            if any(before < left <= number for left in self.left[stream]):
                in_step, owed = True, None
            before = number
            if number not in numbers:
                in_step = False
                owed = number if mark.is_init else owed
            elif mark.is_keyframe:
                assert owed is None, "it goes on without the init chunk that it needs"
                in_step = True
            elif mark.is_init:
                owed = None
            else:
                assert in_step, "a chunk came after a gap"

    def check_states(self, numbers: list[int]) -> None:
        """Check that what was left out of the states had a newer one, unless the end came before."""
        if self.queue.close_sent or self.queue.broken:
            return
        newest = {tag: number for number, tag in enumerate(self.pushed) if isinstance(tag, StateMark)}
        assert set(newest.values()) <= set(numbers)
        replies = [number for number, tag in enumerate(self.pushed) if tag is None or is_mark(tag)]
        assert set(replies) <= set(numbers)


def whole_frames(stream: bytes) -> list[tuple[int, bytes]]:
    """Return the frames (first byte, payload) that have come whole; the last one may be cut short."""
    frames = []
    while len(stream) >= 2:
        size, head = stream[1], 2
        if size == 126:
            size, head = int.from_bytes(stream[2:4], "big"), 4
        if len(stream) < head + size:
            break
        assert stream[0] in (0x82, PONG_HEAD, CLOSE_HEAD), "a frame was torn"
        frames.append((stream[0], stream[head : head + size]))
        stream = stream[head + size :]
    return frames


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@settings(deadline=None, max_examples=80)
@given(
    before=STEPS,
    ending=st.sampled_from(["stay", "close", "drop", "peer", "reset", "cut", "abort"]),
    after=STEPS,
    most=st.sampled_from([1, 7, 1000, UNLIMITED]),
    limits=st.sampled_from(
        [
            EgressLimits(UNLIMITED, UNLIMITED, 400, 4),
            EgressLimits(UNLIMITED, UNLIMITED, 20_000, UNLIMITED),
            EgressLimits(5000, 8, 7000, 3),
        ]
    ),
    budget=st.sampled_from([UNLIMITED, 20_000, 600]),
)
async def test_whatever_the_socket_does_the_order_is_kept_and_what_is_missing_is_named(
    before: list[Step],
    ending: str,
    after: list[Step],
    most: int,
    limits: EgressLimits,
    budget: int,
    tls: bool,
) -> None:
    socket = ScriptedTransport(0, most=most)
    transport: Transport = socket
    peer = Peer(socket)
    if tls:
        transport, peer = await tls_pair(socket)
    async with trio.open_nursery() as nursery:
        script = Script(transport, EgressPool(limits, Counters(), Budget(budget)), nursery)
        await script.do(socket, before)
        await end(script, socket, ending)
        await script.do(socket, after)
        unsent = list(script.queue.cut()) if ending == "cut" else []
        socket.most = UNLIMITED
        socket.open()
        socket.feed(b"")
        await wait_all_tasks_blocked()
        script.is_serving = False
        nursery.cancel_scope.cancel()
    if ending == "stay":
        # Nothing was left waiting with nobody there to send it.
        assert script.queue.broken or script.queue.held_bytes == 0
    with trio.move_on_after(1):
        await script.queue.finish()
    received = peer.received()
    if ending != "cut":
        unsent = list(script.queue.cut())
    was_open = not script.queue.broken
    script.check(received, unsent)
    script.queue.abort()
    assert script.pool.budget.used_bytes == 0
    assert not (was_open and ending in ("reset", "abort"))


async def end(script: Script, socket: ScriptedTransport, ending: str) -> None:
    """Bring about how the connection ends."""
    if ending in ("close", "drop"):
        script.queue.push_close(4003, "drain", drop_queue=ending == "drop")
    elif ending == "peer":
        script.queue.push_control(bytes((CLOSE_HEAD, 2)) + (1000).to_bytes(2, "big"))
    elif ending == "reset":
        socket.fail()
        script.queue.push(*script.frame("reply", 0, 0))
        await wait_all_tasks_blocked()
    elif ending == "abort":
        script.queue.abort()

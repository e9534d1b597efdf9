"""Viewers of live media that do not read, among others that do: whole gaps for those, nothing lost for these."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import msgpack

import livechat
from tests.support.api import calling
from tests.support.client import CHUNK, CHUNK_EVENT, CREATE, JOIN, MESSAGE_EVENT, Client, identified
from tests.support.raw import BINARY, CLOSE, TEXT, RawClient, masked, raw_connected
from tests.support.server import SECRET, counted, running_server, wait_until

X = {"channel_id": "x"}
DATA = b"\xff" * 20_000
KEYFRAMES, INITS = 10, 25
"""Every so many chunks is one."""
SLOW = 3
GATEWAY = {"chunk_bytes": 400_000, "egress_bytes": 65_536, "heartbeat_interval_ms": 120_000}
RATES = livechat.RateLimits(chunks_per_s=0, chunk_bytes_per_s=0)


def marks(seq: int) -> dict[str, bool]:
    """Return how a chunk is marked: now and then a decoder needs something new, some time before a keyframe."""
    if seq == 0 or seq % INITS == INITS - 2:
        return {"init": True}
    return {"keyframe": True} if seq % KEYFRAMES == 1 else {}


@attrs.define
class Viewer:
    """One that reads only when it is told to."""

    raw: RawClient
    user_id: str
    seqs: list[int] = attrs.field(factory=list)
    """Of the chunks that it was sent, in order."""

    async def join(self) -> None:
        await self.raw.send(masked(TEXT, json.dumps({"op": JOIN, "d": X}).encode()))

    async def read_up_to(self, last_seq: int) -> list[str]:
        """Read until a chunk comes; return the messages that came."""
        messages = []
        while self.seqs[-1:] != [last_seq]:
            frame = await self.raw.frame()
            assert frame is not None, "it was closed"
            assert frame[0] != CLOSE, frame
            packet = msgpack.unpackb(frame[1]) if frame[0] == BINARY else json.loads(frame[1])
            if packet["op"] == MESSAGE_EVENT:
                messages.append(packet["d"]["content"])
            if packet["op"] == CHUNK_EVENT:
                assert packet["d"]["data"] == DATA
                self.seqs.append(packet["d"]["chunk_seq"])
        return messages


async def heard(witness: Client) -> int:
    """Return the number of the next chunk; other events are passed over."""
    while True:
        packet = await witness.receive()
        if packet["op"] == CHUNK_EVENT:
            seq: int = packet["d"]["chunk_seq"]
            return seq


async def dropped(client: Any, user_id: str) -> int:
    """Return how many chunks an operator is told that a user's client has lost."""
    (session,) = (await client.get(f"/admin/users/{user_id}")).json()["sessions"]
    number: int = session["chunks_dropped"]
    return number


def check(seqs: list[int]) -> int:
    """Check what a slow viewer was sent; return how many `init` chunks came out of their turn, with a keyframe."""
    needed, last, late = -1, -1, 0
    for seq in seqs:
        if "init" in marks(seq):
            late += seq != last + 1
            needed = seq
        elif seq != last + 1:
            assert "keyframe" in marks(seq), f"it goes on with {seq} after {last}"
            assert needed == max(each for each in range(seq) if "init" in marks(each)), f"for {seq}"
        last = max(last, seq)
    chunks = [seq for seq in seqs if "init" not in marks(seq)]
    assert chunks == sorted(set(chunks))
    return late


async def test_viewers_that_do_not_read_lose_whole_gaps_and_the_others_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_server(tmp_path, gateway=GATEWAY, rates=RATES))
        ann = await stack.enter_async_context(identified(server, "ann"))
        await ann.ack(CREATE, X)
        await ann.ack(JOIN, X)
        witnesses = [await stack.enter_async_context(identified(server, f"witness-{n}")) for n in range(2)]
        for witness in witnesses:
            await witness.ack(JOIN, X)
        viewers = []
        for number in range(SLOW):
            query = f"?token={SECRET}&user_id=slow-{number}"
            raw = await stack.enter_async_context(raw_connected(server, query, receive_buffer=4096))
            viewers.append(Viewer(raw, f"slow-{number}"))
            await viewers[-1].join()
        await wait_until(lambda: counted(server)["subscriptions"] == 1 + 2 + SLOW)
        operator = await stack.enter_async_context(calling(server, None))

        sent = 0

        async def publish(count: int) -> None:
            """Send so many chunks; the witnesses get each one."""
            nonlocal sent
            for seq in range(sent, sent + count):
                await ann.send_bytes(
                    CHUNK, {**X, "stream_id": "cam", "mime": "v", "chunk_seq": seq, "data": DATA} | marks(seq)
                )
                assert [await heard(witness) for witness in witnesses] == [seq] * 2
            sent += count

        while not all([await dropped(operator, viewer.user_id) > 100 for viewer in viewers]):
            await publish(50)
        # There is a keyframe among the last, so that who lost something has come back by then.
        await publish(2 * KEYFRAMES)
        await ann.say("x", "the end")
        for viewer in viewers:
            lost = await dropped(operator, viewer.user_id)
            assert await viewer.read_up_to(sent - 1) == ["the end"], "chat is behind no chunk that waits"
            missing = sent - len(set(viewer.seqs))
            assert missing > 100
            # An `init` chunk that was dropped, and came with a keyframe later, counts as dropped as well.
            assert missing <= lost <= missing + check(viewer.seqs)
        numbers = server._node.instruments.counters
        told = [await dropped(operator, viewer.user_id) for viewer in viewers]
        assert numbers.drops["droppable", "queue_full"] == sum(told)
        assert numbers.closes == {}
        assert await dropped(operator, "witness-0") == 0
        assert counted(server)["connections"] == 1 + 2 + SLOW

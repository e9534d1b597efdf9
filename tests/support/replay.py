"""A store and a client for tests of replaying: one has holes in it, the other reads when a test says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import trio

from livechat.handlers.node import Node
from livechat.handlers.replay import Stretch
from livechat.hub.users import Mark, Outlet, Queued, Session, Span
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.protocol.types import ChannelId, StreamKey, UserId
from livechat.store.queries import ReadRanges
from livechat.store.rows import MessageRow, new_message_id


class FakeMessages:
    """What `ReadRanges` finds: seqs by channel."""

    def __init__(self, **seqs: Iterable[int]) -> None:
        self.seqs = {channel_id: sorted(each) for channel_id, each in seqs.items()}
        self.queries: list[ReadRanges] = []
        self.rows_max = 1 << 30
        """So many rows are returned at most, as if their content were large."""
        self.failure: Exception | None = None
        self.failure_after = 0
        """How many queries succeed before `failure` is raised."""
        self.before_answer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def fetch(self, query: Any) -> tuple[MessageRow, ...]:
        assert isinstance(query, ReadRanges)
        asked = [each.channel_id for each in query.ranges]
        assert len(set(asked)) == len(asked) > 0, "each channel at most once"
        await self.before_answer()
        if self.failure is not None and len(self.queries) >= self.failure_after:
            raise self.failure
        self.queries.append(query)
        found = [
            row(each.channel_id, seq)
            for each in query.ranges
            for seq in self.seqs.get(each.channel_id, ())
            if each.after < seq < each.before
        ]
        return tuple(found[: min(query.limit, self.rows_max)])


class FakeCaller:
    """A connection whose client reads what it is told to; `room` is how much more can be sent without waiting."""

    local_host = peer_host = "127.0.0.1"
    queued = Queued()
    sink = None
    is_confidential = True

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.sent: list[Outgoing] = []
        self.waits = 0
        """How often somebody had to wait for room."""
        self.lot = trio.lowlevel.ParkingLot()

    @property
    def told(self) -> list[tuple[str, int]]:
        """(channel, seq) of all that was sent."""
        return [packet.mark for packet in self.sent if isinstance(packet.mark, tuple)]

    def send_batch(self, batch: Batch) -> None:
        """Send what channels were sent lately, one by one."""
        for packet in batch.packets:
            self.send(packet)

    def read(self, count: int) -> None:
        """Read so many packets more."""
        self.room += count
        self.lot.unpark_all()

    @property
    def is_crowded(self) -> bool:
        return self.room <= 0

    async def wait_room(self) -> None:
        await trio.lowlevel.checkpoint()
        while self.is_crowded:
            self.waits += 1
            await self.lot.park()

    def send_later(self, packet: Outgoing) -> None:
        """Take a packet as `send` does; there is no writer to wait for."""
        self.send(packet)

    def send(self, packet: Outgoing) -> None:
        assert not self.is_crowded, "what can wait was added to a crowded queue"
        self.room -= 1
        self.sent.append(packet)

    def activate(self, session: Session) -> bool:
        raise NotImplementedError

    def renewed(self, expires_at: int | None) -> None:
        raise NotImplementedError

    def claim(self, session: Session) -> bool:
        raise NotImplementedError

    def unclaim(self) -> None:
        raise NotImplementedError

    def displace(self) -> None:
        raise NotImplementedError

    def drop_chunks(self, channel_id: ChannelId) -> None:
        raise NotImplementedError

    def forget_stream(self, stream: StreamKey) -> None:
        """Do nothing."""

    def expel(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def overflow(self) -> None:
        raise NotImplementedError

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        raise NotImplementedError

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        raise NotImplementedError


def node_with(messages: FakeMessages) -> Node:
    """Return a node of which a replay may use the store."""
    return cast(Node, SimpleNamespace(store=messages))


def stretch(channel_id: str, after: int, before: int) -> Stretch:
    return Stretch(ChannelId(channel_id), Span(after), before)


def row(channel_id: str, seq: int) -> MessageRow:
    return MessageRow(
        message_id=new_message_id(),
        channel_id=ChannelId(channel_id),
        seq=seq,
        author_id=UserId("ann"),
        message_type="TEXT",
        content="x",
        attachment=None,
        mentions=(),
        nonce=None,
        timestamp=1,
        system=None,
    )

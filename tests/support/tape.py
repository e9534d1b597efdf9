"""Outlets that remember what they were given, as a connection would send it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgpack

from livechat.gateway.budget import EgressPool
from livechat.gateway.egress import EgressQueue
from livechat.hub.channels import Backlog
from livechat.hub.users import Mark, Outlet, Session
from livechat.protocol.codec import Codec
from livechat.protocol.delivery import StateMark
from livechat.protocol.outgoing import Batch, ChunkMark, Outgoing, Tag
from tests.support.outlet import NullOutlet
from tests.support.transport import ScriptedTransport, split_frames


class Tape(NullOutlet):
    """Remembers packets, and how many came at a time.

    Args:
        backlog: of the hub whose events it hears.
        session: whose outlet it is.
        room: how many packets it takes before it is full.
    """

    def __init__(
        self,
        backlog: Backlog,
        session: Session,
        *,
        room: int | None = None,
    ) -> None:
        self._backlog = backlog
        self._session = session
        self._room = room
        self.packets: list[Outgoing] = []
        self.pieces: list[int] = []
        """How many packets came with each send."""
        self.unsent: list[Tag | None] = []

    def send(self, packet: Outgoing) -> None:
        """Take a packet as `Connection.send` does."""
        if not self._backlog.follow(self._session, packet):
            self.pieces.append(1)
            self._take(packet, None)

    def send_batch(self, batch: Batch) -> None:
        """Take packets of channels."""
        self.pieces.append(len(batch.packets))
        for packet, tag in zip(batch.packets, batch.tags, strict=True):
            self._take(packet, tag)

    def payloads(self) -> list[Any]:
        """Return what it was given."""
        return [packet.payload for packet in self.packets]

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """Name what it did not take."""
        return [tag for tag in self.unsent if tag is not None and not isinstance(tag, StateMark | ChunkMark)]

    def _take(self, packet: Outgoing, tag: Tag | None) -> None:
        if self._room is None or len(self.packets) < self._room:
            self.packets.append(packet)
            return
        self.unsent.append(tag)


class QueueTape(Tape):
    """Sends through an egress queue of its own, as a connection does.

    Args:
        backlog, session: see `Tape`.
        codec: what its frames are written in.
    """

    def __init__(self, backlog: Backlog, session: Session, codec: Codec) -> None:
        super().__init__(backlog, session)
        self._transport = ScriptedTransport()
        self._queue = EgressQueue(self._transport, EgressPool(), self)
        self._queue.codec = codec

    @property
    def sink(self) -> EgressQueue:
        """See `Outlet`."""
        return self._queue

    def send(self, packet: Outgoing) -> None:
        """Take a packet as `Connection.send` does."""
        if not self._backlog.follow(self._session, packet):
            self._queue.push(packet.frame(self._queue.codec), packet.tag)

    def send_batch(self, batch: Batch) -> None:
        """Take packets of channels as `Connection.send_batch` does."""
        self.pieces.append(len(batch.packets))
        self._queue.push_all(*batch.joined(self._queue.codec), batch.tags)

    def start_writer(self) -> None:
        """Do nothing: it has room for all."""

    def overflow(self) -> None:
        """Fail: it has room for all."""
        raise AssertionError("it has room for all")

    def payloads(self) -> list[Any]:
        """Return what it has sent, decoded."""
        frames = split_frames(bytes(self._transport.sent))
        codec = self._queue.codec
        values = [msgpack.unpackb(body) if codec.binary else json.loads(body) for _, body in frames]
        return [tuple(value["d"]) for value in values]

"""Outlets that remember what they were given, as a connection would send it."""

from __future__ import annotations

from collections.abc import Sequence

from livechat.hub.channels import Backlog
from livechat.hub.users import Mark, Outlet, Session
from livechat.protocol.delivery import StateMark
from livechat.protocol.outgoing import Batch, ChunkMark, Outgoing, Tag
from tests.support.outlet import NullOutlet


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

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """Name what it did not take."""
        return [tag for tag in self.unsent if tag is not None and not isinstance(tag, StateMark | ChunkMark)]

    def _take(self, packet: Outgoing, tag: Tag | None) -> None:
        if self._room is None or len(self.packets) < self._room:
            self.packets.append(packet)
            return
        self.unsent.append(tag)

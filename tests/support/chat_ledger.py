"""What the devices of the chat model asked and saw, put together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Any

import attrs

from tests.support.chat_channel import Entry
from tests.support.chat_hearing import Sync
from tests.support.chat_model import Who
from tests.support.chat_order import Deed
from tests.support.client import DELETE, JOIN, LEAVE, MEMBER_ADD, MEMBER_REMOVE, MESSAGE, UPDATE

Packet = dict[str, Any]

_SHOWN = {DELETE: (), UPDATE: ("channel_name", "private"), MEMBER_ADD: ("user_id", "role")}
"""What is told without a seq, and what of the request shows in that."""


@attrs.define(eq=False)
class Pending:
    """A request that was sent, and not answered yet."""

    op: int
    d: Packet
    deeds: dict[str, Deed]
    """What it asks of each channel."""
    syncs: list[Sync] = attrs.field(factory=list)
    is_silent: bool = False
    """It gets an answer only if it is refused."""

    def is_about(self, error: Packet) -> bool:
        """Tell whether an ERROR without an id may be the answer."""
        return self.is_silent and (self.op, self.d.get("nonce")) == (error["op"], error.get("nonce"))


class Ledger:
    """Everything that anybody asked or saw."""

    def __init__(self, channel_ids: tuple[str, ...]) -> None:
        self.channel_ids = channel_ids
        self.entries: dict[str, dict[int, Entry]] = {channel_id: {} for channel_id in channel_ids}
        """What was seen at each seq."""
        self.deeds: list[Deed] = []
        """What was asked since everything was quiet last."""
        self.changes: set[tuple[Any, ...]] = set()
        """All that was ever asked and is told without a seq: channel, user, op and what else shows."""
        self.trace: deque[str] = deque(maxlen=400)
        self._details: dict[tuple[str, int], tuple[str, int]] = {}
        self._connections = count(1)
        self._ticks = count(1)

    def now(self) -> int:
        """Return the next tick of a clock that never stands still."""
        return next(self._ticks)

    def next_connection(self) -> int:
        """Return the number of a new connection."""
        return next(self._connections)

    def note(self, line: str) -> None:
        """Keep a line for whoever reads of a failure."""
        self.trace.append(line if len(line) < 300 else f"{line[:297]}...")

    def asks(self, who: Who, connection: int, op: int, d: Packet, channel_ids: Iterable[str]) -> dict[str, Deed]:
        """Note what is being asked of some channels."""
        deeds = {}
        for channel_id in channel_ids:
            deeds[channel_id] = Deed(who, connection, op, {**d, "channel_id": channel_id}, self.now())
        self.deeds += deeds.values()
        if op in _SHOWN:
            self.changes.add((d["channel_id"], who.user_id, op, *[d.get(name) for name in _SHOWN[op]]))
        return deeds

    def saw(self, channel_id: str, seq: int, entry: Entry, packet: Packet) -> None:
        """Note what stands at a seq: everybody must see the same there."""
        known = self.entries[channel_id].setdefault(seq, entry)
        assert known == entry, f"{channel_id} {seq}: {known} before, now {entry}"
        if "message_id" in packet:
            detail = (packet["message_id"], packet["timestamp"])
            assert self._details.setdefault((channel_id, seq), detail) == detail, packet

    def was_deleted(self, channel_id: str) -> bool:
        """Tell whether anybody ever asked for that."""
        return any(channel == channel_id and op == DELETE for channel, _, op, *_ in self.changes)

    def of(self, channel_id: str, *ops: int) -> list[Deed]:
        """Return what was asked of a channel since everything was quiet last."""
        return [deed for deed in self.deeds if deed.op in ops and deed.d["channel_id"] == channel_id]

    def causes(self, event: Packet) -> list[Deed]:
        """Return what was asked since everything was quiet last and may have caused an event of a channel."""
        return [deed for deed in self.deeds if _may_cause(deed, event)]


def _may_cause(deed: Deed, event: Packet) -> bool:
    if deed.d["channel_id"] != event["channel_id"]:
        return False
    if "author_id" in event:
        wanted = (MESSAGE, event["author_id"], event["content"])
        return (deed.op, deed.who.user_id, deed.d.get("content")) == wanted
    user_id, actor_id = event["member"]["user_id"], event.get("actor_id")
    if event["event"] in ("join", "leave") and actor_id is None:
        return (deed.op, deed.who.user_id) == (JOIN if event["event"] == "join" else LEAVE, user_id)
    if deed.who.user_id != actor_id:
        return False
    if event["event"] == "leave":
        return deed.op == MEMBER_REMOVE and deed.d["user_id"] == user_id
    if event["event"] == "join" or "role" in event:
        return deed.op == MEMBER_ADD and deed.d["user_id"] == user_id
    if event["event"] == "delete":
        return deed.op == DELETE
    return deed.op == UPDATE and deed.d["channel_name"] == event["channel"]["channel_name"]

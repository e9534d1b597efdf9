"""In which order may all this have happened? Finds every state that explains what clients were answered.

Requests of one session in one channel happen in the order in which they were sent, those of different sessions in
any order that real time allows; a connection that broke may have had any first part of its unanswered ones done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

import attrs

from tests.support.chat_channel import Channel, Entry, entry_of
from tests.support.chat_model import Answer, Who, execute
from tests.support.client import HISTORY, INFO, JOIN, MEMBER_LIST, MESSAGE

PENDING: Final = -1
"""Not answered yet."""
LOST: Final = -2
"""The connection ended before the answer: perhaps it was done."""
SILENT: Final = -3
"""Needs no answer where it succeeds."""


@attrs.define(eq=False)
class Deed:
    """Something that one session asked of one channel."""

    who: Who
    connection: int
    """Numbers the connections of all sessions."""
    op: int
    d: dict[str, Any]
    sent_at: int
    """Ticks of a clock that never stands still."""
    answer: Answer = PENDING
    answered_at: float = inf

    def __str__(self) -> str:
        return f"{self.who.session}: {self.op} {self.d} -> {self.answer}"[:300]


def explain(
    channels: Iterable[Channel], lanes: Sequence[Sequence[Deed]], known: Mapping[int, Entry]
) -> set[Channel]:
    """Return every state in which the channel may be after these deeds; empty if nothing explains the answers.

    Args:
        channels: the states in which it may have been before.
        lanes: the deeds of each session, in the order of sending.
        known: what is known of the sequence.
    """
    found: set[Channel] = set()
    start = (0,) * len(lanes)
    stack = [(channel, start) for channel in channels]
    visited = set(stack)
    while stack:
        channel, places = stack.pop()
        heads = [(lane, lanes[lane][place]) for lane, place in enumerate(places) if place < len(lanes[lane])]
        if not heads and channel.last_seq >= max(known, default=0):
            found.add(channel)
        horizon = min(
            (deed.answered_at for lane, place in enumerate(places) for deed in lanes[lane][place:]), default=0
        )
        for lane, deed in heads:
            following = []
            if deed.sent_at <= horizon:
                following = [(after, places[lane] + 1) for after in _outcomes(channel, deed, known)]
            if deed.answer == LOST:
                following.append((channel, _next_connection(lanes[lane], places[lane])))
            for after, place in following:
                step = (after, (*places[:lane], place, *places[lane + 1 :]))
                if step not in visited:
                    visited.add(step)
                    stack.append(step)
    return found


def _outcomes(channel: Channel, deed: Deed, known: Mapping[int, Entry]) -> list[Channel]:
    """Return the states to which the deed may lead, if that is what it was answered."""
    after, answer = execute(channel, deed.who, deed.op, deed.d)
    is_refused = isinstance(answer, int)
    fits = not is_refused if deed.answer == SILENT else deed.answer in (LOST, answer)
    if not fits or any(known.get(seq, entry) != entry for seq, entry in _added(channel, after)):
        return []
    if deed.op == JOIN and deed.answer == LOST:
        # If the connection had ended by then, the user is a member, but the session has not joined.
        return [after, attrs.evolve(after, joined=channel.joined)]
    return [after]


def _added(before: Channel, after: Channel) -> list[tuple[int, Entry]]:
    return list(enumerate(after.entries[before.last_seq :], before.last_seq + 1))


def _next_connection(lane: Sequence[Deed], place: int) -> int:
    """Return the place after all that the connection of this one had left undone."""
    connection = lane[place].connection
    while place < len(lane) and lane[place].connection == connection:
        place += 1
    return place


# --- what clients saw, as far as it can be foretold ------------------------------------------------


def pick(data: dict[str, Any], names: str) -> dict[str, Any]:
    """Return some of the fields."""
    return {name: data[name] for name in names.split()}


def view_of(data: dict[str, Any]) -> Answer:
    """Return what can be foretold of a ChannelState."""
    names = "channel_name durable role last_seq read_seq unread mention_count member_count"
    last = data.get("last_message")
    return pick(data, names) | {"last_message": None if last is None else (last["seq"], entry_of(last))}


def answer_of(op: int, data: dict[str, Any]) -> Answer:
    """Return what can be foretold of an ACK's data."""
    if op == MESSAGE:
        names = "channel_id seq duplicate"
        return pick(data, f"{names} nonce" if "nonce" in data else names)
    if op == JOIN:
        return pick(data, "channel_id last_seq")
    if op == INFO:
        return view_of(data)
    if op == HISTORY:
        return data | {"messages": [(row["seq"], entry_of(row)) for row in data["messages"]]}
    if op == MEMBER_LIST:
        return data | {"members": [(row["user_id"], row["role"]) for row in data["members"]]}
    return data

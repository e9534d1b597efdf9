"""Handles op 28, PRESENCE_UPDATE, and owns telling changes of presence to those who share a channel.

It must not decide what is shown (`livechat.hub.presence`). Changes gather for a moment before they are told, so
that a storm of connections costs every client a few packets; nobody is told what READY or RESUMED said already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import trio

from livechat.error import LiveError
from livechat.handlers.call import Call
from livechat.handlers.node import Node
from livechat.hub.presence import Departure, PresenceChange
from livechat.hub.users import Session
from livechat.protocol.events import PresenceBatch, PresenceUpdated
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.requests import PresenceUpdate
from livechat.protocol.types import PresenceStatus, UserId
from livechat.store.operations import NoteSeen

SNAPSHOT_MAX: Final = 1000
"""Users whose presence READY and RESUMED tell."""
PAIRS_AT_ONCE: Final = 2000
"""Pairs of a change and somebody who may hear of it, before other tasks get their turn."""


def update(call: Call, request: PresenceUpdate) -> None:
    """Op 28 → ACK PresenceUpdated; PRESENCE_EVENT to those who share a channel, where it shows."""
    session, node = call.session, call.node
    session.status, session.status_text = request.status, request.text
    node.presence.updated(session.session_id, request.status, request.text, node.now(), node.now_ms())
    call.ack(PresenceUpdated(node.presence.presence_of(session.user_id, node.now_ms()).status))
    node.presence_changed.unpark_all()


def came(node: Node, session: Session) -> dict[UserId, PresenceStatus]:
    """Note that a session has a connection; return what it is to know of its user's acquaintances."""
    node.presence.connected(
        session.session_id, session.user_id, session.status, session.status_text, node.now(), node.now_ms()
    )
    node.presence_changed.unpark_all()
    session.presence_version = node.presence.version
    known = [
        user_id
        for user_id in sorted(node.channels.acquaintances(session.user_id))
        if node.channels.is_acquainted(session, user_id)
    ]
    return node.presence.shown(known, SNAPSHOT_MAX)


def went(node: Node, session: Session) -> None:
    """Note that a session has lost its connection."""
    node.presence.disconnected(session.session_id, node.now(), node.now_ms())
    node.presence_changed.unpark_all()


async def run(node: Node) -> None:
    """Tell what has changed, for ever."""
    while True:
        if not node.presence.is_changed:
            due = node.presence.next_due
            with trio.move_on_at(trio.current_time() + 3600 if due is None else due):
                await node.presence_changed.park()
        await trio.sleep(node.limits.presence_interval_ms / 1000)
        departed = node.presence.take_departed(node.now())
        _note_departures(node, departed)
        changes = node.presence.take_changes(node.now(), node.now_ms())
        if changes:
            await _tell(node, changes)
        for departure in departed:
            # Who has come and gone again meanwhile departs once more.
            if departure.user_id not in node.presence:
                node.channels.settle(departure.user_id)


def _note_departures(node: Node, departed: Iterable[Departure]) -> None:
    for departure in departed:
        if departure.last_seen is not None:
            try:
                node.store.submit(NoteSeen(departure.user_id, seen_ms=departure.last_seen), _ignore)
            except LiveError:
                pass  # it is a courtesy; a store that is overloaded or closing has more important things to do


def _ignore(_outcome: object) -> None:
    """Take an answer that nobody waits for."""


async def _tell(node: Node, changes: Sequence[PresenceChange]) -> None:
    """Send each session what concerns it: in one packet, if its client reads such."""
    news: dict[Session, list[int]] = {}
    pairs = 0
    for number, change in enumerate(changes):
        for user_id in node.channels.acquaintances(change.presence.user_id):
            pairs += 1
            for session in node.users.sessions_of(user_id):
                if (
                    session.outlet is not None
                    and change.concerns(session.presence_version)
                    and node.channels.is_acquainted(session, change.presence.user_id)
                ):
                    news.setdefault(session, []).append(number)
        if pairs >= PAIRS_AT_ONCE:
            pairs = 0
            await trio.lowlevel.checkpoint()
    singles: dict[int, Outgoing] = {}
    batches: dict[tuple[int, ...], Outgoing] = {}
    for session, numbers in news.items():
        pairs += len(numbers)
        if session.presence_batches and len(numbers) > 1:
            key = tuple(numbers)
            if key not in batches:
                users = [changes[number].presence for number in numbers]
                batches[key] = Outgoing(Op.PRESENCE_EVENT, PresenceBatch(users))
            _send(session, batches[key])
        else:
            for number in numbers:
                if number not in singles:
                    singles[number] = Outgoing(Op.PRESENCE_EVENT, changes[number].presence)
                _send(session, singles[number])
        if pairs >= PAIRS_AT_ONCE:
            pairs = 0
            await trio.lowlevel.checkpoint()


def _send(session: Session, packet: Outgoing) -> None:
    if session.outlet is not None:
        session.outlet.send(packet)

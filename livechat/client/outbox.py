"""Owns the messages that have no answer yet: each is sent until it has one, always with the same nonce.

It must not send; it names what is due and takes the answers.

    waiting ──► in flight ──► ACK, or heard with our nonce      settled: stored
       ▲            │         refused for good, or ROLLBACK      settled: not stored
       └────────────┤         refused for now, or RETRY          after a wait; 9000 a few times only
                    └──────── the connection is lost             after the next READY or RESUMED

Messages of one channel leave in the order in which they were posted, the next one once the one before is settled
(or `sends_in_flight` of them at a time).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

from livechat.client.error import NotSent, OutboxFull, OutcomeUnknown
from livechat.client.settings import INTERNAL_ERRORS_MAX, ClientSettings
from livechat.error import InternalError, LiveError, NotPersisted
from livechat.protocol.events import Message, MessageCreated
from livechat.protocol.requests import MessageCreate
from livechat.protocol.types import ChannelId


class Settle(Protocol):
    """Takes the end of a message: where it is stored, or why it is not."""

    def __call__(self, created: MessageCreated | None, error: Exception | None) -> None:
        """Be told, once."""
        ...


@attrs.define(eq=False)
class Entry:
    """A message without an answer."""

    request: MessageCreate
    nonce: str
    settle: Settle
    expires_at: float
    in_flight: bool = False
    may_be_stored: bool = False
    """It was sent once, and no answer has said that it is not stored."""
    tries: int = 0
    """How often it was refused for now."""
    retry_at: float = -math.inf


class Outbox:
    """All messages of one client that have no answer yet.

    Args:
        settings: the bounds.
        uniform: returns a random number from 0 to 1.
    """

    def __init__(self, settings: ClientSettings, uniform: Callable[[], float]) -> None:
        self._settings = settings
        self._uniform = uniform
        self._lanes: dict[ChannelId, deque[Entry]] = {}
        self._entries: dict[str, Entry] = {}
        """By nonce, the oldest first."""
        self._moved: dict[ChannelId, None] = {}
        """Lanes in which something may be due."""
        self._waiting: dict[str, Entry] = {}
        """Refused for now, by nonce."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request: MessageCreate, settle: Settle, now: float) -> None:
        """Take a message with a nonce.

        Raises:
            OutboxFull: there are too many already.
        """
        assert request.nonce is not None, "without a nonce a message could be stored twice"
        if len(self._entries) >= self._settings.outbox_max:
            raise OutboxFull(f"{len(self._entries)} messages wait for their answer")
        entry = Entry(request, request.nonce, settle, now + self._settings.send_timeout_s)
        self._entries[entry.nonce] = entry
        self._lanes.setdefault(request.channel_id, deque()).append(entry)
        self._moved.setdefault(request.channel_id)

    # --- out ----------------------------------------------------------------------------------------

    def due(self, now: float) -> list[Entry]:
        """Return what to send now, in order; it counts as in flight. Ask only while there is a session."""
        for entry in [each for each in self._waiting.values() if each.retry_at <= now]:
            del self._waiting[entry.nonce]
            self._moved.setdefault(entry.request.channel_id)
        moved, self._moved = self._moved, {}
        return [entry for channel_id in moved for entry in self._due_of_lane(self._lanes.get(channel_id, ()), now)]

    def _due_of_lane(self, lane: deque[Entry] | tuple[()], now: float) -> list[Entry]:
        due: list[Entry] = []
        for place, entry in enumerate(lane):
            if place == self._settings.sends_in_flight or entry.retry_at > now:
                break
            if not entry.in_flight:
                entry.in_flight = True
                due.append(entry)
        return due

    def deadline(self, *, online: bool) -> float:
        """Return when to call `due` or `expire` next."""
        oldest = next(iter(self._entries.values()), None)
        expires_at = math.inf if oldest is None else oldest.expires_at
        if not online:
            return expires_at
        return min(expires_at, *(entry.retry_at for entry in self._waiting.values()), math.inf)

    # --- answers --------------------------------------------------------------------------------------

    def created(self, entry: Entry, created: MessageCreated) -> None:
        """Take the ACK."""
        self._settle(entry, created, None)

    def refused(self, entry: Entry, refusal: LiveError, now: float) -> None:
        """Take the ERROR."""
        if entry.nonce not in self._entries:
            return
        is_unknown = isinstance(refusal, NotPersisted) and refusal.action == "RETRY"
        is_failure = isinstance(refusal, InternalError)
        entry.may_be_stored |= is_unknown or is_failure
        if is_failure and entry.tries >= INTERNAL_ERRORS_MAX:
            self.give_up(entry.nonce, f"the server fails at it ({refusal.reason})")
            return
        if is_unknown or (refusal.retryable and refusal.action != "ROLLBACK"):
            entry.in_flight = False
            told_s = (refusal.retry_after_ms or 0) / 1000
            entry.retry_at = now + max(told_s, self._settings.backoff.ceiling_s(entry.tries) * self._uniform())
            entry.tries += 1
            self._waiting[entry.nonce] = entry
            return
        self._settle(entry, None, refusal)

    def heard(self, message: Message) -> None:
        """Take an event of a message by our own user: it may be one whose ACK was lost."""
        entry = self._entries.get(message.nonce) if message.nonce is not None else None
        if entry is not None and entry.request.channel_id == message.channel_id:
            created = MessageCreated(
                message.message_id, message.channel_id, message.seq, message.timestamp, False, message.nonce
            )
            self._settle(entry, created, None)

    def lost(self, unsent: set[str]) -> None:
        """Take back what was in flight: its connection has ended.

        Args:
            unsent: nonces of those that had not left yet.
        """
        for entry in self._entries.values():
            entry.may_be_stored |= entry.in_flight and entry.nonce not in unsent
            entry.in_flight = False
            self._moved.setdefault(entry.request.channel_id)

    # --- giving up --------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Give up what was tried for too long."""
        for entry in list(self._entries.values()):
            if entry.expires_at > now:
                break
            self.give_up(entry.nonce, f"not within {self._settings.send_timeout_s:g} s")

    def give_up(self, nonce: str, why: str) -> None:
        """Try a message no more; it may have left already."""
        entry = self._entries.get(nonce)
        if entry is None:
            return
        if entry.in_flight or entry.may_be_stored:
            self._settle(entry, None, OutcomeUnknown(f"the message may be stored or not: {why}"))
        else:
            self._settle(entry, None, NotSent(f"the message was not sent: {why}"))

    def close(self, why: str) -> None:
        """Give up everything."""
        for nonce in list(self._entries):
            self.give_up(nonce, why)

    def _settle(self, entry: Entry, created: MessageCreated | None, error: Exception | None) -> None:
        if self._entries.pop(entry.nonce, None) is None:
            return
        self._waiting.pop(entry.nonce, None)
        channel_id = entry.request.channel_id
        lane = self._lanes[channel_id]
        lane.remove(entry)
        if lane:
            self._moved.setdefault(channel_id)
        else:
            del self._lanes[channel_id]
        entry.settle(created, error)

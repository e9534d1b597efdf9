"""Owns how holes are filled: what to ask the server for, and when to take something for lost.

It must not send; it names the next request and takes its answer. One request is under way at a time, for so many
events at most: a long absence comes back in portions that neither side has to hold.

    hole ──► SYNC ──► filled: done, or the next portion
               │ refused for good, or something is still missing
               ▼
             HISTORY, page by page ──► what a page leaves out does not exist: Gap
               │ refused for good
               ▼
             Gap

What is refused for now is asked again later, but an internal error only so often: it may be one that this request
causes, and the channel stands still meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from livechat.client.inbox import Handed, Inbox
from livechat.client.payloads import event_of_row
from livechat.client.settings import INTERNAL_ERRORS_MAX, Backoff
from livechat.error import InternalError, LiveError
from livechat.protocol.events import HistoryPage, Synced
from livechat.protocol.requests import HISTORY_LIMIT_MAX, History, Sync, SyncRange
from livechat.protocol.types import ChannelId

EVENTS_ASKED_MAX: Final = 500
CHANNELS_ASKED_MAX: Final = 100
"""What one SYNC asks for: well below what a server queues for one client before it counts as slow."""


class Repairs:
    """The repair of one inbox.

    Args:
        inbox: whose holes to fill.
        backoff: how long to wait after a refusal that may pass.
        uniform: returns a random number from 0 to 1.
    """

    def __init__(self, inbox: Inbox, backoff: Backoff, uniform: Callable[[], float]) -> None:
        self._inbox = inbox
        self._backoff = backoff
        self._uniform = uniform
        self._by_history: set[ChannelId] = set()
        """Channels of which SYNC has left something out."""
        self._syncing: dict[ChannelId, tuple[int, int]] = {}
        """The (after, before) under way by SYNC."""
        self._paging: ChannelId | None = None
        """The channel under way by HISTORY."""
        self._tries = 0
        self._retry_at = -math.inf

    @property
    def is_busy(self) -> bool:
        """Whether a request is under way."""
        return bool(self._syncing) or self._paging is not None

    @property
    def deadline(self) -> float:
        """When to ask for the next request; only a refusal makes it wait."""
        return self._retry_at if self._inbox.broken() and not self.is_busy else math.inf

    def next_request(self, now: float) -> Sync | History | None:
        """Return what to ask now; it counts as asked."""
        if self.is_busy or now < self._retry_at:
            return None
        broken = self._inbox.broken()
        if not broken:
            return None
        if broken[0] in self._by_history:
            self._paging = broken[0]
            return History(broken[0], after_seq=self._inbox.last(broken[0]), limit=HISTORY_LIMIT_MAX)
        left = EVENTS_ASKED_MAX
        for channel_id in broken:
            if channel_id in self._by_history:
                continue
            after, end = self._inbox.hole(channel_id)
            before = min(end, after + 1 + left)
            self._syncing[channel_id] = (after, before)
            left -= before - after - 1
            if left <= 0 or len(self._syncing) == CHANNELS_ASKED_MAX:
                break
        return Sync({channel_id: SyncRange(*asked) for channel_id, asked in self._syncing.items()})

    # --- answers ----------------------------------------------------------------------------------

    def synced(self, done: Synced) -> None:
        """Take the ACK of SYNC; what it replayed has come before."""
        asked, self._syncing = self._syncing, {}
        self._tries = 0
        for channel_id, (after, before) in asked.items():
            if not self._inbox.is_broken(channel_id):
                continue
            last = self._inbox.last(channel_id)
            answer = done.channels.get(channel_id)
            goes_on = answer is not None and answer.recovered and last > after
            if last < before - 1 and not goes_on:
                self._by_history.add(channel_id)
            self._inbox.postpone(channel_id)

    def paged(self, page: HistoryPage) -> list[Handed]:
        """Take the ACK of HISTORY; return what can be handed over now, in order."""
        channel_id, self._paging = self._paging, None
        self._tries = 0
        if channel_id is None or not self._inbox.is_broken(channel_id):
            return []
        inbox, before = self._inbox, self._inbox.last(channel_id)
        handed: list[Handed] = []
        for row in page.messages:
            # A page is complete: what it leaves out cannot be had.
            handed += inbox.give_up(channel_id, row.seq)
            handed += inbox.offer(event_of_row(row), row.seq)
        if not page.has_after:
            handed += inbox.give_up(channel_id, page.last_seq + 1)
            self._by_history.discard(channel_id)
        if inbox.is_broken(channel_id) and inbox.last(channel_id) == before:
            # It says that there is more, and gives none.
            handed += inbox.give_up(channel_id, inbox.hole(channel_id)[1])
        inbox.postpone(channel_id)
        return handed

    def refused(self, refusal: LiveError, now: float) -> list[Handed]:
        """Take an ERROR instead; return what can be handed over now, in order."""
        asked, self._syncing = self._syncing, {}
        channel_id, self._paging = self._paging, None
        if refusal.retryable and not (isinstance(refusal, InternalError) and self._tries >= INTERNAL_ERRORS_MAX):
            ceiling_s = self._backoff.ceiling_s(self._tries)
            self._tries += 1
            told_s = (refusal.retry_after_ms or 0) / 1000
            self._retry_at = now + max(told_s, ceiling_s * self._uniform())
            return []
        self._tries = 0
        # One channel of many may have spoilt a SYNC: each is asked for by itself now.
        self._by_history.update(asked)
        if channel_id is None or not self._inbox.is_broken(channel_id):
            return []
        self._by_history.discard(channel_id)
        return self._inbox.give_up(channel_id, self._inbox.hole(channel_id)[1])

    def lost(self) -> None:
        """Forget what was under way: its connection has ended."""
        self._syncing = {}
        self._paging = None
        self._by_history.clear()
        self._tries = 0
        self._retry_at = -math.inf

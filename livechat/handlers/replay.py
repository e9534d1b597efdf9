"""Owns sending again what lies in the store, no faster than the client reads, for SYNC and RESUME.

It must not know which of the two asks. Pages are read beside the writer; nothing here makes it wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

import attrs
import trio

from livechat.handlers import views
from livechat.handlers.call import Caller
from livechat.handlers.node import Node
from livechat.hub.users import Span
from livechat.protocol.types import ChannelId, UserId
from livechat.store.queries import Range, ReadRanges
from livechat.store.rows import MessageRow

PAGE_MESSAGES: Final = 200
PAGE_CHARS: Final = 262_144
"""Content of a page, in code points."""
RANGES_AT_ONCE: Final = 200
"""Channels that one page may be made of."""


@attrs.define(slots=True)
class Stretch:
    """A part of a channel's sequence on its way to a client."""

    channel_id: ChannelId
    span: Span
    """Where it stands; it moves with every event that is sent, so whoever looks at it sees that at any time."""
    before: int
    """The first seq that is not wanted."""
    replayed: int = 0
    """Events sent."""
    is_intact: bool = True
    """False: something of it was not in the store."""
    listener: UserId | None = None
    """Whose session is told what it missed: not what was said between a leave of its own and the join after it.
    None: all of it was asked for."""

    @property
    def missing(self) -> int:
        """How many events are to be sent yet."""
        return max(0, self.before - 1 - self.span.after)

    def concerns(self, row: MessageRow) -> bool:
        """Tell whether the next event is to be sent."""
        if self.listener is None:
            return True
        if row.system is not None and row.system["user_id"] == self.listener:
            self.span.is_out = row.system["event"] == "leave"
            return True
        return not self.span.is_out


def may_always(_channel_id: ChannelId) -> bool:
    """Let everything be replayed."""
    return True


async def replay(
    node: Node,
    caller: Caller,
    stretches: Iterable[Stretch],
    *,
    may_hear: Callable[[ChannelId], bool] = may_always,
) -> None:
    """Send what lies in the stretches, in their order, and move them to their ends.

    Args:
        may_hear: asked again before each event; where it says no, the stretch ends there and is not intact.

    Raises:
        BackendUnavailable: the store can't be read; what was sent before shows in the stretches.
        ShuttingDown: the store is being closed.

    Cancellation:
        As for an error.
    """
    waiting = deque(stretch for stretch in stretches if stretch.missing)
    while waiting:
        await _wait_room(caller)
        page = [stretch for stretch in _next_channels(waiting) if _is_heard(stretch, may_hear)]
        ranges = tuple([Range(stretch.channel_id, stretch.span.after, stretch.before) for stretch in page])
        found = await node.store.fetch(ReadRanges(ranges, PAGE_MESSAGES, PAGE_CHARS)) if ranges else ()
        await trio.lowlevel.checkpoint_if_cancelled()
        await _send(caller, page, found, may_hear)
        while waiting and not waiting[0].missing:
            waiting.popleft()


async def _wait_room(caller: Caller) -> None:
    """Wait for the client, and notice that it is gone: the spans may be another connection's by now."""
    await caller.wait_room()
    await trio.lowlevel.checkpoint_if_cancelled()


def _next_channels(waiting: Iterable[Stretch]) -> list[Stretch]:
    """Return the next stretches that one query can ask for: as many as one page may be made of, a channel once."""
    page: dict[ChannelId, Stretch] = {}
    for stretch in islice(waiting, RANGES_AT_ONCE):
        if stretch.channel_id in page:
            break
        page[stretch.channel_id] = stretch
    return list(page.values())


def _is_heard(stretch: Stretch, may_hear: Callable[[ChannelId], bool]) -> bool:
    if may_hear(stretch.channel_id):
        return True
    _give_up(stretch)
    return False


def _give_up(stretch: Stretch) -> None:
    stretch.is_intact = False
    stretch.span.after = stretch.before - 1


async def _send(
    caller: Caller, page: list[Stretch], found: tuple[MessageRow, ...], may_hear: Callable[[ChannelId], bool]
) -> None:
    """Send a page. Whatever of it precedes the last message found, and was not found, is not there."""
    position = 0
    for row in found:
        while page[position].channel_id != row.channel_id:
            if page[position].missing:
                _give_up(page[position])
            position += 1
        stretch = page[position]
        if caller.is_crowded:
            await _wait_room(caller)
        # Looked at again, as a query or a client takes its time.
        if not stretch.missing or not _is_heard(stretch, may_hear):
            continue
        if row.seq != stretch.span.after + 1:
            stretch.is_intact = False
        if stretch.concerns(row):
            caller.send_later(views.sequenced(row))
            stretch.replayed += 1
        stretch.span.after = row.seq
    if not found:
        for stretch in page:
            _give_up(stretch)

"""Owns what was handed to the application: one cursor a channel, and the order in which events leave here.

It must not ask the server for anything (see `repair`) or know what events mean (see `state`).
"""

from __future__ import annotations

from collections.abc import Iterator

from livechat.client.cursor import Cursor
from livechat.client.events import Gap, Sequenced
from livechat.protocol.types import ChannelId

Handed = Sequenced | Gap
"""What the application gets, in order: the events, and where some are missing for good."""


class Inbox:
    """The cursors of all channels that the user is in and that this session receives.

    Args:
        held_max: events of one channel that are held while an earlier one is missing.
    """

    def __init__(self, *, held_max: int) -> None:
        self._held_max = held_max
        self._cursors: dict[ChannelId, Cursor[Sequenced]] = {}
        self._broken: dict[ChannelId, None] = {}
        """Channels with a hole, in the order in which they shall be repaired."""

    def __contains__(self, channel_id: object) -> bool:
        return channel_id in self._cursors

    def __iter__(self) -> Iterator[ChannelId]:
        return iter(self._cursors)

    def positions(self) -> dict[ChannelId, int]:
        """Return the last seq handed over, by channel: the cursors of RESUME."""
        return {channel_id: cursor.last for channel_id, cursor in self._cursors.items()}

    def last(self, channel_id: ChannelId) -> int:
        """Return the last seq handed over."""
        return self._cursors[channel_id].last

    def goes_beyond(self, channel_id: ChannelId, seq: int) -> bool:
        """Tell whether the channel is followed and known to have more than `seq`."""
        cursor = self._cursors.get(channel_id)
        return cursor is not None and cursor.known > seq

    # --- channels come and go ---------------------------------------------------------------------

    def open(self, channel_id: ChannelId, last_seq: int) -> None:
        """Follow a channel from `last_seq` on; what came before belongs to history."""
        self._cursors[channel_id] = Cursor(last_seq, held_max=self._held_max)
        self._broken.pop(channel_id, None)

    def close(self, channel_id: ChannelId) -> list[Handed]:
        """Follow a channel no more; return what was held, with the gaps between."""
        cursor = self._cursors.get(channel_id)
        if cursor is None:
            return []
        rest = self.give_up(channel_id, cursor.known + 1) if cursor.held else []
        del self._cursors[channel_id]
        self._broken.pop(channel_id, None)
        return rest

    # --- events -----------------------------------------------------------------------------------

    def expect(self, channel_id: ChannelId, last_seq: int) -> None:
        """Note that the server has told of `last_seq`: what is missing up to there has to come."""
        self._cursors[channel_id].expect(last_seq)
        self._note(channel_id)

    def offer(self, event: Sequenced, seq: int) -> list[Handed]:
        """Take an event of a channel that is open; return what can be handed over now, in order."""
        ready: list[Handed] = [*self._cursors[event.channel_id].offer(seq, event)]
        self._note(event.channel_id)
        return ready

    def give_up(self, channel_id: ChannelId, before: int) -> list[Handed]:
        """Take what is missing below `before` for lost; return the gaps and what was held between, in order."""
        cursor = self._cursors[channel_id]
        cursor.expect(before - 1)
        handed: list[Handed] = []
        while cursor.last < before - 1:
            after, end = cursor.hole()
            handed.append(Gap(channel_id, after, min(end, before)))
            handed += cursor.skip(min(end, before))
        self._note(channel_id)
        return handed

    def _note(self, channel_id: ChannelId) -> None:
        if self._cursors[channel_id].has_hole:
            self._broken.setdefault(channel_id)
        else:
            self._broken.pop(channel_id, None)

    # --- holes ------------------------------------------------------------------------------------

    def broken(self) -> list[ChannelId]:
        """List the channels with a hole, the one that waited longest first."""
        return list(self._broken)

    def is_broken(self, channel_id: ChannelId) -> bool:
        """Tell whether something of the channel is missing."""
        return channel_id in self._broken

    def hole(self, channel_id: ChannelId) -> tuple[int, int]:
        """Return (after, before) of a broken channel: the next missing seqs lie strictly between."""
        return self._cursors[channel_id].hole()

    def postpone(self, channel_id: ChannelId) -> None:
        """Put a channel that is still broken behind the others."""
        if channel_id in self._broken:
            del self._broken[channel_id]
            self._broken[channel_id] = None

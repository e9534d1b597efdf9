"""Owns the reading side of a store in memory.

It must not change anything. Nothing else runs meanwhile, so the records as they stand are one state.
"""

from __future__ import annotations

from collections.abc import Sequence

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, UserId
from livechat.store.memory_records import Life, MemoryRecords
from livechat.store.queries import Range
from livechat.store.reading import ChannelGlance
from livechat.store.rows import MessageRow


class MemorySnapshot:
    """A `Snapshot`: the records themselves."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    def glance(self, channel_id: ChannelId, user_id: UserId) -> ChannelGlance | None:
        """See `Snapshot.glance`."""
        channel = self._records.channel(channel_id)
        if channel is None:
            return None
        member = self._records.member(channel, user_id)
        return ChannelGlance(
            channel.channel_key,
            channel_id,
            channel.owner_id,
            channel.private,
            channel.last_seq,
            member is not None,
            member is not None and member.role == "moderator",
        )

    def before(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """See `Snapshot.before`."""
        life = self._records.lives[channel.channel_id]
        end = _index(life, seq)
        return life.messages[max(0, end - limit) : end][::-1]

    def after(self, channel: ChannelGlance, seq: int, limit: int) -> list[MessageRow]:
        """See `Snapshot.after`."""
        life = self._records.lives[channel.channel_id]
        start = _index(life, seq + 1)
        return life.messages[start : start + limit]

    def has_up_to(self, channel: ChannelGlance, seq: int) -> bool:
        """See `Snapshot.has_up_to`."""
        return _index(self._records.lives[channel.channel_id], seq + 1) > 0

    def ranges(self, ranges: Sequence[Range], limit: int) -> list[MessageRow]:
        """See `Snapshot.ranges`."""
        found: list[MessageRow] = []
        for each in ranges:
            life = self._records.lives.get(each.channel_id)
            if life is not None:
                start, end = _index(life, each.after + 1), _index(life, each.before)
                found += life.messages[start : min(end, start + limit - len(found))]
        return found

    def announcements(self, since_ms: int, now_ms: int, limit: int) -> tuple[Announcement, ...]:
        """See `Snapshot.announcements`."""
        return self._records.announcements(since_ms, now_ms, limit)


def _index(life: Life, seq: int) -> int:
    """Return where the first message is whose `seq` is at least this one; the length if there is none."""
    return min(max(0, seq - life.first_seq), len(life.messages))

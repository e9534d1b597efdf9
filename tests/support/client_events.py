"""Events as a client gets them, for tests of its cores."""

from __future__ import annotations

from livechat.client.events import Gap, Sequenced
from livechat.client.inbox import Handed
from livechat.protocol.events import (
    ChannelEvent,
    HistoryPage,
    Member,
    Message,
    Synced,
    SyncedChannel,
)
from livechat.protocol.types import ChannelId, MessageId, UserId

DEN, HALL = ChannelId("den"), ChannelId("hall")
ME, BOB = UserId("ann"), UserId("bob")


def message(
    seq: int,
    channel_id: ChannelId = DEN,
    *,
    author_id: UserId = BOB,
    nonce: str | None = None,
    mentions: tuple[UserId, ...] | None = None,
) -> Message:
    """A message of a channel."""
    name = MessageId(f"msg_{channel_id}_{seq}")
    return Message(name, channel_id, seq, author_id, "TEXT", "text", seq, nonce=nonce, mentions=mentions)


def change(event: str, seq: int | None = None, user_id: UserId = BOB, channel_id: ChannelId = DEN) -> ChannelEvent:
    """A CHANNEL_EVENT."""
    return ChannelEvent(event, channel_id, Member(user_id, None), seq)  # type: ignore[arg-type]


def brief(handed: list[Handed]) -> list[int | tuple[int, int]]:
    """Tell events by their seq, and gaps by what lies around them."""
    return [(each.after, each.before) if isinstance(each, Gap) else place(each) for each in handed]


def place(event: Sequenced) -> int:
    """Return the seq of an event that has one."""
    assert event.seq is not None
    return event.seq


def synced(last_seq: int, *, recovered: bool = True, channel_id: ChannelId = DEN) -> Synced:
    """The ACK of a SYNC of one channel."""
    return Synced({channel_id: SyncedChannel(0, last_seq, recovered)})


def page(*seqs: int, last_seq: int, has_after: bool = False, channel_id: ChannelId = DEN) -> HistoryPage:
    """The ACK of a HISTORY."""
    return HistoryPage(channel_id, [message(seq, channel_id) for seq in seqs], True, has_after, last_seq)

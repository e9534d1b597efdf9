"""Handles ops 21 and 22: HISTORY and SYNC.

It must not ask the writer: what is read here is read beside it.
"""

from __future__ import annotations

from livechat.handlers import views
from livechat.handlers.ask import Asked
from livechat.handlers.call import Call
from livechat.handlers.replay import Stretch, replay
from livechat.hub.users import Span
from livechat.protocol.events import HistoryPage, Synced, SyncedChannel
from livechat.protocol.requests import History, Sync
from livechat.protocol.types import ChannelId
from livechat.store.queries import GetHistory


def history(call: Asked, request: History) -> None:
    """Op 21 → ACK HistoryPage, ascending; it holds all that this client was told before in the channel."""

    async def read() -> None:
        page = await call.node.store.fetch(
            GetHistory(
                request.channel_id,
                call.user_id,
                call.is_admin,
                before_seq=request.before_seq,
                after_seq=request.after_seq,
                limit=request.limit,
            )
        )
        messages = [views.message(row) for row in page.messages]
        call.ack(HistoryPage(request.channel_id, messages, page.has_before, page.has_after, page.last_seq))

    call.run(read)


def sync(call: Call, request: Sync) -> None:
    """Op 22 → the missing events, then ACK Synced. Live events go on meanwhile, among those replayed."""
    call.run(lambda: _sync(call, request))


async def _sync(call: Call, request: Sync) -> None:
    node, user_id = call.node, call.session.user_id
    stretches: dict[ChannelId, Stretch] = {}
    for channel_id, wanted in request.channels.items():
        channel = node.channels.get(channel_id) if node.channels.is_member(channel_id, user_id) else None
        last_seq = 0 if channel is None else channel.last_seq
        before = last_seq + 1 if wanted.before is None else min(wanted.before, last_seq + 1)
        stretch = Stretch(channel_id, Span(wanted.after), before)
        # Who asks from beyond the end has seen something that is not there.
        stretch.is_intact = channel is not None and wanted.after <= last_seq
        stretches[channel_id] = stretch
    await replay(
        node,
        call.caller,
        stretches.values(),
        may_hear=lambda channel_id: _may_hear(call, channel_id),
    )
    call.ack(Synced({channel_id: _synced(call, stretch) for channel_id, stretch in stretches.items()}))


def _synced(call: Call, stretch: Stretch) -> SyncedChannel:
    channel = call.node.channels.get(stretch.channel_id)
    may_know = _may_hear(call, stretch.channel_id)
    last_seq = channel.last_seq if channel is not None and may_know else 0
    return SyncedChannel(stretch.replayed, last_seq, stretch.is_intact)


def _may_hear(call: Call, channel_id: ChannelId) -> bool:
    """Tell whether the user is a member yet, and the session's token good for the channel."""
    return call.node.channels.is_member(channel_id, call.session.user_id) and call.may_hear(channel_id)

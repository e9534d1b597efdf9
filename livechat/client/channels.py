"""Owns the client's channels: what the server says of them becomes state, and events in order.

It must not know connections; what it needs of the server it asks for by `ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from livechat.client.events import ChannelLost, Gap, Sequenced, ServerEvent, SessionEvent
from livechat.client.inbox import Handed, Inbox
from livechat.client.pending import Answer, ignore
from livechat.client.repair import Repairs
from livechat.client.settings import ClientSettings
from livechat.client.state import ClientState
from livechat.client.streams import StreamBook
from livechat.error import LiveError
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.events import (
    ChannelDetails,
    ChannelEvent,
    ChannelJoined,
    Focused,
    Message,
    ReadDone,
    Ready,
    Resumed,
    SettingsStored,
    Subscribed,
)
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import ChannelInfo, ChannelJoin, Focus, Unsubscribe
from livechat.protocol.types import ChannelId

Ask = Callable[[int, Any, Answer], object]
"""Sends a request of the client's own."""


class ChannelBook:
    """All channels of one user.

    Args:
        settings: the bounds.
        uniform: returns a random number from 0 to 1.
        tell: takes what the application is to be told, in order.
        ask: see `Ask`.
    """

    def __init__(
        self,
        settings: ClientSettings,
        uniform: Callable[[], float],
        tell: Callable[[SessionEvent], None],
        ask: Ask,
    ) -> None:
        self.state = ClientState(settings.messages_kept)
        self.streams = StreamBook()
        self.focus: ChannelId | None = None
        """The channel on the screen."""
        self._inbox = Inbox(held_max=settings.events_held_max)
        self.repairs = Repairs(self._inbox, settings.backoff, uniform)
        self._tell = tell
        self._ask = ask
        self._joined: set[ChannelId] = set()
        """Channels that this client itself has joined."""
        self._unsubscribed: dict[ChannelId, int] = {}
        """Channels whose events were declined, with the last seq that was handed over."""

    def positions(self) -> dict[ChannelId, int]:
        """Return the last seq handed over, by channel: the cursors of RESUME."""
        return self._inbox.positions()

    # --- events -----------------------------------------------------------------------------------

    def take(self, event: ServerEvent) -> None:
        """Take an event from the server; tell what can be told now."""
        match event:
            case Message():
                self._sequenced(event, event.seq)
            case ChannelEvent(seq=int(seq)):
                self._sequenced(event, seq)
            case ChannelEvent(event="delete"):
                # What is held came before it.
                self.hand(self._inbox.close(event.channel_id))
                self._told(event)
                self._forget(event.channel_id)
            case ChunkEvent():
                # Of others come the last few of what was declined, or left, a moment ago.
                if event.channel_id in self._inbox:
                    for each in self.streams.take(event):
                        self._tell(each)
            case _:
                self._told(event)

    def _sequenced(self, event: Sequenced, seq: int) -> None:
        channel_id = event.channel_id
        if channel_id in self._unsubscribed:
            # Declined, but that had not been said again in this session when it came.
            if self._is_own_leave(event):
                self.hand([event])
            else:
                self.state.apply(event)
            return
        if channel_id not in self._inbox:
            if self._is_own_leave(event):
                self._told(event)
                return
            # Another device has joined, or somebody has made us a member.
            self._discover(channel_id, seq - 1)
        self.hand(self._inbox.offer(event, seq))

    def hand(self, handed: Iterable[Handed]) -> None:
        """Tell what came out of the inbox."""
        for each in handed:
            if isinstance(each, Gap):
                self._tell(each)
                continue
            self._told(each)
            # Where something comes after it, the user has joined again, on another device say.
            if self._is_own_leave(each) and not self._inbox.goes_beyond(each.channel_id, each.seq or 0):
                self._inbox.close(each.channel_id)
                self._forget(each.channel_id)

    def _told(self, event: ServerEvent) -> None:
        self.state.apply(event)
        self._tell(event)

    def _is_own_leave(self, event: Sequenced) -> bool:
        return (
            isinstance(event, ChannelEvent)
            and event.event == "leave"
            and event.member.user_id == self.state.user_id
        )

    # --- a session begins or goes on ----------------------------------------------------------------

    def ready(self, ready: Ready) -> None:
        """Take READY. What was missed since the last session is a hole from here on, and is repaired."""
        self.streams.restart()
        announcements = self.state.ready(ready)
        stated = {described.channel_id: described.last_seq for described in ready.channels}
        for channel_id, last_seq in stated.items():
            if channel_id in self._unsubscribed:
                self._ask(Op.UNSUBSCRIBE, Unsubscribe(channel_id), ignore)
            else:
                self._catch_up(channel_id, last_seq)
        for channel_id in [each for each in self.state.channels if each not in stated]:
            self._missed(channel_id)
        if self.focus is not None:
            self._refocus()
        for announcement in announcements:
            self._tell(announcement)

    def resumed(self, resumed: Resumed) -> None:
        """Take RESUMED; what it replayed has come before."""
        self.streams.restart()
        for channel_id, done in resumed.channels.items():
            if channel_id not in self._inbox and channel_id not in self._unsubscribed:
                self._discover(channel_id, done.last_seq)
            else:
                self._catch_up(channel_id, done.last_seq)
        announcements = self.state.resumed(resumed)
        for channel_id in [each for each in self._inbox if each not in resumed.channels]:
            self._ask_about(channel_id)
        if self.focus is not None:
            self._refocus()
        for announcement in announcements:
            self._tell(announcement)

    def _catch_up(self, channel_id: ChannelId, last_seq: int) -> None:
        if channel_id in self._unsubscribed:
            return
        # Behind us: the server has lost what we have seen, and will number anew.
        if channel_id not in self._inbox or last_seq < self._inbox.last(channel_id):
            self._inbox.open(channel_id, last_seq)
        else:
            self._inbox.expect(channel_id, last_seq)

    def _missed(self, channel_id: ChannelId) -> None:
        """READY does not list a channel that we were in."""
        channel = self.state.channels[channel_id]
        if channel.durable or channel_id not in self._joined or channel_id not in self._inbox:
            self._lose(channel_id, "the user is no member any more")
            return

        # Such a membership ends with the last session; whoever joined did not mean it to end with a connection.
        def rejoined(_data: Any, error: Exception | None) -> None:
            if isinstance(error, LiveError) and channel_id in self.state.channels:
                self._lose(channel_id, error.reason)

        self._ask(Op.CHANNEL_JOIN, ChannelJoin(channel_id), rejoined)

    def _refocus(self) -> None:
        self._ask(Op.FOCUS, Focus(self.focus), ignore)

    # --- answers --------------------------------------------------------------------------------------

    def acknowledged(self, op: int, data: Any) -> None:
        """Take what the server has done, before the events that follow its ACK."""
        match data:
            case ChannelJoined():
                self._entered(data)
            case ChannelDetails(role=None):
                if data.channel_id in self.state.channels:
                    self._lose(data.channel_id, "the user is no member any more")
            case ChannelDetails():
                if data.channel_id in self.state.channels:
                    self.state.describe(data)
            case Subscribed():
                self._subscribed(data)
            case ReadDone():
                self.state.read(data.channel_id, data.read_seq, data.unread)
            case Focused():
                self.focus = data.channel_id
            case SettingsStored():
                self.state.settings = dict(data.settings)
            case _ if op in (Op.CHANNEL_LEAVE, Op.CHANNEL_DELETE):
                self.hand(self._inbox.close(data.channel_id))
                self._forget(data.channel_id)
            case _ if op == Op.UNSUBSCRIBE:
                self._unsubscribe(data.channel_id)

    def _entered(self, joined: ChannelJoined) -> None:
        channel_id = joined.channel_id
        self._joined.add(channel_id)
        is_known = channel_id in self.state.channels
        self.state.joined(joined)
        if channel_id in self._inbox:
            self._inbox.expect(channel_id, joined.last_seq)
        elif channel_id not in self._unsubscribed:
            self._inbox.open(channel_id, joined.last_seq)
        if not is_known:
            self._ask_about(channel_id)

    def _unsubscribe(self, channel_id: ChannelId) -> None:
        if channel_id not in self._inbox:
            return
        self.hand(self._inbox.close(channel_id))
        self.streams.forget(channel_id)
        channel = self.state.channels.get(channel_id)
        if channel is not None:
            channel.is_subscribed = False
            self._unsubscribed[channel_id] = channel.last_seq

    def _subscribed(self, subscribed: Subscribed) -> None:
        channel_id = subscribed.channel_id
        last = self._unsubscribed.pop(channel_id, None)
        channel = self.state.enter(channel_id, subscribed.last_seq)
        channel.is_subscribed = True
        if channel_id in self._inbox:
            self._inbox.expect(channel_id, subscribed.last_seq)
            return
        if last is not None and last < subscribed.last_seq:
            self._tell(Gap(channel_id, last, subscribed.last_seq + 1))
        self._inbox.open(channel_id, subscribed.last_seq)

    # --- channels come and go -------------------------------------------------------------------------

    def _discover(self, channel_id: ChannelId, last_seq: int) -> None:
        self.state.enter(channel_id, last_seq)
        self._inbox.open(channel_id, last_seq)
        self._ask_about(channel_id)

    def _ask_about(self, channel_id: ChannelId) -> None:
        def told(_data: Any, error: Exception | None) -> None:
            gone = isinstance(error, LiveError) and not error.retryable and error.code in range(2000, 3000)
            if gone and channel_id in self.state.channels:
                self._lose(channel_id, str(error))

        self._ask(Op.CHANNEL_INFO, ChannelInfo(channel_id), told)

    def _lose(self, channel_id: ChannelId, reason: str) -> None:
        last = self._inbox.last(channel_id) if channel_id in self._inbox else self._unsubscribed.get(channel_id, 0)
        self.hand(self._inbox.close(channel_id))
        self._forget(channel_id)
        self._tell(ChannelLost(channel_id, last, reason))

    def _forget(self, channel_id: ChannelId) -> None:
        self.state.leave(channel_id)
        self.streams.forget(channel_id)
        self._joined.discard(channel_id)
        self._unsubscribed.pop(channel_id, None)
        if self.focus == channel_id:
            self.focus = None

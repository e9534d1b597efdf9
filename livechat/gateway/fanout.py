"""Owns what a notice does on this node: the hubs follow it, then everybody who must hear it is sent it.

It must not wait, and it decides nothing: the store has, the hubs name the recipients. Notices of one channel
come in the order in which they were committed.

A parked session hears nothing. What has a seq it finds in the store once it is resumed, and here it is only noted
from where on, and up to where; what has none and would not be found again is kept for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from livechat.cluster.backplane import (
    ChannelNotice,
    ChunkNotice,
    FloorNotice,
    FocusNotice,
    GlobalNotice,
    Notice,
    SpeakingNotice,
    UserNotice,
)
from livechat.gateway.flusher import Flusher
from livechat.handlers import chunks, floor, unread, voice
from livechat.handlers.node import Node
from livechat.hub.channels import Channel, ChannelFacts
from livechat.hub.users import Session, SessionState
from livechat.protocol.catalog import FLOOR_OPS
from livechat.protocol.events import (
    ChannelEvent,
    Message,
    Notification,
    ReadEvent,
    SettingsEvent,
)
from livechat.protocol.jobs import JobEvent
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import JobMark, Outgoing
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.voice_events import FloorRevoke

KEPT_CHANGES: Final = ("update", "delete")
"""Events of channels without a seq that a parked session is told later."""

FLOOR: Final = "floor"
"""Of the keys of FLOOR_REVOKEs."""


class FanOut:
    """The subscriber of the backplane."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._flusher = node.channels.backlog = Flusher(node.channels, node.packets, node.instruments.counters)
        self.delivered = 0
        """Packets handed to egress queues."""
        self.encoded = 0
        """Events made into a packet; each is encoded once per codec in use."""

    def deliver(self, notice: Notice) -> None:
        """Apply a notice to the hubs and send it to all who hear it but its origin."""
        if isinstance(notice, ChannelNotice):
            if isinstance(notice.event, Message):
                self._message(notice, notice.event)
            else:
                self._channel_event(notice, notice.event)
        elif isinstance(notice, FocusNotice):
            origin = self._origin(notice)
            op = Op.READ_EVENT if isinstance(notice.event, ReadEvent) else Op.TYPING_EVENT
            recipients = self._node.channels.focused(notice.event.channel_id, origin)
            if recipients:
                self._send(recipients, Outgoing(op, notice.event, trace=notice.trace))
        elif isinstance(notice, SpeakingNotice):
            channel = self._node.channels.get(notice.event.channel_id)
            if channel is not None:
                self._send_to_all(channel, Outgoing(Op.SPEAKING, notice.event))
        elif isinstance(notice, ChunkNotice):
            self._send(*chunks.relay(self._node, notice))
        elif isinstance(notice, FloorNotice):
            self._floor_event(notice)
        elif isinstance(notice, UserNotice):
            self._user_event(notice)
        elif isinstance(notice, GlobalNotice):
            self._global_event(notice)
        else:
            self._node.readiness.heard(notice)

    def _origin(self, notice: ChannelNotice | FocusNotice | FloorNotice | UserNotice) -> Session | None:
        return None if notice.origin is None else self._node.users.get(notice.origin)

    def _send(self, recipients: Iterable[Session], packet: Outgoing) -> None:
        # The recipients are a list of their own: an egress that overflows leaves the hubs while this loop runs.
        self.encoded += 1
        for session in recipients:
            outlet = session.outlet
            if outlet is not None:
                outlet.send(packet)
                self.delivered += 1

    def _send_to_all(
        self, channel: Channel, packet: Outgoing, origin: Session | None = None, *, size: int = 0
    ) -> None:
        """Send a packet to all subscribers of a channel but one; see `Flusher.send`."""
        self.encoded += 1
        self.delivered += len(channel.subscribers) - (origin in channel.subscribers)
        self._flusher.send(channel, packet, but=origin, size=size)

    async def run(self) -> None:
        """Hand out what comes several at a time together, for ever; without this all is handed out at once."""
        await self._flusher.run()

    # --- the room tier --------------------------------------------------------------------------------

    def _message(self, notice: ChannelNotice, event: Message) -> None:
        channel = self._node.channels.get(event.channel_id)
        if channel is None:
            return
        mark = (event.channel_id, event.seq)
        packet = Outgoing(Op.MESSAGE_EVENT, event, mark=mark, trace=notice.trace)
        # First: a connection that breaks below is parked with what it was handed, less what it has not sent.
        channel.last_seq = event.seq
        self._send_to_all(channel, packet, size=len(event.content))
        for session in channel.unsubscribed:
            # The author's own as well: what the author has said was read by that, and all before it.
            unread.touch(self._node, session, event.channel_id)

    def _channel_event(self, notice: ChannelNotice, event: ChannelEvent) -> None:
        node = self._node
        if event.event == "join":
            assert notice.facts is not None
            self._admit(event, notice.facts)
        # Who leaves, or loses the channel, is told as well: so the recipients are named before the hubs follow.
        origin = self._origin(notice)
        before = node.channels.recipients(event.channel_id, origin)
        concerned = self._concerned(event, origin)
        mark = None if event.seq is None else (event.channel_id, event.seq)
        packet = Outgoing(Op.CHANNEL_EVENT, event, mark=mark, key=_key_of(event), trace=notice.trace)
        if event.event == "leave":
            self._remove(event)
        elif event.event == "delete":
            self._remove_channel(event.channel_id, packet)
        elif packet.key is not None:
            self._keep_for_parked(event.channel_id, packet)
        channel = node.channels.get(event.channel_id)
        if channel is not None:
            if notice.facts is not None:
                channel.facts = notice.facts
                node.media.set_rules(event.channel_id, voice.rules_of(node, notice.facts))
            if event.seq is not None:
                channel.last_seq = event.seq
            self._send_to_all(channel, packet, origin)
        if event.event in ("leave", "delete"):
            self._send_to_gone(channel, before, packet)
        if concerned:
            # Without the mark: these sessions follow no sequence of this channel.
            self._send(concerned, Outgoing(Op.CHANNEL_EVENT, event))
        self._follow_event(event, origin)

    def _send_to_gone(self, channel: Channel | None, before: list[Session], packet: Outgoing) -> None:
        """Send an event to those that heard its channel until it happened."""
        gone = [session for session in before if channel is None or session not in channel.subscribers]
        if gone:
            self._send(gone, packet)
            self.encoded -= channel is not None  # it is the same packet

    def _follow_event(self, event: ChannelEvent, origin: Session | None) -> None:
        """Tell who has come who has the floor and what streams, and all what a leave has made of the floor."""
        node = self._node
        if event.event == "leave":
            floor.tell_noted(node)
        elif event.event == "join":
            for session in node.users.sessions_of(event.member.user_id):
                if session is not origin:
                    floor.show(node, session, [event.channel_id])
                    chunks.show(node, session, [event.channel_id])

    def _concerned(self, event: ChannelEvent, origin: Session | None) -> list[Session]:
        """Return who is unsubscribed and yet must learn that a membership or the channel has ended."""
        channel = self._node.channels.get(event.channel_id)
        if channel is None or event.event not in ("leave", "delete"):
            return []
        everybody = event.event == "delete"
        return [
            session
            for session in channel.unsubscribed
            if session is not origin and (everybody or session.user_id == event.member.user_id)
        ]

    def _keep_for_parked(self, channel_id: ChannelId, packet: Outgoing) -> None:
        channel = self._node.channels.get(channel_id)
        if channel is None:
            return
        for user_id in channel.members:
            for session in self._node.users.sessions_of(user_id):
                if session.state is SessionState.PARKED and channel_id in session.spans:
                    session.miss(packet)

    def _admit(self, event: ChannelEvent, facts: ChannelFacts) -> None:
        """Subscribe all sessions of a new member, not only the one that joined."""
        user_id = event.member.user_id
        sessions = self._node.users.sessions_of(user_id)
        if not sessions:
            return
        assert event.seq is not None
        self._node.channels.admit(user_id, facts, event.seq)
        for session in sessions:
            if session.outlet is not None:
                self._node.channels.subscribe(session, facts.channel_id)
            elif session.may_hear(facts.channel_id):
                session.miss_from(facts.channel_id, event.seq)

    def _remove(self, event: ChannelEvent) -> None:
        node, channel_id, user_id = self._node, event.channel_id, event.member.user_id
        peer = node.media.hub.of(channel_id, user_id)
        if peer is not None:
            node.media.close(peer)
        floor.left(node, channel_id, user_id)
        node.streams.end_user(channel_id, user_id)
        node.channels.remove_member(channel_id, user_id)
        chunks.forget_ended(node)
        for session in node.users.sessions_of(user_id):
            _leave(session, channel_id)
            assert event.seq is not None
            session.miss_until(channel_id, event.seq)

    def _remove_channel(self, channel_id: ChannelId, packet: Outgoing) -> None:
        node = self._node
        node.media.close_channel(channel_id)
        node.floors.forget(channel_id)
        node.streams.end_channel(channel_id)
        channel = node.channels.get(channel_id)
        members: Iterable[UserId] = () if channel is None else channel.members
        for user_id in members:
            for session in node.users.sessions_of(user_id):
                _leave(session, channel_id)
        # Also of who left it while the session was parked: that leave can't be replayed any more.
        for session in node.users:
            if session.spans.pop(channel_id, None) is not None:
                session.miss(packet)
        node.channels.remove_channel(channel_id)
        chunks.forget_ended(node)

    def _floor_event(self, notice: FloorNotice) -> None:
        event = notice.event
        # Kept for who is away, or has not got it: it must not go on as if it had the floor.
        key = (FLOOR, event.channel_id) if isinstance(event, FloorRevoke) else None
        packet = Outgoing(FLOOR_OPS[type(event)], event, key=key, trace=notice.trace)
        if notice.only is None:
            channel = self._node.channels.get(event.channel_id)
            if channel is not None:
                self._send_to_all(channel, packet, self._origin(notice))
            return
        session = self._node.users.get(notice.only)
        if session is None:
            return
        if session.outlet is not None:
            self._send([session], packet)
        elif packet.key is not None:
            session.miss(packet)

    # --- the user and global tiers --------------------------------------------------------------------

    def _user_event(self, notice: UserNotice) -> None:
        event = notice.event
        if isinstance(event, JobEvent):
            self._job_event(notice, event)
            return
        if isinstance(event, Notification):
            key = (event.kind, event.channel_id, event.seq)
            packet = Outgoing(Op.NOTIFICATION, event, key=key, trace=notice.trace)
        elif isinstance(event, SettingsEvent):
            packet = Outgoing(Op.SETTINGS_EVENT, event, key="settings", trace=notice.trace)
        else:
            packet = Outgoing(Op.UNREAD_EVENT, event, trace=notice.trace)
        self.encoded += 1
        origin = self._origin(notice)
        channel_id: ChannelId | None = getattr(event, "channel_id", None)
        for session in list(self._node.users.sessions_of(notice.user_id)):
            if session is origin or (channel_id is not None and not session.may_hear(channel_id)):
                continue
            if session.outlet is not None:
                session.outlet.send(packet)
                self.delivered += 1
            elif packet.key is not None:
                session.miss(packet)

    def _job_event(self, notice: UserNotice, event: JobEvent) -> None:
        mark = JobMark(event.job_id, event.event_seq)
        has_bytes = isinstance(event.partial, bytes)
        packet = Outgoing(Op.JOB_EVENT, event, mark=mark, has_bytes=has_bytes, trace=notice.trace)
        self.encoded += 1
        sessions = list(self._node.users.sessions_of(notice.user_id))
        for session in [each for each in sessions if each.session_id == notice.only] or sessions:
            if notice.channel_id is not None and not session.may_hear(notice.channel_id):
                continue
            if session.outlet is None or event.job_id in session.jobs_due:
                # It finds the event in the store, after those that it has missed.
                session.miss_job_event(mark)
            else:
                session.outlet.send(packet)
                self.delivered += 1

    def _global_event(self, notice: GlobalNotice) -> None:
        packet = Outgoing(Op.ANNOUNCEMENT, notice.event, key=notice.event.announcement_id, trace=notice.trace)
        sessions = list(self._node.users)
        for session in sessions:
            if session.outlet is None:
                session.miss(packet)
        self._send(sessions, packet)


def _key_of(event: ChannelEvent) -> Hashable:
    """Return the key of what a parked session is told later; of voices RESUMED tells how they stand then."""
    if event.event not in KEPT_CHANGES:
        return None
    return event.event, event.channel_id, None if event.role is None else event.member.user_id


def _leave(session: Session, channel_id: ChannelId) -> None:
    """Forget what a session wanted of a channel that its user is no member of any more."""
    session.joined -= {channel_id}
    session.unsubscribed -= {channel_id}
    over = (("update", channel_id), (FLOOR, channel_id))
    for key in [key for key in session.missed if isinstance(key, tuple) and key[:2] in over]:
        del session.missed[key]
    if session.focus == channel_id:
        session.focus = None
    if session.outlet is not None:
        # They would follow the event that tells it, which goes ahead of them.
        session.outlet.drop_chunks(channel_id)

"""Owns what a notice does on this node: the hubs follow it, then everybody who must hear it is sent it.

It must not wait, and it decides nothing: the store has, the hubs name the recipients. Notices of one channel
come in the order in which they were committed.
"""

from __future__ import annotations

from livechat.cluster.backplane import ChannelNotice
from livechat.handlers.node import Node
from livechat.hub.channels import ChannelFacts
from livechat.hub.users import Session
from livechat.protocol.events import ChannelEvent, Message
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, UserId


class FanOut:
    """The subscriber of the backplane."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.delivered = 0
        """Packets handed to egress queues."""
        self.encoded = 0
        """Events made into a packet; each is encoded once per codec in use."""

    def deliver(self, notice: ChannelNotice) -> None:
        """Apply a notice to the hubs and send it to all who hear the channel but its origin."""
        event = notice.event
        node = self._node
        origin = None if notice.origin is None else node.users.get(notice.origin)
        if isinstance(event, Message):
            self._send(node.channels.recipients(event.channel_id), Outgoing(Op.MESSAGE_EVENT, event))
            self._advance(event.channel_id, event.seq)
            return
        if event.event == "join":
            assert notice.facts is not None
            self._admit(event, notice.facts)
        # Who leaves, or loses the channel, is told as well: so the recipients are named before the hubs follow.
        recipients = node.channels.recipients(event.channel_id, origin)
        if event.event == "leave":
            self._remove(event.channel_id, event.member.user_id)
        elif event.event == "delete":
            self._remove_channel(event.channel_id)
        elif event.event == "update":
            assert notice.facts is not None
            channel = node.channels.get(event.channel_id)
            if channel is not None:
                channel.facts = notice.facts
        self._send(recipients, Outgoing(Op.CHANNEL_EVENT, event))
        if event.seq is not None:
            self._advance(event.channel_id, event.seq)

    def _send(self, recipients: list[Session], packet: Outgoing) -> None:
        # A list of its own: an egress that overflows leaves the hubs while this loop runs.
        self.encoded += 1
        for session in recipients:
            outlet = session.outlet
            if outlet is not None:
                outlet.send(packet)
                self.delivered += 1

    def _advance(self, channel_id: ChannelId, seq: int) -> None:
        channel = self._node.channels.get(channel_id)
        if channel is not None:
            channel.last_seq = seq

    def _admit(self, event: ChannelEvent, facts: ChannelFacts) -> None:
        """Subscribe all sessions of a new member, not only the one that joined."""
        user_id = event.member.user_id
        if not self._node.users.sessions_of(user_id):
            return
        assert event.seq is not None
        self._node.channels.admit(user_id, facts, event.seq)
        for session in self._node.users.live_sessions_of(user_id):
            self._node.channels.subscribe(session, facts.channel_id)

    def _remove(self, channel_id: ChannelId, user_id: UserId) -> None:
        node = self._node
        peer = node.media.hub.of(channel_id, user_id)
        if peer is not None:
            node.media.close(peer)
        node.channels.remove_member(channel_id, user_id)
        for session in node.users.sessions_of(user_id):
            session.joined.discard(channel_id)

    def _remove_channel(self, channel_id: ChannelId) -> None:
        node = self._node
        node.media.close_channel(channel_id)
        channel = node.channels.get(channel_id)
        if channel is not None:
            for user_id in channel.members:
                for session in node.users.sessions_of(user_id):
                    session.joined.discard(channel_id)
        node.channels.remove_channel(channel_id)

"""Owns how rows of the store look on the wire and in the hubs. It must not change anything."""

from __future__ import annotations

from typing import cast

from livechat.hub.channels import ChannelFacts
from livechat.hub.peer import MediaPeer
from livechat.protocol import events, voice_events
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import UserId
from livechat.store.rows import (
    ChannelRow,
    ChannelView,
    MemberState,
    MessageRow,
    unread_count,
)


def facts(row: ChannelRow) -> ChannelFacts:
    """A channel as the hub mirrors it."""
    return ChannelFacts(
        channel_id=row.channel_id,
        channel_name=row.channel_name,
        mode=row.mode,
        durable=row.durable,
        capacity=row.capacity,
        private=row.private,
        owner_id=row.owner_id,
        created_at=row.created_at,
        max_speakers=row.max_speakers,
    )


def message(row: MessageRow) -> events.Message:
    """A message as MESSAGE_EVENT and history carry it."""
    # By position, as by name it takes twice as long; there is one for each message that is said or read.
    return events.Message(
        row.message_id,
        row.channel_id,
        row.seq,
        row.author_id,
        row.message_type,
        row.content,
        row.timestamp,
        row.attachment,
        row.mentions or None,
        row.nonce,
        cast("dict[str, object] | None", row.system),
    )


def system_event(row: MessageRow) -> events.ChannelEvent:
    """A SYSTEM message as it is delivered and replayed: a `join` or a `leave`."""
    assert row.system is not None
    kind = row.system["event"]
    assert kind in ("join", "leave")
    actor_id = row.system.get("actor_id")
    return events.ChannelEvent(
        event="join" if kind == "join" else "leave",
        channel_id=row.channel_id,
        member=events.Member(UserId(row.system["user_id"]), None),
        seq=row.seq,
        actor_id=UserId(actor_id) if actor_id is not None else None,
        cause=row.system.get("cause"),
    )


def sequenced(row: MessageRow) -> Outgoing:
    """An entry of a channel's sequence as the packet that replays it."""
    mark = (row.channel_id, row.seq)
    if row.message_type == "SYSTEM":
        return Outgoing(Op.CHANNEL_EVENT, system_event(row), mark=mark)
    return Outgoing(Op.MESSAGE_EVENT, message(row), mark=mark)


def channel_state(state: MemberState) -> events.ChannelState:
    """A channel as READY shows it to one of its members."""
    channel, member = state.channel, state.member
    return events.ChannelState(
        channel_id=channel.channel_id,
        channel_name=channel.channel_name,
        mode=channel.mode,
        durable=channel.durable,
        role=member.role,
        last_seq=channel.last_seq,
        read_seq=member.read_seq,
        unread=state.unread,
        mention_count=member.mention_count,
        member_count=channel.member_count,
        last_message=None if state.last_message is None else message(state.last_message),
    )


def channel_details(
    view: ChannelView,
    is_owner: bool,
    peers: list[events.Member],
    speakers: list[voice_events.ActiveSpeaker],
    floor: voice_events.FloorHeld | None,
) -> events.ChannelDetails:
    """A channel as CHANNEL_INFO shows it, to members and others."""
    channel, member = view.channel, view.member
    return events.ChannelDetails(
        channel_id=channel.channel_id,
        channel_name=channel.channel_name,
        mode=channel.mode,
        durable=channel.durable,
        role=member.role if member is not None else "owner" if is_owner else None,
        last_seq=channel.last_seq,
        read_seq=member.read_seq if member is not None else 0,
        unread=unread_count(channel, member) if member is not None else 0,
        mention_count=member.mention_count if member is not None else 0,
        member_count=channel.member_count,
        # What is said in a channel is for its members, also in a public one.
        last_message=message(view.last_message) if member is not None and view.last_message is not None else None,
        capacity=channel.capacity,
        created_at=channel.created_at,
        peers=peers,
        active_speakers=speakers,
        floor=floor,
    )


def channel_summary(row: ChannelRow) -> events.ChannelSummary:
    """A channel as a row of CHANNEL_LIST."""
    return events.ChannelSummary(
        channel_id=row.channel_id,
        channel_name=row.channel_name,
        mode=row.mode,
        durable=row.durable,
        capacity=row.capacity,
        private=row.private,
        member_count=row.member_count,
        created_at=row.created_at,
    )


def voice_member(peer: MediaPeer) -> events.Member:
    """A media peer as events and lists of members show it."""
    return events.Member(peer.user_id, peer.egress_ssrc)

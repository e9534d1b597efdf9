"""Channels and members in the model of the store."""

from __future__ import annotations

from typing import Literal

import attrs

from livechat.protocol.types import ChannelId, MessageId, UserId
from livechat.store.operations import (
    AddMember,
    CreateChannel,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    ListChannels,
    ListMembers,
    RemoveMember,
    TransientMembers,
    UpdateChannel,
)
from livechat.store.rows import (
    Added,
    ChannelPage,
    ChannelRow,
    ChannelView,
    Deleted,
    Joined,
    Left,
    MemberPage,
    MessageRow,
    Removed,
)
from tests.support.store_model_state import Channel, Membership, ModelState


class ChannelModel(ModelState):
    """Executes the operations on channels and members."""

    # --- channels ---------------------------------------------------------------------------------

    def _CreateChannel(self, op: CreateChannel) -> ChannelRow:  # noqa: N802
        self.check(op.channel_id not in self.channels, 2005)
        settings = {name: value for name, value in attrs.asdict(op).items() if name != "now_ms"}
        seq = self.last_seqs.get(op.channel_id, 0)
        channel = self.channels[op.channel_id] = Channel(**settings, created_at=op.now_ms, seq_before=seq)
        return channel.row()

    def _UpdateChannel(self, op: UpdateChannel) -> ChannelRow:  # noqa: N802
        channel = self.led_by(op.actor_id, op.channel_id, admin=op.admin)
        for name in ("channel_name", "capacity", "private", "max_speakers"):
            if getattr(op, name) is not None:
                setattr(channel, name, getattr(op, name))
        return channel.row()

    def _DeleteChannel(self, op: DeleteChannel) -> Deleted:  # noqa: N802
        channel = self.seen_by(op.actor_id, op.channel_id, admin=op.admin)
        self.check(op.admin or op.actor_id == channel.owner_id, 1007)
        del self.channels[op.channel_id]
        self.last_seqs[op.channel_id] = channel.last_seq
        return Deleted(channel.row(), tuple(sorted(channel.members)))

    def _GetChannel(self, op: GetChannel) -> ChannelView:  # noqa: N802
        channel = self.seen_by(op.user_id, op.channel_id, admin=op.admin)
        member = channel.member_row(op.user_id) if op.user_id in channel.members else None
        return ChannelView(channel.row(), member, channel.last_message)

    def _ListChannels(self, op: ListChannels) -> ChannelPage:  # noqa: N802
        rows = [
            channel.row()
            for channel_id, channel in sorted(self.channels.items())
            if channel_id > (op.after or "")
            and (op.admin or not channel.private or op.user_id in {channel.owner_id, *channel.members})
        ]
        page = tuple(rows[: op.limit])
        return ChannelPage(page, page[-1].channel_id if len(rows) > op.limit else None)

    # --- members ----------------------------------------------------------------------------------

    def _JoinChannel(self, op: JoinChannel) -> Joined:  # noqa: N802
        channel = self.seen_by(op.user_id, op.channel_id, admin=op.admin)
        if op.user_id in channel.members:
            return Joined(channel.row(), channel.member_row(op.user_id), False, None)
        self.check(op.admin or op.user_id not in channel.bans, 1007)
        entry = self._admit(channel, op, "member", {})
        return Joined(channel.row(), channel.member_row(op.user_id), True, entry)

    def _LeaveChannel(self, op: LeaveChannel) -> Left:  # noqa: N802
        channel = self.inside(op.user_id, op.channel_id, 2004)
        entry = self._dismiss(channel, op, {"cause": op.cause} if op.cause is not None else {})
        return Left(channel.row(), entry)

    def _AddMember(self, op: AddMember) -> Added:  # noqa: N802
        channel = self.led_by(op.actor_id, op.channel_id, admin=op.admin)
        member = channel.members.get(op.user_id)
        has = member.role if member is not None else "member"
        if op.role not in (None, has):
            self.check(op.admin or op.actor_id == channel.owner_id, 1007)
        if member is None:
            entry = self._admit(channel, op, op.role or "member", {"actor_id": op.actor_id})
            return Added(channel.row(), channel.member_row(op.user_id), entry)
        self.check(op.role not in (None, has), 2003)
        member.role = op.role or has
        return Added(channel.row(), channel.member_row(op.user_id), None)

    def _RemoveMember(self, op: RemoveMember) -> Removed:  # noqa: N802
        channel = self.led_by(op.actor_id, op.channel_id, admin=op.admin)
        member = channel.members.get(op.user_id)
        self.check(op.user_id != channel.owner_id, 1007)
        if member is not None and member.role == "moderator":
            self.check(op.admin or op.actor_id == channel.owner_id, 1007)
        self.check(member is not None or op.ban, 2004)
        if op.ban:
            channel.bans.add(op.user_id)
        if member is None:
            return Removed(channel.row(), None)
        entry = self._dismiss(channel, op, {"actor_id": op.actor_id, "cause": "ban" if op.ban else "remove"})
        return Removed(channel.row(), entry)

    def _ListMembers(self, op: ListMembers) -> MemberPage:  # noqa: N802
        channel = self.seen_by(op.user_id, op.channel_id, admin=op.admin)
        self.check(op.admin or op.user_id in {channel.owner_id, *channel.members}, 2004)
        user_ids = sorted(user_id for user_id in channel.members if user_id > (op.after or ""))
        page = tuple(channel.member_row(user_id) for user_id in user_ids[: op.limit])
        return MemberPage(page, page[-1].user_id if len(user_ids) > op.limit else None)

    def _TransientMembers(self, _: TransientMembers) -> tuple[tuple[ChannelId, UserId], ...]:  # noqa: N802
        transient = [channel for channel in self.channels.values() if not channel.durable]
        return tuple(sorted((channel.channel_id, user_id) for channel in transient for user_id in channel.members))

    # --- helpers ----------------------------------------------------------------------------------

    def _admit(
        self,
        channel: Channel,
        op: JoinChannel | AddMember,
        role: Literal["member", "moderator"],
        extras: dict[str, str],
    ) -> MessageRow:
        self.check(len(channel.members) < channel.capacity, 2001)
        channel.bans.discard(op.user_id)
        entry = self._note(channel, op.user_id, "join", extras, op.message_id, op.now_ms)
        channel.members[op.user_id] = Membership(role, op.now_ms, entry.seq)
        return entry

    def _dismiss(self, channel: Channel, op: LeaveChannel | RemoveMember, extras: dict[str, str]) -> MessageRow:
        del channel.members[op.user_id]
        return self._note(channel, op.user_id, "leave", extras, op.message_id, op.now_ms)

    def _note(
        self,
        channel: Channel,
        user_id: UserId,
        event: str,
        extras: dict[str, str],
        message_id: MessageId,
        now_ms: int,
    ) -> MessageRow:
        """Write a SYSTEM message."""
        entry = MessageRow(
            message_id,
            channel.channel_id,
            channel.last_seq + 1,
            user_id,
            "SYSTEM",
            "",
            None,
            (),
            None,
            now_ms,
            {"event": event, "user_id": user_id, **extras},
        )
        channel.log.append(entry)
        return entry

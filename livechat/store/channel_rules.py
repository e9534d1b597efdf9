"""Owns the rules of channels and memberships.

It must not know any database, nor who may do what (`permissions`).
"""

from __future__ import annotations

from livechat.error import AlreadyInChannel, ChannelExists, Forbidden, NotInChannel
from livechat.store.operations import (
    AddMember,
    CheckMember,
    CreateChannel,
    DeleteChannel,
    GetChannel,
    JoinChannel,
    LeaveChannel,
    ListChannels,
    ListMembers,
    RemoveMember,
    UpdateChannel,
)
from livechat.store.permissions import Deed
from livechat.store.rows import (
    Added,
    ChannelPage,
    ChannelRow,
    ChannelView,
    Deleted,
    Joined,
    Left,
    MemberPage,
    Removed,
)
from livechat.store.rules import Rules


class ChannelRules(Rules):
    """Create, change and delete channels; join and leave them; add, remove and list members."""

    def create(self, operation: CreateChannel) -> ChannelRow:
        """See `CreateChannel`."""
        if self._records.channel(operation.channel_id) is not None:
            raise ChannelExists(f"channel {operation.channel_id!r} exists already")
        row = ChannelRow(
            channel_id=operation.channel_id,
            channel_name=operation.channel_name,
            mode=operation.mode,
            durable=operation.durable,
            capacity=operation.capacity,
            private=operation.private,
            max_speakers=operation.max_speakers,
            freq=operation.freq,
            owner_id=operation.owner_id,
            created_at=operation.now_ms,
            last_seq=self._records.last_seq_before(operation.channel_id),
            last_ordinal=0,
            member_count=0,
        )
        return self._records.add_channel(row).row()

    def update(self, operation: UpdateChannel) -> ChannelRow:
        """See `UpdateChannel`."""
        channel, _ = self.allowed(Deed.UPDATE, operation.channel_id, operation.actor_id, admin=operation.admin)
        if operation.channel_name is not None:
            channel.channel_name = operation.channel_name
        if operation.capacity is not None:
            channel.capacity = operation.capacity
        if operation.private is not None:
            channel.private = operation.private
        if operation.max_speakers is not None:
            channel.max_speakers = operation.max_speakers
        self._records.save_channel(channel)
        return channel.row()

    def delete(self, operation: DeleteChannel) -> Deleted:
        """See `DeleteChannel`."""
        channel, _ = self.allowed(Deed.DELETE, operation.channel_id, operation.actor_id, admin=operation.admin)
        row = channel.row()
        return Deleted(row, self._records.remove_channel(channel))

    def get(self, operation: GetChannel) -> ChannelView:
        """See `GetChannel`."""
        channel, member = self.allowed(Deed.INFO, operation.channel_id, operation.user_id, admin=operation.admin)
        return ChannelView(
            channel.row(),
            member.row(channel) if member is not None else None,
            self._records.last_message(channel),
        )

    def list(self, operation: ListChannels) -> ChannelPage:
        """See `ListChannels`."""
        return self._records.visible_channels(
            operation.user_id, operation.after, operation.limit, admin=operation.admin
        )

    # --- members ----------------------------------------------------------------------------------

    def join(self, operation: JoinChannel) -> Joined:
        """See `JoinChannel`."""
        channel, member = self.allowed(Deed.JOIN, operation.channel_id, operation.user_id, admin=operation.admin)
        if member is not None:
            return Joined(channel.row(), member.row(channel), created=False, message=None)
        member, message = self.admit(channel, operation.user_id, "member", operation.now_ms, operation.message_id)
        if operation.admin:
            self._records.remove_ban(channel, operation.user_id)
        return Joined(channel.row(), member.row(channel), created=True, message=message)

    def leave(self, operation: LeaveChannel) -> Left:
        """See `LeaveChannel`."""
        channel, member = self.member(Deed.LEAVE, operation.channel_id, operation.user_id, admin=operation.admin)
        message = self.dismiss(channel, member, operation.now_ms, operation.message_id, cause=operation.cause)
        return Left(channel.row(), message)

    def add_member(self, operation: AddMember) -> Added:
        """See `AddMember`."""
        channel, actor = self.allowed(
            Deed.MEMBER_ADD, operation.channel_id, operation.actor_id, admin=operation.admin
        )
        member = self._records.member(channel, operation.user_id)
        role = operation.role or "member"
        changes_role = operation.role is not None and operation.role != (member.role if member else "member")
        if changes_role:
            self.check(Deed.ROLE_CHANGE, channel, actor, operation.actor_id, admin=operation.admin)
        if member is None:
            member, message = self.admit(
                channel, operation.user_id, role, operation.now_ms, operation.message_id, operation.actor_id
            )
            self._records.remove_ban(channel, operation.user_id)
            return Added(channel.row(), member.row(channel), message)
        if not changes_role:
            raise AlreadyInChannel(f"user_id: {operation.user_id!r} is a member already")
        member.role = role
        self._records.touch_member(member)
        return Added(channel.row(), member.row(channel), None)

    def remove_member(self, operation: RemoveMember) -> Removed:
        """See `RemoveMember`."""
        channel, actor = self.allowed(
            Deed.MEMBER_REMOVE, operation.channel_id, operation.actor_id, admin=operation.admin
        )
        member = self._records.member(channel, operation.user_id)
        if operation.user_id == channel.owner_id:
            raise Forbidden("user_id: the owner can't be removed")
        if member is not None and member.role == "moderator":
            self.check(Deed.MODERATOR_REMOVE, channel, actor, operation.actor_id, admin=operation.admin)
        if member is None and not operation.ban:
            raise NotInChannel(f"user_id: {operation.user_id!r} is no member")
        if operation.ban:
            self._records.add_ban(channel, operation.user_id, operation.actor_id, operation.now_ms)
        if member is None:
            return Removed(channel.row(), None)
        cause = "ban" if operation.ban else "remove"
        message = self.dismiss(channel, member, operation.now_ms, operation.message_id, operation.actor_id, cause)
        return Removed(channel.row(), message)

    def check_member(self, operation: CheckMember) -> int:
        """See `CheckMember`."""
        channel, _ = self.allowed(Deed.HISTORY, operation.channel_id, operation.user_id, admin=operation.admin)
        return channel.channel_key

    def list_members(self, operation: ListMembers) -> MemberPage:
        """See `ListMembers`."""
        channel, _ = self.allowed(Deed.MEMBER_LIST, operation.channel_id, operation.user_id, admin=operation.admin)
        return self._records.members_of(channel, operation.after, operation.limit)

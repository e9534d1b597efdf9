"""Owns what all rules share: finding a channel and somebody's standing in it, and appending SYSTEM messages.

It must not know any database; see `executor` for where the rules of each operation are.
"""

from __future__ import annotations

from livechat.error import ChannelFull, ChannelNotFound
from livechat.protocol.types import ChannelId, MessageId, UserId
from livechat.store import permissions
from livechat.store.permissions import Deed
from livechat.store.records import ChannelRecord, MemberRecord, Records, StoredRole
from livechat.store.rows import MessageRow


class Rules:
    """The rules of some operations, on `Records`. All checks of an operation precede its first change."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def allowed(
        self, deed: Deed, channel_id: ChannelId, user_id: UserId, *, admin: bool = False
    ) -> tuple[ChannelRecord, MemberRecord | None]:
        """Return the channel and the user's membership, if the user may do this to it.

        Raises:
            ChannelNotFound: no such channel.
            LiveError: what `permissions.REFUSALS` says.
        """
        records = self._records
        channel = records.channel(channel_id)
        if channel is None:
            raise ChannelNotFound(f"no channel {channel_id!r}")
        member = records.member(channel, user_id)
        self.check(deed, channel, member, user_id, admin=admin)
        return channel, member

    def member(
        self, deed: Deed, channel_id: ChannelId, user_id: UserId, *, admin: bool
    ) -> tuple[ChannelRecord, MemberRecord]:
        """Do the same for a deed that only members can do."""
        channel, member = self.allowed(deed, channel_id, user_id, admin=admin)
        assert member is not None
        return channel, member

    def check(
        self, deed: Deed, channel: ChannelRecord, member: MemberRecord | None, user_id: UserId, *, admin: bool
    ) -> None:
        """Raise what `permissions.REFUSALS` says."""
        who = permissions.standing(
            is_member=member is not None,
            is_moderator=member is not None and member.role == "moderator",
            is_owner=channel.owner_id == user_id,
            is_private=channel.private,
            # The ban of a member was lifted by making it one.
            is_banned=member is None and self._records.is_banned(channel, user_id),
            is_admin=admin,
        )
        permissions.check(deed, who, channel.channel_id)

    def admit(
        self,
        channel: ChannelRecord,
        user_id: UserId,
        role: StoredRole,
        now_ms: int,
        message_id: MessageId,
        actor_id: UserId | None = None,
    ) -> tuple[MemberRecord, MessageRow]:
        """Make a member, who has read up to the SYSTEM message of the join.

        Raises:
            ChannelFull: there is no room.
        """
        if channel.member_count >= channel.capacity:
            raise ChannelFull(f"channel {channel.channel_id!r} holds {channel.capacity} members at most")
        channel.member_count += 1
        message = self._add_system_message(channel, "join", user_id, now_ms, message_id, actor_id)
        member = MemberRecord(
            channel_key=channel.channel_key,
            user_id=user_id,
            role=role,
            joined_at=now_ms,
            read_seq=channel.last_seq,
            read_ordinal=channel.last_ordinal,
            mention_count=0,
        )
        self._records.add_member(channel, member)
        return member, message

    def dismiss(
        self,
        channel: ChannelRecord,
        member: MemberRecord,
        now_ms: int,
        message_id: MessageId,
        actor_id: UserId | None = None,
        cause: str | None = None,
    ) -> MessageRow:
        """End a membership; return the SYSTEM message of the leave."""
        channel.member_count -= 1
        message = self._add_system_message(channel, "leave", member.user_id, now_ms, message_id, actor_id, cause)
        self._records.remove_member(channel, member)
        return message

    def _add_system_message(
        self,
        channel: ChannelRecord,
        event: str,
        user_id: UserId,
        now_ms: int,
        message_id: MessageId,
        actor_id: UserId | None,
        cause: str | None = None,
    ) -> MessageRow:
        system = {"event": event, "user_id": str(user_id)}
        if actor_id is not None:
            system["actor_id"] = str(actor_id)
        if cause is not None:
            system["cause"] = cause
        channel.last_seq += 1
        message = MessageRow(
            message_id=message_id,
            channel_id=channel.channel_id,
            seq=channel.last_seq,
            author_id=user_id,
            message_type="SYSTEM",
            content="",
            attachment=None,
            mentions=(),
            nonce=None,
            timestamp=now_ms,
            system=system,
        )
        self._records.add_message(channel, message)
        self._records.touch_channel(channel)
        return message

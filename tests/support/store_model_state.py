"""What the model of the store remembers, and what follows from it: counters, positions, who may do what.

A channel is its log: every number that a row shows is counted from there, not kept beside it.
"""

from __future__ import annotations

from typing import Literal

import attrs

from livechat.protocol.events import Announcement
from livechat.protocol.types import ChannelId, ChannelMode, UserId
from livechat.store.rows import ChannelRow, MemberRow, MemberState, MessageRow, Stored, UserRow


class Refused(Exception):
    """An error code."""


@attrs.define
class Membership:
    role: Literal["member", "moderator"]
    joined_at: int
    read_seq: int


@attrs.define
class Channel:
    """One life of a channel."""

    channel_id: ChannelId
    channel_name: str
    mode: ChannelMode
    durable: bool
    capacity: int
    private: bool
    max_speakers: int | None
    freq: str | None
    owner_id: UserId
    created_at: int
    seq_before: int
    """The last seq of the life before."""
    log: list[MessageRow] = attrs.field(factory=list)
    members: dict[UserId, Membership] = attrs.field(factory=dict)
    bans: set[UserId] = attrs.field(factory=set)

    @property
    def last_seq(self) -> int:
        return self.log[-1].seq if self.log else self.seq_before

    @property
    def last_message(self) -> MessageRow | None:
        return self.log[-1] if self.log else None

    def row(self) -> ChannelRow:
        names = [field.name for field in attrs.fields(ChannelRow)]
        kept = {name: getattr(self, name) for name in names if name not in ("last_ordinal", "member_count")}
        return ChannelRow(**kept, last_ordinal=self.ordinal_at(self.last_seq), member_count=len(self.members))

    def member_row(self, user_id: UserId) -> MemberRow:
        member = self.members[user_id]
        return MemberRow(
            user_id,
            "owner" if user_id == self.owner_id else member.role,
            member.joined_at,
            member.read_seq,
            self.ordinal_at(member.read_seq),
            sum(user_id in entry.mentions for entry in self.unread_by(user_id)),
        )

    def ordinal_at(self, seq: int) -> int:
        return sum(entry.message_type != "SYSTEM" for entry in self.log if entry.seq <= seq)

    def unread_by(self, user_id: UserId) -> list[MessageRow]:
        """Return the messages by others after the read position, SYSTEM ones left out."""
        read_seq = self.members[user_id].read_seq
        return [
            entry
            for entry in self.log
            if entry.seq > read_seq and entry.author_id != user_id and entry.message_type != "SYSTEM"
        ]

    def state(self, user_id: UserId, last_message: MessageRow | None) -> MemberState:
        state = MemberState(self.row(), self.member_row(user_id), last_message)
        assert state.unread == len(self.unread_by(user_id))
        return state


class ModelState:
    """The memory of a `StoreModel`, and the checks that its operations share."""

    def __init__(self) -> None:
        self.channels: dict[ChannelId, Channel] = {}
        self.last_seqs: dict[ChannelId, int] = {}
        """Of the channels that were deleted."""
        self.nonces: dict[tuple[UserId, ChannelId, str], tuple[bytes, Stored]] = {}
        self.users: dict[UserId, UserRow] = {}
        self.announcements: list[Announcement] = []

    # --- who may ----------------------------------------------------------------------------------

    def check(self, condition: bool, code: int) -> None:
        if not condition:
            raise Refused(code)

    def existing(self, channel_id: ChannelId) -> Channel:
        self.check(channel_id in self.channels, 2000)
        return self.channels[channel_id]

    def seen_by(self, user_id: UserId, channel_id: ChannelId, *, admin: bool) -> Channel:
        """Return the channel, unless it is private and the user has nothing to do with it."""
        channel = self.existing(channel_id)
        known = admin or user_id == channel.owner_id or user_id in channel.members
        self.check(known or not channel.private, 2002)
        return channel

    def led_by(self, user_id: UserId, channel_id: ChannelId, *, admin: bool) -> Channel:
        """Return the channel if the user is its owner, a moderator or `admin`."""
        channel = self.seen_by(user_id, channel_id, admin=admin)
        member = channel.members.get(user_id)
        moderates = member is not None and member.role == "moderator"
        self.check(admin or user_id == channel.owner_id or moderates, 1007)
        return channel

    def inside(self, user_id: UserId, channel_id: ChannelId, code: int, *, admin: bool = False) -> Channel:
        """Return the channel if the user is a member or `admin`; `code` is for who is outside a public one."""
        channel = self.existing(channel_id)
        self.check(admin or user_id in channel.members, 2002 if channel.private else code)
        return channel

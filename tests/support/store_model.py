"""The store as plain dictionaries: what every implementation must do, in the shortest words."""

from __future__ import annotations

from typing import Any

import attrs

from livechat.protocol.types import Role, UserId
from livechat.store.base import (
    ChannelPage,
    ChannelRow,
    ChannelView,
    CreateChannel,
    CreateMessage,
    DeleteChannel,
    Deleted,
    GetChannel,
    JoinChannel,
    Joined,
    LeaveChannel,
    Left,
    ListChannels,
    LoadUser,
    MemberRow,
    MemberState,
    MessageRow,
    Operation,
    Stored,
    TransientMembers,
    UpdateChannel,
)
from tests.support.store import DAY_MS


class Refused(Exception):
    """An error code."""


class StoreModel:
    """Executes operations one after another; raises `Refused` where the store refuses."""

    def __init__(self) -> None:
        self.channels: dict[str, ChannelRow] = {}
        self.members: dict[tuple[str, str], MemberRow] = {}
        self.newest: dict[str, MessageRow] = {}
        self.seqs: dict[str, int] = {}
        self.nonces: dict[tuple[str, str, str], tuple[bytes, Stored]] = {}

    def execute(self, operation: Operation[Any]) -> object:
        return getattr(self, "_" + type(operation).__name__)(operation)

    # --- channels ---------------------------------------------------------------------------------

    def _CreateChannel(self, op: CreateChannel) -> ChannelRow:  # noqa: N802
        self._check(op.channel_id not in self.channels, 2005)
        settings = {name: value for name, value in attrs.asdict(op).items() if name != "now_ms"}
        seq = self.seqs.get(op.channel_id, 0)
        row = ChannelRow(**settings, created_at=op.now_ms, last_seq=seq, last_ordinal=0, member_count=0)
        self.channels[op.channel_id] = row
        return row

    def _UpdateChannel(self, op: UpdateChannel) -> ChannelRow:  # noqa: N802
        row = self._visible(op.channel_id, op.actor_id, admin=op.admin)
        self._check(op.admin or row.owner_id == op.actor_id, 1007)
        names = ("channel_name", "capacity", "private", "max_speakers")
        changes = {name: getattr(op, name) for name in names if getattr(op, name) is not None}
        return self._change(row, **changes)

    def _DeleteChannel(self, op: DeleteChannel) -> Deleted:  # noqa: N802
        row = self._visible(op.channel_id, op.actor_id, admin=op.admin)
        self._check(op.admin or row.owner_id == op.actor_id, 1007)
        user_ids = sorted(UserId(user_id) for channel_id, user_id in self.members if channel_id == op.channel_id)
        for user_id in user_ids:
            del self.members[op.channel_id, user_id]
        del self.channels[op.channel_id]
        self.newest.pop(op.channel_id, None)
        return Deleted(row, tuple(user_ids))

    # --- members ----------------------------------------------------------------------------------

    def _JoinChannel(self, op: JoinChannel) -> Joined:  # noqa: N802
        row = self._visible(op.channel_id, op.user_id)
        member = self.members.get((op.channel_id, op.user_id))
        if member is not None:
            return Joined(row, member, False, None)
        self._check(row.member_count < row.capacity, 2001)
        row = self._change(row, member_count=row.member_count + 1, last_seq=row.last_seq + 1)
        entry = self._system(row, op, {"event": "join", "user_id": op.user_id})
        role: Role = "owner" if row.owner_id == op.user_id else "member"
        member = MemberRow(op.user_id, role, op.now_ms, row.last_seq, row.last_ordinal, 0)
        self.members[op.channel_id, op.user_id] = member
        return Joined(row, member, True, entry)

    def _LeaveChannel(self, op: LeaveChannel) -> Left:  # noqa: N802
        row = self._existing(op.channel_id)
        self._check((op.channel_id, op.user_id) in self.members, 2002 if row.private else 2004)
        del self.members[op.channel_id, op.user_id]
        row = self._change(row, member_count=row.member_count - 1, last_seq=row.last_seq + 1)
        cause = {"cause": op.cause} if op.cause is not None else {}
        return Left(row, self._system(row, op, {"event": "leave", "user_id": op.user_id, **cause}))

    def _system(self, row: ChannelRow, op: JoinChannel | LeaveChannel, system: dict[str, str]) -> MessageRow:
        entry = MessageRow(
            op.message_id,
            row.channel_id,
            row.last_seq,
            op.user_id,
            "SYSTEM",
            "",
            None,
            (),
            None,
            op.now_ms,
            system,
        )
        self.newest[row.channel_id] = entry
        return entry

    # --- messages ---------------------------------------------------------------------------------

    def _CreateMessage(self, op: CreateMessage) -> Stored:  # noqa: N802
        key = (op.author_id, op.channel_id, op.nonce or "")
        if op.nonce is not None and key in self.nonces:
            digest, first = self.nonces[key]
            if op.now_ms - first.timestamp < DAY_MS:
                self._check(digest == op.body_digest, 3003)
                return attrs.evolve(first, duplicate=True, message=None)
        if op.problem is not None:
            raise Refused(op.problem.code)
        row = self._existing(op.channel_id)
        self._check((op.channel_id, op.author_id) in self.members, 2002 if row.private else 3002)
        row = self._change(row, last_seq=row.last_seq + 1, last_ordinal=row.last_ordinal + 1)
        entry = MessageRow(
            op.message_id,
            op.channel_id,
            row.last_seq,
            op.author_id,
            op.message_type,
            op.content,
            op.attachment,
            op.mentions,
            op.nonce,
            op.now_ms,
            None,
        )
        self.newest[op.channel_id] = entry
        self._move_positions(row, op)
        stored = Stored(op.message_id, op.channel_id, row.last_seq, op.now_ms, False, entry)
        if op.nonce is not None:
            self.nonces[key] = (op.body_digest, stored)
        return stored

    def _move_positions(self, row: ChannelRow, op: CreateMessage) -> None:
        for user_id in {*op.mentions, op.author_id}:
            member = self.members.get((op.channel_id, user_id))
            if member is not None and user_id == op.author_id:
                self.members[op.channel_id, user_id] = attrs.evolve(
                    member, read_seq=row.last_seq, read_ordinal=row.last_ordinal, mention_count=0
                )
            elif member is not None:
                count = member.mention_count + 1
                self.members[op.channel_id, user_id] = attrs.evolve(member, mention_count=count)

    # --- reads ------------------------------------------------------------------------------------

    def _LoadUser(self, op: LoadUser) -> tuple[MemberState, ...]:  # noqa: N802
        return tuple(
            MemberState(row, self.members[channel_id, op.user_id], self.newest.get(channel_id))
            for channel_id, row in sorted(self.channels.items())
            if (channel_id, op.user_id) in self.members
        )

    def _GetChannel(self, op: GetChannel) -> ChannelView:  # noqa: N802
        row = self._visible(op.channel_id, op.user_id)
        return ChannelView(row, self.members.get((op.channel_id, op.user_id)), self.newest.get(op.channel_id))

    def _ListChannels(self, op: ListChannels) -> ChannelPage:  # noqa: N802
        rows = [
            row
            for channel_id, row in sorted(self.channels.items())
            if channel_id > (op.after or "")
            and (not row.private or row.owner_id == op.user_id or (channel_id, op.user_id) in self.members)
        ]
        page = tuple(rows[: op.limit])
        return ChannelPage(page, page[-1].channel_id if len(rows) > op.limit else None)

    def _TransientMembers(self, _: TransientMembers) -> tuple[tuple[str, str], ...]:  # noqa: N802
        return tuple(sorted(key for key in self.members if not self.channels[key[0]].durable))

    # --- helpers ----------------------------------------------------------------------------------

    def _check(self, condition: bool, code: int) -> None:
        if not condition:
            raise Refused(code)

    def _existing(self, channel_id: str) -> ChannelRow:
        self._check(channel_id in self.channels, 2000)
        return self.channels[channel_id]

    def _visible(self, channel_id: str, user_id: str, *, admin: bool = False) -> ChannelRow:
        row = self._existing(channel_id)
        known = admin or row.owner_id == user_id or (channel_id, user_id) in self.members
        self._check(known or not row.private, 2002)
        return row

    def _change(self, row: ChannelRow, **changes: Any) -> ChannelRow:
        row = self.channels[row.channel_id] = attrs.evolve(row, **changes)
        self.seqs[row.channel_id] = row.last_seq
        return row

"""The store as plain dictionaries: what every implementation must do, in the shortest words of the contract."""

from __future__ import annotations

import json
from typing import Any

import attrs

from livechat.protocol.events import Announcement
from livechat.store.operations import (
    ChangeSettings,
    CreateAnnouncement,
    CreateMessage,
    LoadUser,
    MarkRead,
    NoteSeen,
    Operation,
    ReadStates,
)
from livechat.store.queries import GetAnnouncements, GetHistory, Query, ReadRanges
from livechat.store.rows import History, MemberState, MessageRow, ReadMark, Stored, UserRow, UserView
from tests.support.store import DAY_MS
from tests.support.store_model_channels import ChannelModel
from tests.support.store_model_state import ModelState, Refused

SETTINGS_BYTES_MAX = 16 * 1024


class MessageModel(ModelState):
    """Executes the operations on messages and read positions."""

    def _CreateMessage(self, op: CreateMessage) -> Stored:  # noqa: N802
        key = (op.author_id, op.channel_id, op.nonce or "")
        if op.nonce is not None and key in self.nonces:
            digest, first = self.nonces[key]
            if op.now_ms - first.timestamp < DAY_MS:
                self.check(digest == op.body_digest, 3003)
                return attrs.evolve(first, duplicate=True, message=None, mentioned=())
        if op.problem is not None:
            raise Refused(op.problem.code)
        channel = self.inside(op.author_id, op.channel_id, 3002, admin=op.admin)
        entry = MessageRow(
            op.message_id,
            op.channel_id,
            channel.last_seq + 1,
            op.author_id,
            op.message_type,
            op.content,
            op.attachment,
            op.mentions,
            op.nonce,
            op.now_ms,
            None,
        )
        channel.log.append(entry)
        if op.author_id in channel.members:
            channel.members[op.author_id].read_seq = entry.seq
        mentioned = [
            user_id
            for user_id in dict.fromkeys(op.mentions)
            if user_id != op.author_id and user_id in channel.members
        ]
        stored = Stored(op.message_id, op.channel_id, entry.seq, op.now_ms, False, entry, tuple(mentioned))
        if op.nonce is not None:
            self.nonces[key] = (op.body_digest, stored)
        return stored

    def _MarkRead(self, op: MarkRead) -> ReadMark:  # noqa: N802
        channel = self.inside(op.user_id, op.channel_id, 2004)
        self.check(op.seq <= channel.last_seq, 1004)
        member = channel.members[op.user_id]
        moved = op.seq > member.read_seq
        if moved:
            member.read_seq = op.seq
        mark = ReadMark(channel.row(), channel.member_row(op.user_id), moved)
        assert mark.unread == len(channel.unread_by(op.user_id))
        return mark

    def _ReadStates(self, op: ReadStates) -> tuple[MemberState, ...]:  # noqa: N802
        return tuple(
            channel.state(op.user_id, None)
            for channel_id, channel in sorted(self.channels.items())
            if op.user_id in channel.members and (op.channel_ids is None or channel_id in op.channel_ids)
        )


class UserModel(ModelState):
    """Executes the operations on users and announcements."""

    def _LoadUser(self, op: LoadUser) -> UserView:  # noqa: N802
        user = self._user(op)
        states = tuple(
            channel.state(op.user_id, channel.last_message)
            for _, channel in sorted(self.channels.items())
            if op.user_id in channel.members
        )
        return UserView(user, states, self.announced(user.last_logout or 0, op.now_ms))

    def _ChangeSettings(self, op: ChangeSettings) -> UserRow:  # noqa: N802
        user = self._user(op)
        merged = {**user.settings, **op.changes}
        settings = {key: value for key, value in merged.items() if value is not None}
        self.check(
            len(json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()) <= SETTINGS_BYTES_MAX,
            1005,
        )
        return self._keep(op, attrs.evolve(user, settings=settings))

    def _NoteSeen(self, op: NoteSeen) -> UserRow:  # noqa: N802
        user = self._user(op)
        last_seen = user.last_seen if op.seen_ms is None else max(user.last_seen or 0, op.seen_ms)
        last_logout = user.last_logout if op.logout_ms is None else max(user.last_logout or 0, op.logout_ms)
        return self._keep(op, UserRow(user.settings, last_seen, last_logout))

    def _CreateAnnouncement(self, op: CreateAnnouncement) -> Announcement:  # noqa: N802
        self.announcements.append(op.announcement)
        return op.announcement

    def announced(self, since_ms: int, now_ms: int, limit: int = 100) -> tuple[Announcement, ...]:
        found = [
            each
            for each in self.announcements
            if each.created_at >= since_ms and (each.expires_at is None or each.expires_at > now_ms)
        ]
        found.sort(key=lambda each: (each.created_at, each.announcement_id))
        return tuple(found[-limit:])

    def _user(self, op: LoadUser | ChangeSettings | NoteSeen) -> UserRow:
        return self.users.get(op.user_id, UserRow({}, None, None))

    def _keep(self, op: ChangeSettings | NoteSeen, row: UserRow) -> UserRow:
        self.users[op.user_id] = row
        return row


class StoreModel(ChannelModel, MessageModel, UserModel):
    """Executes operations one after another, and answers queries; raises `Refused` where the store refuses."""

    def execute(self, operation: Operation[Any]) -> object:
        return getattr(self, "_" + type(operation).__name__)(operation)

    def answer(self, query: Query[Any]) -> object:
        return getattr(self, "_" + type(query).__name__)(query)

    # --- queries ----------------------------------------------------------------------------------

    def _GetHistory(self, query: GetHistory) -> History:  # noqa: N802
        channel = self.inside(query.user_id, query.channel_id, 2004, admin=query.admin)
        log = channel.log
        if query.after_seq is not None:
            page = [entry for entry in log if entry.seq > query.after_seq][: query.limit]
            end = page[-1].seq if page else query.after_seq
            has_before = any(entry.seq <= query.after_seq for entry in log)
            has_after = any(entry.seq > end for entry in log)
        else:
            before = channel.last_seq + 1 if query.before_seq is None else query.before_seq
            page = [entry for entry in log if entry.seq < before][-query.limit :]
            start = page[0].seq if page else before
            has_before = any(entry.seq < start for entry in log)
            has_after = any(entry.seq >= before for entry in log)
        return History(tuple(page), has_before, has_after, channel.last_seq)

    def _ReadRanges(self, query: ReadRanges) -> tuple[MessageRow, ...]:  # noqa: N802
        found = [
            entry
            for wanted in query.ranges
            if wanted.channel_id in self.channels
            for entry in self.channels[wanted.channel_id].log
            if wanted.after < entry.seq < wanted.before
        ]
        size = 0
        page: list[MessageRow] = []
        for entry in found[: query.limit]:
            size += len(entry.content.encode())
            if page and size > query.bytes_max:
                break
            page.append(entry)
        return tuple(page)

    def _GetAnnouncements(self, query: GetAnnouncements) -> tuple[Announcement, ...]:  # noqa: N802
        return self.announced(query.since_ms, query.now_ms, query.limit)


def expected(model: StoreModel, wanted: Operation[Any] | Query[Any]) -> object:
    """Return what the model answers, or the code with which it refuses."""
    try:
        return model.answer(wanted) if isinstance(wanted, Query) else model.execute(wanted)
    except Refused as refused:
        return refused.args[0]

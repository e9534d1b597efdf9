"""Owns the rules of what is kept of users beside memberships, and of announcements.

It must not know any database.
"""

from __future__ import annotations

from livechat.error import PayloadTooLarge
from livechat.protocol.events import Announcement
from livechat.protocol.requests import SETTINGS_BYTES_MAX
from livechat.protocol.validators import json_bytes
from livechat.store.operations import (
    ChangeSettings,
    CreateAnnouncement,
    LoadUser,
    NoteSeen,
    ReadStates,
)
from livechat.store.rows import MemberState, UserRow, UserView
from livechat.store.rules import Rules

ANNOUNCEMENTS_MAX = 100
"""The newest announcements that a login is told."""


class UserRules(Rules):
    """Settings, last seen and last logout; what a login is told."""

    def load(self, operation: LoadUser) -> UserView:
        """See `LoadUser`."""
        user = self._records.user(operation.user_id).row()
        # Who was never here has missed all of them.
        since_ms = user.last_logout or 0
        return UserView(
            user,
            self._records.memberships(operation.user_id, with_messages=True),
            self._records.announcements(since_ms, operation.now_ms, ANNOUNCEMENTS_MAX),
        )

    def read_states(self, operation: ReadStates) -> tuple[MemberState, ...]:
        """See `ReadStates`."""
        if operation.channel_ids is None:
            return self._records.memberships(operation.user_id, with_messages=False)
        states = []
        for channel_id in sorted(set(operation.channel_ids)):
            channel = self._records.channel(channel_id)
            member = self._records.member(channel, operation.user_id) if channel is not None else None
            if channel is not None and member is not None:
                states.append(MemberState(channel.row(), member.row(channel), None))
        return tuple(states)

    def change_settings(self, operation: ChangeSettings) -> UserRow:
        """See `ChangeSettings`."""
        user = self._records.user(operation.user_id)
        merged = {**user.settings, **operation.changes}
        settings = {key: value for key, value in merged.items() if value is not None}
        size = json_bytes(settings)
        if size > SETTINGS_BYTES_MAX:
            raise PayloadTooLarge(f"settings: expected at most {SETTINGS_BYTES_MAX} bytes in all, got {size}")
        user.settings = settings
        self._records.save_user(user)
        return user.row()

    def note_seen(self, operation: NoteSeen) -> UserRow:
        """See `NoteSeen`."""
        user = self._records.user(operation.user_id)
        if operation.seen_ms is not None:
            user.last_seen = max(user.last_seen or 0, operation.seen_ms)
        if operation.logout_ms is not None:
            user.last_logout = max(user.last_logout or 0, operation.logout_ms)
        self._records.save_user(user)
        return user.row()

    def announce(self, operation: CreateAnnouncement) -> Announcement:
        """See `CreateAnnouncement`."""
        self._records.add_announcement(operation.announcement)
        return operation.announcement

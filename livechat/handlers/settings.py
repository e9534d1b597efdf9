"""Handles op 36, SETTINGS_SET: the user's own small preferences.

It must not interpret them.
"""

from __future__ import annotations

from livechat.cluster.backplane import UserNotice
from livechat.handlers.call import Call
from livechat.protocol.events import SettingsEvent, SettingsStored
from livechat.protocol.requests import SettingsSet
from livechat.store.operations import ChangeSettings
from livechat.store.rows import UserRow


def change(call: Call, request: SettingsSet) -> None:
    """Op 36 → ACK SettingsStored; SETTINGS_EVENT to the user's other sessions."""
    user_id = call.session.user_id

    def committed(user: UserRow) -> None:
        call.ack(SettingsStored(user.settings))
        call.node.backplane.publish(UserNotice(user_id, SettingsEvent(user.settings), call.origin))

    call.submit(ChangeSettings(user_id, request.settings), committed)

"""Owns the table opcode → handler. To find what an op does, look here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from livechat.handlers import (
    attention,
    channels,
    chunks,
    floor,
    history,
    members,
    messages,
    presence,
    session,
    settings,
    unread,
)
from livechat.handlers.call import Call
from livechat.protocol.opcodes import Op

Handler = Callable[[Call, Any], None]
"""Takes the call and the validated request; answers by the call, or raises `LiveError`. Never waits."""

HANDLERS: Final[dict[int, Handler]] = {
    Op.HEARTBEAT: session.heartbeat,
    # IDENTIFY and RESUME ask an authenticator, which may wait: the conversation does that, then calls
    # `session.begin` or `resume.resume`.
    Op.CHANNEL_CREATE: channels.create,
    Op.CHANNEL_JOIN: channels.join,
    Op.CHANNEL_LEAVE: channels.leave,
    Op.CHANNEL_UPDATE: channels.update,
    Op.CHANNEL_DELETE: channels.delete,
    Op.CHANNEL_LIST: channels.list_channels,
    Op.CHANNEL_INFO: channels.info,
    Op.MESSAGE_CREATE: messages.create,
    Op.HISTORY: history.history,
    Op.SYNC: history.sync,
    Op.READ: unread.read,
    Op.TYPING: attention.typing,
    Op.FOCUS: attention.focus,
    Op.SUBSCRIBE: attention.subscribe,
    Op.UNSUBSCRIBE: attention.unsubscribe,
    Op.PRESENCE_UPDATE: presence.update,
    Op.MEDIA_CHUNK: chunks.publish,
    Op.FLOOR_REQUEST: floor.request,
    Op.FLOOR_RELEASE: floor.release,
    Op.FLOOR_PING: floor.ping,
    Op.MEMBER_ADD: members.add,
    Op.MEMBER_REMOVE: members.remove,
    Op.MEMBER_LIST: members.list_members,
    Op.SETTINGS_SET: settings.change,
}

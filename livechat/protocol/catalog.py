"""Owns which packet holds what: the payload of each packet from the server, and what answers each request. Pure.

It must not encode or send any. What clients may send is `requests.REQUESTS`.
"""

from __future__ import annotations

from typing import Any, Final

from livechat.protocol import chunks, events, jobs, voice_events
from livechat.protocol.opcodes import Op

SENT: Final[dict[int, tuple[type[Any], ...]]] = {
    Op.HELLO: (events.Hello,),
    Op.HEARTBEAT_ACK: (),
    Op.READY: (events.Ready,),
    Op.RESUMED: (events.Resumed,),
    Op.RECONNECT: (events.Reconnect,),
    Op.INVALID_SESSION: (events.InvalidSession,),
    Op.CHANNEL_EVENT: (events.ChannelEvent,),
    Op.MESSAGE_EVENT: (events.Message,),
    Op.READ_EVENT: (events.ReadEvent,),
    Op.PRESENCE_EVENT: (events.UserPresence, events.PresenceBatch),
    Op.TYPING_EVENT: (events.TypingEvent,),
    Op.UNREAD_EVENT: (events.UnreadEvent,),
    Op.NOTIFICATION: (events.Notification,),
    Op.ANNOUNCEMENT: (events.Announcement,),
    Op.SETTINGS_EVENT: (events.SettingsEvent,),
    Op.MEDIA_CHUNK_EVENT: (chunks.ChunkEvent,),
    Op.FLOOR_GRANTED: (voice_events.FloorGranted,),
    Op.FLOOR_DENY: (voice_events.FloorDeny,),
    Op.FLOOR_TAKEN: (voice_events.FloorTaken,),
    Op.FLOOR_IDLE: (voice_events.FloorIdle,),
    Op.FLOOR_REVOKE: (voice_events.FloorRevoke,),
    Op.FLOOR_QUEUE_POS_INFO: (voice_events.FloorQueuePosInfo,),
    Op.FLOOR_PONG: (voice_events.FloorPong,),
    Op.MEDIA_UPDATE: (voice_events.MediaUpdate,),
    Op.JOB_EVENT: (jobs.JobEvent,),
    Op.SPEAKING: (voice_events.SpeakingEvent,),
    Op.ACK: (events.Ack,),
    Op.ERROR: (events.Error,),
}
"""Every opcode the server sends, and what its `d` may be; without a class it is null."""

FLOOR_OPS: Final[dict[type[Any], Op]] = {
    cls: Op(op) for op, classes in SENT.items() for cls in classes if issubclass(cls, voice_events.FloorEvent)
}
"""The op of each event of the floor."""

ACK_DATA: Final[dict[int, type[Any]]] = {
    Op.IDENTIFY: events.TokenRenewed,
    Op.CHANNEL_CREATE: events.ChannelCreated,
    Op.CHANNEL_JOIN: events.ChannelJoined,
    Op.CHANNEL_LEAVE: events.ChannelRef,
    Op.CHANNEL_UPDATE: events.ChannelRef,
    Op.CHANNEL_DELETE: events.ChannelRef,
    Op.CHANNEL_LIST: events.ChannelPage,
    Op.CHANNEL_INFO: events.ChannelDetails,
    Op.MESSAGE_CREATE: events.MessageCreated,
    Op.HISTORY: events.HistoryPage,
    Op.SYNC: events.Synced,
    Op.READ: events.ReadDone,
    Op.TYPING: events.ChannelRef,
    Op.FOCUS: events.Focused,
    Op.SUBSCRIBE: events.Subscribed,
    Op.UNSUBSCRIBE: events.ChannelRef,
    Op.PRESENCE_UPDATE: events.PresenceUpdated,
    Op.MEDIA_CHUNK: chunks.ChunkTaken,
    Op.FLOOR_REQUEST: events.ChannelRef,
    Op.FLOOR_RELEASE: events.ChannelRef,
    Op.FLOOR_PING: events.ChannelRef,
    Op.MEMBER_ADD: events.MemberAdded,
    Op.MEMBER_REMOVE: events.MemberRemoved,
    Op.MEMBER_LIST: events.MemberPage,
    Op.SETTINGS_SET: events.SettingsStored,
}
"""What `data` of an ACK is, by the request; IDENTIFY gets one only when it renews."""

REPLIES: Final[dict[int, tuple[Op, ...]]] = {
    Op.HEARTBEAT: (Op.HEARTBEAT_ACK,),
    Op.IDENTIFY: (Op.READY,),
    Op.RESUME: (Op.RESUMED, Op.INVALID_SESSION),
}
"""What answers a request other than its ACK, and other than ERROR, which may answer any."""

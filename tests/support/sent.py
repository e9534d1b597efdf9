"""What the server sends: the class of each packet and of each ACK's data, and what examples of them look like."""

from __future__ import annotations

from typing import Any

import attrs

from livechat.protocol import catalog, chunks, events, jobs, voice_events
from livechat.protocol.events import Member, Message, UserPresence
from livechat.protocol.opcodes import Op
from livechat.protocol.types import (
    AnnouncementId,
    ChannelId,
    JobId,
    MessageId,
    SessionId,
    Ssrc,
    StreamId,
    UserId,
)

SENT: dict[int, type[Any] | None] = {op: next(iter(classes), None) for op, classes in catalog.SENT.items()}
"""What the server sends; PRESENCE_EVENT may be a `PresenceBatch` as well."""

LOBBY = ChannelId("lobby")
ANN = UserId("ann")
BOB = UserId("bob")
MESSAGE = Message(MessageId("m1"), LOBBY, 3, ANN, "TEXT", "hi", 1700)
MESSAGE_OUT = {
    "message_id": "m1",
    "channel_id": "lobby",
    "seq": 3,
    "author_id": "ann",
    "message_type": "TEXT",
    "content": "hi",
    "timestamp": 1700,
}
CHANNEL_STATE = events.ChannelState(LOBBY, "Lobby", "ptt", True, None, 3, 0, 3, 0, 1)
STATE_OUT = {
    "channel_id": "lobby",
    "channel_name": "Lobby",
    "mode": "ptt",
    "durable": True,
    "role": None,
    "last_seq": 3,
    "read_seq": 0,
    "unread": 3,
    "mention_count": 0,
    "member_count": 1,
}
NEWS = events.Announcement(AnnouncementId("a1"), "News", "All is well.", "info", 1700)
NEWS_OUT = {
    "announcement_id": "a1",
    "title": "News",
    "body": "All is well.",
    "severity": "info",
    "created_at": 1700,
}
CHUNK_OUT = {"channel_id": "lobby", "user_id": "ann", "stream_id": "cam", "mime": "video/mp4"}
READY = events.Ready(SessionId("sess_1"), ANN, "n1", [])
READY_OUT = {
    "session_id": "sess_1",
    "user_id": "ann",
    "node_id": "n1",
    "channels": [],
    "announcements": [],
    "presence": {},
    "settings": {},
}
GRANT = voice_events.MediaGrant("::1", 10_000, Ssrc(7), "AEAD_AES_128_GCM", "ck", "sk", True)
GRANT_OUT = {
    "host": "::1",
    "port": 10_000,
    "ssrc": 7,
    "profile": "AEAD_AES_128_GCM",
    "client_key": "ck",
    "server_key": "sk",
    "rtcp_mux": True,
}
SETTINGS = {"theme": {"dark": True, "sizes": [1, 2.5, None]}}

PACKETS: list[tuple[Op, Any, Any]] = [
    (
        Op.HELLO,
        events.Hello(30_000, "n1", "livechat/1", 120_000, 10_000, events.HelloLimits(1, 2, 3)),
        {
            "heartbeat_interval": 30_000,
            "node_id": "n1",
            "server": "livechat/1",
            "resume_window_ms": 120_000,
            "reconnect_window_ms": 10_000,
            "limits": {"message_bytes": 1, "frame_bytes": 2, "chunk_bytes": 3},
        },
    ),
    (Op.HEARTBEAT_ACK, None, None),
    (Op.READY, READY, READY_OUT),
    (
        Op.READY,
        attrs.evolve(
            READY,
            channels=[attrs.evolve(CHANNEL_STATE, role="owner", last_message=MESSAGE)],
            announcements=[NEWS],
            presence={BOB: "AWAY"},
            settings=SETTINGS,
            expires_at=9,
        ),
        READY_OUT
        | {
            "channels": [STATE_OUT | {"role": "owner", "last_message": MESSAGE_OUT}],
            "announcements": [NEWS_OUT],
            "presence": {"bob": "AWAY"},
            "settings": SETTINGS,
            "expires_at": 9,
        },
    ),
    (
        Op.RESUMED,
        events.Resumed(SessionId("sess_1"), {}, {}, []),
        {"session_id": "sess_1", "channels": {}, "presence": {}, "announcements": []},
    ),
    (
        Op.RESUMED,
        events.Resumed(
            SessionId("sess_1"),
            {LOBBY: events.ResumedChannel(2, 9, 7, 1, False, [Member(ANN, Ssrc(7)), Member(BOB, None)])},
            {BOB: "ONLINE"},
            [attrs.evolve(NEWS, url="u", image_url="i", expires_at=1800)],
            {JobId("job_1"): events.ResumedJob(3, 5, True)},
        ),
        {
            "session_id": "sess_1",
            "channels": {
                "lobby": {
                    "replayed": 2,
                    "last_seq": 9,
                    "read_seq": 7,
                    "unread": 1,
                    "recovered": False,
                    "active_members": [{"user_id": "ann", "ssrc": 7}, {"user_id": "bob", "ssrc": None}],
                }
            },
            "presence": {"bob": "ONLINE"},
            "announcements": [NEWS_OUT | {"url": "u", "image_url": "i", "expires_at": 1800}],
            "jobs": {"job_1": {"replayed": 3, "event_seq": 5, "recovered": True}},
        },
    ),
    (Op.RECONNECT, events.Reconnect(250, "drain"), {"delay_ms": 250, "reason": "drain"}),
    (Op.INVALID_SESSION, events.InvalidSession("gone"), {"reason": "gone"}),
    (
        Op.CHANNEL_EVENT,
        events.ChannelEvent("join", LOBBY, Member(ANN, None), seq=5),
        {"event": "join", "channel_id": "lobby", "member": {"user_id": "ann", "ssrc": None}, "seq": 5},
    ),
    (
        Op.CHANNEL_EVENT,
        events.ChannelEvent("leave", LOBBY, Member(ANN, Ssrc(7)), 6, BOB, "ban"),
        {
            "event": "leave",
            "channel_id": "lobby",
            "member": {"user_id": "ann", "ssrc": 7},
            "seq": 6,
            "actor_id": "bob",
            "cause": "ban",
        },
    ),
    (
        Op.CHANNEL_EVENT,
        events.ChannelEvent(
            "update", LOBBY, Member(BOB, None), actor_id=BOB, channel=events.ChannelChange("Hall", 9, True, 2)
        ),
        {
            "event": "update",
            "channel_id": "lobby",
            "member": {"user_id": "bob", "ssrc": None},
            "actor_id": "bob",
            "channel": {"channel_name": "Hall", "capacity": 9, "private": True, "max_speakers": 2},
        },
    ),
    (
        Op.CHANNEL_EVENT,
        events.ChannelEvent("update", LOBBY, Member(ANN, None), actor_id=BOB, role="moderator"),
        {
            "event": "update",
            "channel_id": "lobby",
            "member": {"user_id": "ann", "ssrc": None},
            "actor_id": "bob",
            "role": "moderator",
        },
    ),
    (Op.MESSAGE_EVENT, MESSAGE, MESSAGE_OUT),
    (
        Op.MESSAGE_EVENT,
        attrs.evolve(MESSAGE, nonce="n", mentions=(BOB,), attachment={"url": "u"}, system={"event": "join"}),
        MESSAGE_OUT | {"nonce": "n", "mentions": ["bob"], "attachment": {"url": "u"}, "system": {"event": "join"}},
    ),
    (
        Op.READ_EVENT,
        events.ReadEvent(LOBBY, ANN, 3, 1700),
        {"channel_id": "lobby", "user_id": "ann", "seq": 3, "timestamp": 1700},
    ),
    (
        Op.PRESENCE_EVENT,
        UserPresence(ANN, "OFFLINE", None),
        {"user_id": "ann", "status": "OFFLINE", "last_seen": None},
    ),
    (
        Op.PRESENCE_EVENT,
        UserPresence(ANN, "AWAY", 1700, "at lunch"),
        {"user_id": "ann", "status": "AWAY", "last_seen": 1700, "text": "at lunch"},
    ),
    (
        Op.PRESENCE_EVENT,
        events.PresenceBatch([UserPresence(ANN, "ONLINE", 1700), UserPresence(BOB, "OFFLINE", None)]),
        {
            "users": [
                {"user_id": "ann", "status": "ONLINE", "last_seen": 1700},
                {"user_id": "bob", "status": "OFFLINE", "last_seen": None},
            ]
        },
    ),
    (
        Op.TYPING_EVENT,
        events.TypingEvent(LOBBY, ANN, False),
        {"channel_id": "lobby", "user_id": "ann", "typing": False},
    ),
    (
        Op.SPEAKING,
        voice_events.SpeakingEvent(LOBBY, ANN, Ssrc(7), True, -31),
        {"channel_id": "lobby", "user_id": "ann", "ssrc": 7, "speaking": True, "level_db": -31},
    ),
    (
        Op.UNREAD_EVENT,
        events.UnreadEvent(LOBBY, 0, 9, 9),
        {"channel_id": "lobby", "unread": 0, "read_seq": 9, "last_seq": 9},
    ),
    (Op.NOTIFICATION, events.Notification("greeting"), {"kind": "greeting"}),
    (
        Op.NOTIFICATION,
        events.Notification("mention", LOBBY, MessageId("m1"), 3, ANN, "hi @bob"),
        {
            "kind": "mention",
            "channel_id": "lobby",
            "message_id": "m1",
            "seq": 3,
            "user_id": "ann",
            "preview": "hi @bob",
        },
    ),
    (
        Op.NOTIFICATION,
        events.Notification("token_expiring", expires_at=9, expires_in_ms=7),
        {"kind": "token_expiring", "expires_at": 9, "expires_in_ms": 7},
    ),
    (Op.ANNOUNCEMENT, NEWS, NEWS_OUT),
    (
        Op.MEDIA_UPDATE,
        voice_events.MediaUpdate(LOBBY, "age", GRANT),
        {"channel_id": "lobby", "cause": "age", "media": GRANT_OUT},
    ),
    (Op.MEDIA_UPDATE, voice_events.MediaUpdate(LOBBY, "moved"), {"channel_id": "lobby", "cause": "moved"}),
    (Op.SETTINGS_EVENT, events.SettingsEvent(SETTINGS), {"settings": SETTINGS}),
    (
        Op.FLOOR_GRANTED,
        voice_events.FloorGranted(LOBBY, ANN, 30_000),
        {"channel_id": "lobby", "user_id": "ann", "duration": 30_000},
    ),
    (Op.FLOOR_DENY, voice_events.FloorDeny(LOBBY, "queue_full"), {"channel_id": "lobby", "reason": "queue_full"}),
    (
        Op.FLOOR_TAKEN,
        voice_events.FloorTaken(LOBBY, ANN, "emergency"),
        {"channel_id": "lobby", "user_id": "ann", "indicator": "emergency"},
    ),
    (Op.FLOOR_IDLE, voice_events.FloorIdle(LOBBY), {"channel_id": "lobby"}),
    (Op.FLOOR_REVOKE, voice_events.FloorRevoke(LOBBY, "preempted"), {"channel_id": "lobby", "cause": "preempted"}),
    (
        Op.FLOOR_QUEUE_POS_INFO,
        voice_events.FloorQueuePosInfo(LOBBY, 1, 2),
        {"channel_id": "lobby", "queue_position": 1, "queue_size": 2},
    ),
    (Op.FLOOR_PONG, voice_events.FloorPong(LOBBY), {"channel_id": "lobby"}),
    (
        Op.MEDIA_CHUNK_EVENT,
        chunks.ChunkEvent(LOBBY, ANN, StreamId("cam"), 0, "video/mp4", b"\x00\xff"),
        {**CHUNK_OUT, "chunk_seq": 0, "data": b"\x00\xff"},
    ),
    (
        Op.MEDIA_CHUNK_EVENT,
        chunks.ChunkEvent(LOBBY, ANN, StreamId("cam"), 5, "video/mp4", b"", keyframe=True, init=True),
        {**CHUNK_OUT, "chunk_seq": 5, "data": b"", "keyframe": True, "init": True},
    ),
    (
        Op.JOB_EVENT,
        jobs.JobEvent(JobId("job_1"), "speak", "queued", 0.0, 1),
        {"job_id": "job_1", "kind": "speak", "state": "queued", "progress": 0.0, "event_seq": 1},
    ),
    (
        Op.JOB_EVENT,
        jobs.JobEvent(
            JobId("job_1"), "speak", "failed", 0.5, 4, "a part", {"n": [1, 2.5]}, jobs.JobError(9000, "no")
        ),
        {
            "job_id": "job_1",
            "kind": "speak",
            "state": "failed",
            "progress": 0.5,
            "event_seq": 4,
            "partial": "a part",
            "result": {"n": [1, 2.5]},
            "error": {"code": 9000, "reason": "no"},
        },
    ),
    (Op.ERROR, events.Error(1004, "no", False), {"code": 1004, "reason": "no", "retryable": False}),
    (
        Op.ERROR,
        events.Error(3005, "away", True, 20, "RETRY", 250, "n"),
        {
            "code": 3005,
            "reason": "away",
            "retryable": True,
            "op": 20,
            "action": "RETRY",
            "retry_after_ms": 250,
            "nonce": "n",
        },
    ),
]
"""Each packet of the server but ACK, with all that may be left out left out, and with all of it given."""

ACKS: list[tuple[Op, Any, dict[str, Any]]] = [
    (Op.IDENTIFY, events.TokenRenewed(None), {"expires_at": None}),
    (
        Op.CHANNEL_CREATE,
        events.ChannelCreated(LOBBY, "Lobby", "conference", True, 100),
        {
            "channel_id": "lobby",
            "channel_name": "Lobby",
            "mode": "conference",
            "durable": True,
            "capacity": 100,
        },
    ),
    (
        Op.CHANNEL_JOIN,
        events.ChannelJoined(LOBBY, "conference", [Member(ANN, Ssrc(7))], 4),
        {
            "channel_id": "lobby",
            "mode": "conference",
            "active_members": [{"user_id": "ann", "ssrc": 7}],
            "last_seq": 4,
        },
    ),
    (
        Op.CHANNEL_JOIN,
        events.ChannelJoined(
            LOBBY,
            "ptt",
            [],
            0,
            GRANT,
        ),
        {
            "channel_id": "lobby",
            "mode": "ptt",
            "active_members": [],
            "last_seq": 0,
            "media": GRANT_OUT,
        },
    ),
    *(
        (op, events.ChannelRef(LOBBY), {"channel_id": "lobby"})
        for op in (Op.CHANNEL_LEAVE, Op.CHANNEL_UPDATE, Op.CHANNEL_DELETE, Op.TYPING, Op.UNSUBSCRIBE)
    ),
    *(
        (op, events.ChannelRef(LOBBY), {"channel_id": "lobby"})
        for op in (Op.FLOOR_REQUEST, Op.FLOOR_RELEASE, Op.FLOOR_PING)
    ),
    (Op.CHANNEL_LIST, events.ChannelPage([]), {"channels": []}),
    (
        Op.CHANNEL_LIST,
        events.ChannelPage([events.ChannelSummary(LOBBY, "Lobby", "ptt", False, 9, True, 2, 1700)], LOBBY),
        {
            "channels": [
                {
                    "channel_id": "lobby",
                    "channel_name": "Lobby",
                    "mode": "ptt",
                    "durable": False,
                    "capacity": 9,
                    "private": True,
                    "member_count": 2,
                    "created_at": 1700,
                }
            ],
            "next": "lobby",
        },
    ),
    (
        Op.CHANNEL_INFO,
        events.ChannelDetails(
            **attrs.asdict(attrs.evolve(CHANNEL_STATE, last_message=MESSAGE), recurse=False),
            capacity=9,
            created_at=5,
            peers=[Member(ANN, Ssrc(7))],
            active_speakers=[voice_events.ActiveSpeaker(ANN, Ssrc(7), -31)],
        ),
        STATE_OUT
        | {"last_message": MESSAGE_OUT}
        | {"capacity": 9, "created_at": 5, "peers": [{"user_id": "ann", "ssrc": 7}]}
        | {"active_speakers": [{"user_id": "ann", "ssrc": 7, "level_db": -31}]},
    ),
    (
        Op.CHANNEL_INFO,
        events.ChannelDetails(
            **attrs.asdict(CHANNEL_STATE, recurse=False),
            capacity=9,
            created_at=5,
            peers=[],
            floor=voice_events.FloorHeld(ANN, "normal", 2),
        ),
        STATE_OUT
        | {"capacity": 9, "created_at": 5, "peers": []}
        | {"active_speakers": [], "floor": {"user_id": "ann", "indicator": "normal", "queue_size": 2}},
    ),
    (
        Op.MESSAGE_CREATE,
        events.MessageCreated(MessageId("m1"), LOBBY, 3, 1700, False),
        {"message_id": "m1", "channel_id": "lobby", "seq": 3, "timestamp": 1700, "duplicate": False},
    ),
    (
        Op.MESSAGE_CREATE,
        events.MessageCreated(MessageId("m1"), LOBBY, 3, 1700, True, "n"),
        {
            "message_id": "m1",
            "channel_id": "lobby",
            "seq": 3,
            "timestamp": 1700,
            "duplicate": True,
            "nonce": "n",
        },
    ),
    (
        Op.HISTORY,
        events.HistoryPage(LOBBY, [MESSAGE], True, False, 3),
        {
            "channel_id": "lobby",
            "messages": [MESSAGE_OUT],
            "has_before": True,
            "has_after": False,
            "last_seq": 3,
        },
    ),
    (
        Op.SYNC,
        events.Synced({LOBBY: events.SyncedChannel(0, 3, True)}),
        {"channels": {"lobby": {"replayed": 0, "last_seq": 3, "recovered": True}}},
    ),
    (Op.READ, events.ReadDone(LOBBY, 3, 0), {"channel_id": "lobby", "read_seq": 3, "unread": 0}),
    (Op.FOCUS, events.Focused(None), {"channel_id": None}),
    (Op.SUBSCRIBE, events.Subscribed(LOBBY, 0), {"channel_id": "lobby", "last_seq": 0}),
    (Op.PRESENCE_UPDATE, events.PresenceUpdated("OFFLINE"), {"status": "OFFLINE"}),
    (
        Op.MEDIA_CHUNK,
        chunks.ChunkTaken(LOBBY, StreamId("cam"), 5),
        {"channel_id": "lobby", "stream_id": "cam", "chunk_seq": 5},
    ),
    (
        Op.MEMBER_ADD,
        events.MemberAdded(LOBBY, BOB, "moderator"),
        {"channel_id": "lobby", "user_id": "bob", "role": "moderator"},
    ),
    (Op.MEMBER_REMOVE, events.MemberRemoved(LOBBY, BOB), {"channel_id": "lobby", "user_id": "bob"}),
    (Op.MEMBER_LIST, events.MemberPage(LOBBY, []), {"channel_id": "lobby", "members": []}),
    (
        Op.MEMBER_LIST,
        events.MemberPage(LOBBY, [events.MemberEntry(ANN, "owner", 1700)], ANN),
        {
            "channel_id": "lobby",
            "members": [{"user_id": "ann", "role": "owner", "joined_at": 1700}],
            "next": "ann",
        },
    ),
    (Op.SETTINGS_SET, events.SettingsStored({}), {"settings": {}}),
]
"""The data of the ACK of each request."""

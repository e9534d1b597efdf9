from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import attrs
import msgpack
import pytest

from livechat.protocol import chunks, events, jobs, voice_events
from livechat.protocol.catalog import ACK_DATA
from livechat.protocol.codec import CODECS, MSGPACK, Packet, decode_untrusted, envelope, unstructure
from livechat.protocol.opcodes import Op
from livechat.protocol.types import Ssrc
from tests.support.sent import ACKS, PACKETS, SENT

# --- the fields of the protocol, section 2 -----------------------------------------------------------

STATE = (
    "channel_id channel_name mode durable role last_seq read_seq unread mention_count member_count last_message?"
)
FIELDS: dict[type[Any], str] = {
    events.HelloLimits: "message_bytes frame_bytes chunk_bytes",
    events.Hello: "heartbeat_interval node_id server resume_window_ms reconnect_window_ms limits",
    events.Message: "message_id channel_id seq author_id message_type content attachment? mentions? nonce?"
    " timestamp system?",
    events.ChannelState: STATE,
    events.Announcement: "announcement_id title body url? image_url? severity created_at expires_at?",
    events.Ready: "session_id user_id node_id expires_at? channels announcements presence settings",
    events.ResumedChannel: "replayed last_seq read_seq unread recovered active_members",
    events.ResumedJob: "replayed event_seq recovered",
    events.Resumed: "session_id channels presence announcements jobs?",
    events.Reconnect: "delay_ms reason",
    events.InvalidSession: "reason",
    events.Member: "user_id ssrc",
    events.ChannelChange: "channel_name capacity private max_speakers?",
    events.ChannelEvent: "event channel_id member seq? actor_id? cause? channel? role?",
    events.ReadEvent: "channel_id user_id seq timestamp",
    events.UserPresence: "user_id status text? last_seen",
    events.PresenceBatch: "users",
    events.TypingEvent: "channel_id user_id typing",
    voice_events.SpeakingEvent: "channel_id user_id ssrc speaking level_db",
    events.UnreadEvent: "channel_id unread read_seq last_seq",
    events.Notification: "kind channel_id? message_id? seq? user_id? preview? expires_at? expires_in_ms?",
    events.SettingsEvent: "settings",
    voice_events.FloorGranted: "channel_id user_id duration",
    voice_events.FloorDeny: "channel_id reason",
    voice_events.FloorTaken: "channel_id user_id indicator",
    voice_events.FloorIdle: "channel_id",
    voice_events.FloorRevoke: "channel_id cause",
    voice_events.FloorQueuePosInfo: "channel_id queue_position queue_size",
    voice_events.FloorPong: "channel_id",
    voice_events.FloorHeld: "user_id indicator queue_size",
    voice_events.MediaUpdate: "channel_id cause media?",
    jobs.JobError: "code reason",
    jobs.JobEvent: "job_id kind state progress event_seq partial? result? error?",
    events.Ack: "op data",
    events.Error: "code reason op? action? retryable retry_after_ms? nonce?",
    events.ChannelCreated: "channel_id channel_name mode durable capacity",
    voice_events.MediaGrant: "host port ssrc profile client_key server_key rtcp_mux",
    events.ChannelJoined: "channel_id mode active_members last_seq media?",
    chunks.ChunkEvent: "channel_id user_id stream_id chunk_seq mime data keyframe? init?",
    chunks.ChunkTaken: "channel_id stream_id chunk_seq",
    events.ChannelRef: "channel_id",
    events.ChannelSummary: "channel_id channel_name mode durable capacity private member_count created_at",
    events.ChannelPage: "channels next?",
    voice_events.ActiveSpeaker: "user_id ssrc level_db",
    events.ChannelDetails: STATE + " capacity created_at peers active_speakers floor?",
    events.MessageCreated: "message_id channel_id seq timestamp nonce? duplicate",
    events.TokenRenewed: "expires_at",
    events.HistoryPage: "channel_id messages has_before has_after last_seq",
    events.SyncedChannel: "replayed last_seq recovered",
    events.Synced: "channels",
    events.ReadDone: "channel_id read_seq unread",
    events.Subscribed: "channel_id last_seq",
    events.Focused: "channel_id",
    events.PresenceUpdated: "status",
    events.MemberAdded: "channel_id user_id role",
    events.MemberRemoved: "channel_id user_id",
    events.MemberEntry: "user_id role joined_at",
    events.MemberPage: "channel_id members next?",
    events.SettingsStored: "settings",
}
"""A field without `?` is always there."""


def test_every_class_has_the_fields_of_the_protocol() -> None:
    modules = (events, voice_events, jobs, chunks)
    found = [cls for module in modules for _, cls in inspect.getmembers(module, attrs.has)]
    classes = {cls for cls in found if cls.__module__ in {module.__name__ for module in modules}}
    assert classes == set(FIELDS)
    for cls in classes:
        fields = {
            field.name + ("?" if field.default is not attrs.NOTHING and not field.metadata.get("always") else "")
            for field in attrs.fields(cls)
        }
        assert fields == set(FIELDS[cls].split()), cls


# --- how they are written ----------------------------------------------------------------------------


def parts(value: Any) -> Iterator[Any]:
    """Yield all instances of attrs classes within a payload, itself included."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from parts(item)
    elif attrs.has(type(value)):
        yield value
        for field in attrs.fields(type(value)):
            yield from parts(getattr(value, field.name))


def test_every_class_and_every_field_is_in_the_tables() -> None:
    seen = [part for _, payload, _ in [*PACKETS, *ACKS] for part in parts(payload)]
    assert {type(part) for part in seen} | {events.Ack} == set(FIELDS)
    for part in seen:
        # What may be left out is somewhere given.
        for field in attrs.fields(type(part)):
            peers = [getattr(peer, field.name) for peer in seen if type(peer) is type(part)]
            if field.default is not attrs.NOTHING:
                assert any(value != field.default for value in peers), (type(part), field.name)


def test_each_op_carries_its_class_and_each_request_is_answered_by_its_own() -> None:
    for op, payload, _ in PACKETS:
        kinds = {SENT[op], events.PresenceBatch} if op == Op.PRESENCE_EVENT else {SENT[op]}
        assert (None if payload is None else type(payload)) in kinds
    assert {op for op, _, _ in PACKETS} | {Op.ACK} == set(SENT)
    assert {op: type(data) for op, data, _ in ACKS} == ACK_DATA


WRITTEN = [*PACKETS, *((Op.ACK, events.Ack(op, data), {"op": op, "data": written}) for op, data, written in ACKS)]


@pytest.mark.parametrize(
    ("op", "payload", "written"),
    WRITTEN,
    ids=[f"{op.name}-{type(getattr(payload, 'data', payload)).__name__}" for op, payload, _ in WRITTEN],
)
def test_optional_fields_are_left_out_and_null_stands_where_the_protocol_wants_it(
    op: Op, payload: Any, written: Any
) -> None:
    if payload is not None:
        assert unstructure(payload) == written
    packet = envelope(op, payload, "r-1")
    assert packet == {"op": op, "d": written, "id": "r-1"}
    for codec in [MSGPACK] if op == Op.MEDIA_CHUNK_EVENT else CODECS.values():
        data = codec.encode(packet)
        assert (msgpack.unpackb(data) if codec.binary else json.loads(data)) == packet
        assert decode_untrusted(data if codec.binary else data.decode()) == Packet(op, written, "r-1")


def test_keys_do_not_show_in_a_repr() -> None:
    grant = voice_events.MediaGrant("::1", 10_000, Ssrc(7), "AEAD_AES_128_GCM", "hunter2", "hunter3", True)
    assert "hunter" not in repr(grant)

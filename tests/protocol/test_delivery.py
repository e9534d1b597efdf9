from __future__ import annotations

from typing import Any

import pytest

from livechat.protocol.delivery import RULES, Delivery, StateMark, delivery_of
from livechat.protocol.events import PresenceBatch, ReadEvent, TypingEvent, UnreadEvent, UserPresence
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import ChunkMark, JobMark, Outgoing
from livechat.protocol.types import ChannelId, JobId, Ssrc, StreamId, UserId
from livechat.protocol.voice_events import SpeakingEvent

ANN, BOB, LOBBY = UserId("ann"), UserId("bob"), ChannelId("lobby")

CHUNK = ChunkMark((LOBBY, ANN, StreamId("camera")), is_keyframe=True)

STATES: list[tuple[Op, Any, StateMark | None]] = [
    (Op.READ_EVENT, ReadEvent(LOBBY, ANN, 3, 1700), StateMark(Op.READ_EVENT, LOBBY, ANN)),
    (Op.TYPING_EVENT, TypingEvent(LOBBY, ANN, True), StateMark(Op.TYPING_EVENT, LOBBY, ANN)),
    (Op.UNREAD_EVENT, UnreadEvent(LOBBY, 2, 1, 3), StateMark(Op.UNREAD_EVENT, LOBBY)),
    (Op.SPEAKING, SpeakingEvent(LOBBY, ANN, Ssrc(7), True, -20), StateMark(Op.SPEAKING, LOBBY, ANN)),
    (Op.PRESENCE_EVENT, UserPresence(ANN, "ONLINE", None), StateMark(Op.PRESENCE_EVENT, user_id=ANN)),
    (Op.PRESENCE_EVENT, PresenceBatch([UserPresence(BOB, "ONLINE", None)]), None),
    (Op.ACK, None, None),
]


@pytest.mark.parametrize(("op", "payload", "state"), STATES)
def test_a_coalesced_packet_names_the_state_that_it_tells(op: Op, payload: Any, state: StateMark | None) -> None:
    assert Outgoing(op, payload).tag == state


def test_every_coalesced_opcode_has_states_and_no_other_has() -> None:
    told = {op for op, _, state in STATES if state is not None}
    assert told == {op for op, rule in RULES.items() if rule.delivery is Delivery.COALESCED}


@pytest.mark.parametrize(
    "op", [Op.MESSAGE_EVENT, Op.CHANNEL_EVENT, Op.ACK, Op.ERROR, Op.JOB_EVENT, Op.ANNOUNCEMENT, Op.FLOOR_TAKEN]
)
def test_all_that_is_not_named_is_durable(op: Op) -> None:
    assert delivery_of(op) is Delivery.DURABLE


@pytest.mark.parametrize("op", sorted(Op))
def test_packets_are_tagged_by_the_table_and_by_nothing_else(op: Op) -> None:
    payload = {each: payload for each, payload, state in STATES if state is not None}.get(op)
    event = (LOBBY, 3)
    packet = Outgoing(op, payload, mark=event, chunk=CHUNK)
    classes = {event: Delivery.DURABLE, CHUNK: Delivery.DROPPABLE}
    tag = packet.tag
    told = Delivery.COALESCED if isinstance(tag, StateMark) else classes[tag]
    assert told is delivery_of(op)


def test_the_tag_of_a_packet_tells_its_class() -> None:
    assert Outgoing(Op.MEDIA_CHUNK_EVENT, None, chunk=CHUNK).tag is CHUNK
    job = JobMark(JobId("job"), 3)
    assert Outgoing(Op.JOB_EVENT, None, mark=job).tag is job
    keyed = Outgoing(Op.ANNOUNCEMENT, None, key="news")
    assert keyed.tag is keyed
    assert Outgoing(Op.ACK, None).tag is None

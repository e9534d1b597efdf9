from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from livechat.error import ChannelNotFound, InternalError, LiveError
from livechat.gateway.asked import UNKNOWN_OP, Asked
from livechat.gateway.lanes import Lanes, Pace
from livechat.handlers.call import Caller
from livechat.handlers.node import Node
from livechat.protocol.codec import JSON, Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing, ack, error
from livechat.telemetry.instruments import Instruments

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Stage:
    """A request that has begun, and the answers that went on."""

    def __init__(self, op: int, trace: str | None = None) -> None:
        self.instruments = Instruments(spans=None)
        self.answers: list[Outgoing | None] = []
        self.rooms = 0
        self.lanes = Lanes(self.answers.append, self._on_room)
        node = cast("Node", SimpleNamespace(instruments=self.instruments))
        caller = cast("Caller", None)
        packet = Packet(op, None, id=7, trace=trace)
        self.begun: list[Asked] = []
        self.asked = Asked(node, caller, None, packet, self.lanes, self.begun.append, None)
        self.lanes.enter(self.asked)
        assert self.begun == [self.asked]

    def _on_room(self) -> None:
        self.rooms += 1

    def counted(self) -> dict[int, int]:
        return {op: histogram.count for op, histogram in self.instruments.counters.commands.items()}


def test_an_answer_goes_on_and_is_timed_by_its_op() -> None:
    stage = Stage(Op.MESSAGE_CREATE)
    reply = ack(Op.MESSAGE_CREATE, None, 1)
    stage.asked.answer(reply)
    assert stage.answers == [reply]
    assert stage.counted() == {Op.MESSAGE_CREATE: 1}
    assert reply.trace is None


def test_to_say_nothing_is_an_answer_too() -> None:
    stage = Stage(Op.TYPING, TRACE)
    stage.asked.answer(None)
    assert (stage.answers, stage.rooms, stage.lanes.count) == ([], 1, 0)
    assert stage.counted() == {Op.TYPING: 1}


def test_a_second_answer_goes_nowhere_and_is_not_timed() -> None:
    stage = Stage(Op.READ)
    reply = ack(Op.READ, None, 1)
    for answer in (reply, reply, None):
        stage.asked.answer(answer)
    assert (stage.answers, stage.rooms, stage.lanes.count) == ([reply], 1, 0)
    assert stage.counted() == {Op.READ: 1}


def test_opcodes_that_no_client_may_send_count_as_one() -> None:
    for op in (Op.ACK, 4711, -1, 2**62):
        stage = Stage(op)
        stage.asked.answer(None)
        assert stage.counted() == {UNKNOWN_OP: 1}


def test_errors_are_counted_by_their_code() -> None:
    refusals: tuple[LiveError, ...] = (ChannelNotFound("x"), InternalError("x"))
    for refusal in refusals:
        stage = Stage(Op.READ)
        stage.asked.answer(error(refusal, Op.READ, None))
        assert stage.instruments.counters.errors == {refusal.code: 1}


def test_the_trace_of_a_request_is_that_of_its_answer() -> None:
    stage = Stage(Op.READ, TRACE)
    reply = ack(Op.READ, None, 1)
    stage.asked.answer(reply)
    assert reply.trace == TRACE
    assert f'"trace":"{TRACE}"'.encode() in reply.frame(JSON)
    bad = Stage(Op.READ, "rubbish")
    bad.asked.answer(other := ack(Op.READ, None, 1))
    assert other.trace is None
    assert b"trace" not in other.frame(JSON)


def test_it_is_a_call_that_knows_what_was_asked() -> None:
    asked = Stage(Op.READ, TRACE).asked
    assert (asked.op, asked.request_id, str(asked.trace)) == (Op.READ, 7, TRACE)
    asked.ack(None)
    assert asked.is_answered


def test_while_a_request_is_answered_no_other_begins() -> None:
    stage = Stage(Op.READ)
    other = Asked(stage.asked.node, stage.asked.caller, None, Packet(Op.TYPING, None), stage.lanes, _begun, None)
    other.pace = Pace.AFTER
    stage.lanes.enter(other)
    stage.asked.pause()
    stage.asked.answer(None)
    assert (other.lane, stage.lanes.count) == (None, 1)
    stage.asked.go_on()
    assert (other.is_answered, stage.lanes.count) == (True, 0)


def _begun(asked: Asked) -> None:
    asked.answer(None)

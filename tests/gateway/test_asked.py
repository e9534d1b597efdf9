from __future__ import annotations

from livechat.error import ChannelNotFound, InternalError, LiveError
from livechat.gateway.asked import UNKNOWN_OP, Asked
from livechat.protocol.codec import JSON, Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing, ack, error
from livechat.telemetry.instruments import Instruments

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Stage:
    """A request, and the answers that went on."""

    def __init__(self, op: int, trace: str | None = None) -> None:
        self.instruments = Instruments(spans=None)
        self.unanswered: set[Asked] = set()
        self.answers: list[Outgoing | None] = []
        self.asked = Asked(self.instruments, Packet(op, None, trace=trace), self.unanswered)
        self.asked.through(self.answers.append)

    def counted(self) -> dict[int, int]:
        return {op: histogram.count for op, histogram in self.instruments.counters.commands.items()}


def test_an_answer_goes_on_and_is_timed_by_its_op() -> None:
    stage = Stage(Op.MESSAGE_CREATE)
    reply = ack(Op.MESSAGE_CREATE, None, 1)
    stage.asked(reply)
    assert stage.answers == [reply]
    assert stage.counted() == {Op.MESSAGE_CREATE: 1}
    assert reply.trace is None


def test_to_say_nothing_is_an_answer_too() -> None:
    stage = Stage(Op.TYPING, TRACE)
    stage.asked(None)
    assert stage.answers == [None]
    assert stage.counted() == {Op.TYPING: 1}


def test_a_second_answer_is_not_timed() -> None:
    stage = Stage(Op.READ)
    for _ in range(2):
        stage.asked(None)
    assert stage.answers == [None, None]
    assert stage.counted() == {Op.READ: 1}


def test_opcodes_that_no_client_may_send_count_as_one() -> None:
    for op in (Op.ACK, 4711, -1, 2**62):
        stage = Stage(op)
        stage.asked(None)
        assert stage.counted() == {UNKNOWN_OP: 1}


def test_errors_are_counted_by_their_code() -> None:
    refusals: tuple[LiveError, ...] = (ChannelNotFound("x"), InternalError("x"))
    for refusal in refusals:
        stage = Stage(Op.READ)
        stage.asked(error(refusal, Op.READ, None))
        assert stage.instruments.counters.errors == {refusal.code: 1}


def test_the_trace_of_a_request_is_that_of_its_answer() -> None:
    stage = Stage(Op.READ, TRACE)
    reply = ack(Op.READ, None, 1)
    stage.asked(reply)
    assert reply.trace == TRACE
    assert f'"trace":"{TRACE}"'.encode() in reply.frame(JSON)
    bad = Stage(Op.READ, "rubbish")
    bad.asked(other := ack(Op.READ, None, 1))
    assert other.trace is None
    assert b"trace" not in other.frame(JSON)


def test_without_spans_nothing_is_kept_of_requests_that_wait() -> None:
    assert not Stage(Op.READ, TRACE).unanswered

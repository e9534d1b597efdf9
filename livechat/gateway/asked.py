"""Owns what is noted of one request: when it came, whose trace it belongs to, and how it was answered.

It must not answer or decide anything; it stands between the handler and the lane that takes the answer.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from livechat.error import InternalError, NotPersisted
from livechat.gateway.lanes import Answer
from livechat.protocol.codec import Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.requests import REQUESTS
from livechat.telemetry.instruments import Instruments
from livechat.telemetry.trace import TraceContext, parse_traceparent_untrusted

if TYPE_CHECKING:
    from livechat.telemetry.spans import Span

UNKNOWN_OP: Final = -1
"""All opcodes that no client may send, as one."""


class Asked:
    """One request, from its arrival to its answer. It is the `Answer` that the handler gets.

    Args:
        unanswered: where it is as long as it has a span that has not ended; None where there are no spans.
    """

    __slots__ = ("_answer", "_came_at", "_instruments", "_op", "_span", "_unanswered", "trace")

    _answer: Answer

    def __init__(self, instruments: Instruments, packet: Packet, unanswered: set[Asked] | None) -> None:
        self._came_at: float | None = time.perf_counter()
        self._instruments = instruments
        self._unanswered = unanswered
        self._op = packet.op if packet.op in REQUESTS else UNKNOWN_OP
        self._span: Span | None = None
        self.trace: TraceContext | None = None
        """What its answer and its events carry: the client's own, or our span in it."""
        if packet.trace is not None:
            self.trace = parse_traceparent_untrusted(packet.trace)
        if instruments.spans is not None:
            self._begin_span()

    def _begin_span(self) -> None:
        spans = self._instruments.spans
        assert spans is not None
        assert self._unanswered is not None
        name = "UNKNOWN" if self._op == UNKNOWN_OP else Op(self._op).name
        self._unanswered.add(self)
        self._span = spans.begin(name, self.trace, {"livechat.op": self._op})
        if self.trace is not None:
            self.trace = spans.context_of(self._span)

    def through(self, answer: Answer) -> Asked:
        """Say where the answer goes."""
        self._answer = answer
        return self

    def current(self) -> AbstractContextManager[object] | None:
        """Return what makes its span, if it has one, the one that the work at hand belongs to."""
        if self._span is None or self._instruments.spans is None:
            return None
        return self._instruments.spans.current(self._span)

    def __call__(self, reply: Outgoing | None) -> None:
        """Take the answer; only the first one counts."""
        if self._came_at is not None:
            self._note(reply, time.perf_counter() - self._came_at)
            self._came_at = None
        self._answer(reply)

    def _note(self, reply: Outgoing | None, took_s: float) -> None:
        counters = self._instruments.counters
        counters.commands[self._op].observe(took_s)
        failure: str | None = None
        if reply is not None:
            if self.trace is not None:
                reply.trace = str(self.trace)
            if reply.op == Op.ERROR:
                code = reply.payload.code
                counters.errors[code] += 1
                if code >= InternalError.code or code == NotPersisted.code:
                    failure = f"{code} {reply.payload.reason}"
        self.end_span(failure)

    def end_span(self, failure: str | None) -> None:
        """End its span, if it has one: it was answered, or nobody is left to answer."""
        span, self._span = self._span, None
        if span is not None and self._instruments.spans is not None and self._unanswered is not None:
            self._unanswered.discard(self)
            self._instruments.spans.end(span, failure)

"""Owns one request of a connection: its place among the others, and what is noted of it.

It must not decide anything: the conversation begins it (`begin`), a handler answers it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from livechat.error import InternalError, NotPersisted
from livechat.gateway.lanes import Lane, Lanes, Pace
from livechat.handlers.call import Call, Caller
from livechat.handlers.node import Node
from livechat.hub.users import Session
from livechat.protocol.codec import Packet
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.requests import REQUESTS
from livechat.telemetry.trace import parse_traceparent_untrusted

if TYPE_CHECKING:
    from livechat.telemetry.spans import Span

UNKNOWN_OP: Final = -1
"""All opcodes that no client may send, as one."""


class Asked(Call):
    """One request, from its arrival to its answer.

    It is all of that in one object: as there is one of it for each message, more of them would cost as much as the
    message's own work.

    Args:
        session: the connection's, if it has one.
        lanes: those of the connection.
        work: begins it, once it is its turn; it must not raise.
        unanswered: where it is as long as it has a span that has not ended; None where there are no spans.
    """

    __slots__ = (
        "_came_at",
        "_lanes",
        "_span",
        "_unanswered",
        "held",
        "is_answered",
        "key",
        "lane",
        "pace",
        "packet",
        "work",
    )

    def __init__(
        self,
        node: Node,
        caller: Caller,
        session: Session | None,
        packet: Packet,
        lanes: Lanes,
        work: Callable[[Asked], None],
        unanswered: set[Asked] | None,
    ) -> None:
        Call.__init__(self, node, caller, session, packet.op, packet.id)  # super() takes as long as five fields
        self.packet = packet
        self.work = work
        self.key: Hashable = None
        self.pace = Pace.STORED
        self.lane: Lane | None = None
        self.is_answered = False
        self.held: Outgoing | None = None
        self._lanes = lanes
        self._unanswered = unanswered
        self._span: Span | None = None
        self._came_at = time.perf_counter()
        if packet.trace is not None:
            self.trace = parse_traceparent_untrusted(packet.trace)
        if unanswered is not None:
            self._begin_span()

    def begin(self) -> None:
        """See `livechat.gateway.lanes.Place`."""
        self.work(self)

    def pause(self) -> None:
        """See `Call.pause`."""
        self._lanes.pause()

    def go_on(self) -> None:
        """See `Call.go_on`."""
        self._lanes.go_on()

    def answer(self, reply: Outgoing | None) -> None:
        """Take the answer; only the first one counts."""
        if not self.is_answered:
            self._note(reply, time.perf_counter() - self._came_at)
            self._lanes.answer(self, reply)

    def _note(self, reply: Outgoing | None, took_s: float) -> None:
        counters = self.node.instruments.counters
        counters.commands[self.op if self.op in REQUESTS else UNKNOWN_OP].observe(took_s)
        failure: str | None = None
        if reply is not None:
            if self.trace is not None:
                reply.trace = str(self.trace)
            if reply.op == Op.ERROR:
                code = reply.payload.code
                counters.errors[code] += 1
                if code >= InternalError.code or code == NotPersisted.code:
                    failure = f"{code} {reply.payload.reason}"
        if self._span is not None:
            self.end_span(failure)

    # --- spans, where an OpenTelemetry SDK is set up ----------------------------------------------------

    def _begin_span(self) -> None:
        spans = self.node.instruments.spans
        assert spans is not None
        assert self._unanswered is not None
        op = self.op if self.op in REQUESTS else UNKNOWN_OP
        name = "UNKNOWN" if op == UNKNOWN_OP else Op(op).name
        self._unanswered.add(self)
        self._span = spans.begin(name, self.trace, {"livechat.op": op})
        if self.trace is not None:
            self.trace = spans.context_of(self._span)

    def current(self) -> AbstractContextManager[object] | None:
        """Return what makes its span, if it has one, the one that the work at hand belongs to."""
        spans = self.node.instruments.spans
        return None if self._span is None or spans is None else spans.current(self._span)

    def end_span(self, failure: str | None) -> None:
        """End its span, if it has one: it was answered, or nobody is left to answer."""
        span, self._span = self._span, None
        spans = self.node.instruments.spans
        if span is not None and spans is not None and self._unanswered is not None:
            self._unanswered.discard(self)
            spans.end(span, failure)

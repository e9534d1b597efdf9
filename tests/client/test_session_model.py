"""Whatever a network does, the application gets every event of a channel in order and once, or a gap says so."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from livechat.client.session import Envelope
from livechat.client.settings import Backoff
from livechat.protocol.opcodes import Op
from tests.support import fake_gateway as fake
from tests.support.client_session import Driven

Faults = st.sampled_from(["none", "none", "none", "drop", "double", "late"])


class Network(RuleBasedStateMachine):
    """A session, a server that keeps one channel's log, and a line that loses, doubles and reorders."""

    def __init__(self) -> None:
        super().__init__()
        self.driven = Driven(events_held_max=4, backoff=Backoff(tries_max=None))
        self.lost: set[int] = set()
        """Events that the server has no more."""
        self.last_seq = 0
        self.heard: list[int | tuple[int, int]] = []
        self.is_connected = False
        self.session_is_known = False
        self.is_live = False
        """Whether this connection gets what is said."""
        self.down: list[tuple[int, Any, dict[str, Any]]] = []
        """Packets under way to the client."""

    # --- the server -------------------------------------------------------------------------------------

    def queue(self, op: int, d: Any, **envelope: Any) -> None:
        self.down.append((op, d, envelope))

    def replay(self, after: int, before: int) -> bool:
        """Send what is there of the seqs strictly between; tell whether that is all."""
        between = range(after + 1, min(before, self.last_seq + 1))
        for seq in between:
            if seq not in self.lost:
                self.queue(Op.MESSAGE_EVENT, fake.message(seq))
        return not self.lost.intersection(between)

    def serve(self, packet: Envelope, mood: str) -> None:
        d, request = packet["d"], {"id": packet.get("id")}
        refusal = {"code": 1006, "reason": "busy", "retryable": True}
        match packet["op"]:
            case Op.HEARTBEAT:
                self.queue(Op.HEARTBEAT_ACK, None)
            case Op.RESUME if self.session_is_known and mood != "forgetful":
                recovered = self.replay(d["channels"]["den"], self.last_seq + 1)
                done = fake.resumed_channel(self.last_seq, recovered=recovered)
                self.queue(Op.RESUMED, fake.resumed(den=done))
                self.is_live = True
            case Op.RESUME:
                self.queue(Op.INVALID_SESSION, {"reason": "gone"})
            case Op.IDENTIFY:
                self.queue(Op.READY, fake.ready(fake.channel("den", self.last_seq)))
                self.is_live = self.session_is_known = True
            case _ if mood == "busy":
                self.queue(Op.ERROR, refusal, **request)
            case Op.SYNC if mood == "poor":
                self.queue(Op.ERROR, refusal | {"code": 1003, "retryable": False}, **request)
            case Op.SYNC:
                bounds = d["channels"]["den"]
                recovered = self.replay(bounds["after"], bounds["before"])
                done = {"replayed": 0, "last_seq": self.last_seq, "recovered": recovered}
                self.queue(Op.ACK, {"op": Op.SYNC, "data": {"channels": {"den": done}}}, **request)
            case Op.HISTORY:
                self.queue(Op.ACK, {"op": Op.HISTORY, "data": self.page(d["after_seq"])}, **request)
            case other:
                raise AssertionError(f"nobody asked for op {other}")

    def page(self, after: int, size: int = 3) -> dict[str, Any]:
        there = [seq for seq in range(after + 1, self.last_seq + 1) if seq not in self.lost]
        return {
            "channel_id": "den",
            "messages": [fake.message(seq) for seq in there[:size]],
            "has_before": True,
            "has_after": len(there) > size,
            "last_seq": self.last_seq,
        }

    # --- what happens -----------------------------------------------------------------------------------

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True
        first = self.driven.hello()
        self.serve(first, "kind")

    @rule(is_lost=st.sampled_from([False, False, False, True]))
    def say(self, is_lost: bool) -> None:
        self.last_seq += 1
        if self.is_live:
            self.queue(Op.MESSAGE_EVENT, fake.message(self.last_seq))
        if is_lost:
            self.lost.add(self.last_seq)

    @precondition(lambda self: self.down)
    @rule(fault=Faults, count=st.integers(1, 5))
    def deliver(self, fault: str, count: int) -> None:
        for _ in range(min(count, len(self.down))):
            packet = self.down.pop(0)
            if packet[0] == Op.MESSAGE_EVENT and fault != "none":
                if fault == "drop":
                    continue
                if fault == "late":
                    self.down.insert(min(2, len(self.down)), packet)
                    continue
                self.receive(packet)
            self.receive(packet)

    def receive(self, packet: tuple[int, Any, dict[str, Any]]) -> None:
        op, d, envelope = packet
        self.driven.receive(op, d, **envelope)

    @precondition(lambda self: self.is_connected)
    @rule(mood=st.sampled_from(["kind", "kind", "busy", "poor", "forgetful"]))
    def answer(self, mood: str) -> None:
        for packet in self.driven.sent():
            self.serve(packet, mood)

    @precondition(lambda self: self.is_connected)
    @rule(session_ends=st.booleans())
    def cut(self, session_ends: bool) -> None:
        self.is_connected = self.is_live = False
        self.down.clear()
        self.driven.sent()
        self.driven.cut()
        self.session_is_known &= not session_ends

    @precondition(lambda self: self.is_live)
    @rule()
    def wait(self) -> None:
        self.driven.pass_time(1.0)

    # --- what must hold ---------------------------------------------------------------------------------

    @invariant()
    def in_order_and_once(self) -> None:
        self.heard += self.driven.heard()
        position = None
        for each in self.heard:
            after, last = (each - 1, each) if isinstance(each, int) else (each[0], each[1] - 1)
            assert after == position or position is None
            assert last > after
            position = last

    def teardown(self) -> None:
        # From here on the line is good; another message shows what is missing at the end.
        if self.is_connected:
            self.cut(session_ends=False)
        self.connect()
        self.settle()
        self.say(is_lost=False)
        self.settle()
        self.in_order_and_once()
        if self.heard:
            assert self.heard[-1] == self.last_seq
        gaps = {seq for each in self.heard if not isinstance(each, int) for seq in range(each[0] + 1, each[1])}
        assert gaps <= self.lost
        assert not self.driven.session.book.repairs.is_busy

    def settle(self) -> None:
        for _ in range(200):
            while self.down:
                self.receive(self.down.pop(0))
            packets = self.driven.sent()
            for packet in packets:
                self.serve(packet, "kind")
            if not packets and not self.down:
                return
        raise AssertionError("it asks for ever")


TestNetwork = Network.TestCase
TestNetwork.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

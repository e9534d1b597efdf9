"""A client's session without a network: a test is the server."""

from __future__ import annotations

from typing import Any

from livechat.client.events import Gap, SessionEvent, StateChanged
from livechat.client.reconnect import Again, Ended
from livechat.client.session import ClientSession, Closing, Envelope
from livechat.client.settings import ClientSettings
from livechat.protocol.codec import Packet
from livechat.protocol.events import ChannelEvent, Message, MessageCreated
from livechat.protocol.opcodes import Op
from livechat.protocol.requests import MessageCreate
from livechat.protocol.types import ChannelId
from tests.support import fake_gateway as fake

CUT = Ended("the connection was lost", 1006)


class Driven:
    """A session, its clock, and what came out of it.

    Args:
        settings: overrides of `ClientSettings`.
    """

    def __init__(self, *, can_renew: bool = False, **settings: Any) -> None:
        self.session = ClientSession(
            ClientSettings(**settings), user_id=None, uniform=lambda: 1.0, can_renew=can_renew
        )
        self.now = 100.0
        self.told: list[SessionEvent] = []

    # --- the server's side ------------------------------------------------------------------------------

    def hello(self, token: str = "token", heartbeat_interval: int = 30_000) -> Envelope:
        """Connect and say HELLO; return what the client says to it."""
        self.session.opened(token, self.now)
        limits = {"message_bytes": 1000, "frame_bytes": 10_000}
        hello = {"heartbeat_interval": heartbeat_interval, "node_id": "n", "server": "s"}
        self.receive(Op.HELLO, hello | {"resume_window_ms": 1, "reconnect_window_ms": 1, "limits": limits})
        return self.sent_one()

    def ready(self, *channels: dict[str, Any], **fields: Any) -> None:
        """Connect and be READY."""
        assert self.hello()["op"] == Op.IDENTIFY
        self.receive(Op.READY, fake.ready(*channels, **fields))

    def receive(self, op: int, d: Any = None, **envelope: Any) -> None:
        """Have the session receive a packet."""
        self.session.receive(Packet(op, d, **envelope), self.now)
        self._collect()

    def ack(self, request: Envelope, data: Any) -> None:
        """Answer a request."""
        self.receive(Op.ACK, {"op": request["op"], "data": data}, id=request["id"])

    def refuse(self, request: Envelope, code: int, *, retryable: bool = False, **fields: Any) -> None:
        """Answer a request by ERROR."""
        error = {"code": code, "reason": "no", "retryable": retryable, "op": request["op"], **fields}
        self.receive(Op.ERROR, error, id=request["id"])

    def say(self, *seqs: int, channel_id: str = "den", **fields: Any) -> None:
        """Send messages of a channel."""
        for seq in seqs:
            self.receive(Op.MESSAGE_EVENT, fake.message(seq, channel_id, **fields))

    def change(self, event: str, seq: int | None = None, user_id: str = "bob", channel_id: str = "den") -> None:
        """Send a CHANNEL_EVENT."""
        member = {"user_id": user_id, "ssrc": None}
        fact = {"event": event, "channel_id": channel_id, "member": member}
        self.receive(Op.CHANNEL_EVENT, fact | ({} if seq is None else {"seq": seq}))

    def sent(self) -> list[Envelope]:
        """Return what the session has sent."""
        sent = list(self.session.outgoing)
        self.session.outgoing.clear()
        return sent

    def sent_one(self) -> Envelope:
        """Return the one packet that the session has sent."""
        (packet,) = self.sent()
        return packet

    def cut(self, ended: Ended = CUT) -> Again:
        """End the connection."""
        again = self.session.lost(ended, self.now)
        self._collect()
        return again

    def pass_time(self, seconds: float) -> None:
        """Let time go by; the session acts whenever it wants to."""
        until = self.now + seconds
        while (deadline := self.session.deadline()) <= until and self.session.closing is None:
            self.now = max(self.now, deadline)
            self.session.tick(self.now)
        self.now = until
        self._collect()

    # --- the application's side -------------------------------------------------------------------------

    def post(self, nonce: str, channel_id: str = "den") -> list[MessageCreated | Exception | None]:
        """Post a message; its outcome will be the one element of what is returned."""
        outcome: list[MessageCreated | Exception | None] = []
        request = MessageCreate(ChannelId(channel_id), nonce, nonce=nonce)
        self.session.post(request, lambda created, error: outcome.append(created or error), self.now)
        return outcome

    def request(self, op: int, payload: Any) -> list[Any]:
        """Make a request; its answer will be the one element of what is returned."""
        answer: list[Any] = []
        self.session.request(op, payload, lambda data, error: answer.append(error or data), self.now)
        return answer

    def heard(self, channel_id: str = "den") -> list[int | tuple[int, int]]:
        """Return what the application was told of a channel since the last call: seqs, and gaps as pairs."""
        heard: list[int | tuple[int, int]] = []
        for event in self.told:
            match event:
                case Message(seq=seq) | ChannelEvent(seq=int(seq)) if event.channel_id == channel_id:
                    heard.append(seq)
                case Gap() if event.channel_id == channel_id:
                    heard.append((event.after, event.before))
        self.told = [event for event in self.told if getattr(event, "channel_id", None) != channel_id]
        return heard

    def closing(self) -> Closing | None:
        """Return how the session wants the connection to end, if it does."""
        return self.session.closing

    def states(self) -> list[StateChanged]:
        """Return the changes of state so far."""
        return [event for event in self.told if isinstance(event, StateChanged)]

    def _collect(self) -> None:
        self.told += self.session.events
        self.session.events.clear()

"""Owns the conversation of a client over all its connections: packets in, packets and events out. Pure.

It must not touch a socket or a clock: the shell (`client`) opens connections, hands over what comes, takes
`outgoing` and `events`, and calls `tick` at `deadline`.

    phase         HELLO        READY    RESUMED   INVALID_SESSION   ERROR
    AWAY          -            -        -         -                 -          no connection
    GREETING      IDENTIFYING  -        -         -                 -          or RESUMING a session
    RESUMING      -            -        ONLINE    IDENTIFYING       the end    1001 or retryable
                                                                               any other: IDENTIFYING
    IDENTIFYING   -            ONLINE   -         -                 the end
    ONLINE        -            -        -         IDENTIFYING       a request's

What is marked with - is ignored.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

import attrs

from livechat.client.channels import ChannelBook
from livechat.client.error import ClientClosed, ConnectionLost, refusal
from livechat.client.events import ServerEvent, SessionEvent, State, StateChanged
from livechat.client.heartbeat import HeartbeatMonitor
from livechat.client.jobs import JobBook
from livechat.client.outbox import Entry, Outbox, Settle
from livechat.client.payloads import ANSWERS, events_untrusted, structure_untrusted
from livechat.client.pending import Answer, Pending, Request, ignore
from livechat.client.reconnect import Again, Ended, Reconnection
from livechat.client.settings import ClientSettings
from livechat.error import InvalidToken, LiveError, ProtocolError
from livechat.protocol.codec import Packet, envelope
from livechat.protocol.events import (
    Error,
    Hello,
    HelloLimits,
    HistoryPage,
    Message,
    MessageCreated,
    Notification,
    Ready,
    Reconnect,
    Resumed,
    Synced,
)
from livechat.protocol.jobs import JobEvent
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.requests import CHANNELS_MAX, Identify, MessageCreate, PresenceUpdate, Resume, Sync
from livechat.protocol.types import SessionId, UserId

Envelope = dict[str, Any]
"""A packet of plain values, ready for a codec."""

HEARTBEAT_S_MIN: Final = 0.01
"""A server that asks for more heartbeats gets no more."""
HANDSHAKE_OPS: Final = frozenset({Op.HELLO, Op.READY, Op.RESUMED})
"""Without these a connection is of no use."""
KEEP_SESSION: Final = CloseCode.INTERNAL
"""What to close with and come back: any code but 1000 and 1001 leaves the session to be resumed."""


class Phase(Enum):
    """Where the conversation stands; see the module."""

    AWAY = auto()
    GREETING = auto()
    RESUMING = auto()
    IDENTIFYING = auto()
    ONLINE = auto()


@attrs.frozen
class Closing:
    """The client wants the connection to end."""

    ended: Ended
    code: int | None
    """For the close frame; None: the connection is dead, cut it."""


class ClientSession:
    """One user's session as the client sees it.

    Args:
        settings: the bounds and waits.
        user_id: who to be, where the token alone does not say.
        uniform: returns a random number from 0 to 1.
        can_renew: whether a fresh token can be had.
    """

    def __init__(
        self,
        settings: ClientSettings,
        *,
        user_id: UserId | None,
        uniform: Callable[[], float],
        can_renew: bool,
    ) -> None:
        self.outgoing: deque[Envelope] = deque()
        """What to send, in order."""
        self.events: deque[SessionEvent] = deque()
        """What to tell the application, in order."""
        self.closing: Closing | None = None
        """Set once the connection shall end."""
        self.connection: State = "connecting"
        self.limits: HelloLimits | None = None
        """What the server accepts, from the first HELLO on."""
        self.expires_at: int | None = None
        """When the token ends, in milliseconds since 1970; None: never, or not known."""
        self.is_warned = False
        """The server has said that the token ends soon; taken back by whoever renews it."""
        self.book = ChannelBook(settings, uniform, self.events.append, self.ask)
        self.state = self.book.state
        self.jobs = JobBook(settings.job_events_kept)
        self.session_id: SessionId | None = None
        self.presence = PresenceUpdate(settings.status)
        """What was set last, for the next session."""
        self._settings = settings
        self._user_id = user_id
        self._token = ""
        self._phase = Phase.AWAY
        self._now = 0.0
        self._ids = itertools.count(1)
        self._handshake_id = 0
        self._heartbeat = HeartbeatMonitor(settings.heartbeats_missed_max)
        self._reconnection = Reconnection(settings.backoff, uniform, can_renew=can_renew)
        self._outbox = Outbox(settings, uniform)
        self._pending = Pending()
        self._sends: dict[int, Entry] = {}
        """Messages in flight, by request id."""
        self._handshake_by = math.inf
        self._repaired_by = math.inf
        self._leave_at = math.inf
        """When RECONNECT wants us to go."""
        self._handlers: dict[int, Callable[[Packet], None]] = {
            Op.HELLO: self._hello,
            Op.HEARTBEAT_ACK: self._heartbeat_ack,
            Op.READY: self._ready,
            Op.RESUMED: self._resumed,
            Op.INVALID_SESSION: self._invalid_session,
            Op.RECONNECT: self._reconnect,
            Op.ACK: self._ack,
            Op.ERROR: self._error,
        }

    @property
    def is_online(self) -> bool:
        """Whether requests go out."""
        return self._phase is Phase.ONLINE

    @property
    def unanswered(self) -> int:
        """Messages that have no answer yet."""
        return len(self._outbox)

    # --- connections ------------------------------------------------------------------------------

    def opened(self, token: str, now: float) -> None:
        """Note that a connection was made; HELLO is to come."""
        self._token = token
        self._phase = Phase.GREETING
        self._handshake_by = now + self._settings.connect_timeout_s

    def lost(self, ended: Ended, now: float) -> Again:
        """Note that the connection, or the try to make one, has ended; return how to go on.

        Raises:
            LiveError, ClientError: not at all, and why (see `reconnect`).
        """
        unsent = {each["id"] for each in self.outgoing if "id" in each}
        unsent_nonces = {entry.nonce for request_id, entry in self._sends.items() if request_id in unsent}
        self._hang_up()
        self._outbox.lost(unsent_nonces)
        self.book.repairs.lost()
        for request in self._pending.lost(unsent):
            request.answer(None, ConnectionLost(f"the connection ended before the answer came: {ended.reason}"))
        if ended.ends_session:
            self.session_id = None
        again = self._reconnection.after(ended, now)
        if self.connection != "connecting":
            self.connection = "resuming"
        self.events.append(StateChanged(self.connection, ended.reason, retry_in_s=again.delay_s))
        return again

    def stop(self, reason: str) -> None:
        """End everything: nothing is sent any more, whoever waits is told."""
        self._hang_up()
        self._outbox.close(reason)
        for request in self._pending.close():
            request.answer(None, ClientClosed(reason))
        self.connection = "offline"
        self.events.append(StateChanged("offline", reason))

    def _hang_up(self) -> None:
        self._phase = Phase.AWAY
        self.outgoing.clear()
        self._sends.clear()
        self.closing = None
        self._heartbeat.stop()
        self._handshake_by = self._repaired_by = self._leave_at = math.inf

    def _close(self, ended: Ended, code: int | None) -> None:
        if self.closing is None:
            self.closing = Closing(ended, code)

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float:
        """Return when to call `tick` next."""
        return min(
            self._heartbeat.deadline,
            self._handshake_by,
            self._repaired_by,
            self._leave_at,
            self._outbox.deadline(online=self.is_online),
            self.book.repairs.deadline if self.is_online else math.inf,
        )

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        match self._heartbeat.due(now):
            case "beat":
                self.outgoing.append(envelope(Op.HEARTBEAT, None))
            case "dead":
                self._close(Ended("the server does not answer heartbeats", CloseCode.HEARTBEAT_TIMEOUT), None)
        if now >= self._handshake_by:
            self._close(Ended(f"no session within {self._settings.connect_timeout_s:g} s"), None)
        if now >= self._repaired_by:
            self._close(Ended("the server does not answer requests"), None)
        if now >= self._leave_at:
            self._close(Ended("the server asked to reconnect", CloseCode.DRAIN), KEEP_SESSION)
        self._outbox.expire(now)
        self.advance(now)

    def advance(self, now: float) -> None:
        """Put into `outgoing` what can go by now."""
        self._now = now
        if not self.is_online or self.closing is not None:
            return
        self._repair()
        for entry in self._outbox.due(now):
            request_id = next(self._ids)
            self._sends[request_id] = entry
            self._send(Op.MESSAGE_CREATE, entry.request, request_id)
        for request in self._pending.due():
            self._send(request.op, request.payload, request.request_id)

    # --- what the application asks for --------------------------------------------------------------

    def request(self, op: int, payload: Any, answer: Answer, now: float) -> int:
        """Take a request; return its id, for `withdraw`."""
        request_id = self._add(op, payload, answer, outlives=True)
        self.advance(now)
        return request_id

    def ask(self, op: int, payload: Any, answer: Answer) -> int:
        """Take a request of the client's own, which is of no use on another connection."""
        return self._add(op, payload, answer, outlives=False)

    def _add(self, op: int, payload: Any, answer: Answer, *, outlives: bool) -> int:
        request_id = next(self._ids)
        self._pending.add(Request(request_id, int(op), payload, answer, outlives))
        return request_id

    def withdraw(self, request_id: int) -> None:
        """Note that nobody waits for the answer any more."""
        self._pending.withdraw(request_id)

    def post(self, message: MessageCreate, settle: Settle, now: float) -> None:
        """Take a message with a nonce.

        Raises:
            OutboxFull: too many wait already.
        """
        self._outbox.add(message, settle, now)
        self.advance(now)

    def give_up(self, nonce: str, why: str) -> None:
        """Try a message no more."""
        self._outbox.give_up(nonce, why)

    def renew(self, token: str, now: float) -> None:
        """Send a fresh token before the one in use has ended."""
        self._token = token
        if self.is_online:
            self.ask(Op.IDENTIFY, self.identity(token), ignore)
            self.advance(now)

    def say(self, op: int, payload: Any) -> bool:
        """Send what is of the moment and gets no answer; return False if there is no session to say it in."""
        if self.is_online and self.closing is None:
            self._send(op, payload)
        return self.is_online and self.closing is None

    def reject(self, request_id: object, error: LiveError) -> None:
        """Refuse what was about to be sent, as the server would."""
        self._refuse(request_id, error)

    def _send(self, op: int, payload: Any, request_id: int | None = None) -> None:
        self.outgoing.append(envelope(op, payload, request_id))

    # --- packets ------------------------------------------------------------------------------------

    def receive(self, packet: Packet, now: float) -> None:
        """Take a packet from the server.

        Raises:
            ProtocolError: it is not what its op promises; it has changed nothing.
        """
        self._now = now
        try:
            self._take(packet)
        except ProtocolError as exc:
            if packet.op in HANDSHAKE_OPS:
                self._close(Ended(f"the server does not speak our protocol: {exc.reason}"), KEEP_SESSION)
            raise
        finally:
            self.advance(now)

    def _take(self, packet: Packet) -> None:
        handler = self._handlers.get(packet.op)
        if handler is not None:
            handler(packet)
        elif self._pending.get(packet.id) is not None:
            # Some requests have an op of their own as their answer.
            self._answer(packet.id, packet.d)
        else:
            for event in events_untrusted(packet):
                self._event(event)

    def _event(self, event: ServerEvent) -> None:
        if isinstance(event, Message) and event.author_id == self.state.user_id:
            self._outbox.heard(event)
        elif isinstance(event, Notification) and event.kind == "token_expiring":
            self.is_warned = True
        if isinstance(event, JobEvent):
            self.events.extend(self.jobs.take(event))
        else:
            self.book.take(event)

    def _hello(self, packet: Packet) -> None:
        if self._phase is not Phase.GREETING:
            return
        hello = structure_untrusted(packet.d, Hello)
        self.limits = hello.limits
        self._heartbeat.start(self._now, max(HEARTBEAT_S_MIN, hello.heartbeat_interval / 1000))
        if self.session_id is None:
            self._identify()
            return
        positions = self.book.positions()
        resume = Resume(
            self.session_id,
            self._token,
            positions if len(positions) <= CHANNELS_MAX else None,
            presence_batches=True,
            jobs=self.jobs.positions(),
        )
        self._shake_hands(Phase.RESUMING, Op.RESUME, resume)

    def _identify(self) -> None:
        identity = attrs.evolve(self.identity(self._token), jobs=self.jobs.positions())
        self._shake_hands(Phase.IDENTIFYING, Op.IDENTIFY, identity)

    def identity(self, token: str) -> Identify:
        """Return what IDENTIFY says with `token`."""
        asked, status = self._settings, self.presence.status
        return Identify(token, self._user_id, asked.priority, asked.device, status, presence_batches=True)

    def _shake_hands(self, phase: Phase, op: int, payload: Any) -> None:
        self._phase = phase
        self._handshake_by = self._now + self._settings.connect_timeout_s
        self._handshake_id = next(self._ids)
        self._send(op, payload, self._handshake_id)

    def _heartbeat_ack(self, _packet: Packet) -> None:
        self._heartbeat.acknowledged()

    def _ready(self, packet: Packet) -> None:
        if self._phase is not Phase.IDENTIFYING:
            return
        ready = structure_untrusted(packet.d, Ready)
        self.session_id = ready.session_id
        self.expires_at = ready.expires_at
        self._go_online(new_session=self.connection != "connecting")
        self.book.ready(ready)
        if self.presence.text is not None:
            self.ask(Op.PRESENCE_UPDATE, self.presence, ignore)

    def _resumed(self, packet: Packet) -> None:
        if self._phase is not Phase.RESUMING:
            return
        resumed = structure_untrusted(packet.d, Resumed)
        self._go_online(new_session=False)
        self.book.resumed(resumed)
        self.events.extend(self.jobs.resumed(resumed.jobs))

    def _go_online(self, *, new_session: bool) -> None:
        self._phase = Phase.ONLINE
        self._handshake_by = math.inf
        self._reconnection.succeeded()
        self.connection = "online"
        self.events.append(StateChanged("online", new_session=new_session))

    def _invalid_session(self, _packet: Packet) -> None:
        if self._phase in (Phase.RESUMING, Phase.ONLINE):
            self.session_id = None
            self._identify()

    def _reconnect(self, packet: Packet) -> None:
        asked = structure_untrusted(packet.d, Reconnect)
        self._leave_at = self._now + asked.delay_ms / 1000
        self._reconnection.asked_for(self._leave_at)

    # --- answers ------------------------------------------------------------------------------------

    def _ack(self, packet: Packet) -> None:
        self._answer(packet.id, (packet.d or {}).get("data"))

    def _answer(self, request_id: object, data: Any) -> None:
        entry = self._sends.pop(request_id, None) if isinstance(request_id, int) else None
        if entry is not None:
            try:
                self._outbox.created(entry, structure_untrusted(data, MessageCreated))
            except ProtocolError as exc:
                self._outbox.give_up(entry.nonce, exc.reason)
            return
        request = self._pending.get(request_id)
        if request is None:
            return
        self._pending.remove(request.request_id)
        try:
            answer = structure_untrusted(data, ANSWERS[request.op]) if request.op in ANSWERS else data
            self._done(request, answer)
        except ProtocolError as exc:
            request.answer(None, exc)
            return
        request.answer(data if isinstance(request.payload, dict) else answer, None)

    def _done(self, request: Request, answer: Any) -> None:
        match request.payload:
            case PresenceUpdate():
                self.presence = request.payload
            case Identify():
                self.expires_at = answer.expires_at
                self.is_warned = False
        self.book.acknowledged(request.op, answer)

    def _error(self, packet: Packet) -> None:
        error = structure_untrusted(packet.d, Error)
        if self._phase in (Phase.RESUMING, Phase.IDENTIFYING) and packet.id in (None, self._handshake_id):
            self._handshake_refused(refusal(error))
        elif not self._refuse(packet.id, refusal(error)):
            self.events.append(error)

    def _handshake_refused(self, refused: LiveError) -> None:
        if self._phase is Phase.RESUMING and not refused.retryable and not isinstance(refused, InvalidToken):
            # The session can't be had, whatever the reason; the user may still.
            self.session_id = None
            self._identify()
            return
        self._close(Ended(f"{refused.code} {refused.reason}", refusal=refused), KEEP_SESSION)

    def _refuse(self, request_id: object, refused: LiveError) -> bool:
        entry = self._sends.pop(request_id, None) if isinstance(request_id, int) else None
        if entry is not None:
            self._outbox.refused(entry, refused, self._now)
            return True
        request = self._pending.get(request_id)
        if request is None:
            return False
        self._pending.remove(request.request_id)
        request.answer(None, refused)
        return True

    # --- repair -------------------------------------------------------------------------------------

    def _repair(self) -> None:
        wanted = self.book.repairs.next_request(self._now)
        if wanted is not None:
            self._repaired_by = self._now + self._settings.request_timeout_s
            self.ask(Op.SYNC if isinstance(wanted, Sync) else Op.HISTORY, wanted, self._repaired)

    def _repaired(self, data: Any, error: Exception | None) -> None:
        self._repaired_by = math.inf
        repairs = self.book.repairs
        if isinstance(data, Synced):
            repairs.synced(data)
        elif isinstance(data, HistoryPage):
            self.book.hand(repairs.paged(data))
        elif isinstance(error, LiveError):
            self.book.hand(repairs.refused(error, self._now))

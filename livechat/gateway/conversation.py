"""Owns what one client says: messages become packets, packets requests, requests calls of the handlers.

It must not know what a request does (`livechat.handlers`), when a connection ends (`connection`) or how bytes
leave (`egress`).

    message → packet → rate limit → state → request → lane → handler → reply
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol

import structlog
import trio
from structlog.contextvars import bind_contextvars

from livechat.error import (
    InternalError,
    InvalidToken,
    LiveError,
    PayloadTooLarge,
    ProtocolError,
    RateLimited,
    ShuttingDown,
)
from livechat.gateway.asked import Asked
from livechat.gateway.demux import Message
from livechat.gateway.lanes import Lanes, Pace, Told
from livechat.gateway.liveness import Liveness
from livechat.gateway.rates import RateLimiter, RateLimits
from livechat.gateway.settings import CHUNK_HEAD_BYTES, GatewaySettings
from livechat.handlers import access, resume
from livechat.handlers import session as session_handlers
from livechat.handlers.auth import Banned, Identity, UserIdMissing
from livechat.handlers.call import Call, Caller
from livechat.handlers.node import Node
from livechat.handlers.table import HANDLERS
from livechat.hub.users import Session
from livechat.protocol.codec import Packet, decode_untrusted, request_id_of_untrusted, request_untrusted
from livechat.protocol.events import InvalidSession
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.outgoing import Outgoing, error
from livechat.protocol.requests import Identify, Request, Resume
from livechat.protocol.session import State, next_state
from livechat.telemetry.scope import SHOWN_CHANNEL, log_fields

log = structlog.get_logger("livechat.gateway")

INVALID_PACKETS_MAX: Final = 20
INVALID_PACKETS_WINDOW_S: Final = 10.0
"""So many packets that do not parse, within so many seconds, close the connection (4503)."""
IDENTIFY_REFUSALS_MAX: Final = 3

PACES: Final[dict[int, Pace]] = {
    Op.HISTORY: Pace.ALONE,
    Op.SYNC: Pace.ALONE,
    Op.TYPING: Pace.AFTER,
    Op.FOCUS: Pace.AFTER,
    Op.SUBSCRIBE: Pace.AFTER,
    Op.UNSUBSCRIBE: Pace.AFTER,
    Op.FLOOR_REQUEST: Pace.AFTER,
    Op.FLOOR_RELEASE: Pace.AFTER,
    Op.FLOOR_PING: Pace.AFTER,
    Op.MEDIA_CHUNK: Pace.AFTER,
}
"""All other requests go through the store, which keeps their order."""
HEARTBEATS: Final[frozenset[Message]] = frozenset(
    (
        *('{"op":1,"d":null}', '{"op": 1, "d": null}', '{"op":1}', '{"op": 1}', '{"d":null,"op":1}'),
        *(b"\x82\xa2op\x01\xa1d\xc0", b"\x81\xa2op\x01", b"\x82\xa1d\xc0\xa2op\x01"),
    )
)
"""HEARTBEAT as nearly all clients write it: they need not be parsed."""
HEARTBEAT_LENGTH_MAX: Final = max(map(len, HEARTBEATS))
HEARTBEAT_ACK: Final = Outgoing(Op.HEARTBEAT_ACK, None)
"""The answer to all of them: it is encoded once."""
OWN_LANES: Final = frozenset((Op.SYNC, Op.HEARTBEAT))
"""What has a lane of its own, whatever channel it names: a replay may take as long as the client reads, and must
not hold up what else is asked of its channels; a HEARTBEAT must not wait for a store that takes its time."""

CHUNKS_WAITING_MAX: Final = 8
"""MEDIA_CHUNKs that wait for what was asked before them; then no more are read. They are large."""


class Peer(Caller, Protocol):
    """The connection, as far as its conversation may know it."""

    session: Session | None
    close_code: int | None
    liveness: Liveness

    def close(self, code: int) -> None:
        """End the connection; never waits."""
        ...

    def wait_turn(self) -> Awaitable[None]:
        """Wait until it is this client's turn to have done what coming in costs."""
        ...

    def watch_deadline(self) -> None:
        """See to it that a deadline that has come nearer is kept."""
        ...

    def reply(self, packet: Outgoing) -> None:
        """Queue a packet that the client asked for; never waits, never raises."""
        ...


class Conversation:
    """One client's requests, in order."""

    def __init__(self, node: Node, settings: GatewaySettings, rates: RateLimits, peer: Peer) -> None:
        self._node = node
        self._packets = node.packets
        self._counters = node.instruments.counters
        self._settings = settings
        self._peer = peer
        self.state = State.CONNECTED
        self._room: trio.lowlevel.ParkingLot | None = None
        """Where it is waited for answers; made by who waits first."""
        self._lanes = Lanes(peer.reply, self._unpark)
        self._limiter = RateLimiter(rates, node.now())
        self._identity_refusals = 0
        self._invalid_packets: deque[float] | None = None
        """When the newest of them came; most connections never have one."""
        self._resumes = 0
        """RESUMEs that are being answered; the next one begins before the one before it has quite ended."""
        self._held: deque[Packet] | None = None
        """What came while a RESUME was being answered; made with the first RESUME."""
        self._unanswered: set[Asked] | None = None if node.instruments.spans is None else set()
        """Requests whose span has not ended; None where there are no spans."""
        self._chunks_waiting = 0
        """MEDIA_CHUNKs that have not begun."""
        self._shown: Session | None = None
        """The session that the log lines of the task show that takes most messages."""
        self._is_taking = False
        """That task is handling a packet: not a callback of the store, whose log lines show other things."""

    def activated(self) -> None:
        """Note that a session was attached."""
        self._identity_refusals = 0
        self.state = State.ACTIVE

    def let_go(self) -> None:
        """Note that the connection is over."""
        for asked in list(self._unanswered or ()):
            asked.end_span("the connection ended")
        if not self._lanes.count:
            # No answer will come any more, and they hold on to this.
            del self._lanes

    def take(self, message: Message) -> Callable[[], Awaitable[None]] | None:
        """Take the client's next message; return what to await, if anything, before the one after it may be taken.

        Errors are replies; nothing is raised.
        """
        self._counters.packets_in += 1
        if len(message) <= HEARTBEAT_LENGTH_MAX and message in HEARTBEATS and self._may_beat:
            self._counters.commands[Op.HEARTBEAT].observe(0.0)
            self._peer.reply(HEARTBEAT_ACK)
            return None
        if self._peer.session is not self._shown:
            self._show_session()
        packet = self._decode(message)
        if packet is not None:
            if packet.op == Op.MEDIA_CHUNK:
                self._chunks_waiting += 1
            if not self._resumes:
                if packet.op == Op.IDENTIFY:
                    return partial(self._identify_first, packet)
                self._is_taking = True
                self._handle(packet)
                self._is_taking = False
            elif packet.op == Op.HEARTBEAT:
                self._handle(packet)
            else:
                self._held = self._held or deque()
                self._held.append(packet)
        is_idle = not (self._lanes.count or self._held or self._chunks_waiting)
        return None if is_idle or self._has_room else self._wait_room

    @property
    def _may_beat(self) -> bool:
        """Whether nobody wants to know more of a HEARTBEAT than that it came."""
        return not self._packets.is_watched and self._node.instruments.spans is None

    @property
    def _has_room(self) -> bool:
        requests = self._lanes.count + len(self._held or ())
        return requests < self._settings.requests_in_flight and self._chunks_waiting < CHUNKS_WAITING_MAX

    async def _wait_room(self) -> None:
        while not self._has_room:
            await self._park()

    async def _park(self) -> None:
        if self._room is None:
            self._room = trio.lowlevel.ParkingLot()
        await self._room.park()

    def _unpark(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.unpark_all()

    async def _identify_first(self, packet: Packet) -> None:
        await self._identify(packet)
        await self._wait_room()

    def _show_session(self) -> None:
        """Have the log lines of this task, and of those it starts, say whose connection it is."""
        self._shown = session = self._peer.session
        if session is not None:
            bind_contextvars(**log_fields(session=session.session_id, user=session.user_id))

    async def _do(self, packet: Packet) -> None:
        if packet.op == Op.IDENTIFY:
            await self._identify(packet)
        else:
            self._handle(packet)

    # --- from messages to requests ----------------------------------------------------------------

    def _decode(self, message: Message) -> Packet | None:
        """Parse a message; a bad one is answered here."""
        try:
            # A text's bytes are at least its code points, and at most four times as many.
            if len(message) * 4 <= self._settings.message_bytes:
                packet = decode_untrusted(message)
            else:
                packet = self._decode_large(message)
        except LiveError as refusal:
            self._refuse(message, refusal)
            return None
        if self._packets.is_watched:
            self._packets.came(packet, message, self._peer.peer_host, self._peer.session)
        return packet

    def _decode_large(self, message: Message) -> Packet:
        """Parse a message that may be too large; of what one may hold, only MEDIA_CHUNKs may be larger."""
        size, limit = self._measure(message)
        _check_size(size, limit)
        packet = decode_untrusted(message)
        if packet.op != Op.MEDIA_CHUNK:
            _check_size(size, self._settings.message_bytes)
        return packet

    def _measure(self, message: Message) -> tuple[int, int]:
        """Return how many bytes a message has, and how many it may have."""
        if isinstance(message, str):
            return len(message.encode()), self._settings.message_bytes
        return len(message), max(
            self._settings.message_bytes, self._node.streams.settings.data_bytes + CHUNK_HEAD_BYTES
        )

    def _refuse(self, message: Message, refusal: LiveError) -> None:
        """Answer what is no packet."""
        if self._packets.is_watched:
            self._packets.came(None, message, self._peer.peer_host, self._peer.session)
        size, limit = self._measure(message)
        # Looking for the id parses the message, so in a far too large one nobody looks.
        request_id = request_id_of_untrusted(message) if size <= 2 * limit else None
        self._counters.errors[refusal.code] += 1
        self._lanes.enter(Told(self._lanes, error(refusal, None, request_id)))
        if isinstance(refusal, ProtocolError):
            self._count_invalid()

    def _handle(self, packet: Packet) -> None:
        """Check, validate and do one request that need not wait for anybody but the store."""
        asked = self._ask(packet, self._begin)
        op = packet.op
        if op in OWN_LANES:
            asked.key = op
        elif packet.d is not None:
            key = packet.d.get("channel_id")
            if type(key) is str:
                asked.key = key
        asked.pace = PACES.get(op, Pace.STORED)
        self._lanes.enter(asked)

    def _begin(self, asked: Asked) -> None:
        packet, session = asked.packet, asked.session_or_none
        if packet.op == Op.MEDIA_CHUNK:
            self._chunks_waiting -= 1
        try:
            # First of all, so that what is refused for any other reason is not free to be asked without end.
            self._limit(packet)
            next_state(self.state, packet.op)
            request = request_untrusted(packet)
            asked.nonce = getattr(request, "nonce", None)
            asked.channel_id = getattr(request, "channel_id", None)
            if session is not None and session.channels is not None:
                access.check_channels(session.channels, request)
            span = asked.current()
            if self._is_taking and session is self._shown and asked.trace is None and span is None:
                self._run_here(asked, request)
            else:
                with asked.scope(span):
                    self._run(asked, request)
        except ProtocolError as refusal:
            asked.fail(refusal)
            self._count_invalid()
        except LiveError as refusal:
            asked.fail(refusal)
        except Exception:
            log.exception("handler failed", op=packet.op, **asked.log_fields())
            asked.fail(InternalError("internal error"))

    def _run_here(self, call: Call, request: Request) -> None:
        """Run a request in the task that shows its session already: log lines lack nothing but the channel."""
        if call.channel_id is None:
            self._run(call, request)
            return
        token = SHOWN_CHANNEL.set(call.channel_id)
        try:
            self._run(call, request)
        finally:
            SHOWN_CHANNEL.reset(token)

    def _run(self, call: Call, request: Request) -> None:
        handler = HANDLERS.get(call.op)
        if handler is not None:
            handler(call, request)
            return
        assert isinstance(request, Resume)
        self._resumes += 1
        self._counters.reconnects += 1
        self._peer.spawn(lambda: self._resume(call, request))

    def _ask(self, packet: Packet, work: Callable[[Asked], None]) -> Asked:
        peer = self._peer
        return Asked(self._node, peer, peer.session, packet, self._lanes, work, self._unanswered)

    def _limit(self, packet: Packet) -> None:
        now = self._node.now()
        if packet.op == Op.MEDIA_CHUNK:
            data = None if packet.d is None else packet.d.get("data")
            retry_after_ms = self._limiter.take_chunk(len(data) if type(data) is bytes else 0, now)
        else:
            retry_after_ms = self._limiter.take(packet.op, now)
        if retry_after_ms is None:
            return
        if self._limiter.is_abusive:
            self._peer.close(CloseCode.RATE_ABUSE)
        raise RateLimited(f"too many requests; try again in {retry_after_ms} ms", retry_after_ms=retry_after_ms)

    def _count_invalid(self) -> None:
        if self._invalid_packets is None:
            self._invalid_packets = deque(maxlen=INVALID_PACKETS_MAX)
        times = self._invalid_packets
        times.append(self._node.now())
        if len(times) == INVALID_PACKETS_MAX and times[-1] - times[0] <= INVALID_PACKETS_WINDOW_S:
            self._peer.close(CloseCode.PROTOCOL_ABUSE)

    # --- IDENTIFY and RESUME, which may wait for somebody else's answer -------------------------------

    async def begin_as(self, identity: Identity) -> None:
        """Do what an IDENTIFY would, for a token that came with the upgrade and was found good."""
        packet = Packet(Op.IDENTIFY, None)
        with self._asked():
            await self._enter(self._ask(packet, self._begin), identity, Identify(token=""))

    async def _identify(self, packet: Packet) -> None:
        asked = self._ask(packet, self._begin)
        with self._asked():
            try:
                self._limit(packet)
                request = request_untrusted(packet)
                assert isinstance(request, Identify)
                await self._peer.wait_turn()
                identity = await self.authenticate(request.token, request.user_id)
            except LiveError as refusal:
                reply = error(refusal, packet.op, packet.id)
                asked.work = lambda asked: asked.answer(reply)
                self._lanes.enter(asked)
                self._count_refusal(refusal)
                return
            await self._enter(asked, identity, request)

    async def _enter(self, asked: Asked, identity: Identity, request: Identify) -> None:
        """Begin an IDENTIFY, and wait for READY: what follows may need the session."""
        asked.session_or_none = session = self._peer.session
        is_first = session is None

        def begin(asked: Asked) -> None:
            with asked.scope(asked.current()):
                self._open(asked, identity, request)

        asked.work = begin
        self._lanes.enter(asked)
        while is_first and self._lanes.count:
            await self._park()

    def _open(self, call: Call, identity: Identity, request: Identify) -> None:
        try:
            if self._peer.session is not None:
                session_handlers.renew(call, identity)
            else:
                session_handlers.begin(call, identity, request)
        except LiveError as refusal:
            call.fail(refusal)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Let the time to identify stand still while IDENTIFY or RESUME is being answered."""
        liveness, now = self._peer.liveness, self._node.now
        liveness.asked(now())
        try:
            yield
        finally:
            liveness.answered(now())
            self._peer.watch_deadline()

    def _count_refusal(self, refusal: LiveError) -> None:
        if isinstance(refusal, ProtocolError):
            self._count_invalid()
        elif isinstance(refusal, InvalidToken):
            self._identity_refusals += 1
            if self._identity_refusals >= IDENTIFY_REFUSALS_MAX:
                self._peer.close(CloseCode.AUTHENTICATION_FAILED)
        elif isinstance(refusal, Banned):
            self._peer.close(CloseCode.BANNED)

    async def _resume(self, call: Call, request: Resume) -> None:
        """Answer a RESUME; what came meanwhile comes after it."""
        try:
            with self._asked():
                await self._prove_and_resume(call, request)
            if self._peer.session is None:
                self._peer.liveness.extend(self._node.now())
                self._peer.watch_deadline()
            # Where another RESUME is among it, what follows that one is its to do.
            while self._held and self._resumes == 1:
                await self._do(self._held.popleft())
                self._unpark()
        finally:
            self._resumes -= 1
            self._unpark()

    async def _prove_and_resume(self, call: Call, request: Resume) -> None:
        failed = self._counters.resumes_failed
        try:
            try:
                await self._peer.wait_turn()
                identity: Identity | None = await self.authenticate(request.token, None)
            except UserIdMissing:
                identity = None
            await resume.resume(call, request, identity)
        except InvalidToken as refusal:
            failed["token"] += 1
            call.reply(Op.INVALID_SESSION, InvalidSession(refusal.reason))
            self._count_refusal(refusal)
        except LiveError as refusal:
            failed["shutting_down" if isinstance(refusal, ShuttingDown) else "unavailable"] += 1
            call.fail(refusal)
        except Exception:
            failed["internal"] += 1
            log.exception("handler failed", op=call.op, **call.log_fields())
            call.fail(InternalError("internal error"))

    async def authenticate(self, token: str, user_id: str | None) -> Identity:
        """Return whom a token speaks for, if it is good for a session.

        Raises:
            InvalidToken, RateLimited, BackendUnavailable: see `livechat.handlers.access.prove`.
            Forbidden: it is good for other things only.
        """
        identity = await access.prove(self._node, token, user_id, self._peer.peer_host)
        access.check_scope(identity, access.CHAT_SCOPES)
        return identity


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLarge(f"packet: expected at most {limit} bytes, got {size}")

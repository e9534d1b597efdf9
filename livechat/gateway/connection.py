"""Owns one WebSocket connection: its nursery, its reader, and the one way in which it ends.

It must not know what a request does (`livechat.handlers`) or how bytes leave (`egress`).

    nursery of the connection, one cancel scope
    ├─ trio-websocket's reader     bytes → messages
    ├─ EgressStream.write_loop     egress queue → socket
    └─ _converse                   messages → requests → handlers → replies

Whatever ends it (close frame, reset, protocol error, slow consumer, zombie, cancellation, shutdown) goes through
`_leave`, which is synchronous: the session is out of every hub at once, parked or ended. Only then is what is
left of the queue sent, within a bound, and the socket closed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from livechat.error import (
    BackendUnavailable,
    InternalError,
    InvalidToken,
    LiveError,
    PayloadTooLarge,
    ProtocolError,
)
from livechat.gateway.egress import EgressLimits, EgressStream
from livechat.gateway.head import RequestHead, credentials_untrusted, original_peer
from livechat.gateway.liveness import Liveness
from livechat.gateway.replies import ReplyOrder
from livechat.gateway.settings import GatewaySettings
from livechat.gateway.transport import Transport
from livechat.handlers import lifecycle
from livechat.handlers import session as session_handlers
from livechat.handlers.auth import Identity, UserIdMissing
from livechat.handlers.call import Call
from livechat.handlers.node import Node
from livechat.handlers.table import HANDLERS
from livechat.hub.users import Session
from livechat.protocol.codec import (
    CODECS,
    JSON,
    Codec,
    Packet,
    decode_untrusted,
    request_id_of_untrusted,
    request_untrusted,
)
from livechat.protocol.events import Hello, HelloLimits
from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode, Op, ends_session
from livechat.protocol.outgoing import Outgoing, error
from livechat.protocol.requests import Identify
from livechat.protocol.session import State, next_state
from livechat.version import __version__

log = structlog.get_logger("livechat.gateway")

INVALID_PACKETS_MAX: Final = 20
INVALID_PACKETS_WINDOW_S: Final = 10.0
"""So many packets that do not parse, within so many seconds, close the connection (4503)."""
IDENTIFY_REFUSALS_MAX: Final = 3
AUTHENTICATE_TIMEOUT_S: Final = 5.0
MESSAGES_BUFFERED: Final = 2
"""Messages that trio-websocket reads ahead of us."""
LOGGED_CLOSES: Final = (
    CloseCode.INTERNAL,
    CloseCode.SLOW_CONSUMER,
    CloseCode.AUTHENTICATION_FAILED,
    CloseCode.PROTOCOL_ABUSE,
)
"""Closes that an operator wants to hear of; the others are ordinary life."""
_SILENT_VIOLATIONS: Final = (
    CloseCode.PROTOCOL_VIOLATION,
    CloseCode.INVALID_TEXT,
    CloseCode.MESSAGE_TOO_BIG,
)
"""Violations after which trio-websocket drops the connection without having sent a close frame."""


class _Watch:
    """A connection's entry in the heap of deadlines; emptied at its end, for the entry outlives it."""

    __slots__ = ("connection",)

    def __init__(self, connection: Connection) -> None:
        self.connection: Connection | None = connection

    def __call__(self, now: float) -> float | None:
        return None if self.connection is None else self.connection.on_deadline(now)


class Connection:
    """One client on one socket. `run` serves it until it ends; nothing else needs to be closed."""

    def __init__(
        self, node: Node, settings: GatewaySettings, transport: Transport, head: RequestHead, received: bytes
    ) -> None:
        self.session: Session | None = None
        self.local_host = transport.local_host
        self.peer_host, self.is_confidential = original_peer(
            head, transport.peer_host, transport.is_tls, settings.trusted_proxies
        )
        self.close_code: int | None = None
        """Why the connection ended; None while it lives."""
        self._node = node
        self._settings = settings
        self._head = head
        self._transport = transport
        self._codec: Codec = JSON
        self._is_open = False
        """The handshake is through: only now may frames be sent."""
        self._state = State.CONNECTED
        self._stream = EgressStream(
            transport,
            EgressLimits(settings.egress_bytes, settings.egress_frames),
            received=received,
            on_frames=self._on_frames,
            on_overflow=self._on_overflow,
            on_violation=self.close,
            # Whoever has not shown a token yet gets little memory; a message just past its limit still gets 1005.
            message_bytes_max=min(settings.frame_bytes, 2 * settings.message_bytes),
        )
        self._scope: trio.CancelScope | None = None
        self._waiting_for_room = trio.lowlevel.ParkingLot()
        self._replies = ReplyOrder(self.send, self._waiting_for_room.unpark_all)
        self._identity_refusals = 0
        self._invalid_packets: deque[float] = deque(maxlen=INVALID_PACKETS_MAX)
        self._liveness = Liveness(
            node.now(),
            heartbeat_interval_s=settings.heartbeat_interval_ms / 1000,
            identify_timeout_s=settings.identify_timeout_ms / 1000,
        )
        self._watch = _Watch(self)
        self._due_at = math.inf
        """When the node's heap calls `on_deadline`; entries for other times are stale."""

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends. The socket is closed and the hubs are clean afterwards.

        Cancellation:
            Closes with 4003; takes at most `close_timeout_ms` to say so.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._write)
                await self._serve(nursery)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            # It failed before the WebSocket handshake was through.
            self.close(CloseCode.ABNORMAL)
        except* Exception:
            # The boundary of one connection: whatever fails in here must not reach the others.
            log.exception("connection failed", peer=self.peer_host)
            self.close(CloseCode.INTERNAL)
        finally:
            # Nobody closed it and it is ending all the same: it was cancelled from outside.
            self.close(CloseCode.ABNORMAL if self._stream.broken else CloseCode.DRAIN)
            with trio.move_on_after(self._settings.close_timeout_ms / 1000, shield=True):
                await self._stream.finish()
            self._stream.abort()
            self._watch.connection = None

    def close(self, code: int, reason: str = "") -> None:
        """End the connection: out of the hubs now, then a close frame, then the socket. Never waits.

        Args:
            code: for the close frame; those that never travel (RFC 6455, section 7.4.1) send none.
            reason: at most 123 bytes of UTF-8; the usual one of the code if left out.
        """
        if self.close_code is not None:
            return
        self.close_code = code
        self._state = State.CLOSED
        self._leave(ends_session=ends_session(code, by_peer=False))
        if self._is_open and code not in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):
            reason = reason or CLOSE_REASONS.get(code, "")
            self._stream.push_close(code, reason, drop_queue=code == CloseCode.SLOW_CONSUMER)
        if self._scope is not None:
            self._scope.cancel()
        # Last, as the host's logger may raise.
        if code in LOGGED_CLOSES:
            log.info("connection closed", peer=self.peer_host, code=int(code), reason=CLOSE_REASONS[code])

    def _leave(self, *, ends_session: bool) -> None:
        """Take the session out of every hub; end it or park it."""
        session, self.session = self.session, None
        if session is not None:
            lifecycle.connection_lost(self._node, session, resumable=not ends_session)

    async def _write(self) -> None:
        await self._stream.write_loop()
        # The queue ends only when the socket is broken.
        self.close(CloseCode.ABNORMAL)

    async def _serve(self, nursery: trio.Nursery) -> None:
        with self._stream.handshake as handshake:
            request = await wrap_server_stream(
                nursery,
                self._stream,
                message_queue_size=MESSAGES_BUFFERED,
                max_message_size=self._settings.frame_bytes,
                receive_buffer_size=65536,
            )
        if handshake.cancelled_caught:
            # trio-websocket has answered 400 and closed the stream; its wait for a request would never end.
            self.close(CloseCode.ABNORMAL)
            return
        credentials = credentials_untrusted(self._head, self._settings.allowed_origins)
        identity = None
        if credentials is not None:
            try:
                identity = await self._authenticate(credentials.token, credentials.user_id)
            except LiveError as refusal:
                # RESUME will tell by its session whose it is, so there the token alone is enough.
                if not (credentials.awaits_resume and isinstance(refusal, UserIdMissing)):
                    await self._reject(request, refusal)
                    return
        subprotocol = next((name for name in request.proposed_subprotocols if name in CODECS), None)
        if subprotocol is not None:
            self._codec = CODECS[subprotocol]
        ws = await request.accept(subprotocol=subprotocol)
        self._is_open = True
        self._hello()
        if self._node.draining:
            self.close(CloseCode.DRAIN)
            return
        self._watch_deadline()
        try:
            if credentials is not None and identity is not None and not credentials.awaits_resume:
                self._liveness.asked(self._node.now())
                await self._begin(self._call(Packet(Op.IDENTIFY, None)), identity)
                self._liveness.answered(self._node.now())
                self._watch_deadline()
            await self._converse(ws)
        except ConnectionClosed:
            closed = ws.closed
            code = CloseCode.ABNORMAL if closed is None else closed.code
            if code in _SILENT_VIOLATIONS:
                self.close(code)
            else:
                self._ended_by_peer(code)

    async def _reject(self, request: WebSocketRequest, refusal: LiveError) -> None:
        """Answer an upgrade whose token is not good with an HTTP status instead."""
        log.info("upgrade refused", peer=self.peer_host, code=refusal.code)
        status = 401 if isinstance(refusal, InvalidToken) else 503
        await request.reject(status, body=f"{refusal.code} {refusal.reason}\n".encode())
        self.close_code = CloseCode.ABNORMAL

    def _ended_by_peer(self, code: int) -> None:
        """Note that the client closed; trio-websocket has put its answer into the queue."""
        if self.close_code is None:
            self.close_code = code
            self._state = State.CLOSED
            self._leave(ends_session=ends_session(code, by_peer=True))

    def _hello(self) -> None:
        settings = self._settings
        hello = Hello(
            heartbeat_interval=settings.heartbeat_interval_ms,
            node_id=self._node.node_id,
            server=f"livechat/{__version__}",
            resume_window_ms=settings.resume_window_ms,
            reconnect_window_ms=settings.reconnect_window_ms,
            limits=HelloLimits(settings.message_bytes, settings.frame_bytes),
        )
        self.send(Outgoing(Op.HELLO, hello))

    # --- deadlines: one entry in the node's heap, moved only when it would come too late -----------------

    def _watch_deadline(self) -> None:
        deadline, _ = self._liveness.deadline()
        if deadline < self._due_at:
            self._due_at = deadline
            self._node.deadlines.schedule(deadline, self._watch)

    def on_deadline(self, now: float) -> float | None:
        """Close if something is overdue; return when to look again."""
        if self.close_code is not None or now < self._due_at:
            return None
        deadline, code = self._liveness.deadline()
        if deadline > now:
            self._due_at = deadline
            return deadline
        self.close(code)
        return None

    def _watch_token(self, expires_at: int | None) -> None:
        node = self._node
        token_by = None if expires_at is None else node.now() + (expires_at - node.now_ms()) / 1000
        self._liveness.identified(token_by)
        self._watch_deadline()

    def _on_frames(self) -> None:
        self._liveness.heard(self._node.now())

    # --- out --------------------------------------------------------------------------------------

    def send(self, packet: Outgoing) -> None:
        """Queue a packet; never waits, never raises. Before the handshake is through it goes nowhere."""
        if self._is_open:
            self._stream.push(packet.frame(self._codec))

    def _on_overflow(self) -> None:
        self.close(CloseCode.SLOW_CONSUMER)

    # --- in ---------------------------------------------------------------------------------------

    async def _converse(self, ws: WebSocketConnection) -> None:
        while self.close_code is None:
            message = await ws.get_message()
            packet = self._decode(message)
            if packet is not None:
                if packet.op == Op.IDENTIFY:
                    await self._identify(packet)
                    self._liveness.answered(self._node.now())
                    self._watch_deadline()
                else:
                    self._handle(packet)
            while len(self._replies) >= self._settings.requests_in_flight:
                await self._waiting_for_room.park()

    def _decode(self, message: str | bytes) -> Packet | None:
        """Parse a message; a bad one is answered here."""
        # A text's bytes are at least its code points; measuring them exactly costs a copy only near the limit.
        size = len(message)
        if size * 4 > self._settings.message_bytes and isinstance(message, str):
            size = len(message.encode())
        limit = self._settings.message_bytes
        try:
            if size > limit:
                raise PayloadTooLarge(f"packet: expected at most {limit} bytes, got {size}")
            return decode_untrusted(message)
        except LiveError as refusal:
            # Looking for the id parses the message, so in a far too large one nobody looks.
            self._refuse(refusal, None, request_id_of_untrusted(message) if size <= 2 * limit else None)
        return None

    def _call(self, packet: Packet) -> Call:
        if packet.op == Op.HEARTBEAT:
            # It belongs to no channel, and must not wait for a store that takes its time.
            return self._new_call(packet, self._send_reply)
        place = self._replies.take()
        return self._new_call(packet, lambda reply: self._replies.answer(place, reply))

    def _send_reply(self, reply: Outgoing | None) -> None:
        if reply is not None:
            self.send(reply)

    def _new_call(self, packet: Packet, answer: Callable[[Outgoing | None], None]) -> Call:
        return Call(
            node=self._node,
            caller=self,
            session_or_none=self.session,
            op=packet.op,
            request_id=packet.id,
            answer=answer,
        )

    def _handle(self, packet: Packet) -> None:
        """Check, validate and do one request. Errors are replies; nothing is raised."""
        call = self._call(packet)
        try:
            next_state(self._state, packet.op)
            request = request_untrusted(packet)
            HANDLERS[packet.op](call, request)
            if packet.op == Op.RESUME:
                self._liveness.extend(self._node.now())
        except ProtocolError as refusal:
            call.fail(refusal)
            self._count_invalid()
        except LiveError as refusal:
            call.fail(refusal)
        except Exception:
            log.exception("handler failed", op=packet.op)
            call.fail(InternalError("internal error"))

    def _refuse(self, refusal: LiveError, op: int | None, request_id: str | int | None) -> None:
        place = self._replies.take()
        self._replies.answer(place, error(refusal, op, request_id))
        if isinstance(refusal, ProtocolError):
            self._count_invalid()

    def _count_invalid(self) -> None:
        times = self._invalid_packets
        times.append(self._node.now())
        if len(times) == INVALID_PACKETS_MAX and times[-1] - times[0] <= INVALID_PACKETS_WINDOW_S:
            self.close(CloseCode.PROTOCOL_ABUSE)

    # --- IDENTIFY, the one request that may wait for somebody else's answer -------------------------------

    async def _identify(self, packet: Packet) -> None:
        call = self._call(packet)
        self._liveness.asked(self._node.now())
        try:
            request = request_untrusted(packet)
            assert isinstance(request, Identify)
            identity = await self._authenticate(request.token, request.user_id)
        except ProtocolError as refusal:
            call.fail(refusal)
            self._count_invalid()
            return
        except LiveError as refusal:
            call.fail(refusal)
            if isinstance(refusal, InvalidToken):
                self._identity_refusals += 1
                if self._identity_refusals >= IDENTIFY_REFUSALS_MAX:
                    self.close(CloseCode.AUTHENTICATION_FAILED)
            return
        await self._begin(call, identity)

    async def _begin(self, call: Call, identity: Identity) -> None:
        try:
            if self.session is not None:
                session_handlers.renew(call, identity)
                self._watch_token(identity.expires_at)
            else:
                session_handlers.begin(call, identity)
        except LiveError as refusal:
            call.fail(refusal)
        # What follows may need the session, so it waits for READY.
        while len(self._replies):
            await self._waiting_for_room.park()

    async def _authenticate(self, token: str, user_id: str | None) -> Identity:
        try:
            with trio.fail_after(AUTHENTICATE_TIMEOUT_S):
                identity = await self._node.authenticator.authenticate(token, user_id)
        except LiveError:
            raise
        except trio.TooSlowError:
            raise BackendUnavailable("authentication took too long") from None
        except Exception:
            # An embedder's authenticator failed; that is no proof of anything.
            log.exception("authenticator failed")
            raise BackendUnavailable("authentication failed for an internal reason") from None
        if identity.expires_at is not None and identity.expires_at <= self._node.now_ms():
            raise InvalidToken("token: expired")
        return identity

    def activate(self, session: Session) -> bool:
        """Attach a session; False if this connection has ended meanwhile."""
        if self.close_code is not None:
            return False
        session.outlet = self
        self.session = session
        self._identity_refusals = 0
        self._state = next_state(self._state, Op.IDENTIFY)
        self._stream.message_bytes_max = self._settings.frame_bytes
        self._watch_token(session.expires_at)
        return True

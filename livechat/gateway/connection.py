"""Owns one WebSocket connection: its nursery, its reader, and the one way in which it ends.

It must not know what the client says (`conversation`), what a request does (`livechat.handlers`) or how bytes
leave (`egress`).

    nursery of the connection, one cancel scope
    ├─ trio-websocket's reader     bytes → messages
    ├─ EgressStream.write_loop     egress queue → socket
    ├─ _serve                      messages → conversation → handlers → replies
    └─ requests that read or replay, and end with the connection

Whatever ends it (close frame, reset, protocol error, slow consumer, zombie, cancellation, shutdown) goes through
`_leave`, which is synchronous: the session is out of every hub at once, parked or ended. Only then is what is
left of the queue sent, within a bound, and the socket closed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
import trio
from structlog.contextvars import bind_contextvars
from trio_websocket import ConnectionClosed, WebSocketRequest, wrap_server_stream

from livechat.error import Forbidden, InvalidToken, LiveError, RateLimited
from livechat.gateway.conversation import Conversation
from livechat.gateway.egress import EgressLimits, EgressStream
from livechat.gateway.head import RequestHead, credentials_untrusted, original_peer
from livechat.gateway.liveness import Liveness
from livechat.gateway.rates import RateLimits
from livechat.gateway.settings import GatewaySettings
from livechat.gateway.transport import Transport
from livechat.handlers import lifecycle
from livechat.handlers.auth import UserIdMissing
from livechat.handlers.node import Node
from livechat.hub.users import Mark, Outlet, Session, SessionState, mark_of
from livechat.protocol.codec import CODECS, JSON, Codec
from livechat.protocol.events import Hello, HelloLimits, Notification
from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode, Op, ends_session
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.session import State
from livechat.telemetry.scope import log_fields
from livechat.telemetry.trace import parse_traceparent_untrusted
from livechat.version import __version__

log = structlog.get_logger("livechat.gateway")

MESSAGES_BUFFERED: Final = 2
"""Messages that trio-websocket reads ahead of us."""
LOGGED_CLOSES: Final = (
    CloseCode.INTERNAL,
    CloseCode.SLOW_CONSUMER,
    CloseCode.AUTHENTICATION_FAILED,
    CloseCode.PROTOCOL_ABUSE,
)
"""Closes that an operator wants to hear of; the others are ordinary life."""
REFUSAL_STATUSES: Final = ((InvalidToken, 401), (Forbidden, 403), (RateLimited, 429))
"""How an upgrade is refused; for any other reason, by 503."""
DROPPING_CLOSES: Final = (CloseCode.SLOW_CONSUMER, CloseCode.TAKEN_OVER)
"""Closes after which nobody reads what is queued."""
CLOSE_CODES: Final = frozenset(CloseCode)
OTHER_CODE: Final = 0
"""Of a client that closed with a number that is none of the protocol's."""
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
        self,
        node: Node,
        settings: GatewaySettings,
        rates: RateLimits,
        transport: Transport,
        head: RequestHead,
        received: bytes,
    ) -> None:
        self.session: Session | None = None
        self.local_host = transport.local_host
        self.peer_host, self.is_confidential = original_peer(
            head, transport.peer_host, transport.is_tls, settings.trusted_proxies
        )
        self.close_code: int | None = None
        """Why the connection ended; None while it lives."""
        self._node = node
        self._counters = node.instruments.counters
        self._packets = node.packets
        self._settings = settings
        self._head = head
        self._transport = transport
        self._codec: Codec = JSON
        self._is_open = False
        """The handshake is through: only now may frames be sent."""
        self._stream = EgressStream(
            transport,
            EgressLimits(settings.egress_bytes, settings.egress_frames),
            received=received,
            on_frames=self._on_frames,
            on_overflow=self.overflow,
            on_violation=self.close,
            # Whoever has not shown a token yet gets little memory; a message just past its limit still gets 1005.
            message_bytes_max=min(settings.frame_bytes, 2 * settings.message_bytes),
            counters=self._counters,
        )
        self._nursery: trio.Nursery | None = None
        self._conversation = Conversation(node, settings, rates, self)
        self._claimed: Session | None = None
        """The session that is being resumed here."""
        self._left: tuple[Session, Outlet | None] | None = None
        """The session that was parked when this connection ended, and the outlet it lost."""
        self.liveness = Liveness(
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
        trace = parse_traceparent_untrusted(self._head.header("traceparent"))
        bind_contextvars(peer=self.peer_host, **log_fields(trace=trace))
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
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
            self._conversation.ended()
            self._watch.connection = None
            if self._left is not None and self._left[0].tail is self._left[1]:
                # While it is parked it must not keep all of this in memory.
                self._left[0].note_unsent(None)
                self._node.keeper.note(self._left[0])

    def close(self, code: int, reason: str = "") -> None:
        """End the connection: out of the hubs now, then a close frame, then the socket. Never waits.

        Args:
            code: for the close frame; those that never travel (RFC 6455, section 7.4.1) send none.
            reason: at most 123 bytes of UTF-8; the usual one of the code if left out.
        """
        if self.close_code is not None:
            return
        self.close_code = code
        self._note_end(code, by_peer=False)
        fields = self._log_fields()
        self._conversation.state = State.CLOSED
        self._leave(ends_session=ends_session(code, by_peer=False))
        if self._is_open and code not in (CloseCode.NO_STATUS, CloseCode.ABNORMAL):
            reason = reason or CLOSE_REASONS.get(code, "")
            self._stream.push_close(code, reason, drop_queue=code in DROPPING_CLOSES)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        # Last, as the host's logger may raise.
        if code in LOGGED_CLOSES:
            log.info(
                "connection closed", peer=self.peer_host, code=int(code), reason=CLOSE_REASONS[code], **fields
            )

    def _note_end(self, code: int, *, by_peer: bool) -> None:
        if self._packets.is_watched:
            self._packets.closed(code, self.peer_host, self.session or self._claimed, by_peer=by_peer)
        if self._is_open:
            # What a client closes with is any number; ours are few.
            self._counters.closes[code if code in CLOSE_CODES else OTHER_CODE] += 1
        elif code == CloseCode.ABNORMAL:
            self._counters.refused["bad_upgrade"] += 1

    def _log_fields(self) -> dict[str, Any]:
        """Return whose connection it is, for log lines of whatever task closes it."""
        session = self.session or self._claimed
        return {} if session is None else log_fields(session=session.session_id, user=session.user_id)

    def _leave(self, *, ends_session: bool) -> None:
        """Take the session out of every hub; end it or park it."""
        session, self.session = self.session or self._claimed, None
        self._claimed = None
        if session is None:
            return
        if session.state is SessionState.LIVE:
            lifecycle.connection_lost(self._node, session, resumable=not ends_session)
        elif session.claim is self:
            lifecycle.release_claim(self._node, session)
        self._left = (session, session.tail)

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
        credentials = credentials_untrusted(self._head, self._settings.allowed_origins, self._node.auth.cookie)
        identity = None
        if credentials is not None:
            try:
                identity = await self._conversation.authenticate(credentials.token, credentials.user_id)
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
        self.watch_deadline()
        try:
            if credentials is not None and identity is not None and not credentials.awaits_resume:
                await self._conversation.begin_as(identity)
            while self.close_code is None:
                await self._conversation.take(await ws.get_message())
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
        status = next((status for kind, status in REFUSAL_STATUSES if isinstance(refusal, kind)), 503)
        wait_ms = refusal.retry_after_ms
        headers = [] if wait_ms is None else [(b"Retry-After", b"%d" % -(-wait_ms // 1000))]
        self._counters.refused["unavailable" if status == 503 else "token"] += 1
        await request.reject(status, extra_headers=headers, body=f"{refusal.code} {refusal.reason}\n".encode())
        self.close_code = CloseCode.ABNORMAL

    def _ended_by_peer(self, code: int) -> None:
        """Note that the client closed; trio-websocket has put its answer into the queue."""
        if self.close_code is None:
            self.close_code = code
            self._note_end(code, by_peer=True)
            self._conversation.state = State.CLOSED
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

    def watch_deadline(self) -> None:
        """See to it that a deadline that has come nearer is kept."""
        deadline, _ = self.liveness.deadline()
        if deadline < self._due_at:
            self._due_at = deadline
            self._node.deadlines.schedule(deadline, self._watch)

    def on_deadline(self, now: float) -> float | None:
        """Close if something is overdue; return when to look again."""
        if self.close_code is not None or now < self._due_at:
            return None
        while True:
            deadline, code = self.liveness.deadline()
            if deadline > now:
                self._due_at = deadline
                return deadline
            if code is not None:
                self.close(code)
                return None
            self._warn()

    def _warn(self) -> None:
        """Tell that the token ends soon."""
        self.liveness.warned()
        expires_at = None if self.session is None else self.session.expires_at
        if expires_at is not None:
            left_ms = max(0, expires_at - self._node.now_ms())
            warning = Notification("token_expiring", expires_at=expires_at, expires_in_ms=left_ms)
            self.send(Outgoing(Op.NOTIFICATION, warning))

    def renewed(self, expires_at: int | None) -> None:
        """Note when the session's token ends."""
        node, token_by, warn_by = self._node, None, None
        if expires_at is not None:
            left_s = (expires_at - node.now_ms()) / 1000
            token_by = node.now() + left_s
            # Who is warned and renews at once must not be warned again at once, however short tokens live.
            warn_by = token_by - min(node.auth.warning_s, left_s / 2)
        self.liveness.identified(token_by, warn_by)
        self.watch_deadline()

    def _on_frames(self) -> None:
        self.liveness.heard(self._node.now())

    # --- out --------------------------------------------------------------------------------------

    def send(self, packet: Outgoing) -> None:
        """Queue a packet; never waits, never raises. Before the handshake is through it goes nowhere."""
        if self._is_open:
            self._counters.packets_out += 1
            frame = packet.frame(self._codec)
            if self._packets.is_watched:
                self._packets.went(packet, frame, self.peer_host, self.session or self._claimed)
            self._stream.push(frame, mark_of(packet))

    def send_later(self, packet: Outgoing) -> None:
        """Queue a packet of which there are many."""
        if self._is_open:
            self._counters.packets_out += 1
            frame = packet.frame(self._codec)
            if self._packets.is_watched:
                self._packets.went(packet, frame, self.peer_host, self.session or self._claimed)
            self._stream.push_later(frame, mark_of(packet))

    # --- what handlers may ask of it; see `Caller` ----------------------------------------------------

    @property
    def queued(self) -> tuple[int, int]:
        """What waits for the client: (frames, bytes)."""
        return self._stream.queued_frames, self._stream.queued_bytes

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for the client to read it that nothing should be added that can wait."""
        return self._stream.is_crowded

    async def wait_room(self) -> None:
        """Wait until the client has read enough; one that reads nothing for long is a slow consumer."""
        with trio.move_on_after(self._settings.stall_timeout_ms / 1000) as scope:
            await self._stream.wait_room()
        if scope.cancelled_caught:
            self.close(CloseCode.SLOW_CONSUMER)
            await trio.lowlevel.checkpoint()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task that ends with the connection."""
        assert self._nursery is not None
        self._nursery.start_soon(work)

    def activate(self, session: Session) -> bool:
        """Attach a session; False if this connection has ended meanwhile."""
        if self.close_code is not None:
            return False
        session.outlet = self
        self.session = session
        self._claimed = None
        self._conversation.activated()
        self._stream.message_bytes_max = self._settings.frame_bytes
        self.renewed(session.expires_at)
        return True

    def claim(self, session: Session) -> bool:
        """Note that a session is about to be resumed here; False if this connection has ended meanwhile."""
        if self.close_code is not None:
            return False
        self._claimed = session
        return True

    def unclaim(self) -> None:
        """Note that nothing is resumed here any more."""
        session, self._claimed = self._claimed, None
        if session is not None:
            self._left = (session, session.tail)

    def displace(self) -> None:
        """Give up the session, and close: another connection resumes it."""
        self._leave(ends_session=False)
        self.close(CloseCode.TAKEN_OVER)

    def expel(self, code: int, reason: str) -> None:
        """See `Outlet.expel`."""
        self.close(code, reason)

    def overflow(self) -> None:
        """Close the connection as that of a slow consumer."""
        self.close(CloseCode.SLOW_CONSUMER)

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """See `Outlet.cut`."""
        return () if successor is self else self._stream.cut()

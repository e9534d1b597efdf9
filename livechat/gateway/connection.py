"""Owns one WebSocket connection: its nursery, its reader, and the one way in which it ends.

It must not know what the client says (`conversation`), what that does (`handlers`) or how bytes leave (`egress`).

    nursery of the connection, one cancel scope
    ├─ run                         the opening; then bytes → messages → conversation → handlers → replies
    ├─ EgressQueue.write_loop      egress queue → socket, only while something waits
    ├─ trio-websocket's reader     for the opening; ends with it. Later, if it is needed, it is `run`'s
    └─ requests that read or replay, and end with the connection

Whatever ends it (close frame, reset, protocol error, slow consumer, zombie, cancellation, shutdown) goes through
`_leave`, which is synchronous: the session is out of every hub at once, parked or ended. Only then is what is
left of the queue sent, within a bound, and the socket closed.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
import trio
from structlog.contextvars import bind_contextvars
from trio_websocket import ConnectionClosed, WebSocketRequest

from livechat.error import LiveError
from livechat.gateway.budget import EgressPool
from livechat.gateway.closing import CLOSE_CODES, DROPPING_CLOSES, LOGGED_CLOSES, OTHER_CODE, let_go
from livechat.gateway.conversation import Conversation
from livechat.gateway.demux import Message
from livechat.gateway.egress import EgressQueue
from livechat.gateway.expiry import expiry_deadlines, warning
from livechat.gateway.head import RequestHead, original_peer
from livechat.gateway.ingress import Ingress
from livechat.gateway.liveness import Liveness
from livechat.gateway.opening import UNAVAILABLE, agree, hello, opening_untrusted, response_of
from livechat.gateway.rates import RateLimits
from livechat.gateway.settings import GatewaySettings
from livechat.gateway.stream import GatewayStream
from livechat.gateway.transport import Transport
from livechat.gateway.upgrade import UpgradeStream
from livechat.handlers import lifecycle
from livechat.handlers.auth import UserIdMissing
from livechat.handlers.node import Node
from livechat.hub.deadlines import Timer
from livechat.hub.users import Mark, Outlet, Queued, Session, SessionState
from livechat.protocol.frames import serialize_pong
from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode, ends_session
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.protocol.session import State
from livechat.protocol.types import ChannelId, StreamKey
from livechat.telemetry.scope import log_fields

log = structlog.get_logger("livechat.gateway")


class Connection:
    """One client on one socket. `run` serves it until it ends; nothing else needs to be closed."""

    def __init__(
        self,
        node: Node,
        settings: GatewaySettings,
        rates: RateLimits,
        pool: EgressPool,
        transport: Transport,
        head: RequestHead,
        received: bytes,
        *,
        wait_turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self.session: Session | None = None
        self.wait_turn = wait_turn
        """Waits until it is this client's turn to have done what coming in costs."""
        self.local_host = transport.local_host
        self.peer_host, self.is_confidential = original_peer(
            head, transport.peer_host, transport.is_tls, settings.trusted_proxies
        )
        self.close_code: int | None = None
        """Why the connection ended; None while it lives."""
        self._node = node
        self._counters = node.instruments.counters
        self._packets = node.packets
        self._backlog = node.channels.backlog
        self._settings = settings
        self._opening = opening_untrusted(head, settings, node.auth.cookie)
        """There until the upgrade is being answered."""
        self._is_open = False
        """The handshake is through: only now may frames be sent."""
        self.sink = self._egress = EgressQueue(transport, pool, self)
        self._ingress = Ingress(
            transport,
            self,
            received=received,
            # Whoever has not shown a token yet gets little memory; a message just past its limit still gets 1005.
            message_bytes_max=min(settings.frame_bytes, 2 * settings.message_bytes),
            counters=self._counters,
        )
        self._stream: GatewayStream | None = None
        """None as long as trio-websocket is not needed for what the client sends."""
        self._nursery: trio.Nursery | None = None
        self._is_serving = False
        """A task of the connection may be started by whoever sends to it."""
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
        self._timer: Timer | None = None  # the one entry in the node's heap
        self._due_at = math.inf  # when that calls `on_deadline`

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve the connection until it ends. The socket is closed and the hubs are clean afterwards.

        Cancellation:
            Closes with 4003; takes at most `close_timeout_ms` to say so.
        """
        bind_contextvars(peer=self.peer_host, **log_fields(trace=self._opening.trace))
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._is_serving = True
                try:
                    if await self._open(nursery) and (data := await self._ingress.receive()):
                        await self._read_on(nursery, data)
                finally:
                    # From here on the nursery may close at any time, and `finish` sends what is left.
                    self._is_serving = False
                self.ended()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            self.ended()
        except* Exception:
            # The boundary of one connection: whatever fails in here must not reach the others.
            log.exception("connection failed", peer=self.peer_host)
            self.close(CloseCode.INTERNAL)
        finally:
            # Nobody closed it and it is ending all the same: it was cancelled from outside.
            self.close(CloseCode.ABNORMAL if self._egress.broken else CloseCode.DRAIN)
            with trio.move_on_after(self._settings.close_timeout_ms / 1000, shield=True):
                await self._egress.finish()
            self._egress.abort()
            self._unwatch()
            if self._left is not None:
                lifecycle.connection_settled(self._node, *self._left)
            # What it was made of holds on to it, and would wait for the garbage collector to find that out.
            let_go(self._conversation, self._ingress, self._stream)
            self._stream = self._nursery = self._left = None
            del self._conversation

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
            self._egress.push_close(code, reason, drop_queue=code in DROPPING_CLOSES)
        self._cancel()
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
        self._catch_up()
        session, self.session = self.session or self._claimed, None
        self._claimed = None
        if session is None:
            return
        if session.state is SessionState.LIVE:
            lifecycle.connection_lost(self._node, session, resumable=not ends_session)
        elif session.claim is self:
            lifecycle.release_claim(self._node, session)
        self._left = (session, session.tail)

    def start_writer(self) -> None:
        """See `EgressOwner`."""
        self._start(self._write)

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        if self._is_serving:
            assert self._nursery is not None
            self._nursery.start_soon(work)

    async def _write(self) -> None:
        await self._egress.write_loop()
        if self._egress.broken:
            self.close(CloseCode.ABNORMAL)

    async def _read_on(self, nursery: trio.Nursery, data: bytes) -> None:
        """Serve a client that has sent what is for trio-websocket to read."""
        self._stream = GatewayStream(self._ingress, self._egress, self, data)
        await self._stream.serve(nursery, message_bytes_max=self._settings.frame_bytes)

    def take(self, message: Message) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        if self.close_code is not None:
            # The reader is cancelled at its next checkpoint, which this is.
            return trio.sleep_forever
        return self._conversation.take(message)

    def take_ping(self, payload: bytes) -> None:
        """See `IngressOwner`."""
        self._catch_up()
        self._egress.push_control(serialize_pong(payload))

    async def take_passed(self) -> None:
        """See `IngressOwner`: a message that was in fragments, or large."""
        assert self._stream is not None
        try:
            wait = self.take(await self._stream.get_message())
        except ConnectionClosed:
            self.ended()
            wait = trio.sleep_forever
        if wait is not None:
            await wait()

    def failed(self) -> None:
        """See `IngressOwner`."""
        self._egress.fail()

    def ended(self) -> None:
        """End with the WebSocket: its reader has ended, or is about to."""
        code, by_peer = (CloseCode.ABNORMAL, self._is_open) if self._stream is None else self._stream.ending()
        if by_peer:
            self._ended_by_peer(code)
        else:
            self.close(code)
        self._cancel()

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _open(self, nursery: trio.Nursery) -> bool:
        """Do the handshake, and what its token asks for; False: it came to nothing.

        What this needs must not stay in memory while the connection lasts.
        """
        opening = self._opening
        del self._opening
        await self.wait_turn()
        upgrade = UpgradeStream(opening.head, self._egress)
        request = await upgrade.take_request(nursery)
        if request is None:
            self.close(CloseCode.ABNORMAL)
            return False
        credentials = opening.credentials
        identity = None
        if credentials is not None:
            try:
                identity = await self._conversation.authenticate(credentials.token, credentials.user_id)
            except LiveError as refusal:
                # RESUME will tell by its session whose it is, so there the token alone is enough.
                if not (credentials.awaits_resume and isinstance(refusal, UserIdMissing)):
                    await self._reject(request, refusal)
                    return False
        subprotocol, self._egress.codec = agree(request.proposed_subprotocols, opening.extension)
        if opening.extension is not None:
            self._ingress.inflate()
        await upgrade.accept(request, subprotocol, opening.extension)
        self._is_open = True
        self.send(hello(self._node, self._settings))
        if self._node.draining:
            self.close(CloseCode.DRAIN)
            return False
        self.watch_deadline()
        if credentials is not None and identity is not None and not credentials.awaits_resume:
            await self._conversation.begin_as(identity)
        return True

    async def _reject(self, request: WebSocketRequest, refusal: LiveError) -> None:
        """Answer an upgrade whose token is not good with an HTTP status instead."""
        log.info("upgrade refused", peer=self.peer_host, code=refusal.code)
        status, headers, body = response_of(refusal)
        self._counters.refused["unavailable" if status == UNAVAILABLE else "token"] += 1
        await request.reject(status, extra_headers=headers, body=body)
        self.close_code = CloseCode.ABNORMAL

    def _ended_by_peer(self, code: int) -> None:
        """Note that the client closed; trio-websocket has put its answer into the queue."""
        if self.close_code is None:
            self.close_code = code
            self._note_end(code, by_peer=True)
            self._conversation.state = State.CLOSED
            self._leave(ends_session=ends_session(code, by_peer=True))

    # --- deadlines: one entry in the node's heap, moved only when it would come too late -----------------

    def watch_deadline(self) -> None:
        """See to it that a deadline that has come nearer is kept."""
        deadline, _ = self.liveness.deadline()
        if deadline < self._due_at and self.close_code is None:
            self._unwatch()
            self._due_at = deadline
            self._timer = self._node.deadlines.schedule(deadline, self.on_deadline)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._node.deadlines.cancel(self._timer)
            self._timer = None

    def on_deadline(self, now: float) -> float | None:
        """Close if something is overdue; return when to look again."""
        while self.close_code is None:
            deadline, code = self.liveness.deadline()
            if deadline > now:
                self._due_at = deadline
                return deadline
            if code is not None:
                self.close(code)
            else:
                self._warn()
        return None

    def _warn(self) -> None:
        """Tell that the token ends soon."""
        self.liveness.warned()
        if self.session is not None and self.session.expires_at is not None:
            self.send(warning(self._node, self.session.expires_at))

    def renewed(self, expires_at: int | None) -> None:
        """Note when the session's token ends."""
        self.liveness.identified(*expiry_deadlines(self._node, expires_at))
        self.watch_deadline()

    def heard(self) -> None:
        """See `IngressOwner`."""
        self.liveness.heard(self._node.now())

    # --- out --------------------------------------------------------------------------------------

    def send(self, packet: Outgoing) -> None:
        """Queue a packet; never waits, never raises. Before the handshake is through it goes nowhere."""
        if self._is_open and not self._follows(packet):
            self._egress.push(self._frame(packet), packet.tag)

    def reply(self, packet: Outgoing) -> None:
        """Queue a reply; with those to the requests that have come along, if there are any."""
        if not self._ingress.has_more:
            self.send(packet)
        elif not self._follows(packet):
            self.send_later(packet)

    def send_later(self, packet: Outgoing) -> None:
        """Queue a packet of which there are many."""
        if self._is_open:
            self._catch_up()
            self._egress.push_later(self._frame(packet), packet.tag)

    def send_batch(self, batch: Batch) -> None:
        """See `Outlet`: what the session's channels were sent lately, ahead of anything else."""
        if self._is_open:
            joined, frames = batch.joined(self._egress.codec)
            if self._packets.is_watched:
                frames = [self._frame(packet) for packet in batch.packets]
            else:
                self._counters.packets_out += len(frames)
            self._egress.push_all(joined, frames, batch.tags)

    def _frame(self, packet: Outgoing) -> bytes:
        self._counters.packets_out += 1
        frame = packet.frame(self._egress.codec)
        if self._packets.is_watched:
            self._packets.went(packet, frame, self.peer_host, self.session or self._claimed)
        return frame

    def _follows(self, packet: Outgoing) -> bool:
        """Have a packet follow what the session's channels were sent, if some of that is yet to go."""
        if not self._backlog.is_behind or self.session is None:
            return False
        if packet.chunk is not None:
            # Too large to gather, and it may be dropped, which what gathers may not.
            self._catch_up()
            return False
        # Written here, so that whoever made a packet that can't be is the one to hear of it.
        packet.frame(self._egress.codec)
        return self._backlog.follow(self.session, packet)

    def _catch_up(self) -> None:
        """Let what the session's channels were sent go first."""
        if self._backlog.is_behind and self.session is not None:
            self._backlog.catch_up(self.session)

    before_push = _catch_up

    # --- what handlers may ask of it; see `Caller` ----------------------------------------------------

    @property
    def queued(self) -> Queued:
        """What waits for the client, and what it did not get."""
        return Queued(self._egress.queued_frames, self._egress.queued_bytes, self._egress.chunks_dropped)

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for the client to read it that nothing should be added that can wait."""
        return self._egress.is_crowded

    async def wait_room(self) -> None:
        """Wait until the client has read enough; one that reads nothing for long is a slow consumer."""
        with trio.move_on_after(self._settings.stall_timeout_ms / 1000) as scope:
            await self._egress.wait_room()
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
        self._ingress.message_bytes_max = self._settings.frame_bytes
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

    def drop_chunks(self, channel_id: ChannelId) -> None:
        """See `Outlet.drop_chunks`."""
        self._egress.drop_chunks(channel_id)

    def forget_stream(self, stream: StreamKey) -> None:
        """See `Outlet.forget_stream`."""
        self._egress.forget_stream(stream)

    def expel(self, code: int, reason: str) -> None:
        """See `Outlet.expel`."""
        self.close(code, reason)

    def overflow(self) -> None:
        """Close the connection as that of a slow consumer.

        Soon, not now: whoever sends to it, or is about to take it out of a hub, must find the hubs as they were.
        """
        self._start(self._close_slow)

    async def _close_slow(self) -> None:
        self.close(CloseCode.SLOW_CONSUMER)

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """See `Outlet.cut`."""
        return () if successor is self else self._egress.cut()

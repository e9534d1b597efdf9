"""Owns the tasks of a client: it connects, hands packets to the session, sends what it wants, and keeps its time.

It must not decide anything that `session` can: this is its shell.

    run                     shielded: it ends by itself, once `stop` was called or the client gives up
    ├─ keep time            heartbeats, retries, deadlines
    ├─ keep token           a fresh one before the old one ends
    └─ keep connected       one connection after the other
       ├─ frames            trio-websocket's reader, our writer; they outlive the conversation, to close in order
       └─ conversation      receive ──► session ──► send
"""

from __future__ import annotations

import logging
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Final

import attrs
import h11
import trio
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected

from livechat.client.error import ClientError
from livechat.client.events import SessionEvent
from livechat.client.link import BYTES_OPS, Dial, Link, OnPacket, Target, local_host, open_link
from livechat.client.reconnect import Ended
from livechat.client.session import ClientSession
from livechat.client.settings import ClientSettings
from livechat.client.stream import GatheringStream
from livechat.error import LiveError, PayloadTooLarge, ProtocolError
from livechat.protocol.opcodes import CloseCode

log = logging.getLogger("livechat.client")
"""Not structlog: unconfigured it writes to standard output, which belongs to the program that uses the client."""

Token = str | Callable[[], Awaitable[str]]
"""A token, or what fetches a fresh one: asked before each connection, and before a token ends."""

LEFT: Final = "the client's block was left"
RENEW_SHARE: Final = 0.8
"""A token is renewed when so much of the life it had when it came is over, and tried again so as well; or when the
server says that it ends soon."""
RENEW_PAUSE_S: Final = 60.0
"""How long a renewal waits for its answer."""

PACKETS_AHEAD: Final = 8
"""Packets that may wait for the connection when a media chunk joins them."""


@attrs.frozen
class Way:
    """How to reach the gateway."""

    target: Target
    token: Token = attrs.field(repr=False)
    dial: Dial
    tls: ssl.SSLContext | None
    on_packet: OnPacket | None


class Runner:
    """Drives a session.

    Args:
        session: what to drive.
        way: how to reach the gateway.
        settings: waits and bounds.
        publish: takes the session's events, in order.
    """

    def __init__(
        self,
        session: ClientSession,
        way: Way,
        settings: ClientSettings,
        publish: Callable[[SessionEvent], None],
    ) -> None:
        self.entered = trio.Event()
        """Set once there was a session, or none could be had."""
        self.failure: Exception | None = None
        """Why the client has given up."""
        self.local_host: str | None = None
        """Our own address on the connection."""
        self._session = session
        self._way = way
        self._settings = settings
        self._publish = publish
        self._token = ""
        self._is_stopping = False
        self._interruptible: set[trio.CancelScope] = set()
        self._conversation: trio.CancelScope | None = None
        self._sender = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._timer = trio.lowlevel.ParkingLot()
        self._timer_at = -math.inf
        """When the timer wakes up by itself; it is awake while this is in the past."""
        self._renewal = trio.lowlevel.ParkingLot()
        self._fetching = trio.Lock()
        self._renewed_for: int | None = None
        """The end of the token's life that the renewal has seen."""

    # --- what the client does -------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until `stop`, or until the client gives up: `failure` says why.

        Cancellation:
            None from outside; whoever starts it calls `stop`. It then ends within `close_timeout_s`.
        """
        with trio.CancelScope(shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_time)
                    nursery.start_soon(self._keep_token)
                    await self._keep_connected()
                    nursery.cancel_scope.cancel()
            finally:
                self._session.stop(LEFT if self.failure is None else str(self.failure))
                self.kick()
            # Not after a crash: the block must not be entered by it.
            self.entered.set()

    def stop(self) -> None:
        """End the connection in order, and `run`."""
        self._is_stopping = True
        for scope in self._interruptible:
            scope.cancel()

    def kick(self) -> None:
        """Do what the session wants; to be called whenever it was touched."""
        session = self._session
        while session.events:
            self._publish(session.events.popleft())
        self._tell_room()
        if session.is_online:
            self.entered.set()
        if session.outgoing:
            self._sender.unpark_all()
        if session.closing is not None and self._conversation is not None:
            self._conversation.cancel()
        if session.deadline() < self._timer_at:
            self._timer.unpark_all()
        if session.expires_at != self._renewed_for or session.is_warned:
            self._renewal.unpark_all()

    async def wait_room(self) -> None:
        """Wait while too much is to be sent that can wait no longer."""
        await trio.lowlevel.checkpoint()
        while len(self._session.outgoing) >= PACKETS_AHEAD:
            await self._room.park()

    def _tell_room(self) -> None:
        if self._room and len(self._session.outgoing) < PACKETS_AHEAD:
            self._room.unpark_all()

    # --- time -----------------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        while True:
            self._timer_at = -math.inf
            self._session.tick(trio.current_time())
            self.kick()
            self._timer_at = self._session.deadline()
            with trio.move_on_at(self._timer_at):
                await self._timer.park()

    async def _keep_token(self) -> None:
        """Renew a token that has an end: the server would close with 4502, and the session would be over."""
        if isinstance(self._way.token, str):
            return
        while True:
            expires_at = self._renewed_for = self._session.expires_at
            left_s = math.inf if expires_at is None else expires_at / 1000 - time.time()
            with trio.move_on_after(max(1.0, left_s * RENEW_SHARE)) as patience:
                await self._renewal.park()
            if not patience.cancelled_caught and not self._session.is_warned:
                continue
            self._session.is_warned = False
            problem = await self._fetch_token()
            if problem is not None:
                log.warning("no fresh token: %r", problem)
                continue
            self._session.renew(self._token, trio.current_time())
            self.kick()
            # The answer tells another end of life; there is none if the connection is just away.
            with trio.move_on_after(RENEW_PAUSE_S):
                while self._session.expires_at == expires_at:
                    await self._renewal.park()

    async def _fetch_token(self) -> Exception | None:
        """Have a token from the application; return what kept it from giving one. Stopped, it has none."""
        if isinstance(self._way.token, str):
            self._token = self._way.token
            return None
        with self._until_stopped():
            # One at a time: what the application shows for a fresh token may be good for one only.
            async with self._fetching:
                try:
                    self._token = await self._way.token()
                except Exception as exc:  # noqa: BLE001 - the application's own: what it raises is for the application
                    return exc
        return None

    # --- connections ------------------------------------------------------------------------------------

    def _has_stopped(self) -> bool:
        return self._is_stopping

    @contextmanager
    def _until_stopped(self) -> Generator[None]:
        with trio.CancelScope() as scope:
            if self._is_stopping:
                scope.cancel()
            self._interruptible.add(scope)
            try:
                yield
            finally:
                self._interruptible.discard(scope)

    async def _keep_connected(self) -> None:
        needs_token = True
        while True:
            problem = await self._fetch_token()
            if self._has_stopped():
                return
            if problem is not None and needs_token:
                self.failure = problem
                return
            if problem is not None:
                log.warning("no fresh token, the old one is shown again: %r", problem)
            ended = await self._connect()
            if self._has_stopped():
                return
            try:
                if not self.entered.is_set():
                    raise ended.error()
                again = self._session.lost(ended, trio.current_time())
            except (ClientError, LiveError) as exc:
                self.failure = exc
                return
            self.kick()
            log.info("connection ended: %s; again in %.1f s", ended.reason, again.delay_s)
            needs_token = again.fresh_token
            with self._until_stopped():
                await trio.sleep(again.delay_s)

    async def _connect(self) -> Ended:
        """Make one connection and converse on it; return how it ended."""
        target, stream = self._way.target, None
        with self._until_stopped(), trio.move_on_after(self._settings.connect_timeout_s):
            try:
                stream = await self._way.dial(target, self._way.tls)
            except (OSError, trio.BrokenResourceError) as exc:
                why = exc.__cause__ if isinstance(exc, trio.BrokenResourceError) and exc.__cause__ else exc
                return Ended(f"cannot connect to {target.host}:{target.port}: {why}")
        if stream is None:
            return Ended(f"cannot connect to {target.host}:{target.port}: no answer")
        self.local_host = local_host(stream)
        gathering = GatheringStream(
            stream, linger_s=self._settings.linger_s, frames_max=self._settings.packets_joined_max
        )
        ended = Ended("the connection failed")
        try:
            async with trio.open_nursery() as frames:
                ended = await self._shake_hands(frames, gathering)
                frames.cancel_scope.cancel()
        except* ConnectionRejected as group:
            ended = Ended(f"cannot connect: HTTP {_first(group).status_code}")
        except* h11.ProtocolError:
            # trio-websocket wants to refuse an answer that is no HTTP by an HTTP answer, which no client can send.
            ended = Ended(f"cannot connect: {target.host}:{target.port} does not answer by HTTP")
        finally:
            await trio.aclose_forcefully(stream)
        return ended

    async def _shake_hands(self, frames: trio.Nursery, stream: GatheringStream) -> Ended:
        link = None
        with self._until_stopped(), trio.move_on_after(self._settings.connect_timeout_s):
            try:
                link = await open_link(frames, stream, self._way.target, self._settings, self._way.on_packet)
            except EOFError as exc:
                return Ended(f"cannot connect: {exc}")
        if link is None:
            return Ended("cannot connect: no answer to the WebSocket handshake")
        self._session.opened(self._token, trio.current_time())
        self.kick()
        ended = await self._converse(link)
        closing = self._session.closing
        code = CloseCode.NORMAL if self._is_stopping else None if closing is None else closing.code
        if code is not None:
            with trio.move_on_after(self._settings.close_timeout_s):
                await link.close(code)
        return ended

    async def _converse(self, link: Link) -> Ended:
        ended = None
        with self._until_stopped():
            async with trio.open_nursery() as nursery:
                self._conversation = nursery.cancel_scope
                nursery.start_soon(self._send, link)
                ended = await self._receive(link)
                nursery.cancel_scope.cancel()
        self._conversation = None
        closing = self._session.closing
        if closing is not None:
            return closing.ended
        return ended if ended is not None else Ended(LEFT)

    async def _receive(self, link: Link) -> Ended:
        try:
            while True:
                try:
                    packet = await link.receive()
                    self._session.receive(packet, trio.current_time())
                except ProtocolError as exc:
                    # A newer server may speak in ways that we do not know; a hole in a channel shows by itself.
                    log.warning("packet ignored: %s", exc.reason)
                self.kick()
        except ConnectionClosed as exc:
            return _ended(exc.reason)

    async def _send(self, link: Link) -> None:
        outgoing = self._session.outgoing
        while True:
            try:
                with link.burst():
                    while outgoing:
                        await self._send_one(link)
            except ConnectionClosed:
                return  # the receiver tells why
            await self._sender.park()

    async def _send_one(self, link: Link) -> None:
        packet = self._session.outgoing.popleft()
        self._tell_room()
        limits, bytes_max = self._session.limits, None
        if limits is not None:
            bytes_max = limits.frame_bytes if packet["op"] in BYTES_OPS else limits.message_bytes
        try:
            await link.send(packet, bytes_max)
        except PayloadTooLarge as exc:
            self._session.reject(packet.get("id"), exc)
            self.kick()


def _ended(reason: CloseReason | None) -> Ended:
    if reason is None or reason.code == CloseCode.ABNORMAL:
        return Ended("the connection was lost", CloseCode.ABNORMAL)
    return Ended(reason.reason or f"closed with {reason.code}", reason.code)


def _first(group: BaseExceptionGroup[ConnectionRejected]) -> ConnectionRejected:
    while isinstance(inner := group.exceptions[0], BaseExceptionGroup):
        group = inner
    return inner

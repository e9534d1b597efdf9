"""Owns `/debug/echo`: a plain WebSocket echo, for suites that test how WebSocket itself is spoken.

It must not know packets, sessions or tokens. It stands on the gateway's own listener, transport, ingress, egress
queue and seam to trio-websocket, so that what is tested there is what clients get; only its limits are wider. It
is there with `gateway.debug_echo` alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import structlog
import trio
from trio_websocket import ConnectionClosed

from livechat.gateway.budget import EgressLimits, EgressPool
from livechat.gateway.demux import Message
from livechat.gateway.egress import EgressQueue
from livechat.gateway.head import RequestHead, bare_upgrade
from livechat.gateway.ingress import Ingress
from livechat.gateway.liveness import ZOMBIE_FACTOR
from livechat.gateway.settings import GatewaySettings
from livechat.gateway.stream import GatewayStream
from livechat.gateway.transport import Transport
from livechat.gateway.upgrade import UpgradeStream
from livechat.protocol.deflate import deflate_frame
from livechat.protocol.frames import serialize_frame, serialize_pong
from livechat.protocol.opcodes import CLOSE_REASONS, CloseCode
from livechat.telemetry.counters import Counters

log = structlog.get_logger("livechat.gateway")

ECHO_PATH: Final = "/debug/echo"
MESSAGE_BYTES_MAX: Final = 16 << 20
"""The largest message of Autobahn's suite (cases 9.1.6 and 9.2.6)."""
FRAGMENTS_MAX: Final = MESSAGE_BYTES_MAX // 64
"""The suite sends fragments of 64 bytes (cases 9.3.1 and 9.4.1)."""
EGRESS_LIMITS: Final = EgressLimits(bytes_max=4 * MESSAGE_BYTES_MAX)
"""Crowded at a quarter of it, so one more of the largest messages never makes it a slow consumer."""


class _EchoIngress(Ingress):
    """Reads no more while the client does not: everything that it sends is sent back, pings too."""

    __slots__ = ("_echo",)

    def __init__(self, echo: Echo, transport: Transport, received: bytes, counters: Counters) -> None:
        super().__init__(
            transport,
            echo,
            received=received,
            message_bytes_max=MESSAGE_BYTES_MAX,
            fragments_max=FRAGMENTS_MAX,
            counters=counters,
        )
        self._echo = echo

    async def receive(self) -> bytes:
        """See `Ingress`."""
        await self._echo.wait_room()
        with self._echo.patience():
            return await super().receive()
        self._echo.close(CloseCode.HEARTBEAT_TIMEOUT)
        raise trio.BrokenResourceError("the client is silent")


class Echo:
    """One client of the echo. `run` serves it until it ends; nothing else needs to be closed."""

    def __init__(
        self,
        settings: GatewaySettings,
        transport: Transport,
        head: RequestHead,
        received: bytes,
        pool: EgressPool,
    ) -> None:
        self.silence_s = ZOMBIE_FACTOR * settings.heartbeat_interval_ms / 1000
        """How long a client may send nothing at all."""
        self._settings = settings
        self._extension = settings.extension_for(head.values("sec-websocket-extensions"))
        # Its bytes count to the budget of all; only its own limits are wider.
        self._egress = EgressQueue(transport, attrs.evolve(pool, limits=EGRESS_LIMITS), self)
        self._upgrade = UpgradeStream(bare_upgrade(head), self._egress)
        self._ingress = _EchoIngress(self, transport, received, pool.counters)
        self._stream: GatewayStream | None = None
        """None as long as trio-websocket is not needed for what the client sends."""
        self._patience = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        """While a task may be started in it."""
        self._is_open = False
        self._is_closed = False

    async def run(self) -> None:
        """Serve the client until it ends; the socket is closed afterwards."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        await self._serve(nursery)
                    finally:
                        self._nursery = None
                    nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionClosed):
            # It failed before the WebSocket handshake was through.
            self._is_closed = True
        except* Exception:
            # The boundary of one connection: whatever fails in here must not reach the others.
            log.exception("echo failed")
            self.close(CloseCode.INTERNAL)
        finally:
            self.close(CloseCode.GOING_AWAY)
            with trio.move_on_after(self._settings.close_timeout_ms / 1000, shield=True):
                await self._egress.finish()
            self._egress.abort()

    def close(self, code: int) -> None:
        """End the connection: a close frame, then the socket. Never waits."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_open:
            drop_queue = code == CloseCode.SLOW_CONSUMER
            self._egress.push_close(code, CLOSE_REASONS.get(code, ""), drop_queue=drop_queue)
        self._scope.cancel()

    async def wait_room(self) -> None:
        """Wait until the client has read enough; one that reads nothing for long is a slow consumer."""
        if not self._egress.is_crowded:
            return
        with trio.move_on_after(self._settings.stall_timeout_ms / 1000) as scope:
            await self._egress.wait_room()
        if scope.cancelled_caught:
            self.close(CloseCode.SLOW_CONSUMER)
            await trio.lowlevel.checkpoint()

    def start_writer(self) -> None:
        """See `EgressOwner`."""
        if self._nursery is not None:
            self._nursery.start_soon(self._write)

    def overflow(self) -> None:
        """Close the connection as that of a slow consumer."""
        self.close(CloseCode.SLOW_CONSUMER)

    async def _write(self) -> None:
        await self._egress.write_loop()
        if self._egress.broken:
            self._scope.cancel()

    async def _serve(self, nursery: trio.Nursery) -> None:
        request = await self._upgrade.take_request(nursery)
        if request is None:
            self._is_closed = True
            return
        if self._extension is not None:
            self._ingress.inflate()
        await self._upgrade.accept(request, None, self._extension)
        self._is_open = True
        data = await self._ingress.receive()
        if data:
            self._stream = GatewayStream(self._ingress, self._egress, self, data)
            await self._stream.serve(nursery, message_bytes_max=MESSAGE_BYTES_MAX)
        self.ended()

    def patience(self) -> trio.CancelScope:
        """Return a scope that is cancelled once the client has been silent for too long."""
        self._patience = trio.move_on_after(self.silence_s)
        return self._patience

    # --- what its ingress and its stream ask of it -----------------------------------------------------

    def heard(self) -> None:
        """See `IngressOwner`."""
        self._patience.deadline = trio.current_time() + self.silence_s

    def take(self, message: Message) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        self._send_back(message)
        return self.wait_room if self._egress.is_crowded else None

    def take_ping(self, payload: bytes) -> Callable[[], Awaitable[None]] | None:
        """See `IngressOwner`."""
        self._egress.push_control(serialize_pong(payload))
        return self.wait_room if self._egress.is_crowded else None

    async def take_passed(self) -> None:
        """See `IngressOwner`."""
        assert self._stream is not None
        try:
            self._send_back(await self._stream.get_message())
        except ConnectionClosed:
            self.ended()
            await trio.sleep_forever()
        await self.wait_room()

    def failed(self) -> None:
        """See `IngressOwner`."""
        self._egress.fail()

    def before_push(self) -> None:
        """See `StreamOwner`. Nothing is ever yet to be queued."""

    def ended(self) -> None:
        """See `StreamOwner`."""
        code, by_peer = (CloseCode.ABNORMAL, True) if self._stream is None else self._stream.ending()
        if by_peer:
            self._is_closed = True
        else:
            self.close(code)
        self._scope.cancel()

    def _send_back(self, message: Message) -> None:
        if isinstance(message, str):
            frame = serialize_frame(message.encode(), binary=False)
        else:
            frame = serialize_frame(message, binary=True)
        self._egress.push(frame if self._extension is None else deflate_frame(frame))

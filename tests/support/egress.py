"""An egress queue, an ingress and their stream over a scripted transport, and what it tells its owner."""

from __future__ import annotations

import trio

from livechat.gateway.budget import Budget, EgressLimits, EgressPool
from livechat.gateway.egress import EgressQueue
from livechat.gateway.ingress import Ingress
from livechat.gateway.stream import UPGRADE, GatewayStream
from livechat.gateway.transport import Transport
from livechat.protocol.frames import serialize_frame
from livechat.telemetry.counters import Counters
from tests.support.transport import UNLIMITED, ScriptedTransport, split_frames

MESSAGE_BYTES_MAX = 1000
HEAD = b"GET /ws HTTP/1.1\r\n\r\n"


class Egress:
    """A stream under test, its parts, its transport and what it told its owner."""

    def __init__(
        self,
        transport: ScriptedTransport,
        *,
        bytes_max: int = UNLIMITED,
        frames_max: int = UNLIMITED,
        rest: bytes = b"",
        closes_on_overflow: bool = False,
        chunk_bytes_max: int = UNLIMITED,
        chunk_frames_max: int = UNLIMITED,
        budget: Budget | None = None,
        over: Transport | None = None,
    ) -> None:
        self.transport = transport
        over = over or transport  # what the queue sends through: TLS, maybe
        self.overflows = 0
        self.violations: list[int] = []
        self.signs_of_life = 0
        self.counters = Counters()
        self._closes_on_overflow = closes_on_overflow
        self.writers_started = 0
        self._nursery: trio.Nursery | None = None
        """Where the queue's writer runs; None: it does not."""
        limits = EgressLimits(bytes_max, frames_max, chunk_bytes_max, chunk_frames_max)
        self.queue = EgressQueue(over, EgressPool(limits, self.counters, budget or Budget()), self)
        self.ingress = Ingress(
            over,
            self,
            received=HEAD + rest,
            message_bytes_max=MESSAGE_BYTES_MAX,
            counters=self.counters,
            is_plain=True,
        )
        self.stream = GatewayStream(self.ingress, self.queue, self, b"")

    async def upgrade(self) -> None:
        """Do as trio-websocket does: read the upgrade, answer it."""
        assert await self.stream.receive_some() == UPGRADE
        await self.stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    def heard(self) -> None:
        """See `IngressOwner`."""
        self.signs_of_life += 1

    def take(self, message: str | bytes) -> None:
        """See `IngressOwner`."""
        raise AssertionError("trio-websocket gets all messages")

    def take_ping(self, payload: bytes) -> None:
        """See `IngressOwner`."""
        raise AssertionError("trio-websocket gets all pings")

    async def take_passed(self) -> None:
        """See `IngressOwner`."""
        raise AssertionError("trio-websocket gets all messages")

    def close(self, code: int) -> None:
        """See `IngressOwner`."""
        self.violations.append(code)

    def failed(self) -> None:
        """See `IngressOwner`."""
        self.queue.fail()

    def before_push(self) -> None:
        """See `StreamOwner`."""

    def ended(self) -> None:
        """See `StreamOwner`."""

    def write_in(self, nursery: trio.Nursery) -> None:
        """Run the queue's writer whenever something waits; until then it does not run."""
        self._nursery = nursery
        if self.writers_started:
            nursery.start_soon(self.queue.write_loop)

    def start_writer(self) -> None:
        """See `EgressOwner`."""
        self.writers_started += 1
        if self._nursery is not None:
            self._nursery.start_soon(self.queue.write_loop)

    def overflow(self) -> None:
        """See `EgressOwner`."""
        self.overflows += 1
        if self._closes_on_overflow:
            self.queue.push_close(4001, "slow consumer", drop_queue=True)

    @property
    def payloads(self) -> list[bytes]:
        """What the peer has received, which must be whole frames."""
        return [payload for _, payload in split_frames(bytes(self.transport.sent))]


def frame(number: int, size: int = 0) -> bytes:
    return serialize_frame(b"%d" % number + b"." * size, binary=True)

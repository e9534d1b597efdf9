"""An egress stream over a scripted transport, and what it tells its owner."""

from __future__ import annotations

from livechat.gateway.egress import (
    EgressLimits,
    EgressStream,
)
from livechat.protocol.frames import serialize_frame
from livechat.telemetry.counters import Counters
from tests.support.transport import UNLIMITED, ScriptedTransport, split_frames

MESSAGE_BYTES_MAX = 1000


class Egress:
    """A stream under test, its transport and what it told its owner."""

    def __init__(
        self,
        transport: ScriptedTransport,
        *,
        bytes_max: int = UNLIMITED,
        frames_max: int = UNLIMITED,
        received: bytes = b"",
        closes_on_overflow: bool = False,
    ) -> None:
        self.transport = transport
        self.overflows = 0
        self.violations: list[int] = []
        self.signs_of_life = 0
        self.counters = Counters()
        self._closes_on_overflow = closes_on_overflow
        self.stream = EgressStream(
            transport,
            EgressLimits(bytes_max, frames_max),
            received=received,
            on_frames=self._on_frames,
            on_overflow=self._on_overflow,
            on_violation=self.violations.append,
            message_bytes_max=MESSAGE_BYTES_MAX,
            counters=self.counters,
        )

    async def upgrade(self) -> None:
        """Do as trio-websocket does: read the head, answer it."""
        await self.stream.receive_some()
        await self.stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")

    def _on_frames(self) -> None:
        self.signs_of_life += 1

    def _on_overflow(self) -> None:
        self.overflows += 1
        if self._closes_on_overflow:
            self.stream.push_close(4001, "slow consumer", drop_queue=True)

    @property
    def payloads(self) -> list[bytes]:
        """What the peer has received, which must be whole frames."""
        return [payload for _, payload in split_frames(bytes(self.transport.sent))]


def frame(number: int, size: int = 0) -> bytes:
    return serialize_frame(b"%d" % number + b"." * size, binary=True)

"""Owns the settings of the gateway; the configuration holds one of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from livechat.gateway.liveness import ZOMBIE_FACTOR
from livechat.gateway.transport import SocketOptions
from livechat.protocol.deflate import negotiate_untrusted

CHUNK_HEAD_BYTES: Final = 4096
"""More than a MEDIA_CHUNK takes beside its data: ids and a mime type of four bytes a character, and a trace."""


@attrs.frozen
class GatewaySettings:
    """How connections are kept and bounded."""

    heartbeat_interval_ms: int = 30_000
    """What HELLO asks of clients; 1.5 intervals without a complete frame close the connection (4002)."""
    identify_timeout_ms: int = 10_000
    """IDENTIFY or RESUME must come within this time (4506)."""
    resume_window_ms: int = 120_000
    """How long a session whose connection was lost stays parked."""
    reconnect_window_ms: int = 10_000
    """Told in HELLO: over what time clients should spread their reconnects; at most `resume_window_ms`."""
    drain_ms: int = 10_000
    """How long a shutdown waits for clients to go by themselves; not if it is asked for a second time."""
    close_timeout_ms: int = 2_000
    """How long a closing connection may take to read what is left for it and close its side; a shutdown waits as
    long for those that have not gone by themselves."""
    user_timeout_ms: int | None = None
    """A peer that acknowledges nothing of what was sent to it, or takes nothing, for so long is given up by the
    operating system, where it can (TCP_USER_TIMEOUT); 0: after its own time, some 15 minutes; left out: 1.5
    heartbeat intervals."""
    head_timeout_ms: int = 5_000
    """The TLS handshake and the head of the first request must come within this time, each."""
    message_bytes: int = 65_536
    """A larger packet gets ERROR 1005."""
    frame_bytes: int = 1_048_576
    """A larger WebSocket message closes the connection (1009); at least `message_bytes`."""
    egress_bytes: int = 1_048_576
    """Bytes waiting for one client; past it, it is a slow consumer (4001). At least `message_bytes`."""
    egress_frames: int = 4_096
    """Frames waiting for one client; past it, it is a slow consumer (4001)."""
    egress_total_bytes: int = 268_435_456
    """Bytes waiting for all clients together; past it those for whom most waits are closed (4001). 0: no limit;
    else at least what may wait for one."""
    chunk_bytes: int = 524_288
    """Bytes of media chunks waiting for one client beside that; past it the oldest is dropped. At least one of the
    largest, `chunks.data_bytes`, must have room."""
    chunk_frames: int = 256
    """Media chunks waiting for one client beside that; past it the oldest is dropped."""
    stall_timeout_ms: int = 30_000
    """How long a replay waits for a client that reads nothing, before it is a slow consumer (4001)."""
    requests_in_flight: int = 256
    """Requests of one connection waiting for the store; then no more are read until one is answered."""
    connections_max: int = 20_000
    """TCP connections at a time; more wait in the kernel's backlog."""
    entries_at_once: int = 2
    """TLS handshakes, upgrades and IDENTIFYs that are begun before all other work gets its turn. More do not let a
    crowd in sooner; they only make those wait longer who are in."""
    accepts_per_s: int = 0
    """TCP connections accepted, in the long run, and as many at once after a pause; more wait in the kernel's
    backlog; 0: as many as the processor can serve beside its other work."""
    http_body_bytes: int = 1_048_576
    """A larger HTTP request body is refused (413)."""
    http_idle_ms: int = 30_000
    """Within it an HTTP connection's next request must come, and within it again its body."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins from which the token cookie is accepted. If there are any, here or in `http.cors_origins`,
    pages of others (but the server's own) can't open a WebSocket at all (403)."""
    trusted_proxies: tuple[str, ...] = ()
    """Hosts or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    compression: Literal["none", "permessage-deflate"] = "none"
    """Whether frames are deflated for clients that ask for it. Where a secret travels in one frame with text that
    an attacker chooses, the frame's size tells him of the secret (as CRIME and BREACH do), though it is encrypted;
    and it takes time from the fan-out. So it is off unless it is asked for."""
    debug_echo: bool = False
    """Whether `/debug/echo` sends back whatever comes, to anybody, for suites that test WebSocket itself."""

    def doubts(self, data_bytes: int) -> list[str]:
        """Return what an operator should know of bounds of which one makes another pointless, a line each.

        Args:
            data_bytes: the most that a media chunk may hold, `chunks.data_bytes`.
        """
        chunk_bytes = data_bytes + CHUNK_HEAD_BYTES
        queue_bytes = self.egress_bytes + self.chunk_bytes
        bounds = [
            ("frame_bytes", self.frame_bytes, self.message_bytes, "gateway.message_bytes", "closed with 1009"),
            ("egress_bytes", self.egress_bytes, self.message_bytes, "gateway.message_bytes", "closed with 4001"),
            ("chunk_bytes", self.chunk_bytes, chunk_bytes, "chunks.data_bytes and their heads", "dropped"),
        ]
        if self.egress_total_bytes:
            both = "gateway.egress_bytes and chunk_bytes together"
            bounds.append(("egress_total_bytes", self.egress_total_bytes, queue_bytes, both, "closed with 4001"))
        return [
            f"gateway.{name}: {value} is less than {other}, {least}: what needs more is {fate}"
            for name, value, least, other, fate in bounds
            if value < least
        ]

    @property
    def socket_options(self) -> SocketOptions:
        """How each connection's socket is set."""
        silence_ms = round(ZOMBIE_FACTOR * self.heartbeat_interval_ms)
        return SocketOptions(silence_ms if self.user_timeout_ms is None else self.user_timeout_ms)

    def extension_for(self, offers: Sequence[str]) -> str | None:
        """Return what to answer to a client's Sec-WebSocket-Extensions; None: nothing."""
        return None if self.compression == "none" else negotiate_untrusted(offers)

"""Owns the settings of the gateway; the configuration holds one of these."""

from __future__ import annotations

import attrs


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
    """Told in HELLO: over what time clients should spread their reconnects."""
    drain_ms: int = 10_000
    """How long a shutdown waits for clients to go by themselves."""
    close_timeout_ms: int = 2_000
    """How long a closing connection may take to read what is left for it."""
    head_timeout_ms: int = 5_000
    """The TLS handshake and the head of the first request must come within this time, each."""
    message_bytes: int = 65_536
    """A larger packet gets ERROR 1005."""
    frame_bytes: int = 1_048_576
    """A larger WebSocket message closes the connection (1009)."""
    egress_bytes: int = 1_048_576
    """Bytes waiting for one client; past it, it is a slow consumer (4001)."""
    egress_frames: int = 4_096
    """Frames waiting for one client; past it, it is a slow consumer (4001)."""
    stall_timeout_ms: int = 30_000
    """How long a replay waits for a client that reads nothing, before it is a slow consumer (4001)."""
    requests_in_flight: int = 256
    """Requests of one connection waiting for the store; then no more are read until one is answered."""
    connections_max: int = 20_000
    """TCP connections at a time; more wait in the kernel's backlog."""
    http_body_bytes: int = 1_048_576
    """A larger HTTP request body is refused (413)."""
    http_idle_ms: int = 30_000
    """Within it an HTTP connection's next request must come, and within it again its body."""
    allowed_origins: tuple[str, ...] = ()
    """Browser origins from which the token cookie is accepted. If there are any, here or in `http.cors_origins`,
    pages of others (but the server's own) can't open a WebSocket at all (403)."""
    trusted_proxies: tuple[str, ...] = ()
    """Hosts or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."""

"""Owns what is decided and said when a connection opens. Pure.

It must not send or close anything; the connection does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from livechat.error import Forbidden, InvalidToken, LiveError, RateLimited
from livechat.gateway.head import RequestHead, UpgradeCredentials, bare_upgrade, credentials_untrusted
from livechat.gateway.settings import GatewaySettings
from livechat.handlers.node import Node
from livechat.protocol.codec import CODECS, JSON, Codec
from livechat.protocol.deflate import DEFLATED
from livechat.protocol.events import Hello, HelloLimits
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.telemetry.trace import TraceContext, parse_traceparent_untrusted
from livechat.version import __version__

UNAVAILABLE: Final = 503
REFUSAL_STATUSES: Final = ((InvalidToken, 401), (Forbidden, 403), (RateLimited, 429))
"""How an upgrade is refused; for any other reason, by 503."""


@attrs.frozen
class Opening:
    """What a client asks for by its upgrade; it must not be kept once that was answered."""

    head: bytes = attrs.field(repr=False)
    """Of the upgrade, for trio-websocket."""
    credentials: UpgradeCredentials | None
    extension: str | None
    """Permessage-deflate with its parameters, as it is agreed on."""
    trace: TraceContext | None


def opening_untrusted(head: RequestHead, settings: GatewaySettings, cookie: str) -> Opening:
    """Find in the head of an upgrade all that counts.

    Args:
        cookie: the name of the one that holds a token.
    """
    return Opening(
        bare_upgrade(head),
        credentials_untrusted(head, settings.allowed_origins, cookie),
        settings.extension_for(head.values("sec-websocket-extensions")),
        parse_traceparent_untrusted(head.header("traceparent")),
    )


def agree(proposed: Iterable[str], extension: str | None) -> tuple[str | None, Codec]:
    """Choose how packets are written: (the subprotocol to answer with, the codec).

    Args:
        proposed: subprotocols of the client, the ones it likes best first.
        extension: permessage-deflate with its parameters, if that was agreed on.
    """
    subprotocol = next((name for name in proposed if name in CODECS), None)
    codec = JSON if subprotocol is None else CODECS[subprotocol]
    return subprotocol, codec if extension is None else DEFLATED[codec.name]


def hello(node: Node, settings: GatewaySettings) -> Outgoing:
    """Make the first packet of a connection."""
    chunk_bytes = min(node.streams.settings.data_bytes, settings.frame_bytes)
    said = Hello(
        heartbeat_interval=settings.heartbeat_interval_ms,
        node_id=node.node_id,
        server=f"livechat/{__version__}",
        resume_window_ms=settings.resume_window_ms,
        reconnect_window_ms=settings.reconnect_window_ms,
        limits=HelloLimits(settings.message_bytes, settings.frame_bytes, chunk_bytes),
    )
    return Outgoing(Op.HELLO, said)


def response_of(refusal: LiveError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return how an upgrade is refused by HTTP: (status, headers, body)."""
    status = next((status for kind, status in REFUSAL_STATUSES if isinstance(refusal, kind)), UNAVAILABLE)
    wait_ms = refusal.retry_after_ms
    headers = [] if wait_ms is None else [(b"Retry-After", b"%d" % -(-wait_ms // 1000))]
    return status, headers, f"{refusal.code} {refusal.reason}\n".encode()

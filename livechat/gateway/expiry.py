"""Owns when a client is told that its token ends, and when the connection ends with it. Pure.

It must not send or close anything; the connection does.
"""

from __future__ import annotations

from livechat.handlers.node import Node
from livechat.protocol.events import Notification
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing


def expiry_deadlines(node: Node, expires_at: int | None) -> tuple[float | None, float | None]:
    """Return when a token ends and when that is told, in monotonic seconds; None: never.

    Args:
        expires_at: milliseconds since 1970.
    """
    if expires_at is None:
        return None, None
    left_s = (expires_at - node.now_ms()) / 1000
    token_by = node.now() + left_s
    # Who is warned and renews at once must not be warned again at once, however short tokens live.
    return token_by, token_by - min(node.auth.warning_s, left_s / 2)


def warning(node: Node, expires_at: int) -> Outgoing:
    """Make the NOTIFICATION of a token that ends soon."""
    left_ms = max(0, expires_at - node.now_ms())
    said = Notification("token_expiring", expires_at=expires_at, expires_in_ms=left_ms)
    return Outgoing(Op.NOTIFICATION, said)

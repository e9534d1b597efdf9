"""Owns the end of what tokens have begun: whose token is revoked loses all its sessions at once.

It must not decide whose: accounts (logout), operators (kick, ban) and embedders do.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from livechat.handlers import lifecycle
from livechat.handlers.node import Node
from livechat.hub.users import Session, SessionState
from livechat.protocol.opcodes import CloseCode
from livechat.protocol.types import UserId

log = structlog.get_logger("livechat.tokens")

CAUSE = "revoked"
"""Of the `leave` of memberships that end with the session."""


def revoke_token(
    node: Node, token_id: str, expires_at: int | None = None, *, user_id: UserId | None = None
) -> int:
    """Let one token count no more, or all of a login, and end the sessions that go by it (4502); return how many.

    Args:
        token_id: its `jti`, or the login's `sid`.
        expires_at: when it ends by itself, in milliseconds since 1970; None: not known.
        user_id: whose it is; None: not known, so all sessions are looked at.
    """
    node.revocations.revoke_token(token_id, _last_end_ms(node) if expires_at is None else expires_at)
    candidates = node.users if user_id is None else node.users.sessions_of(user_id)
    sessions = [session for session in candidates if token_id in (session.token_id, session.family_id)]
    return _expel(node, sessions, CloseCode.TOKEN_EXPIRED, "token revoked")


def revoke_user(node: Node, user_id: UserId, issued_by: int | None = None, *, is_kicked: bool = False) -> int:
    """Let a user's tokens count no more that were issued by a time, and end their sessions; return how many.

    Args:
        issued_by: milliseconds since 1970; None: now. In the future, the user is kept out until then, also where
            tokens have no date, as the shared secret.
        is_kicked: close with 4507, after which clients do not come back by themselves; else with 4502.
    """
    before_ms = node.now_ms() if issued_by is None else issued_by
    node.revocations.revoke_user(user_id, before_ms, max(before_ms, _last_end_ms(node)))
    sessions = [
        session
        for session in node.users.sessions_of(user_id)
        # One without a date was proven when it began, so before now.
        if session.issued_at is None or session.issued_at <= before_ms
    ]
    code, reason = (CloseCode.BANNED, "kicked") if is_kicked else (CloseCode.TOKEN_EXPIRED, "token revoked")
    return _expel(node, sessions, code, reason)


def kick(node: Node, user_id: UserId, reason: str, *, ban_until_ms: int | None = None) -> int:
    """End a user's sessions (4507), so that none can be resumed; return how many.

    Args:
        reason: of the close frame: at most 123 bytes of UTF-8.
        ban_until_ms: keep the user out until then, whatever the token; None: who has a good one may come back.
    """
    if ban_until_ms is not None:
        # First, so that nobody comes back in between.
        node.revocations.revoke_user(user_id, ban_until_ms, max(ban_until_ms, _last_end_ms(node)))
    return _expel(node, list(node.users.sessions_of(user_id)), CloseCode.BANNED, reason)


def _last_end_ms(node: Node) -> int:
    """Return when every token that is good now has ended."""
    return node.now_ms() + (node.auth.lifetime_max_s + node.auth.leeway_s) * 1000


def _expel(node: Node, sessions: Iterable[Session], code: CloseCode, reason: str) -> int:
    """End sessions; return how many."""
    count = 0
    for session in sessions:
        count += 1
        outlet = session.outlet or session.claim
        if outlet is not None:
            outlet.expel(code, reason)
        # One that is parked, or about to be resumed, has not ended by that.
        if session.state is not SessionState.ENDED:
            lifecycle.end_session(node, session, CAUSE)
    log.info("sessions ended", count=count, reason=reason)
    return count

"""Owns what the built-in accounts mean for sessions: which there are, and that a login's end is theirs as well.

It must not know passwords or tokens (`livechat.accounts` does).
"""

from __future__ import annotations

from functools import partial

import attrs

from livechat.accounts.logins import Logins
from livechat.accounts.records import Ended
from livechat.accounts.settings import AccountSettings
from livechat.handlers.node import Node
from livechat.handlers.revoke import revoke_token, revoke_user


def make_logins(node: Node, settings: AccountSettings) -> Logins | None:
    """Return the logins of a server; None: it has no accounts, as they are switched off or it takes no tokens."""
    if not settings.enabled or node.issuer is None:
        return None
    settings = attrs.evolve(settings, access_lifetime_s=min(settings.access_lifetime_s, node.auth.lifetime_max_s))
    tell_ended = partial(end_sessions, node)
    return Logins(
        node.store, settings, node.issuer, node.revocations, tell_ended, now=node.now, now_ms=node.now_ms
    )


def end_sessions(node: Node, ended: Ended, is_all: bool) -> None:
    """End the sessions of logins that have ended, or all of the user's."""
    for family in ended.families:
        revoke_token(node, family.family_id, family.access_until, user_id=ended.user_id)
    if is_all:
        # Not what is issued in this very millisecond: that may be the login after a change of the password.
        revoke_user(node, ended.user_id, node.now_ms() - 1)

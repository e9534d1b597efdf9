"""Owns in whose name the handlers are asked for a call of the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from livechat.handlers.ask import Asked, ask
from livechat.handlers.auth import ADMIN_SCOPE
from livechat.http.endpoint import Call

R = TypeVar("R")


async def ask_as_user(call: Call, handler: Callable[[Asked, R], None], request: R) -> Any:
    """Have a handler do what is asked for, as on a session of the one who asks; see `ask`.

    Who knows the shared secret is whom they say they are here as well: only the scope `admin` may do all.
    """
    is_admin = ADMIN_SCOPE in call.identity.scopes
    return await ask(call.node, call.identity, handler, request, is_admin=is_admin)


async def ask_as_publisher(call: Call, handler: Callable[[Asked, R], None], request: R) -> Any:
    """Have a handler do what is asked for; who may publish need not be a member."""
    identity = call.identity
    is_publisher = identity.holds_secret or not identity.scopes.isdisjoint({"publish", ADMIN_SCOPE})
    return await ask(call.node, identity, handler, request, is_admin=is_publisher)

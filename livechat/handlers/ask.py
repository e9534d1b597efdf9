"""Owns requests that need no session: what their handlers see of them, and how the HTTP API has them done.

It must not know HTTP. A handler cannot tell whether it answers a connection or a call of `ask`: what it checks,
stores and tells everybody is the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar

import attrs
import structlog
import trio

from livechat.error import InternalError, LiveError
from livechat.handlers.auth import Identity
from livechat.handlers.node import Node
from livechat.protocol.patterns import allowed
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import Outcome
from livechat.store.operations import Operation

T = TypeVar("T")
R = TypeVar("R")
log = structlog.get_logger("livechat.handlers")


class Asked(Protocol):
    """A request as handlers see it that need no session; see `livechat.handlers.call.Call`."""

    node: Node
    nonce: str | None

    @property
    def user_id(self) -> UserId:
        """Who asks."""
        ...

    @property
    def is_admin(self) -> bool:
        """Whether that one may do all."""
        ...

    @property
    def wants_ack(self) -> bool:
        """Whether success is to be answered where it may be left out."""
        ...

    def may_hear(self, channel_id: ChannelId) -> bool:
        """Tell whether the token is good for a channel."""
        ...

    def ack(self, data: Any) -> None:
        """Answer."""
        ...

    def succeed_silently(self) -> None:
        """Answer nothing."""
        ...

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have a task answer the request; what it raises is the answer."""
        ...

    def submit(self, operation: Operation[T], committed: Callable[[T], None]) -> None:
        """Hand an operation to the store; `committed` runs right after its commit, in commit order."""
        ...


async def ask(
    node: Node, identity: Identity, handler: Callable[[Asked, R], None], request: R, *, is_admin: bool
) -> Any:
    """Have a handler do a request; return what its ACK says.

    Whoever calls has checked that the token is good for the channels that are named.

    Args:
        is_admin: whoever asks may do all here.

    Raises:
        LiveError: it was refused. `NotPersisted` with the action RETRY: what it was to do may yet be done, and
            everybody is told then.

    Cancellation:
        Stops only the waiting; a change takes place or not.
    """
    errand = _Errand(node, identity, is_admin)
    handler(errand, request)
    if errand.work is not None:
        await errand.work()
    await errand.answered.wait()
    if errand.refusal is not None:
        raise errand.refusal
    return errand.data


@attrs.define(slots=True, eq=False)
class _Errand:
    """A request that one task waits for."""

    node: Node
    identity: Identity
    is_admin: bool
    nonce: str | None = None
    wants_ack: bool = True
    data: Any = None
    refusal: LiveError | None = None
    answered: trio.Event = attrs.field(factory=trio.Event)
    work: Callable[[], Awaitable[None]] | None = None
    _context: Context = attrs.field(factory=copy_context)
    """The store answers from a task of its own; what its callback logs and publishes is of the task that asked."""

    @property
    def user_id(self) -> UserId:
        return self.identity.user_id

    def may_hear(self, channel_id: ChannelId) -> bool:
        return allowed(self.identity.channels, channel_id)

    def ack(self, data: Any) -> None:
        if not self.answered.is_set():
            self.data = data
            self.answered.set()

    def succeed_silently(self) -> None:
        self.ack(None)

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        self.work = work

    def submit(self, operation: Operation[T], committed: Callable[[T], None]) -> None:
        self.node.store.submit(operation, lambda outcome: self._context.run(self._done, outcome, committed))

    def _done(self, outcome: Outcome[T], committed: Callable[[T], None]) -> None:
        try:
            # After a late outcome too: everybody else has to hear of it.
            committed(outcome.unwrap())
        except LiveError as refusal:
            self._fail(refusal)
        except Exception:
            self._fail(InternalError("internal error"))
            log.exception("handler failed", operation=type(outcome.value).__name__)

    def _fail(self, refusal: LiveError) -> None:
        if not self.answered.is_set():
            self.refusal = refusal
            self.answered.set()

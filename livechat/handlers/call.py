"""Owns one request on its way through a handler: who asked, and how the one answer goes back.

It must not know sockets; the connection passes in what takes the answer.

A handler answers at once (`ack`), or submits an operation and answers from the callback that runs after
the commit. The callbacks of all operations run in commit order, so what they do to the hubs, the ACK they
give and the events they publish are in that order too: no task has to wake up in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import structlog

from livechat.error import InternalError, LiveError
from livechat.handlers.node import Node
from livechat.hub.users import Outlet, Session
from livechat.protocol import outgoing
from livechat.protocol.codec import RequestId
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Outgoing
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.store.base import Outcome
from livechat.store.operations import Operation
from livechat.telemetry.scope import Scope, log_fields
from livechat.telemetry.trace import TraceContext

T = TypeVar("T")
log = structlog.get_logger("livechat.handlers")


class Caller(Outlet, Protocol):
    """The connection a request came over, as far as handlers may know it."""

    @property
    def is_crowded(self) -> bool:
        """Whether so much waits for the client to read it that nothing should be added that can wait."""
        ...

    def activate(self, session: Session) -> bool:
        """Attach a session to this connection; False if the connection has ended meanwhile."""
        ...

    def renewed(self, expires_at: int | None) -> None:
        """Note when the session's token ends (milliseconds since 1970; None: never)."""
        ...

    def claim(self, session: Session) -> bool:
        """Note that the connection is about to resume a session; False if the connection has ended meanwhile."""
        ...

    def unclaim(self) -> None:
        """Note that the connection resumes no session any more; nothing happens if it has done so."""
        ...

    def send_later(self, packet: Outgoing) -> None:
        """Queue a packet of which there are many: it may leave a moment later, together with others."""
        ...

    def overflow(self) -> None:
        """Close the connection as that of a slow consumer."""
        ...

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task that ends with the connection; it must not raise."""
        ...

    async def wait_room(self) -> None:
        """Wait until the client has read enough not to be crowded.

        Cancellation:
            A client that reads nothing for long is closed (4001), which cancels all its tasks.
        """
        ...


class Call(ABC):
    """A request that waits for its answer.

    Args:
        session: the one that the connection had when the request came; it may have lost the connection since.
    """

    __slots__ = (
        "caller",
        "channel_id",
        "is_late",
        "node",
        "nonce",
        "op",
        "request_id",
        "session_or_none",
        "trace",
    )

    def __init__(
        self, node: Node, caller: Caller, session: Session | None, op: int, request_id: RequestId | None
    ) -> None:
        self.node = node
        self.caller = caller
        self.session_or_none = session
        self.op = op
        self.request_id = request_id
        self.is_late = False
        """The client was told RETRY before the commit proved good: it knows nothing of the outcome."""
        self.channel_id: ChannelId | None = None
        """The channel that it is about, for log lines."""
        self.trace: TraceContext | None = None
        """What the events that it causes carry, and its answer."""
        self.nonce: str | None = None
        """Repeated on an ERROR, so that a client can tell which message was refused."""

    # --- what a connection adds -----------------------------------------------------------------------

    @abstractmethod
    def answer(self, reply: Outgoing | None) -> None:
        """Take the one reply, or None when the request succeeds in silence. Later calls are ignored."""

    @abstractmethod
    def pause(self) -> None:
        """Begin to answer and to change the hubs: no other request may see half of it until `go_on`."""

    @abstractmethod
    def go_on(self) -> None:
        """End what `pause` has begun."""

    # --- what handlers see of it ----------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session that asked; only for handlers of ops that need one."""
        assert self.session_or_none is not None
        return self.session_or_none

    @property
    def user_id(self) -> UserId:
        """Who asks; see `session`."""
        assert self.session_or_none is not None
        return self.session_or_none.user_id

    @property
    def is_admin(self) -> bool:
        """Whether that one may do all."""
        assert self.session_or_none is not None
        return self.session_or_none.is_admin

    @property
    def wants_ack(self) -> bool:
        """Whether success is to be answered where it may be left out."""
        return self.request_id is not None

    def may_hear(self, channel_id: ChannelId) -> bool:
        """Tell whether the session's token is good for a channel."""
        return self.session.may_hear(channel_id)

    @property
    def origin(self) -> SessionId | None:
        """The session that need not hear the request's own event, for it gets the ACK; None if it does not."""
        return self.session.session_id if self.is_attended else None

    @property
    def is_attended(self) -> bool:
        """Whether the client gets the answer: it was told no other, and its connection is the session's yet.

        A session may have gone over to another connection while the store was asked.
        """
        return not self.is_late and self.session.outlet is self.caller

    def log_fields(self) -> dict[str, Any]:
        """Return what log lines say of it: whose it is, which channel it is about, which trace it is part of."""
        session = self.session_or_none
        return log_fields(
            session=None if session is None else session.session_id,
            user=None if session is None else session.user_id,
            channel=self.channel_id,
            trace=self.trace,
        )

    def scope(self, span: AbstractContextManager[object] | None) -> Scope:
        """Bind log lines and events to it while its handler runs; the tasks that it starts inherit that."""
        return Scope(self.trace, self.log_fields(), span)

    def ack(self, data: Any) -> None:
        """Answer with ACK."""
        self.answer(outgoing.ack(self.op, data, self.request_id))

    def reply(self, op: Op, payload: Any) -> None:
        """Answer with the packet that this request has instead of an ACK."""
        self.answer(Outgoing(op, payload, self.request_id))

    def succeed_silently(self) -> None:
        """Answer nothing: the request carried no id and needs no ACK."""
        self.answer(None)

    def fail(self, refusal: LiveError) -> None:
        """Answer with ERROR."""
        self.answer(outgoing.error(refusal, self.op, self.request_id, self.nonce))

    def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have a task answer the request; what it raises is the answer. It ends with the connection."""

        async def answering() -> None:
            try:
                await work()
            except LiveError as refusal:
                self.fail(refusal)
            except Exception:
                self.fail(InternalError("internal error"))
                log.exception("handler failed", op=self.op, **self.log_fields())

        self.caller.spawn(answering)

    def submit(
        self,
        operation: Operation[T],
        committed: Callable[[T], None],
        *,
        settled: Callable[[], None] | None = None,
    ) -> None:
        """Hand an operation to the store; `committed` runs right after its commit, in commit order.

        If the store answers with an error, that is the reply. After a commit of unknown outcome
        `committed` may still run, once the commit proves good; its `ack` then goes nowhere.

        Args:
            settled: runs last, whatever the outcome.

        Raises:
            Overloaded: too many operations wait.
            ShuttingDown: the store is being closed.
        """

        def done(outcome: Outcome[T]) -> None:
            self.is_late = outcome.late
            self.pause()
            try:
                committed(outcome.unwrap())
            except LiveError as refusal:
                self.fail(refusal)
            except Exception:
                # A bug in one handler must neither leave its client waiting nor reach the other operations.
                self.fail(InternalError("internal error"))
                log.exception("handler failed", op=self.op, **self.log_fields())
            finally:
                if settled is not None:
                    settled()
                self.go_on()

        self.node.store.submit(operation, done)

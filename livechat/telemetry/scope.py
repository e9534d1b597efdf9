"""Owns what the work at hand is about, for the log lines and events that come of it.

It must not log. Fields are bound by structlog's context variables, so each task has its own, and any configuration
shows them that has `structlog.contextvars.merge_contextvars` in it, as the default one has.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final

from structlog.contextvars import bind_contextvars, reset_contextvars

from livechat.telemetry.trace import TraceContext, current_trace

SESSION_SHOWN: Final = len("sess_") + 8
"""Characters of a session id that logs show: enough to find it again, too few to RESUME it."""


def _channel_var() -> ContextVar[Any]:
    tokens = bind_contextvars(channel="")
    reset_contextvars(**tokens)
    var: ContextVar[Any] = tokens["channel"].var
    return var


SHOWN_CHANNEL: Final = _channel_var()
"""The channel that log lines show. To set and reset it costs a tenth of a `Scope`, for who knows that nothing else
has changed."""


def shown_session(session_id: str) -> str:
    """Return what logs show of a session id, which is half of what it takes to go on with the session."""
    return session_id[:SESSION_SHOWN]


def log_fields(
    *,
    session: str | None = None,
    user: str | None = None,
    channel: str | None = None,
    trace: TraceContext | None = None,
) -> dict[str, Any]:
    """Return the fields by which logs say what a line is about; those that are None are left out.

    Args:
        session: the whole id; only its beginning is shown.
    """
    fields: dict[str, Any] = {}
    if session is not None:
        fields["session"] = shown_session(session)
    if user is not None:
        fields["user"] = user
    if channel is not None:
        fields["channel"] = channel
    if trace is not None:
        fields["trace_id"] = trace.trace_id
    return fields


class Scope:
    """Binds fields to log lines, and a trace to events, while the block runs.

    Args:
        trace: what goes on in the envelopes of events; None: nothing, whatever the surrounding work belongs to.
        fields: as from `log_fields`.
        span: makes a span the current one; see `Spans.current`.
    """

    __slots__ = ("_fields", "_span", "_tokens", "_trace", "_trace_token")

    _tokens: Any
    _trace_token: Token[str | None]

    def __init__(
        self,
        trace: TraceContext | None,
        fields: dict[str, Any],
        span: AbstractContextManager[object] | None = None,
    ) -> None:
        self._trace = trace
        self._fields = fields
        self._span = span

    def __enter__(self) -> None:
        self._trace_token = current_trace.set(None if self._trace is None else str(self._trace))
        self._tokens = bind_contextvars(**self._fields)
        if self._span is not None:
            self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is not None:
            self._span.__exit__(kind, exc, traceback)
        reset_contextvars(**self._tokens)
        current_trace.reset(self._trace_token)

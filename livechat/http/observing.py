"""Owns what is noted of each HTTP request: counted, timed, and tied to the trace that it is part of.

It must not answer; it stands between the host and the application.

Source: W3C Trace Context, section 3.2; ASGI 3.0 (HTTP connection scope).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import h11
import trio

from livechat.http.host import Application, Message
from livechat.telemetry.instruments import Instruments
from livechat.telemetry.scope import Scope, log_fields
from livechat.telemetry.trace import TraceContext, parse_traceparent_untrusted

if TYPE_CHECKING:
    from livechat.telemetry.spans import Span

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER: Final = "OTHER"
"""Any other method, and any path that is no route: labels must be few, whatever clients ask for."""
CLIENT_GONE: Final = 499
"""Counted, never sent: the connection failed before there was a response. The number is nginx's."""


class Observing:
    """The application, and what is noted of its requests."""

    def __init__(self, application: Application, instruments: Instruments) -> None:
        self._application = application
        self._instruments = instruments

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request; see ASGI."""
        began_at = time.perf_counter()
        trace = _trace_of(scope)
        spans, span = self._instruments.spans, None
        if spans is not None:
            span = spans.begin("HTTP", trace, {"http.request.method": _method_of(scope)})
            trace = spans.context_of(span)
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            await send(message)
            if message["type"] == "http.response.start":
                status = message["status"]

        try:
            current = None if spans is None or span is None else spans.current(span)
            with Scope(trace, log_fields(trace=trace), current):
                await self._application(scope, receive, noting)
        except BaseException as failure:
            status = status or _status_of(failure)
            raise
        finally:
            self._note(scope, status or 500, time.perf_counter() - began_at, span)

    def _note(self, scope: Any, status: int, took_s: float, span: Span | None) -> None:
        method, route = _method_of(scope), _route_of(scope)
        counters = self._instruments.counters
        counters.http[route, method, status] += 1
        counters.http_durations[route, method].observe(took_s)
        if span is not None and self._instruments.spans is not None:
            span.update_name(f"{method} {route}")
            span.set_attributes({"http.route": route, "http.response.status_code": status})
            self._instruments.spans.end(span, f"status {status}" if status >= 500 else None)


def _trace_of(scope: Any) -> TraceContext | None:
    # One that came twice is ambiguous, so it is none (W3C Trace Context, section 3.2.1).
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return parse_traceparent_untrusted(found[0].decode("latin-1").strip()) if len(found) == 1 else None


def _method_of(scope: Any) -> str:
    return scope["method"] if scope["method"] in METHODS else OTHER


def _route_of(scope: Any) -> str:
    """Return the template of the path; Starlette leaves it in the scope."""
    route = getattr(scope.get("route"), "path", None)
    return route if isinstance(route, str) else OTHER


def _status_of(failure: BaseException) -> int:
    """Return what the host answers with after a failure, as far as it can answer at all."""
    if isinstance(failure, h11.RemoteProtocolError):
        return failure.error_status_hint
    if isinstance(failure, OSError | trio.ClosedResourceError | trio.TooSlowError | trio.Cancelled):
        return CLIENT_GONE
    return getattr(failure, "status", 500)

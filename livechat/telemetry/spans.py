"""Owns the spans of OpenTelemetry: one for each command, HTTP request and commit.

It must not be imported unless the host has set up an SDK: livechat does not need OpenTelemetry, and `find_spans`
loads this only where the API was imported already.

Source: https://opentelemetry.io/docs/specs/otel/trace/api/
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context

from livechat.telemetry.trace import SAMPLED, TraceContext
from livechat.version import __version__

Attributes = Mapping[str, str | int]
Span = api.Span
SpanContext = api.SpanContext
INSTRUMENTATION: Final = "livechat"
LINKS_MAX: Final = 128
"""Requests that a commit's span names; SDKs keep no more by default."""


def spans_of_process() -> Spans | None:
    """Return what makes spans, if this process has a tracer provider that is more than a stand-in."""
    provider = api.get_tracer_provider()
    if isinstance(provider, api.ProxyTracerProvider | api.NoOpTracerProvider):
        return None
    return Spans(provider.get_tracer(INSTRUMENTATION, __version__))


class Spans:
    """Makes spans with one tracer."""

    def __init__(self, tracer: api.Tracer) -> None:
        self._tracer = tracer

    def begin(self, name: str, parent: TraceContext | None, attributes: Attributes) -> Span:
        """Begin a span of the kind SERVER.

        Args:
            parent: of whoever asked; None begins a trace.
        """
        # Not the current context: what this server happens to be doing is not what asked for it.
        context = Context() if parent is None else _context(_span_context(parent))
        return self._tracer.start_span(name, context, kind=api.SpanKind.SERVER, attributes=attributes)

    @staticmethod
    def context_of(span: Span) -> TraceContext:
        """Return a span as the parent of what follows from it."""
        context = span.get_span_context()
        return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags & SAMPLED)

    @staticmethod
    def current(span: Span) -> AbstractContextManager[Span]:
        """Make a span the one that the block's work belongs to, also for a host's own instrumentation."""
        return api.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False)

    @staticmethod
    def end(span: Span, failure: str | None = None) -> None:
        """End a span.

        Args:
            failure: why the server failed; a refusal that is the client's own fault is none.
        """
        if failure is not None:
            span.set_status(api.StatusCode.ERROR, failure)
        span.end()

    @staticmethod
    def cause() -> SpanContext | None:
        """Return the span that the work at hand belongs to, for `record`."""
        context = api.get_current_span().get_span_context()
        return context if context.is_valid else None

    def record(self, name: str, took_s: float, attributes: Attributes, causes: Sequence[SpanContext]) -> None:
        """Record a span that ends now.

        It is part of the trace of the first cause and linked to the others: a commit is shared by many requests.
        """
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            _context(causes[0]) if causes else Context(),
            kind=api.SpanKind.INTERNAL,
            attributes=attributes,
            links=[api.Link(cause) for cause in causes[1 : LINKS_MAX + 1]],
            start_time=end_ns - int(took_s * 1e9),
        )
        span.end(end_ns)


def _span_context(parent: TraceContext) -> SpanContext:
    return SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.parent_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(parent.flags),
    )


def _context(span: SpanContext) -> Context:
    return api.set_span_in_context(api.NonRecordingSpan(span), Context())

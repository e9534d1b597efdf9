"""Owns the W3C trace context: reading a `traceparent`, and which one the work at hand belongs to.

It must not make spans (see `spans`). A bad traceparent is no fault of the request that carries it: it is ignored.

    00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    version  trace id, 16 bytes          parent id, 8   flags

Source: W3C Trace Context, section 3.2 (https://www.w3.org/TR/trace-context/#traceparent-header).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, ParamSpec, TypeVar

import attrs

P = ParamSpec("P")
R = TypeVar("R")

TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
TRACEPARENT_LENGTH_MAX: Final = 512
"""Future versions may append to it; more than this is nobody's."""
VERSION: Final = "00"
INVALID_VERSION: Final = "ff"
SAMPLED: Final = 0x01

current_trace: Final[ContextVar[str | None]] = ContextVar("livechat_trace", default=None)
"""The traceparent of the request that is being done; what it causes carries it on."""


@attrs.frozen
class TraceContext:
    """A traceparent that is valid."""

    trace_id: str
    parent_id: str
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether who sent it records the trace."""
        return bool(self.flags & SAMPLED)

    def __str__(self) -> str:
        return f"{VERSION}-{self.trace_id}-{self.parent_id}-{self.flags:02x}"


def parse_traceparent_untrusted(text: str | None) -> TraceContext | None:
    """Return what a traceparent says; None if there is none, or it is none."""
    if text is None or len(text) > TRACEPARENT_LENGTH_MAX:
        return None
    match = TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == INVALID_VERSION or (version == VERSION and rest is not None):
        return None
    if not trace_id.strip("0") or not parent_id.strip("0"):
        return None
    # Of the flags only the first is known, and what a version does not know it must not pass on.
    return TraceContext(trace_id, parent_id, int(flags, 16) & SAMPLED)


def in_trace(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that, wherever it is called, belongs to the request that is being done now."""
    trace = current_trace.get()
    if trace is None:
        return function

    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        token = current_trace.set(trace)
        try:
            return function(*args, **kwargs)
        finally:
            current_trace.reset(token)

    return called


def traceparent() -> str | None:
    """Return the traceparent of the request that is being done; a default for what carries one."""
    return current_trace.get()

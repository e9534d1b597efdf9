"""Owns how the standalone server logs. An embedder configures structlog as it likes; the library never does."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog


def configure(level: str, style: Literal["console", "json"]) -> None:
    """Log to standard error, at `level` and above, for people or for machines."""
    # Never the frames' variables: they may hold a token or what somebody wrote.
    plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    final: list[structlog.typing.Processor]
    if style == "json":
        final = [structlog.processors.ExceptionRenderer(plain), structlog.processors.JSONRenderer()]
    else:
        traceback = structlog.dev.plain_traceback
        final = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback)]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

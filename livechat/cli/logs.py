"""Owns how the standalone server logs. An embedder configures structlog as it likes; the library never does."""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
from typing import Final, Literal, TextIO, cast

import structlog

from livechat.telemetry.masking import mask_secrets

LINES_WAITING_MAX: Final = 10_000
"""Lines that wait for whoever reads the log; more are dropped rather than making the server wait."""
FLUSH_AT_EXIT_S: Final = 1.0
Style = Literal["console", "json"]


class LogStream:
    """A text stream whose writes neither block nor fail: a thread of its own passes them on.

    Standard error may be a pipe that nobody reads or that was closed, or a file on a full disk. None of that may
    stop the event loop, or fail the request that had something to log.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: queue.Queue[str] = queue.Queue(LINES_WAITING_MAX)
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._run, name="livechat-log", daemon=True).start()

    def write(self, text: str) -> int:
        """Queue a text, or drop it if too much waits."""
        self._idle.clear()
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            pass
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread flushes."""

    def wait_written(self, timeout_s: float) -> bool:
        """Wait until all that was queued is written; return whether it is."""
        return self._idle.wait(timeout_s)

    def _run(self) -> None:
        while True:
            text = self._lines.get()
            try:
                self._file.write(text)
                self._file.flush()
            except (OSError, ValueError):
                pass
            if self._lines.empty():
                self._idle.set()


def configure(level: str, style: Style) -> None:
    """Log to standard error, at `level` and above, for people or for machines."""
    stream = LogStream(sys.stderr)
    atexit.register(stream.wait_written, FLUSH_AT_EXIT_S)
    structlog.configure(
        processors=processors(style, colors=sys.stderr.isatty()),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, stream)),
        cache_logger_on_first_use=True,
    )


def processors(style: Style, *, colors: bool) -> list[structlog.typing.Processor]:
    """Return what makes a line of an event, without the secrets in it."""
    final: list[structlog.typing.Processor]
    # Exceptions become text before the masking, as their messages may hold secrets as well.
    if style == "json":
        # Never the frames' variables: they may hold a token or what somebody wrote.
        plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        exceptions = structlog.processors.ExceptionRenderer(plain)
        final = [exceptions, mask_secrets, structlog.processors.JSONRenderer()]
    else:
        traceback = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=traceback)
        final = [structlog.processors.format_exc_info, mask_secrets, console]
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *final,
    ]

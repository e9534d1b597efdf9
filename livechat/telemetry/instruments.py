"""Owns what a server is watched by: its counters, its spans, and how to ask it how things stand.

It must not hold anything of the process, except while `watch_gc` runs. One object per server.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from livechat.telemetry.counters import Counters, Gauges
from livechat.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from livechat.telemetry.spans import Spans


def find_spans() -> Spans | None:
    """Return what makes spans; None unless an OpenTelemetry SDK was set up in this process.

    Whoever set one up has imported the API; so where it was not, nothing is loaded, and nothing spent.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from livechat.telemetry.spans import spans_of_process

    return spans_of_process()


@attrs.define(slots=True, eq=False)
class Instruments:
    """What a server is watched by."""

    counters: Counters = attrs.field(factory=Counters)
    spans: Spans | None = attrs.field(factory=find_spans)
    """None: no OpenTelemetry SDK is set up in this process."""
    gauges: Callable[[], Gauges] = Gauges
    """Tells how things stand; the server puts its own in."""


@contextmanager
def watch_gc(pauses: dict[int, Histogram]) -> Iterator[None]:
    """Measure the pauses of the garbage collector while the block runs.

    Args:
        pauses: by generation.

    Source: https://docs.python.org/3/library/gc.html#gc.callbacks
    """
    began_at = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began_at
        if phase == "start":
            began_at = time.perf_counter()
        elif began_at:
            # Without a beginning the watching itself has begun in the middle of it.
            pauses[info["generation"]].observe(time.perf_counter() - began_at)

    gc.callbacks.append(note)
    try:
        yield
    finally:
        gc.callbacks.remove(note)

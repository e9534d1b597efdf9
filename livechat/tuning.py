"""Owns the settings of the interpreter that suit a process whose main work is livechat.

Importing it must change nothing: they are the whole process's, so they are its owner's to choose. `livechat serve`
calls `tune_process` and runs `calm_gc`; so may a host.

A full collection walks every object there is, which are some hundred for each connection: at 10,000 connections
it stops the server for a quarter of a second. So what has survived is frozen, that is, set aside and not walked
again. Reference counts free it all the same; only cycles in it stay, until a rare moment in which all is walked.

    when                                              walked             then
    so many objects more than at the last time         those              frozen
    also: quiet, and no full walk for `FULL_AFTER_S`   all                frozen
    also: no full walk for `FULL_LATEST_S`             all                frozen

Source: https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
import sys
import time
from enum import Enum, auto
from typing import Final

import trio

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread that wants to run waits for a busy one, seconds; Python's own 0.005 is long for a store's
thread that must win the lock back after each step of a statement."""

GC_THRESHOLDS: Final = (20_000, 20, 100)
"""Of the three generations (https://docs.python.org/3/library/gc.html#gc.set_threshold): most of what a server
allocates is freed by reference counts alone, so that Python's own 700 walks young objects for nothing."""

LOOK_INTERVAL_S: Final = 1.0
"""How often it is looked whether there is something to freeze."""
FREEZE_OBJECTS: Final = 60_000
"""So many objects more are worth a walk: it takes some ten milliseconds."""
QUIET_SHARE: Final = 0.25
"""Of a processor: a process that used less since the last look is quiet."""
FULL_AFTER_S: Final = 600.0
"""How long after a full walk the next one waits at least."""
FULL_LATEST_S: Final = 3600.0
"""How long after a full walk the next one comes though it is never quiet."""


class Walk(Enum):
    """What the collector is to walk before all that is left is frozen."""

    NONE = auto()
    NEW = auto()
    ALL = auto()


def tune_process() -> None:
    """Let threads take turns sooner and the garbage collector run less often; spare it what is loaded already.

    Call it once, after imports and before the server runs. It lasts for the process.

    Source: https://docs.python.org/3/library/sys.html#sys.setswitchinterval
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    freeze(Walk.ALL)
    gc.set_threshold(*GC_THRESHOLDS)


async def calm_gc() -> None:
    """Keep the pauses of the garbage collector short, for ever; see the module.

    It is the whole process's: run it once in a process, in any task. Where the collector is switched off, it
    stays so.

    Cancellation:
        What is frozen stays so.
    """
    looked_at, used_s = time.perf_counter(), time.process_time()
    full_at = looked_at
    while True:
        await trio.sleep(LOOK_INTERVAL_S)
        now, used_now_s = time.perf_counter(), time.process_time()
        share = (used_now_s - used_s) / max(now - looked_at, 1e-9)
        looked_at, used_s = now, used_now_s
        if gc.isenabled():
            walk = choose_walk(new_objects(), share, now - full_at)
            freeze(walk)
            if walk is Walk.ALL:
                full_at = now


def choose_walk(new: int, share: float, since_full_s: float) -> Walk:
    """Decide what to walk. Pure.

    Args:
        new: about how many objects there are more than when it was frozen last.
        share: of a processor that was used lately.
        since_full_s: how long ago everything was walked.
    """
    is_quiet = share < QUIET_SHARE
    if since_full_s >= (FULL_AFTER_S if is_quiet else FULL_LATEST_S):
        return Walk.ALL
    return Walk.NEW if new >= FREEZE_OBJECTS else Walk.NONE


def new_objects() -> int:
    """Return about how many objects there are more than when all were walked last.

    Source: https://docs.python.org/3/library/gc.html#gc.get_count; the second number counts collections of the
        first generation, the third those of the second.
    """
    young, middle, old = gc.get_count()
    of_first, of_second, _ = gc.get_threshold()
    return young + of_first * (middle + of_second * old)


def freeze(walk: Walk) -> None:
    """Collect garbage among what is to be walked, and set aside all that is left."""
    if walk is Walk.NONE:
        return
    if walk is Walk.ALL:
        gc.unfreeze()
    gc.collect()
    gc.freeze()

"""Owns the settings of the interpreter that suit a process whose main work is livechat.

Importing it must change nothing: they are the whole process's, so they are its owner's to choose. `livechat serve`
calls `tune_process` and runs `calm_gc`; so may a host.

A full collection walks every object there is, which are some hundred for each connection: at 10,000 connections
it stops the server for a quarter of a second. So what has survived is frozen, that is, set aside and not walked
again. Reference counts free it all the same; only cycles in it stay, until a rare moment in which all is walked.

    when                                                     walked                       then
    `YOUNG_OBJECTS` have come, or Python has walked the      the young                    all frozen
      young ones by itself
    memory has been larger by half than after the last full walk
      for `FULL_AFTER_S`, and it is quiet now                all                          all frozen
      for `FULL_LATEST_S`, and it is never quiet             all                          all frozen

What is traded: a cycle that outlives one walk of the young and is dropped later stays in memory. Such garbage is
bounded by half of what was in use after the last full walk, and by what comes in the time for which the next one
then waits. A server whose memory does not grow is never walked as a whole.

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

YOUNG_OBJECTS: Final = 10_000
"""So many young objects are walked, as long as `calm_gc` runs: that takes some three milliseconds."""
NEVER: Final = 1_000_000_000
"""As the threshold of an older generation."""
LOOK_INTERVAL_S: Final = 0.25
"""How often it is looked whether there is something to freeze. Python counts what has come less what has gone, and
what goes is old as often as young: each client heard from leaves ten objects for ten others. So the young ones may
be a hundred thousand before Python walks them."""
QUIET_SHARE: Final = 0.25
"""Of a processor: a process that used less since the last look is quiet."""
GROWN_RATIO: Final = 1.5
"""Of the memory in use to what was left by the last full walk: from here on another one may be worth its pause."""
FULL_AFTER_S: Final = 300.0
"""For how long memory is to have grown before everything is walked in a quiet moment: a crowd that comes, or a
night's work, is no garbage, and is over by then."""
FULL_LATEST_S: Final = 1800.0
"""For how long memory has grown when everything is walked though it is never quiet."""


class Walk(Enum):
    """What the collector is to walk before all that is left is frozen."""

    NONE = auto()
    YOUNG = auto()
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
        What is frozen stays so; the thresholds are again what they were.
    """
    before = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)
    memory = Memory(sys.getallocatedblocks())
    looked_at, used_s = time.perf_counter(), time.process_time()
    try:
        while True:
            await trio.sleep(LOOK_INTERVAL_S)
            now, used_now_s = time.perf_counter(), time.process_time()
            share = (used_now_s - used_s) / max(now - looked_at, 1e-9)
            looked_at, used_s = now, used_now_s
            if gc.isenabled():
                grown_s = memory.look(sys.getallocatedblocks(), now)
                walk = choose_walk(len(gc.get_objects(0)), gc.get_count()[1], share, grown_s)
                freeze(walk)
                if walk is Walk.ALL:
                    memory = Memory(sys.getallocatedblocks())
    finally:
        gc.set_threshold(*before)


class Memory:
    """How much memory is in use, and for how long it has been much more than it was once. Pure.

    Args:
        blocks: what was in use after the last full walk (https://docs.python.org/3/library/sys.html
            #sys.getallocatedblocks); large pieces of memory are not among them, but what holds them is.
    """

    def __init__(self, blocks: int) -> None:
        self._much = blocks * GROWN_RATIO
        self._grown_at: float | None = None

    def look(self, blocks: int, now: float) -> float | None:
        """Return for how long it has been much more, seconds; None: it is not."""
        if blocks < self._much:
            self._grown_at = None
        elif self._grown_at is None:
            self._grown_at = now
        return None if self._grown_at is None else now - self._grown_at


def choose_walk(young: int, young_walks: int, share: float, grown_s: float | None) -> Walk:
    """Decide what to walk. Pure.

    Args:
        young: objects that were never walked.
        young_walks: how often the young objects were walked since it was frozen last.
        share: of a processor that was used lately.
        grown_s: for how long memory has grown much; None: it has not.
    """
    is_quiet = share < QUIET_SHARE
    if grown_s is not None and grown_s >= (FULL_AFTER_S if is_quiet else FULL_LATEST_S):
        return Walk.ALL
    return Walk.YOUNG if young_walks or young >= YOUNG_OBJECTS else Walk.NONE


def freeze(walk: Walk) -> None:
    """Collect garbage among what is to be walked, and set aside all that is left."""
    if walk is Walk.NONE:
        return
    if walk is Walk.YOUNG:
        gc.collect(0)
    else:
        gc.unfreeze()
        gc.collect()
    gc.freeze()

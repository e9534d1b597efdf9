"""Owns the settings of the interpreter that suit a process whose main work is livechat.

Importing it must change nothing: they are the whole process's, so they are its owner's to choose. `livechat serve`
calls `tune_process`; so may a host.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread that wants to run waits for a busy one, seconds; Python's own 0.005 is long for a store's
thread that must win the lock back after each step of a statement."""

GC_THRESHOLDS: Final = (20_000, 20, 100)
"""Of the three generations (https://docs.python.org/3/library/gc.html#gc.set_threshold): most of what a server
allocates is freed by reference counts alone, so that Python's own 700 walks young objects for nothing."""


def tune_process() -> None:
    """Let threads take turns sooner and the garbage collector run less often; spare it what is loaded already.

    Call it once, after imports and before the server runs. It lasts for the process.

    Source: https://docs.python.org/3/library/sys.html#sys.setswitchinterval,
        https://docs.python.org/3/library/gc.html#gc.freeze
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

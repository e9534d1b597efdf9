"""What `livechat.tuning` sets, and that nothing is set by an import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import livechat
from livechat.tuning import (
    FREEZE_OBJECTS,
    FULL_AFTER_S,
    FULL_LATEST_S,
    GC_THRESHOLDS,
    QUIET_SHARE,
    SWITCH_INTERVAL_S,
    Walk,
    choose_walk,
)

PROGRAM = """
import gc, sys
before = sys.getswitchinterval(), gc.get_threshold()
import livechat
livechat.open_server
tune, calm_gc = livechat.tune_process, livechat.calm_gc
assert (sys.getswitchinterval(), gc.get_threshold()) == before
assert gc.get_freeze_count() == 0
tune()
print(sys.getswitchinterval(), *gc.get_threshold(), gc.get_freeze_count() > 0)
"""

CALM = """
import gc, weakref
import trio, trio.testing
from livechat.tuning import FREEZE_OBJECTS, calm_gc, freeze, new_objects, tune_process, Walk

class Node:
    pass

def cycle():
    one, other = Node(), Node()
    one.other, other.other = other, one
    return weakref.ref(one)

async def calm():
    with trio.move_on_after(10):
        await calm_gc()

def run():
    trio.run(calm, clock=trio.testing.MockClock(autojump_threshold=0))

tune_process()
gc.callbacks.append(lambda phase, info: walks.append(info["generation"]))
walks = []
run()
print("idle", len(walks))

before, kept, garbage = gc.get_freeze_count(), [[] for _ in range(FREEZE_OBJECTS + 1)], cycle()
run()
print("grown", gc.get_freeze_count() - before >= FREEZE_OBJECTS, garbage() is None, new_objects() < FREEZE_OBJECTS)

frozen = cycle()
gc.freeze()
freeze(Walk.NEW)
print("new", frozen() is None)
freeze(Walk.ALL)
print("all", frozen() is None)

gc.disable()
more, walks = [[] for _ in range(2 * FREEZE_OBJECTS)], []
run()
print("off", len(walks), gc.isenabled())
"""


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout


def test_a_process_is_tuned_only_when_it_asks() -> None:
    assert run(PROGRAM).split() == [str(SWITCH_INTERVAL_S), *map(str, GC_THRESHOLDS), "True"]


def test_it_is_offered_to_hosts() -> None:
    assert {"tune_process", "calm_gc"} <= set(livechat.__all__)


def test_what_has_come_is_frozen_once_it_is_much_and_what_hangs_together_in_it_is_freed() -> None:
    assert run(CALM).splitlines() == ["idle 0", "grown True True True", "new False", "all True", "off 0 False"]


@pytest.mark.parametrize(
    ("new", "share", "since_full_s", "walk"),
    [
        (0, 0.0, 0.0, Walk.NONE),
        (FREEZE_OBJECTS - 1, 0.0, FULL_AFTER_S - 1, Walk.NONE),
        (FREEZE_OBJECTS, 0.0, 0.0, Walk.NEW),
        (FREEZE_OBJECTS, 1.0, 0.0, Walk.NEW),
        (0, 0.0, FULL_AFTER_S, Walk.ALL),
        (FREEZE_OBJECTS, QUIET_SHARE / 2, FULL_AFTER_S, Walk.ALL),
        (0, QUIET_SHARE, FULL_AFTER_S, Walk.NONE),
        (FREEZE_OBJECTS, 1.0, FULL_LATEST_S - 1, Walk.NEW),
        (0, 1.0, FULL_LATEST_S, Walk.ALL),
    ],
)
def test_all_is_walked_rarely_and_rather_when_it_is_quiet(
    new: int, share: float, since_full_s: float, walk: Walk
) -> None:
    assert choose_walk(new, share, since_full_s) is walk

"""What `livechat.tuning` sets, and that nothing is set by an import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import livechat
from livechat.tuning import (
    FULL_AFTER_S,
    FULL_LATEST_S,
    GC_THRESHOLDS,
    GROWN_RATIO,
    QUIET_SHARE,
    SWITCH_INTERVAL_S,
    YOUNG_OBJECTS,
    Memory,
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
from livechat.tuning import YOUNG_OBJECTS, calm_gc, freeze, tune_process, Walk

class Node:
    pass

def cycle():
    one, other = Node(), Node()
    one.other, other.other = other, one
    return weakref.ref(one)

async def calm(work):
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calm_gc)
            await trio.sleep(0.5)
            work()

def run(work=lambda: None):
    trio.run(calm, work, clock=trio.testing.MockClock(autojump_threshold=0))

tune_process()
gc.callbacks.append(lambda phase, info: walks.append(info["generation"]))
walks = []
run()
print("idle", walks)

kept = []
before, garbage = gc.get_freeze_count(), cycle()
run(lambda: kept.extend([] for _ in range(50 * YOUNG_OBJECTS)))
grown = gc.get_freeze_count() - before
print("grown", grown >= 50 * YOUNG_OBJECTS, garbage() is None, set(walks), gc.get_threshold())

walks = []
def replace():
    for place in range(3 * YOUNG_OBJECTS):
        kept[place] = []
run(replace)
print("replaced", set(walks), len(gc.get_objects(0)) < YOUNG_OBJECTS)

frozen = cycle()
gc.freeze()
freeze(Walk.YOUNG)
print("young", frozen() is None)
freeze(Walk.ALL)
print("all", frozen() is None)

gc.disable()
walks = []
run(lambda: kept.extend([] for _ in range(2 * YOUNG_OBJECTS)))
print("off", walks, gc.isenabled())
"""


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return ran.stdout


def test_a_process_is_tuned_only_when_it_asks() -> None:
    assert run(PROGRAM).split() == [str(SWITCH_INTERVAL_S), *map(str, GC_THRESHOLDS), "True"]


def test_it_is_offered_to_hosts() -> None:
    assert {"tune_process", "calm_gc"} <= set(livechat.__all__)


def test_while_a_process_grows_only_the_young_are_walked_and_then_all_is_frozen() -> None:
    assert run(CALM).splitlines() == [
        "idle []",
        f"grown True True {{0}} {GC_THRESHOLDS}",
        "replaced {0} True",
        "young False",
        "all True",
        "off [] False",
    ]


@pytest.mark.parametrize(
    ("young", "young_walks", "share", "grown_s", "walk"),
    [
        (0, 0, 0.0, None, Walk.NONE),
        (YOUNG_OBJECTS - 1, 0, 0.0, None, Walk.NONE),
        (YOUNG_OBJECTS, 0, 0.0, None, Walk.YOUNG),
        (0, 1, 0.0, None, Walk.YOUNG),
        (YOUNG_OBJECTS, 30, 1.0, None, Walk.YOUNG),
        (0, 0, 0.0, FULL_AFTER_S - 1, Walk.NONE),
        (0, 1, 0.0, FULL_AFTER_S - 1, Walk.YOUNG),
        (0, 0, 0.0, FULL_AFTER_S, Walk.ALL),
        (YOUNG_OBJECTS, 1, QUIET_SHARE / 2, FULL_AFTER_S, Walk.ALL),
        (0, 0, QUIET_SHARE, FULL_AFTER_S, Walk.NONE),
        (0, 1, 1.0, FULL_LATEST_S - 1, Walk.YOUNG),
        (0, 0, 1.0, FULL_LATEST_S, Walk.ALL),
    ],
)
def test_all_is_walked_only_if_memory_has_long_grown_and_rather_when_it_is_quiet(
    young: int, young_walks: int, share: float, grown_s: float | None, walk: Walk
) -> None:
    assert choose_walk(young, young_walks, share, grown_s) is walk


def test_memory_counts_as_grown_from_when_it_did_and_as_long_as_it_stays_so() -> None:
    memory, much = Memory(1000), round(1000 * GROWN_RATIO)
    looks = [
        (0.0, 1000),
        (1.0, much - 1),
        (2.0, much),
        (3.0, 9 * much),
        (9.0, much),
        (10.0, much - 1),
        (11.0, much),
    ]
    assert [memory.look(blocks, now) for now, blocks in looks] == [None, None, 0.0, 1.0, 7.0, None, 0.0]

from __future__ import annotations

import gc

from livechat.telemetry.counters import Counters
from livechat.telemetry.instruments import watch_gc


def test_collections_are_timed_while_somebody_watches() -> None:
    pauses = Counters().gc_pauses
    watchers = len(gc.callbacks)
    with watch_gc(pauses):
        gc.collect(2)
        assert pauses[2].count == 1
        assert pauses[2].total > 0
        gc.collect(0)
        assert pauses[0].count >= 1
    seen = pauses[2].count
    gc.collect(2)
    assert pauses[2].count == seen
    assert len(gc.callbacks) == watchers


def test_two_servers_of_one_process_watch_each_for_itself() -> None:
    one, other = Counters().gc_pauses, Counters().gc_pauses
    with watch_gc(one), watch_gc(other):
        gc.collect(2)
    assert one[2].count == other[2].count == 1

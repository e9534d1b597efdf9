"""`tune_process`: what it sets, and that nothing is set by an import."""

from __future__ import annotations

import subprocess
import sys

import livechat
from livechat.tuning import GC_THRESHOLDS, SWITCH_INTERVAL_S

PROGRAM = """
import gc, sys
before = sys.getswitchinterval(), gc.get_threshold()
import livechat
livechat.open_server
tune = livechat.tune_process
assert (sys.getswitchinterval(), gc.get_threshold()) == before
tune()
print(sys.getswitchinterval(), *gc.get_threshold(), gc.get_freeze_count() > 0)
"""


def test_a_process_is_tuned_only_when_it_asks() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.split() == [str(SWITCH_INTERVAL_S), *map(str, GC_THRESHOLDS), "True"]


def test_it_is_offered_to_hosts() -> None:
    assert "tune_process" in livechat.__all__

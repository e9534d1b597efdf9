"""Owns the client process: `python -m benchmarks.support.client`, an assignment on its standard input.

It prints lines of JSON: how far it is, and at last the result. It must not start processes.
"""

from __future__ import annotations

import sys
from typing import Final

import trio

from benchmarks.support.arrivals import Drain
from benchmarks.support.chat import ChatLoad
from benchmarks.support.gateway import keep_alive
from benchmarks.support.load import Load, measure
from benchmarks.support.pacing import open_metronome
from benchmarks.support.scenario import Assignment, Progress, progress_line, result_line
from benchmarks.support.voice import VoiceLoad

WARM_UP_S: Final = 0.5
"""Sent first and not counted: caches, branch predictors and the adaptive interpreter are cold only once."""


async def run(assignment: Assignment) -> None:
    """Set the load up, warm up, measure, and print the result."""
    scenario = assignment.scenario
    drain = Drain()
    load: Load = ChatLoad(assignment, drain) if scenario.kind == "chat" else VoiceLoad(assignment, drain)
    async with open_metronome() as metronome, trio.open_nursery() as nursery:
        nursery.start_soon(drain.run)
        await load.set_up(tell)
        nursery.start_soon(keep_alive, load.clients)
        rate_hz, pid = scenario.rate_hz, assignment.server_pid
        warm_up = max(1, round(rate_hz * WARM_UP_S))
        await measure(load, metronome, 0, warm_up, rate_hz, pid, tell_nothing)
        result = await measure(load, metronome, warm_up, scenario.count, rate_hz, pid, tell)
        result |= await load.facts()
        print(result_line(result), flush=True)
        nursery.cancel_scope.cancel()


def tell(progress: Progress) -> None:
    """Tell the parent how far it is."""
    print(progress_line(progress), flush=True)


def tell_nothing(_progress: Progress) -> None:
    """Warm up in silence."""


if __name__ == "__main__":
    trio.run(run, Assignment.parse(sys.stdin.read()))

"""Owns the comparison of relays under one load: trial by trial in turn, so that a disturbance hits all alike.

It must not start processes or print.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import trio

from benchmarks.support.bisection import Bisection
from benchmarks.support.media_probe import Probe, estimate_hz, latency, probe, warm_up
from benchmarks.support.media_system import MediaSystem
from benchmarks.support.mmsg import Outbox
from benchmarks.support.processes import Failed

LATENCY_SHARE: Final = 0.5
"""Of the saturation rate, at which latency is measured."""
LATENCY_ROUNDS: Final = 2
"""Latency is measured so often, in turn, and the quieter one counts: the lower 99th percentile."""
LATENCY_TIMES: Final = 4
"""So many times as long as a trial is the measurement of latency: its 99.9th percentile needs samples."""
REST_S: Final = 0.02
"""Between two trials, for heartbeats and whatever the gateway has to say."""

TellTrial = Callable[[str, float, str], None]
"""Takes (system, packets out a second, how it went)."""


@attrs.define(eq=False)
class Contender:
    """A relay and what is known of it."""

    system: MediaSystem
    search: Bisection
    best: Probe | None = None
    """The trial at the highest rate that held."""
    trials: list[Probe] = attrs.field(factory=list)


async def compare(
    systems: Sequence[MediaSystem], outbox: Outbox, seconds: float, tell: TellTrial
) -> list[dict[str, Any]]:
    """Find each system's saturation rate, then its latency at half of it; one result a system, in their order.

    Raises:
        Failed: a system does not relay at all.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        contenders = [await _begin(system, outbox, seconds) for system in systems]
        while await _round(contenders, outbox, seconds, tell):
            pass
        halves = [await _halves(contenders, outbox, seconds) for _ in range(LATENCY_ROUNDS)]
        return [_result(contender, runs) for contender, *runs in zip(contenders, *halves, strict=True)]
    finally:
        gc.enable()


async def _begin(system: MediaSystem, outbox: Outbox, seconds: float) -> Contender:
    if not warm_up(system, outbox):
        raise Failed(f"{system.name} does not relay: packets are missing at the slowest rate")
    await trio.sleep(REST_S)
    guess_hz = estimate_hz(system, outbox, seconds)
    system.verify()
    await trio.sleep(REST_S)
    return Contender(system, Bisection(guess_hz))


async def _round(contenders: Sequence[Contender], outbox: Outbox, seconds: float, tell: TellTrial) -> bool:
    """Make one trial of each system whose answer is not known; returns whether there was any."""
    tried = False
    for contender in contenders:
        rate_hz = contender.search.next_rate()
        if rate_hz is None:
            continue
        tried = True
        trial = probe(contender.system, outbox, rate_hz, seconds)
        contender.trials.append(trial)
        contender.search.tell(held=trial.failure is None, disturbed=trial.is_disturbed)
        if trial.failure is None and (contender.best is None or trial.rate_hz > contender.best.rate_hz):
            contender.best = trial
        tell(contender.system.name, rate_hz * contender.system.fan_out, trial.failure or "held")
        contender.system.verify()
        await trio.sleep(REST_S)
    return tried


async def _halves(contenders: Sequence[Contender], outbox: Outbox, seconds: float) -> list[dict[str, Any] | None]:
    """Measure the latency of each once; None for one without a rate that held."""
    halves: list[dict[str, Any] | None] = []
    for contender in contenders:
        if contender.best is None:
            halves.append(None)
            continue
        rate_hz = contender.best.rate_hz * LATENCY_SHARE
        halves.append(latency(contender.system, outbox, rate_hz, seconds * LATENCY_TIMES))
        await trio.sleep(REST_S)
    return halves


def _result(contender: Contender, runs: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    system, best = contender.system, contender.best
    measured = [run for run in runs if run is not None and run["latency_us"] is not None]
    saturation = (
        None
        if best is None
        else {
            "rate_hz": round(best.rate_hz, 1),
            "legs_per_s": round(best.rate_hz * system.fan_out),
            "cpu_us_per_leg": round(best.cpu_us_per_leg, 3),
            "relay_cores": round(best.relay_cores, 3),
            "generator_busy": round(best.generator_busy, 3),
            "send_lateness_p99_us": round(best.late_p99_ns / 1000, 1),
        }
    )
    return {
        "system": system.name,
        "saturation": saturation,
        "half": min(measured, key=lambda run: (run["lost"], run["latency_us"]["p99"]), default=None),
        "samples_opened": system.opened,
        "trials": [_trial(trial) for trial in contender.trials],
    }


def _trial(trial: Probe) -> dict[str, Any]:
    return {
        "rate_hz": round(trial.rate_hz, 1),
        "sent": trial.sent,
        "expected": trial.expected,
        "received": trial.received,
        "lag_ms": round(trial.lag_ns / 1e6, 2),
        "drops": trial.drops,
        "failure": trial.failure,
        "disturbed": trial.is_disturbed,
    }

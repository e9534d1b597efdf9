"""Owns the shape of a load, and how one is sent on schedule and timed. It must not know what is sent."""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import trio

from benchmarks.support.arrivals import Arrivals
from benchmarks.support.cpu import cpu_cores, cpu_times
from benchmarks.support.figures import summarize_us
from benchmarks.support.gateway import GatewayClient
from benchmarks.support.pacing import Metronome
from benchmarks.support.scenario import Progress

LEAD_NS: Final = 20_000_000
"""From the end of the preparations to the first send."""
SILENCE_S: Final = 2.0
"""Without an arrival for so long, what is missing counts as lost."""
LATE_US: Final = 1000.0
"""With its sends later than this (p99) the client itself is part of what was measured."""

Tell = Callable[[Progress], None]


class Load(Protocol):
    """Something that can be sent again and again, and arrives at several receivers."""

    clients: list[GatewayClient]
    """All its connections, for their heartbeats; grows while it is set up."""
    arrivals: list[Arrivals]
    """One a receiver."""
    fan_out: int
    """Receivers of each thing sent."""

    async def set_up(self, tell: Tell) -> None:
        """Connect and join."""
        ...

    def prepare(self, first: int, count: int) -> None:
        """Make all that can be made before the clock runs, for these indexes."""
        ...

    async def send(self, index: int) -> None:
        """Send one."""
        ...

    async def facts(self) -> dict[str, Any]:
        """Check what can be checked at the end, and return what there is to report beside the latencies."""
        ...


async def measure(
    load: Load, metronome: Metronome, first: int, count: int, rate_hz: float, server_pid: int, tell: Tell
) -> dict[str, Any]:
    """Send `count` things, number `first` and on, at a rate, and report how long they took to arrive.

    Args:
        server_pid: of whom to say how busy it was.

    Returns:
        The part of the result that is the same for every load; latencies in microseconds.
    """
    load.prepare(first, count)
    for arrivals in load.arrivals:
        arrivals.clear()
    # A collection in this process would be measured as a delay of the server.
    gc.collect()
    gc.freeze()
    gc.disable()
    expected = count * load.fan_out
    sent_ns = array("q")
    cpu_before = cpu_times(server_pid)
    begin_ns = time.perf_counter_ns() + LEAD_NS
    due_ns = array("q", (begin_ns + round(number * 1e9 / rate_hz) for number in range(count)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, load.arrivals, expected, tell)
        for number, due in enumerate(due_ns):
            await metronome.wait_until(due)
            sent_ns.append(time.perf_counter_ns())
            await load.send(first + number)
        await _wait_for_stragglers(load.arrivals, expected)
        nursery.cancel_scope.cancel()
    cores = cpu_cores(cpu_before, cpu_times(server_pid))
    gc.enable()
    return _evaluate(load.arrivals, first, expected, due_ns, sent_ns) | {"cpu_cores": cores}


def _received(arrivals: Sequence[Arrivals]) -> int:
    return sum(len(one) for one in arrivals)


async def _watch(arrivals: Sequence[Arrivals], expected: int, tell: Tell) -> None:
    while True:
        tell(("received", _received(arrivals), expected))
        await trio.sleep(0.5)


async def _wait_for_stragglers(arrivals: Sequence[Arrivals], expected: int) -> None:
    before, last = -1, _received(arrivals)
    while last < expected and last != before:
        with trio.move_on_after(SILENCE_S):
            while _received(arrivals) < expected:  # noqa: ASYNC110 - what is counted has no event
                await trio.sleep(0.01)
        before, last = last, _received(arrivals)


def _evaluate(
    arrivals: Sequence[Arrivals], first: int, expected: int, due_ns: Sequence[int], sent_ns: Sequence[int]
) -> dict[str, Any]:
    from_schedule, from_send = array("q"), array("q")
    duplicates = 0
    for one in arrivals:
        seen = bytearray(len(due_ns))
        for index, now_ns in zip(one.indexes, one.times_ns, strict=True):
            number = index - first
            if seen[number]:
                duplicates += 1
                continue
            seen[number] = 1
            from_schedule.append(now_ns - due_ns[number])
            from_send.append(now_ns - sent_ns[number])
    lateness = summarize_us(sent - due for sent, due in zip(sent_ns, due_ns, strict=True))
    assert lateness is not None
    span_s = (sent_ns[-1] - sent_ns[0]) / 1e9
    return {
        "sent": len(sent_ns),
        "expected": expected,
        "received": len(from_send),
        "lost": expected - len(from_send),
        "duplicates": duplicates,
        "rate_achieved_hz": round((len(sent_ns) - 1) / span_s, 2) if span_s else None,
        "latency_us": summarize_us(from_schedule),
        "latency_from_send_us": summarize_us(from_send),
        "send_lateness_us": lateness,
        "client_late": lateness["p99"] > LATE_US,
    }

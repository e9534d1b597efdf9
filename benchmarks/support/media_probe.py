"""Owns the moments that count: packets out on a fixed schedule, the relay's output in, everything accounted for.

It must not wait for anything: this process has a processor of its own and never sleeps while the clock runs. The
schedule does not wait for the relay either ("no coordinated omission").
"""

from __future__ import annotations

import os
import time
from array import array
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks.support.cpu import process_cpu_ns, waited_ns
from benchmarks.support.figures import percentile, summarize_us
from benchmarks.support.media_drain import port_drops
from benchmarks.support.media_system import MediaSystem, number_of
from benchmarks.support.mmsg import Outbox

LEAD_NS: Final = 1_000_000
SEND_MAX: Final = 64
"""Packets of one call. More would let the output wait in the meantime."""
TAKE_EVERY_NS: Final = 250_000
"""Between two looks at what arrived. The system notes the times, so nothing is lost by it; and a look for nothing
costs a processor's cache lines that the relay is about to write."""
LAG_MAX_NS: Final = 10_000_000
"""The last packet must have arrived so soon after it was due. Later, a queue has grown, and a longer run would
have ended in loss: the system's buffers hide a fifth too much for half a second."""
LATE_MAX_NS: Final = 5_000_000
"""Where the generator was later than this (its 99th percentile), it was not the relay that failed."""
WAIT_MAX_SHARE: Final = 0.01
"""Relay and generator stood ready for so much of the time and did not get their processor: another program was in
the way, and a failed trial may be its doing."""
SILENCE_NS: Final = 200_000_000
"""Without an arrival for so long, what is missing is lost."""
WARM_UP_ATTEMPTS: Final = 5
ESTIMATE_LEGS_PER_S: Final = 120_000
ESTIMATE_IN_FLIGHT_LEGS: Final = 4_096


@attrs.frozen
class Probe:
    """What came of one schedule."""

    rate_hz: float
    """Packets sent to the relay a second, in all rooms."""
    sent: int
    expected: int
    """Packets out: sent times fan-out."""
    received: int
    lag_ns: int
    """From when the last packet was due to the last arrival."""
    span_ns: int
    """From the first packet's due time to the last arrival."""
    late_p99_ns: int
    """How late the generator's own sends were."""
    generator_busy: float
    """Share of the time in which the generator had something to do."""
    relay_cpu_ns: int
    waited_ns: int
    """How long the relay and the generator waited for a processor that another program had."""
    drops: dict[str, int]
    """Where packets were lost, as far as somebody counted: `queue` (the relay's socket), `drain` (ours), and the
    relay's own reasons."""

    @property
    def failure(self) -> str | None:
        """Say why the rate did not hold; None if it did."""
        if self.drops.get("drain"):
            return "generator"
        if self.late_p99_ns > LATE_MAX_NS:
            return "generator"
        if self.received != self.expected:
            return "lost" if self.received < self.expected else "duplicated"
        if self.drops:
            return "dropped"
        return "queued" if self.lag_ns > LAG_MAX_NS else None

    @property
    def is_disturbed(self) -> bool:
        """Say whether other programs took so much of the processors that a failure says nothing.

        A relay that lags by much more than it had to wait was too slow all the same.
        """
        waited_long = self.waited_ns > WAIT_MAX_SHARE * self.span_ns
        return waited_long and self.lag_ns < LAG_MAX_NS + 2 * self.waited_ns

    @property
    def cpu_us_per_leg(self) -> float:
        """The relay's CPU time for each packet that went out."""
        return self.relay_cpu_ns / max(1, self.received) / 1000

    @property
    def relay_cores(self) -> float:
        """How many cores the relay kept busy."""
        return self.relay_cpu_ns / self.span_ns


class Flow:
    """A schedule on its way: call `step` until it is done, at least some thousand times a second.

    Args:
        count: how many packets; they are prepared here, before the clock runs.
        rate_hz: of the schedule.
    """

    def __init__(self, system: MediaSystem, outbox: Outbox, count: int, rate_hz: float) -> None:
        self.system = system
        self.first = system.prepare(outbox, count)
        self.count = count
        self.rate_hz = rate_hz
        self._outbox = outbox
        self._sent = 0
        self._sent_to = array("q")
        self._sent_ns = array("q")
        self._drops_before = _drops(system)
        self._received_before = system.drain.received
        self.expected = count * system.fan_out
        self._idle_ns = 0
        self._is_idle = False
        self._take_ns = 0
        self._waited_before = _waited_ns(system)
        self._cpu_before = process_cpu_ns(system.pid)
        self._interval_ns = 1e9 / rate_hz
        self.begin_ns = time.perf_counter_ns() + LEAD_NS
        self.realtime_offset_ns = time.time_ns() - time.perf_counter_ns()
        self._arrived_ns = self._looked_ns = self.begin_ns

    @property
    def received(self) -> int:
        """Packets of this schedule that arrived so far."""
        return self.system.drain.received - self._received_before

    def step(self) -> bool:
        """Send what is due and take what arrived. Returns whether there is more to wait for."""
        now = time.perf_counter_ns()
        if self._is_idle:
            self._idle_ns += now - self._looked_ns
        self._looked_ns = now
        self._is_idle = now >= self.begin_ns
        due = int((now - self.begin_ns) / self._interval_ns) + 1 if now >= self.begin_ns else 0
        waiting = min(due, self.count) - self._sent
        if waiting > 0:
            self._sent += self._outbox.send(self.system.fd, self._sent, min(waiting, SEND_MAX))
            self._sent_to.append(self._sent)
            self._sent_ns.append(now)
            self._is_idle = False
        if now >= self._take_ns:
            self._take_ns = now + TAKE_EVERY_NS
            if self.system.drain.take():
                self._arrived_ns = time.perf_counter_ns()
                self._is_idle = False
        return self._sent < self.count or (
            self.received < self.expected and now - max(self._arrived_ns, self._sent_ns[-1]) < SILENCE_NS
        )

    def due_ns(self, number: int) -> float:
        """Return when a packet was due, by `time.perf_counter_ns`."""
        return self.begin_ns + (number - self.first) * self._interval_ns

    def sends(self) -> list[int]:
        """Return when each packet was sent."""
        sent: list[int] = []
        for end, at in zip(self._sent_to, self._sent_ns, strict=True):
            sent.extend([at] * (end - len(sent)))
        return sent

    def outcome(self) -> Probe:
        """Account for the schedule, once it is done."""
        cpu_ns = process_cpu_ns(self.system.pid) - self._cpu_before
        waited_ns = _waited_ns(self.system) - self._waited_before
        late = sorted(round(at - self.due_ns(self.first + i)) for i, at in enumerate(self.sends()))
        after = _drops(self.system)
        drops = {name: after[name] - self._drops_before.get(name, 0) for name in after}
        return Probe(
            rate_hz=self.rate_hz,
            sent=self._sent,
            expected=self.expected,
            received=self.received,
            lag_ns=round(self._arrived_ns - self.due_ns(self.first + self.count - 1)),
            span_ns=self._arrived_ns - self.begin_ns,
            late_p99_ns=percentile(late, 0.99),
            generator_busy=1 - self._idle_ns / max(1, self._looked_ns - self.begin_ns),
            relay_cpu_ns=cpu_ns,
            waited_ns=waited_ns,
            drops={name: count for name, count in drops.items() if count},
        )


def probe(system: MediaSystem, outbox: Outbox, rate_hz: float, seconds: float) -> Probe:
    """Send at a rate for a while and account for all of it."""
    flow = Flow(system, outbox, packets_of(outbox, rate_hz, seconds), rate_hz)
    while flow.step():
        pass
    return flow.outcome()


def packets_of(outbox: Outbox, rate_hz: float, seconds: float) -> int:
    """Return how many packets a schedule has: those of its length, if there is room for them."""
    return max(1, min(outbox.capacity, round(rate_hz * seconds)))


def warm_up(system: MediaSystem, outbox: Outbox) -> bool:
    """Send every room a few packets, slowly; returns whether at last all of them arrived everywhere."""
    for _ in range(WARM_UP_ATTEMPTS):
        outcome = probe(system, outbox, 200.0, 2 * system.rooms / 200.0)
        if outcome.received == outcome.expected:
            return True
    return False


def estimate_hz(system: MediaSystem, outbox: Outbox, seconds: float) -> float:
    """Return about how many packets a second the relay takes: by keeping it busy, never more than it can hold.

    Args:
        seconds: how long at most.
    """
    count = packets_of(outbox, ESTIMATE_LEGS_PER_S / system.fan_out, seconds)
    system.prepare(outbox, count)
    window = max(2, ESTIMATE_IN_FLIGHT_LEGS // system.fan_out)
    drain, fan_out, fd = system.drain, system.fan_out, system.fd
    before, sent = drain.received, 0
    begin_ns = arrived_ns = time.perf_counter_ns()
    while True:
        arrived = (drain.received - before) // fan_out
        now = time.perf_counter_ns()
        room = min(window - (sent - arrived), count - sent, SEND_MAX)
        if room > 0 and now - begin_ns < seconds * 1e9:
            sent += outbox.send(fd, sent, room)
        if drain.take():
            arrived_ns = now
        is_over = arrived == sent and (sent == count or now - begin_ns >= seconds * 1e9)
        if is_over or now - arrived_ns > SILENCE_NS:
            break
    return max(1.0, arrived * 1e9 / max(1, arrived_ns - begin_ns))


def latency(system: MediaSystem, outbox: Outbox, rate_hz: float, seconds: float) -> dict[str, Any]:
    """Send at a rate, keep every packet of the sampled listeners, and report how long they took.

    The end of a packet's way is when the system took it in for its listener, so nothing of this process is in it
    but how late it sent; both from the due time and from the actual send.
    """
    system.verify()
    system.drain.keeps_all = True
    flow = Flow(system, outbox, packets_of(outbox, rate_hz, seconds), rate_hz)
    while flow.step():
        pass
    outcome = flow.outcome()
    system.drain.keeps_all = False
    sent = flow.sends()
    from_due, from_send = array("q"), array("q")
    for _, arrived_ns, packet in system.drain.samples:
        number = number_of(packet)
        at = arrived_ns - flow.realtime_offset_ns
        from_due.append(round(at - flow.due_ns(number)))
        from_send.append(at - sent[number - flow.first])
    system.verify()
    return {
        "rate_hz": round(rate_hz, 1),
        "samples": len(from_due),
        "lost": outcome.expected - outcome.received,
        "latency_us": summarize_us(from_due),
        "latency_from_send_us": summarize_us(from_send),
        "cpu_us_per_leg": round(outcome.cpu_us_per_leg, 3),
        "relay_cores": round(outcome.relay_cores, 3),
        "generator_busy": round(outcome.generator_busy, 3),
        "send_lateness_p99_us": round(outcome.late_p99_ns / 1000, 1),
        "disturbed": outcome.is_disturbed,
        "drops": outcome.drops,
    }


def _waited_ns(system: MediaSystem) -> int:
    return waited_ns(system.pid) + waited_ns(os.getpid())


def _drops(system: MediaSystem) -> dict[str, int]:
    own = {name: round(value) for name, value in system.drops().items()}
    queue = port_drops(Path("/proc/net/udp").read_text(), system.port)
    return {"queue": queue, "drain": system.drain.dropped(), **own}

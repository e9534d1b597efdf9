"""How much more two media workers relay than one.

    python -m benchmarks.workers                      one, two and three workers, about a minute
    python -m benchmarks.workers --quick              a few seconds, to see that it works
    python -m benchmarks.workers --workers 1,2,4 --fan-outs 10 --profile AEAD_AES_128_GCM

The workers are the product's, started and told what to do as by a server (`WorkerMediaPlane`, which runs in this
process). Each gets the same load: two channels of one talker and `fan_out` listeners, every listener with a key of
its own. Packets are made by libsrtp before the clock starts, and sent as fast as they arrive: a packet goes out
once one of the window before it has come through, so the workers are always busy and nothing has to be lost. One
listener of each channel reads and checks every packet (order; every 64th is opened by libsrtp); the kernel throws
away what the others get. That all were forwarded is checked by the workers' counters.

On a machine with fewer processors than workers and load together, the time on the clock says how the system shares
them, not what workers can do. So two rates are reported:

    by processor time   forwarded packets / the processor time of the worker that used most: what the workers
                        reach together where each has a processor for itself. The load's own time is not in it.
    by the clock        forwarded packets / seconds from the first to the last, on this machine as it is.

Of several rounds the best counts, as whatever else runs on a machine only takes away; rounds with one and with
more workers take turns. The ratio to one worker is that of the rates by processor time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks.support import figures
from benchmarks.support.worker_load import ChannelLoad, Lost, open_sink
from livechat.media.making import make_hub
from livechat.media.opening import bind_media
from livechat.media.settings import DEFAULT_SPEAKING, MediaSettings
from livechat.media.workers.messages import Begin
from livechat.media.workers.plane import WorkerMediaPlane
from livechat.srtp.profile import SrtpProfile

JSON_FILE: Final = Path(__file__).parent / "results" / "workers.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""

PROFILES: Final = (SrtpProfile.AES_CM_128_HMAC_SHA1_80, SrtpProfile.AEAD_AES_128_GCM)
WORKERS: Final = (1, 2, 3)
FAN_OUTS: Final = (10, 50)
CHANNELS_PER_WORKER: Final = 2
FORWARDED_PER_ROUND: Final = 240_000
"""By each worker: about a second of its work."""
ROUNDS: Final = 5
WARM_UP: Final = 0.2
"""So much of a round goes before it, unmeasured."""
START_TIMEOUT_S: Final = 30.0
LOST_TIMEOUT_S: Final = 10.0


@attrs.frozen
class Scenario:
    """What is measured."""

    workers: int
    fan_out: int
    profile: SrtpProfile
    forwarded: int
    """By each worker in a round."""

    @property
    def packets(self) -> int:
        """That each channel's talker sends in a round."""
        return max(1, self.forwarded // (self.fan_out * CHANNELS_PER_WORKER))


@attrs.frozen
class Round:
    """What came of one round."""

    forwarded: int
    elapsed_s: float
    cpu_s: tuple[float, ...]
    """Of each worker."""

    @property
    def rate_by_cpu(self) -> float:
        """Forwarded packets a second of the worker that used most processor time."""
        return self.forwarded / max(self.cpu_s)

    @property
    def rate_by_clock(self) -> float:
        """Forwarded packets a second."""
        return self.forwarded / self.elapsed_s


def cpu_s(pid: int) -> float:
    """Return the processor time that all threads of a process have used, in nanoseconds' resolution."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def names_for(plane: WorkerMediaPlane, workers: int) -> list[str]:
    """Return names of channels, so many for each worker."""
    wanted = dict.fromkeys(range(workers), CHANNELS_PER_WORKER)
    names, number = [], 0
    while any(wanted.values()):
        name = f"channel-{number}"
        number += 1
        worker = plane.worker_of(name)  # type: ignore[arg-type]  # any text is an id
        if wanted[worker]:
            wanted[worker] -= 1
            names.append(name)
    return names


async def measure(scenario: Scenario) -> Round:
    """Run the workers, let them warm up, and measure one round.

    Raises:
        Lost: something was not relayed.
    """
    settings = MediaSettings(workers=scenario.workers)
    with ExitStack() as stack:
        sockets = stack.enter_context(bind_media(settings, "127.0.0.1", 0))
        sink = stack.enter_context(open_sink())
        plane = WorkerMediaPlane(make_hub(settings), sockets, Begin(settings, DEFAULT_SPEAKING), None)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(plane.run)
                await _until_running(plane)
                address = sink.getsockname()
                loads = [
                    ChannelLoad(plane, name, scenario.profile, scenario.fan_out, address)
                    for name in names_for(plane, scenario.workers)
                ]
                for load in loads:
                    stack.callback(load.close)
                await _run_round(plane, loads, scenario, max(1, int(scenario.packets * WARM_UP)))
                result = await _run_round(plane, loads, scenario, scenario.packets)
                nursery.cancel_scope.cancel()
        finally:
            await plane.stop()
    return result


async def _until_running(plane: WorkerMediaPlane) -> None:
    with trio.fail_after(START_TIMEOUT_S):
        while any(worker.state != "running" for worker in plane.workers()):  # noqa: ASYNC110 - no event tells it
            await trio.sleep(0.01)


async def _run_round(
    plane: WorkerMediaPlane, loads: Sequence[ChannelLoad], scenario: Scenario, packets: int
) -> Round:
    for load in loads:
        load.prepare(packets)
    pids = [worker.pid for worker in plane.workers() if worker.pid is not None]
    before, began_at = [cpu_s(pid) for pid in pids], time.monotonic()
    async with trio.open_nursery() as nursery:
        for load in loads:
            nursery.start_soon(load.run, LOST_TIMEOUT_S)
    elapsed_s = time.monotonic() - began_at
    used = tuple(cpu_s(pid) - earlier for pid, earlier in zip(pids, before, strict=True))
    await _check_counters(plane, sum(load.total for load in loads) * scenario.fan_out)
    return Round(packets * len(loads) * scenario.fan_out, elapsed_s, used)


async def _check_counters(plane: WorkerMediaPlane, forwarded: int) -> None:
    """Check by the workers' own counters that every packet went to every listener."""
    with trio.move_on_after(LOST_TIMEOUT_S):
        while plane.statistics()["rtp_forwarded"] < forwarded:  # noqa: ASYNC110 - as above
            await trio.sleep(0.05)
    counted = plane.statistics()
    if counted["rtp_forwarded"] != forwarded or counted["would_block"] or counted["send_error"]:
        raise Lost(f"expected {forwarded} packets forwarded, got {dict(+counted)}")


def summarize(scenario: Scenario, rounds: Sequence[Round], one: float | None) -> dict[str, Any]:
    """Return what is reported of a scenario; see `document`."""
    best = max(rounds, key=lambda each: each.rate_by_cpu)
    return {
        "workers": scenario.workers,
        "fan_out": scenario.fan_out,
        "profile": scenario.profile.value,
        "payload_bytes": 160,
        "rounds": len(rounds),
        "forwarded": sum(each.forwarded for each in rounds),
        "lost": 0,
        "rate_by_cpu": round(best.rate_by_cpu),
        "rate_by_clock": round(max(each.rate_by_clock for each in rounds)),
        "cpu_us_per_packet": round(sum(best.cpu_s) / best.forwarded * 1e6, 3),
        "busiest_over_mean": round(max(best.cpu_s) * len(best.cpu_s) / sum(best.cpu_s), 3),
        "times_one_worker": None if one is None else round(best.rate_by_cpu / one, 2),
    }


def document(rows: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "workers"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    scenarios   one object each:
        workers, fan_out, profile, payload_bytes, rounds
        forwarded             packets, all rounds together; lost is 0, or there is no document
        rate_by_cpu           packets a second by processor time; see the module
        rate_by_clock         the same by the clock
        cpu_us_per_packet     of the workers
        busiest_over_mean     1: all workers used the same processor time
        times_one_worker      rate_by_cpu over that of one worker with the same fan-out and profile; null if that
                              was not measured
    """
    return {
        "format": FORMAT,
        "benchmark": "workers",
        "started_at": started_at,
        "machine": machine,
        "scenarios": list(rows),
    }


HEADINGS: Final = (
    *("workers", "fan-out", "profile", "forwarded", "lost", "packets/s by cpu", "by clock", "cpu µs/packet"),
    *("busiest/mean", "times one"),
)


def table_row(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    times = row["times_one_worker"]
    return [
        *(str(row["workers"]), str(row["fan_out"]), row["profile"], f"{row['forwarded']:,}", str(row["lost"])),
        *(f"{row['rate_by_cpu']:,}", f"{row['rate_by_clock']:,}", f"{row['cpu_us_per_packet']:.2f}"),
        *(f"{row['busiest_over_mean']:.2f}", "-" if times is None else f"{times:.2f}"),
    ]


async def run(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Measure everything; rounds of the same load with fewer and more workers take turns."""
    for profile in options.profiles:
        for fan_out in options.fan_outs:
            scenarios = [Scenario(count, fan_out, profile, options.forwarded) for count in options.workers]
            rounds: dict[int, list[Round]] = {scenario.workers: [] for scenario in scenarios}
            for number in range(options.rounds):
                for scenario in scenarios:
                    told = f"{profile}, fan-out {fan_out}, {scenario.workers} workers, round {number + 1}"
                    print(told, file=sys.stderr, flush=True)
                    rounds[scenario.workers].append(await measure(scenario))
            one = max(each.rate_by_cpu for each in rounds[1]) if 1 in rounds else None
            rows += [summarize(scenario, rounds[scenario.workers], one) for scenario in scenarios]


def whole_numbers(text: str, most: int) -> list[int]:
    """Parse `1,2` of the command line."""
    values = [int(part) for part in text.split(",")]
    if not all(0 < value <= most for value in values):
        raise ValueError
    return values


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=summary)
    parser.add_argument("--workers", type=partial(whole_numbers, most=16), default=list(WORKERS))
    parser.add_argument("--fan-outs", type=partial(whole_numbers, most=1000), default=list(FAN_OUTS))
    parser.add_argument("--profile", choices=[profile.value for profile in PROFILES], help="only this one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--forwarded", type=int, default=FORWARDED_PER_ROUND, help="packets a worker and round")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where the results are written")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    options = parser.parse_args(arguments)
    options.profiles = PROFILES if options.profile is None else (SrtpProfile(options.profile),)
    if options.quick:
        options.workers, options.fan_outs, options.profiles = [1, 2], [10], PROFILES[:1]
        options.rounds, options.forwarded = 1, 4_000
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON file; return the exit status."""
    options = parse(arguments)
    machine = figures.machine_facts()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    rows: list[dict[str, Any]] = []
    try:
        trio.run(run, options, rows)
    except (Lost, BaseExceptionGroup) as exc:
        lost = _lone(exc)
        if not isinstance(lost, Lost):
            raise
        print(f"benchmarks.workers: {lost}", file=sys.stderr)
        return 1
    print(figures.table(HEADINGS, [table_row(row) for row in rows]))
    print(f"load average before: {machine['load_average']:.2f} on {machine['cpus_usable']} processors")
    figures.write_json(options.json, document(rows, started_at, machine))
    return 0


def _lone(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


if __name__ == "__main__":
    sys.exit(main())

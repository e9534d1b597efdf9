"""How much voice a server relays on one core, how long a packet takes, and what chat feels of it.

    python -m benchmarks.relay                      two profiles, 160 bytes, all fan-outs: some six minutes
    python -m benchmarks.relay --full               every profile and size too: less than half an hour
    python -m benchmarks.relay --quick              a few seconds, to see that it works
    python -m benchmarks.relay --beside-gateway     only what voice does to chat
    python -m benchmarks.relay --profiles AEAD_AES_128_GCM --sizes 160,1200 --fan-outs 10,50

`livechat serve` runs as it is, with metrics and the collector's settings on; its rooms are joined over the
gateway. This process is the load: packets made by libsrtp before the clock runs, sent by sendmmsg on a fixed
schedule, taken by recvmmsg; a sample is opened by libsrtp at the end. Beside it, trial by trial in turn, run three
peers with the same load (`benchmarks/peers/`). All relays share one processor, this process has another.

*Saturation* is the highest rate, found by bisection, at which every packet arrived at every listener, the relay
dropped none by its own counters, and the last came within 10 ms of its time (else a queue was growing).
*Latency* is measured at half of that, from when a packet was due ("no coordinated omission") to when the system
took it in for a listener: the first, the middle and the last one of some rooms. *CPU per leg* is the time of the
relay's process, the system's part included, for each packet that went out.

The results go to the terminal, a JSON file (its shape is documented in `document`) and an SVG plot.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.support import figures, relay_report, svg
from benchmarks.support.arguments import listed, names_of, whole_numbers
from benchmarks.support.cpu import pin, two_cores
from benchmarks.support.gateway import ConnectionLost, Refused
from benchmarks.support.media_beside import beside_gateway
from benchmarks.support.media_compare import compare
from benchmarks.support.media_start import (
    OWN,
    PEERS,
    MediaScenario,
    available_peers,
    running_livechat,
    running_peer,
)
from benchmarks.support.media_system import packet_bytes
from benchmarks.support.mmsg import Outbox
from benchmarks.support.processes import Failed, allow_many_sockets, first_of
from benchmarks.support.progress import ProgressLine
from benchmarks.support.scenario import PROFILES

RESULTS: Final = Path(__file__).parent / "results"
FORMAT: Final = 1
"""Version of the JSON document's shape."""

FAN_OUTS: Final = (2, 10, 50, 200)
SIZES: Final = (160, 1200)
"""Of the payload, in bytes: 20 ms of G.711; about what a video packet has."""
DEFAULT_PROFILES: Final = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM")
DEFAULT_SIZES: Final = (160,)
SIZE_MIN: Final = 16
SIZE_MAX: Final = 1_400
FAN_OUT_MAX: Final = 500
SECONDS: Final = 0.5
QUICK_FAN_OUTS: Final = (3,)
QUICK_SECONDS: Final = 0.1
OUTBOX_BYTES: Final = 64 << 20
"""Packets prepared at once; more would not stay in any cache."""
BESIDE: Final = MediaScenario("AES_CM_128_HMAC_SHA1_80", 160, 50)
STORES: Final = {"memory": {"STORE_URL": "memory:"}, "durable": {}}
"""Stores of the chat beside voice, with their settings: the gateway alone, and with a commit for every message."""


def scenarios(options: argparse.Namespace) -> list[MediaScenario]:
    """Return what the command line asks for."""
    if options.beside_gateway:
        return []
    return [
        MediaScenario(profile, size, fan_out)
        for profile in options.profiles
        for size in options.sizes
        for fan_out in options.fan_outs
    ]


def document(
    options: argparse.Namespace,
    rows: Sequence[dict[str, Any]],
    beside: Sequence[dict[str, Any]],
    started_at: str,
    machine: dict[str, Any],
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "relay"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    processors  relay, generator: which each was kept on
    seconds     of a trial; latency is measured for four times as long
    lacking     peers that were left out, by name: the package that is not installed
    scenarios   one object each: profile, payload_bytes, fan_out, rooms (talkers at once),
        gc_pauses   of livechat meanwhile, by generation: count, sum_s
        systems     one object each:
            system          livechat, trio-naive, asyncio-pylibsrtp, aiortc
            saturation      rate_hz (packets in), legs_per_s (packets out), cpu_us_per_leg, relay_cores,
                            generator_busy (share of its time), send_lateness_p99_us; null: no rate held
            half            at half of it: rate_hz, samples, lost, latency_us and latency_from_send_us (p50, p99,
                            p99.9, mean, min, max), cpu_us_per_leg, relay_cores, generator_busy,
                            send_lateness_p99_us, disturbed, drops
            ratio           livechat's legs_per_s divided by this system's
            samples_opened  packets that were decrypted and compared, all rightly
            trials          rate_hz, sent, expected, received, lag_ms, drops, failure, disturbed
                            failure: lost, duplicated, dropped, queued (too late), generator (its fault), null
    beside_gateway  one object each store: store (memory, durable), relay (a system as above), chat_rate_hz,
        chat_fan_out, seconds,
        rounds          with, without: what `benchmarks.latency` reports of chat, one object a round
        p99_without_ms, p99_with_ms, p99_added_ms, goal_ms
    """
    relay_cpus, own_cpus = two_cores(options.cpus)
    return {
        "format": FORMAT,
        "benchmark": "relay",
        "started_at": started_at,
        "machine": machine,
        "processors": {"relay": sorted(relay_cpus), "generator": sorted(own_cpus)},
        "seconds": options.seconds,
        "lacking": options.lacking,
        "scenarios": list(rows),
        "beside_gateway": list(beside),
    }


async def run(options: argparse.Namespace, rows: list[dict[str, Any]], beside: list[dict[str, Any]]) -> None:
    """Measure one scenario after another; each result is there as soon as it is known."""
    relay_cpus, own_cpus = two_cores(options.cpus)
    pin(os.getpid(), own_cpus)
    planned = scenarios(options)
    total = len(planned) + len(STORES) * options.with_beside
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        for number, scenario in enumerate(planned, 1):
            line = ProgressLine(f"{number}/{total} {scenario}")
            try:
                rows.append(await measure(options, scenario, Path(folder) / str(number), relay_cpus, line))
            finally:
                line.end()
        if options.with_beside:
            for number, (name, store) in enumerate(STORES.items(), len(planned) + 1):
                line = ProgressLine(f"{number}/{total} chat beside voice, store: {name}")
                try:
                    row = await measure_beside(options, Path(folder) / name, relay_cpus, line, store)
                    beside.append({"store": name} | row)
                finally:
                    line.end()


async def measure(
    options: argparse.Namespace, scenario: MediaScenario, folder: Path, cpus: set[int], line: ProgressLine
) -> dict[str, Any]:
    """Compare all systems in one scenario, with fresh processes."""
    outbox = make_outbox(scenario)
    async with AsyncExitStack() as stack:
        server = None
        systems = []
        for name in options.systems:
            if name == OWN:
                server = await stack.enter_async_context(running_livechat(scenario, folder, cpus, line.tell))
                systems.append(server.system)
            else:
                systems.append(await stack.enter_async_context(running_peer(name, scenario, cpus)))
        before = server.gc_pauses() if server is not None else {}
        results = await compare(systems, outbox, options.seconds, line.tell_trial)
        after = server.gc_pauses() if server is not None else {}
    return {
        "profile": scenario.profile,
        "payload_bytes": scenario.payload_bytes,
        "fan_out": scenario.fan_out,
        "rooms": scenario.rooms,
        "gc_pauses": relay_report.pauses_between(before, after),
        "systems": relay_report.with_ratios(results),
    }


async def measure_beside(
    options: argparse.Namespace, folder: Path, cpus: set[int], line: ProgressLine, store: dict[str, str]
) -> dict[str, Any]:
    """Measure chat beside voice."""
    async with running_livechat(BESIDE, folder, cpus, line.tell, **store) as server:
        return await beside_gateway(server, make_outbox(BESIDE), options.seconds, line.tell, line.tell_trial)


def make_outbox(scenario: MediaScenario) -> Outbox:
    """Make room for the packets of a schedule."""
    length = packet_bytes(scenario.profile, scenario.payload_bytes)
    return Outbox(length, OUTBOX_BYTES // length)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay", description=__doc__.split("\n")[0])
    every = [OWN, *PEERS]
    parser.add_argument(
        "--fan-outs", type=whole_numbers(FAN_OUT_MAX), help=f"listeners of a talker  [{listed(FAN_OUTS)}]"
    )
    parser.add_argument("--profiles", type=names_of(PROFILES), help=f"[{listed(DEFAULT_PROFILES)}]")
    parser.add_argument(
        "--sizes", type=whole_numbers(SIZE_MAX, SIZE_MIN), help=f"bytes of payload  [{listed(DEFAULT_SIZES)}]"
    )
    parser.add_argument("--systems", type=names_of(every), default=every, help=f"[{listed(every)}]")
    parser.add_argument("--seconds", type=float, help=f"how long a trial lasts  [{SECONDS:g}]")
    parser.add_argument("--full", action="store_true", help="all profiles and the sizes 160 and 1200")
    parser.add_argument("--quick", action="store_true", help="one small scenario")
    parser.add_argument("--beside-gateway", action="store_true", help="only chat beside voice")
    parser.add_argument("--markdown", action="store_true", help="print the table as README has it, too")
    parser.add_argument("--json", type=Path, default=RESULTS / "relay.json", help="[%(default)s]")
    parser.add_argument("--svg", type=Path, default=RESULTS / "relay.svg", help="the plot  [%(default)s]")
    options = parser.parse_args(arguments)
    options.profiles = options.profiles or list(
        DEFAULT_PROFILES[:1] if options.quick else PROFILES if options.full else DEFAULT_PROFILES
    )
    options.sizes = options.sizes or list(SIZES if options.full else DEFAULT_SIZES)
    options.fan_outs = options.fan_outs or list(QUICK_FAN_OUTS if options.quick else FAN_OUTS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if not 0.05 <= options.seconds <= 60:
        parser.error(f"--seconds: expected 0.05 to 60, got {options.seconds:g}")
    missing = available_peers()
    options.lacking = {name: package for name in options.systems if (package := missing.get(name)) is not None}
    options.systems = [name for name in options.systems if name not in options.lacking]
    options.with_beside = options.beside_gateway or (OWN in options.systems)
    options.cpus = sorted(os.sched_getaffinity(0))
    return options


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    allow_many_sockets()
    for name, package in options.lacking.items():
        print(f"relay: {name} is left out, it needs {package} (the extra `bench`)", file=sys.stderr)
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    status = 0
    try:
        trio.run(run, options, rows, beside)
    except* (Failed, Refused, ConnectionLost) as group:
        print(f"relay: {first_of(group)}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows or beside:
        write(document(options, rows, beside, started_at, machine), options)
    return status


def write(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the results and write the files."""
    rows = results["scenarios"]
    if rows:
        print(figures.table(relay_report.HEADINGS, [cells for row in rows for cells in relay_report.lines(row)]))
    if rows and options.markdown:
        print(relay_report.markdown(results))
    told = [line for row in results["beside_gateway"] for line in relay_report.beside_lines(row)]
    for line in (*told, *relay_report.remarks(results)):
        print(line)
    figures.write_json(options.json, results)
    if rows:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(svg.draw(**relay_report.plot(results)))
        print(f"drawn to {options.svg}")


if __name__ == "__main__":
    sys.exit(main())

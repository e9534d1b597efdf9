"""How long a chat message and a voice packet take through a server, at given rates and fan-outs.

    python -m benchmarks.latency                                  everything, some three minutes
    python -m benchmarks.latency --quick                          a few seconds, to see that it works
    python -m benchmarks.latency --only voice --rates 500 --fan-outs 10,100 --profile AEAD_AES_128_GCM

Chat: from the send of MESSAGE_CREATE to its MESSAGE_EVENT at each member of the channel, the author included;
every message is committed to SQLite before that. Voice: from the send of an SRTP packet to its arrival at each
listener, re-encrypted for it. Each scenario has a server process and a client process of its own, both on this
machine, over loopback; messages and packets are prepared before the clock runs.

Latency counts from when a message was *due*, so that a hiccup is charged to all that it held up ("no
coordinated omission"); the figures from its actual send are beside it. How late the client itself was with its
sends is reported too: where that is not small against a latency, so is the client's share in it.

The results go to the terminal and, with facts of the machine, to a JSON file (its shape is documented in
`document`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import trio

from benchmarks.support import figures
from benchmarks.support.processes import Failed, allow_many_sockets, run_scenario
from benchmarks.support.progress import ProgressLine
from benchmarks.support.scenario import PROFILES, Kind, Scenario

JSON_FILE: Final = Path(__file__).parent / "results" / "latency.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""

RATES: Final[dict[Kind, tuple[float, ...]]] = {"chat": (10, 100, 1000), "voice": (50, 500, 1000)}
"""A second; 50 is one voice with 20 ms a packet."""
FAN_OUTS: Final[dict[Kind, tuple[int, ...]]] = {"chat": (10, 100), "voice": (2, 10, 100)}
SECONDS: Final = 10.0
FULL_CORE: Final = 0.95
OTHERS_CORES: Final = 0.25
"""More of other programs' work than this goes with a remark."""
QUICK_RATES: Final = (50.0,)
QUICK_FAN_OUTS: Final = (3,)
QUICK_SECONDS: Final = 1.0


def scenarios(options: argparse.Namespace) -> list[Scenario]:
    """Return what the command line asks for."""
    kinds: Sequence[Kind] = (options.only,) if options.only else get_args(Kind)
    return [
        Scenario(kind, rate, fan_out, options.seconds, options.profile if kind == "voice" else None)
        for kind in kinds
        for fan_out in options.fan_outs or FAN_OUTS[kind]
        for rate in options.rates or RATES[kind]
    ]


def document(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "latency"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    scenarios   one object each:
        kind, rate_hz (offered), fan_out, seconds, profile (voice)
        sent, expected, received, lost, duplicates   counted at the receivers
        rate_achieved_hz                             of the sends
        latency_us            p50, p99, p99.9, mean, min, max; since due; null if nothing arrived
        latency_from_send_us  the same since the actual send
        send_lateness_us      the same of send minus due: the client's own part
        client_late           whether its p99 is above 1 ms
        cpu_cores             kept busy meanwhile: server, client, others
        chat:   channels, content_chars, all_committed, refused, refused_because
        voice:  payload_bytes, samples_opened (packets that were decrypted and compared, all rightly)
    """
    return {
        "format": FORMAT,
        "benchmark": "latency",
        "started_at": started_at,
        "machine": machine,
        "data_dir": str(options.data_dir) if options.data_dir else None,
        "scenarios": list(rows),
    }


HEADINGS: Final = (
    *("load", "offered/s", "achieved/s", "fan-out", "received", "lost", "p50 ms", "p99 ms", "p99.9 ms"),
    *("from send: p50", "p99", "p99.9", "client late p99", "cores: server", "client", "others"),
)


def table_row(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    load = row["kind"] if row["profile"] is None else f"{row['kind']} {row['profile']}"
    counts = [f"{row['rate_hz']:g}", f"{row['rate_achieved_hz'] or 0:.1f}", str(row["fan_out"])]
    cells = [load, *counts, str(row["received"]), str(row["lost"])]
    for name in ("latency_us", "latency_from_send_us"):
        cells += [milliseconds(row[name], percentile) for percentile in figures.PERCENTILES]
    late = milliseconds(row["send_lateness_us"], "p99")
    cores = [f"{row['cpu_cores'][who]:.2f}" for who in ("server", "client", "others")]
    return [*cells, f"{late} !" if row["client_late"] else late, *cores]


def milliseconds(summary: dict[str, float] | None, name: str) -> str:
    """Return a figure for the table."""
    return "-" if summary is None else f"{summary[name] / 1000:.2f}"


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what must be known to read the table rightly."""
    lines = []
    if any(row["client_late"] for row in rows):
        lines.append("! the client was late with its own sends: it is part of these figures, the server is better")
    if any(row["cpu_cores"]["server"] > FULL_CORE for row in rows):
        lines.append("! the server had a whole core to do: at its limit, latency is the length of a queue")
    if any(row["cpu_cores"]["others"] > OTHERS_CORES for row in rows):
        lines.append("! other programs were busy meanwhile: it is not this server alone that was measured")
    if any(row.get("refused") for row in rows):
        lines.append("! the server refused messages; see refused_because in the JSON file")
    if any(row.get("all_committed") is False for row in rows):
        lines.append("! not every message was committed")
    return lines


async def run(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Measure one scenario after another; each row is there as soon as it is known."""
    planned = scenarios(options)
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-", dir=options.data_dir) as folder:
        for number, scenario in enumerate(planned, 1):
            line = ProgressLine(f"{number}/{len(planned)} {scenario}")
            try:
                result = await run_scenario(scenario, Path(folder) / str(number), line.tell)
            finally:
                line.end()
            stated = {
                "kind": scenario.kind,
                "rate_hz": scenario.rate_hz,
                "fan_out": scenario.fan_out,
                "seconds": scenario.seconds,
                "profile": scenario.profile,
            }
            rows.append(stated | result)


def numbers(text: str) -> list[float]:
    """Parse `10,100` of the command line."""
    values = [float(part) for part in text.split(",")]
    if not all(0 < value < 1e6 for value in values):
        raise ValueError
    return values


def whole_numbers(text: str) -> list[int]:
    """Parse `10,100` of the command line, without fractions."""
    values = [int(part) for part in text.split(",")]
    if not all(0 < value <= 10_000 for value in values):
        raise ValueError
    return values


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latency", description=__doc__.split("\n")[0])
    parser.add_argument("--rates", type=numbers, help="messages or packets a second, such as 10,100")
    parser.add_argument("--fan-outs", type=whole_numbers, help="receivers of each, such as 10,100")
    parser.add_argument("--seconds", type=float, help=f"how long each scenario lasts  [{SECONDS:g}]")
    parser.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="of voice  [%(default)s]")
    parser.add_argument("--only", choices=get_args(Kind), help="leave out the other one")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where to write the results  [%(default)s]")
    parser.add_argument("--data-dir", type=Path, help="where the databases are for a while, on a disk that counts")
    parser.add_argument("--quick", action="store_true", help="one small scenario of each kind")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rates = options.rates or list(QUICK_RATES)
        options.fan_outs = options.fan_outs or list(QUICK_FAN_OUTS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if not 0 < options.seconds <= 3600:
        parser.error(f"--seconds: expected up to 3600, got {options.seconds:g}")
    return options


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    allow_many_sockets()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: list[dict[str, Any]] = []
    status = 0
    try:
        trio.run(run, options, rows)
    except* Failed as group:
        print(f"latency: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows:
        print(figures.table(HEADINGS, [table_row(row) for row in rows]))
        for line in remarks(rows):
            print(line)
        figures.write_json(options.json, document(options, rows, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

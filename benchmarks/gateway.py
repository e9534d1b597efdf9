"""How much chat a server delivers and takes in on one core, and how long that takes, beside what else there is.

    python -m benchmarks.gateway                    everything, three rounds: less than eight minutes
    python -m benchmarks.gateway --quick            a few seconds, to see that it works
    python -m benchmarks.gateway --parts fan-out --fan-outs 100,1000 --windows 1 --systems livechat,ws
    python -m benchmarks.gateway --markdown         the tables as README has them, too

*fan-out*: one member of a channel of N says 200 bytes, which all N hear, it among them; at most w messages are on
their way, and one is through when all N have it. `livechat` keeps channels in memory, `livechat-durable` commits
every message before it is sent (SQLite, synchronous=FULL). *rooms*: a hundred channels of ten, one talker in each.
*deflate*: the same as fan-out, but all have agreed on compression, each system with its own settings for it: those
that keep a window for each client deflate for each, and profit most where messages are as alike as here.
*inbound*: requests a second of one and of fifty connections, 64 on their way of each. *chunks*: a hundred viewers
of a stream of 1 Mbit/s, at last ten of them too slow for it.

The peers (`benchmarks/peers/`) are written as their users would: node's `ws` and Socket.IO, websockets' asyncio
`broadcast`, python-socketio on uvicorn, trio-websocket, and NATS by WebSocket. Those for node get their packages
by `npm install` into a folder of their own (--npm-folder), the others by the extra `bench`; what is not to be had
is named and left out. `bare` is no peer but a ceiling: one send per delivery and nothing else. At w=1, where no
two messages can be joined, no loop in Python does more on this core; goals that lie beyond it are named.

All servers share one processor, and one at a time has something to do. Each has a client process, on the other
processor: raw sockets in an epoll that is asked over and over, and what comes is searched for marks, not decoded.
After every stretch all members must have all messages, and what one of each channel got is looked at for order,
losses and doubles. How is it known that the client is not what is measured? The share of the time in which it had
something to do is stated beside the server's share of its processor; a figure is marked where the client's is
greater.

The results go to the terminal, a JSON file (its shape is documented in `document`) and an SVG plot.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.support import figures, gateway_report, npm, svg
from benchmarks.support.arguments import listed, names_of, whole_numbers
from benchmarks.support.cpu import pin, two_cores
from benchmarks.support.gateway_parts import PARTS, Surroundings, cases, measure
from benchmarks.support.gateway_systems import SYSTEMS, lacking
from benchmarks.support.processes import Failed, allow_many_sockets, first_of
from benchmarks.support.progress import ProgressLine

RESULTS: Final = Path(__file__).parent / "results"
FORMAT: Final = 1
"""Version of the JSON document's shape."""

FAN_OUTS: Final = (10, 100, 1000, 5000)
FAN_OUT_MAX: Final = 9_000
"""A server and its client each have a socket for every member."""
WINDOWS: Final = (1, 16)
WINDOW_MAX: Final = 256
SECONDS: Final = 0.5
ROUNDS: Final = 3
QUICK_FAN_OUTS: Final = (10,)
QUICK_SECONDS: Final = 0.1


def document(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "gateway"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    processors  server, client: which each was kept on
    seconds     of a stretch
    lacking     systems that were left out, by name: what is not installed
    rows        one object each: part, rooms, members (of each room), trial (w=1, HEARTBEAT, ...),
        systems     one object each:
            system      livechat, livechat-durable, ws, ...
            connect_s   for all members to connect and join, one client doing nothing else
            failure     why it was not measured, or not to the end; null
            rounds      one object each, for all parts but chunks:
                count, seconds, per_s   deliveries (of requests: replies)
                messages                that were heard by all
                bytes_each              on the wire, for each delivery: frames, not TCP's or IP's headers
                last_us, first_us       from the send of a message until the last and the first member had it: p50,
                                        p99, p99.9, mean, min, max
                server_us               the server's time of the processor, its part of the system's included, for
                                        each delivery or request
                server_busy, client_busy        see above
                server_waited, client_waited    share of the time in which it was ready but did not get a processor
                client_ceiling_per_s    what the client would do if it had nothing to wait for
            best, spread            the round with the highest rate; how far the worst was below it (share)
            ratio, cpu_ratio        livechat's rate divided by this system's; this one's server_us by livechat's
            of_ceiling              its rate divided by that of bare sends; null where messages can be joined
            limited_by_client       client_busy was above server_busy
            rounds of chunks: chunks, latency_us (since due, of the fast viewers), server_busy,
                fast, slow              viewers, closed, received, missing, gaps, gaps_not_ended_by_keyframe
    goals       one object each: system, times, peer, part, trial, members_min; reached: ratios by case;
                beyond: of the cases in which bare sends would miss it too, their ratio
    """
    server_cpus, client_cpus = two_cores(options.cpus)
    return {
        "format": FORMAT,
        "benchmark": "gateway",
        "started_at": started_at,
        "machine": machine,
        "processors": {"server": sorted(server_cpus), "client": sorted(client_cpus)},
        "seconds": options.seconds,
        "lacking": options.lacking,
        "rows": list(rows),
        "goals": gateway_report.goals(rows),
    }


async def run(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Measure one case after another; each row is there as soon as it is known."""
    server_cpus, client_cpus = two_cores(options.cpus)
    pin(os.getpid(), client_cpus)
    planned = cases(options.parts, options.fan_outs, options.windows, options.seconds)
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-", dir=options.data_dir) as folder:
        for number, case in enumerate(planned, 1):
            line = ProgressLine(f"{number}/{len(planned)} {case}")
            places = Surroundings(Path(folder) / str(number), options.npm_folder, server_cpus, client_cpus)
            try:
                measured = await measure(case, options.systems, options.rounds, places, line.tell_text)
            finally:
                line.end()
            rows += [gateway_report.evaluated(row) for row in measured if row["systems"]]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateway", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", type=names_of(PARTS), default=list(PARTS), help=f"[{listed(PARTS)}]")
    parser.add_argument("--systems", type=names_of(SYSTEMS), default=list(SYSTEMS), help=f"[{listed(SYSTEMS)}]")
    parser.add_argument(
        "--fan-outs", type=whole_numbers(FAN_OUT_MAX, 2), help=f"members of a channel  [{listed(FAN_OUTS)}]"
    )
    parser.add_argument(
        "--windows", type=whole_numbers(WINDOW_MAX), help=f"messages on their way  [{listed(WINDOWS)}]"
    )
    parser.add_argument("--seconds", type=float, help=f"how long a stretch lasts  [{SECONDS:g}]")
    parser.add_argument("--rounds", type=int, help=f"how often each is measured  [{ROUNDS}]")
    parser.add_argument("--quick", action="store_true", help="one small channel, one round")
    parser.add_argument("--markdown", action="store_true", help="print the tables as README has them, too")
    parser.add_argument("--data-dir", type=Path, help="where the databases are for a while, on a disk that counts")
    parser.add_argument(
        "--npm-folder", type=Path, default=npm.default_folder(), help="node's packages, kept there  [%(default)s]"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "gateway.json", help="[%(default)s]")
    parser.add_argument("--svg", type=Path, default=RESULTS / "gateway.svg", help="the plot  [%(default)s]")
    options = parser.parse_args(arguments)
    options.fan_outs = options.fan_outs or list(QUICK_FAN_OUTS if options.quick else FAN_OUTS)
    options.windows = options.windows or list(WINDOWS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    if not 0.05 <= options.seconds <= 60:
        parser.error(f"--seconds: expected 0.05 to 60, got {options.seconds:g}")
    if not 1 <= options.rounds <= 100:
        parser.error(f"--rounds: expected 1 to 100, got {options.rounds}")
    options.cpus = sorted(os.sched_getaffinity(0))
    return options


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    allow_many_sockets()
    options.lacking = lacking(options.systems, options.npm_folder)
    options.systems = [name for name in options.systems if name not in options.lacking]
    for name, lack in options.lacking.items():
        print(f"gateway: {name} is left out, it needs {lack}", file=sys.stderr)
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: list[dict[str, Any]] = []
    status = 0
    try:
        trio.run(run, options, rows)
    except* Failed as group:
        print(f"gateway: {first_of(group)}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows:
        write(document(options, rows, started_at, machine), options)
    return status


def write(results: dict[str, Any], options: argparse.Namespace) -> None:
    """Print the results and write the files."""
    compared = [row for row in results["rows"] if row["part"] != "chunks"]
    viewed = [row for row in results["rows"] if row["part"] == "chunks"]
    if compared:
        print(
            figures.table(
                gateway_report.HEADINGS, [cells for row in compared for cells in gateway_report.lines(row)]
            )
        )
    if viewed:
        lines = [cells for row in viewed for cells in gateway_report.chunk_lines(row)]
        print(figures.table(gateway_report.CHUNK_HEADINGS, lines))
    if options.markdown:
        print(gateway_report.markdown(compared))
    for line in (*gateway_report.goal_lines(results["goals"]), *gateway_report.remarks(results)):
        print(line)
    figures.write_json(options.json, results)
    if compared:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(svg.draw(**gateway_report.plot(results)))
        print(f"drawn to {options.svg}")


if __name__ == "__main__":
    sys.exit(main())

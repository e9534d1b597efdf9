"""What connections cost a server, how fast they come in, and what those do to it that do not read.

    python -m benchmarks.connections                              everything, some seven minutes
    python -m benchmarks.connections --quick                      a minute, to see that it works
    python -m benchmarks.connections --parts storm --offered 4000 --newcomers 8000

Five parts, each with a `livechat serve` of its own on one core, and a client process of its own on another:

    memory      what each idle, identified connection holds, at several sizes
    storm       many connect at once, while others talk: how fast they are in, and how long messages take
    tls         the same over TLS, of fewer
    heartbeats  what the heartbeats of idle connections take of a core
    slow        some read nothing, some 1 KB/s: how long messages take to all others, and how each of them ended

All connections are in rooms of `--room` members, and identified by the upgrade itself. "Without store" is what is
measured: `store.url` is `memory:`. Latency counts from when a message was *due* to its arrival at each receiver.
The client is a plain loop over one epoll; how long it was at work, and how late it did what was due, is in the
results: where `client busy` is near 1 the client was the bottleneck. The results go to the terminal, as a picture
to an SVG file and, with facts of the machine, to a JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.support import figures
from benchmarks.support.arguments import names_of, whole_numbers
from benchmarks.support.certificate import make_certificate
from benchmarks.support.cpu import pin, two_cores
from benchmarks.support.processes import ROOT, Failed, allow_many_sockets, running_server
from benchmarks.support.progress import ProgressLine
from benchmarks.support.svg import Bar, Group, Panel, draw

RESULTS: Final = Path(__file__).parent / "results"
FORMAT: Final = 1
"""Version of the JSON document's shape."""
PARTS: Final = ("memory", "storm", "tls", "heartbeats", "slow")
FULL: Final[dict[str, Any]] = {
    "sizes": [1000, 5000, 10_000],
    "connections": 10_000,
    "room": 100,
    "insiders": 1000,
    "newcomers": 5000,
    "offered": 2000,
    "tls_newcomers": 1000,
    "tls_offered": 500,
    "never": 100,
    "slow": 100,
    "seconds": 15.0,
}
QUICK: Final[dict[str, Any]] = {
    "sizes": [50, 200],
    "connections": 200,
    "room": 20,
    "insiders": 40,
    "newcomers": 200,
    "offered": 400,
    "tls_newcomers": 60,
    "tls_offered": 100,
    "never": 4,
    "slow": 4,
    "seconds": 1.0,
}
CHAT_HZ: Final = 50.0
"""Of the insiders' messages in a storm, all rooms together."""
CHARS: Final = 200
HEARTBEAT_S: Final = 30.0
"""As the server tells by default."""
HOT_ROOMS: Final = 5
HOT_HZ: Final = 20.0
"""Messages a second in each loud room: with `SLOW_CHARS` 40 KB/s, so who does not read is soon far behind."""
QUIET_HZ: Final = 20.0
"""Messages a second in all quiet rooms together."""
SLOW_CHARS: Final = 1900
PATIENCE_S: Final = 90.0
"""How long is waited for those that do not read to be closed."""
PAUSES: Final = {"settle_s": 2.0, "sample_s": 2.0, "let_out_s": 4.0}
"""How long nothing is done before what is idle is measured; how often the server is asked what it holds; how long
those that were stalled are read again, to see how they ended: more than `close_timeout_ms`."""
QUICK_PAUSES: Final = {"settle_s": 0.2, "sample_s": 0.2, "let_out_s": 1.0}
QUICK_EGRESS_BYTES: Final = "100000"
"""Of the part slow, when it is to be quick: it takes seconds instead of half a minute to pass this limit."""
OWN_FILES: Final = 200
"""What a process has open beside its connections."""
BEYOND_S: Final = 600.0
BUSY_SHARE: Final = 0.8
"""A client that was at work for more of the time than this may have been the bottleneck."""
LATE_US: Final = 5000.0


def document(
    options: argparse.Namespace, parts: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "connections"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    options     sizes, connections, room, insiders, newcomers, offered, tls_newcomers, tls_offered, never,
                slow, seconds, set
    parts       one object each, all with
        part        memory, storm, tls, heartbeats, slow
        client      busy_share (of the time at work), cpu_share, lateness_us (of what was due), and
                    server_waited_share (of the time the server was ready and had no core)
        server      gc_pauses {count, total_ms, longest_ms (at most; null: over 500)} of the garbage collector,
                    as it measures them itself; egress_held_bytes and egress_limit_bytes: what of the budget of
                    all egress queues is used at the end, and the budget (0: none)
        refused     ERRORs
        memory:     base {connections, rss_bytes}, rows [{connections, added_per_s, rss_bytes, rss_bytes_each,
                    pss_bytes_each, egress_held_bytes}]; "each" is what came beyond the base
        storm, tls: offered_per_s, newcomers, came_in, ended {how: count}, still_waiting, all_in_s, accepted_per_s,
                    ready_us (from connect to READY), cpu_us_each (of the server, beyond what it used before them),
                    chat [phase], disorder
        heartbeats: connections, interval_s, sent, answered, ended, phases [phase], cpu_us_each
        slow:       connections, stalled [{group, members, ends {close code, "eof", "reset" or "kept": count}}],
                    closed_by_server {close code: count}, others_ended, phases [phase], disorder,
                    memory {server_rss_bytes, tcp_bytes (of the machine), egress_bytes, egress_held_bytes (of
                    their budget); each _first and _max}
        a phase:    phase, seconds, server_cpu_share (of a core), and with chat: sent, expected, received, lost,
                    latency_us; expected are deliveries to those who read
    """
    return {
        "format": FORMAT,
        "benchmark": "connections",
        "started_at": started_at,
        "machine": machine,
        "options": {name: getattr(options, name) for name in FULL} | {"set": dict(options.set)},
        "parts": list(parts),
    }


# --- the table ----------------------------------------------------------------------------------------


def show(part: dict[str, Any]) -> str:
    """Return the tables of a part."""
    client = part["client"]
    late = client["lateness_us"]
    note = f"client busy {client['busy_share']:.0%}, late p99 {late['p99'] / 1000 if late else 0:.1f} ms"
    if client["busy_share"] > BUSY_SHARE or (late and late["p99"] > LATE_US):
        note += "  ! the client is part of these figures: the server is better"
    return "\n".join((part["part"], *_SHOW[part["part"]](part), _server(part["server"]), note, ""))


def _server(server: dict[str, Any]) -> str:
    pauses = server["gc_pauses"]
    longest = "off the scale" if pauses["longest_ms"] is None else f"at most {pauses['longest_ms']:g} ms"
    budget = f" of {server['egress_limit_bytes'] / 1e6:.0f}" if server["egress_limit_bytes"] else ""
    return (
        f"garbage collector: {pauses['count']} pauses, {pauses['total_ms']:g} ms in all, the longest {longest}; "
        f"egress queues hold {server['egress_held_bytes'] / 1e6:.1f}{budget} MB"
    )


def _show_memory(part: dict[str, Any]) -> Iterator[str]:
    rows = [
        [
            str(row["connections"]),
            _kb(row["rss_bytes_each"]),
            _kb(row["pss_bytes_each"]),
            _kb(row["egress_held_bytes"]),
            str(row["added_per_s"]),
        ]
        for row in part["rows"]
    ]
    headings = ("connections", "KB each (RSS)", "KB each (PSS)", "KB in egress queues", "connected and joined/s")
    yield figures.table(headings, rows)


def _show_storm(part: dict[str, Any]) -> Iterator[str]:
    ready = part["ready_us"] or {}
    yield (
        f"offered {part['offered_per_s']}/s, accepted {part['accepted_per_s']}/s; {part['came_in']} of "
        f"{part['newcomers']} in after {part['all_in_s']} s; {part['cpu_us_each']:.0f} us of the server each; "
        f"connect to READY p50 {_ms(ready, 'p50')}, p99 {_ms(ready, 'p99')} ms"
    )
    yield _phases(part["chat"])


def _show_heartbeats(part: dict[str, Any]) -> Iterator[str]:
    silent, beating = (phase["server_cpu_share"] for phase in part["phases"])
    yield (
        f"{part['connections']} connections, a heartbeat each {part['interval_s']:g} s: {beating:.1%} of a core "
        f"({silent:.1%} without), {part['cpu_us_each']:g} us each; {part['answered']} of {part['sent']} answered"
    )


def _show_slow(part: dict[str, Any]) -> Iterator[str]:
    for group in part["stalled"]:
        ends = ", ".join(f"{count} {how}" for how, count in sorted(group["ends"].items()))
        yield f"{group['group']}: {group['members']}, as they saw it: {ends}"
    closed = ", ".join(f"{count:.0f} by {code}" for code, count in sorted(part["closed_by_server"].items()))
    yield f"closed by the server: {closed or 'none'}; of the others ended: {part['others_ended']}"
    memory = part["memory"]
    if memory:
        names = (("server_rss_bytes", "server"), ("tcp_bytes", "TCP"), ("egress_held_bytes", "egress queues"))
        held = (
            f"{label} {memory[f'{name}_first'] / 1e6:.0f} -> {memory[f'{name}_max'] / 1e6:.0f}"
            for name, label in names
        )
        yield f"MB: {', '.join(held)}"
    yield _phases(part["phases"])


_SHOW: Final = {
    "memory": _show_memory,
    "storm": _show_storm,
    "tls": _show_storm,
    "heartbeats": _show_heartbeats,
    "slow": _show_slow,
}
_STORMS: Final = {"storm": "a connect storm", "tls": "a connect storm over TLS"}


def _phases(phases: Sequence[dict[str, Any]]) -> str:
    headings = ("phase", "seconds", "deliveries", "lost", "p50 ms", "p99 ms", "max ms", "server core")
    rows = [
        [
            phase["phase"],
            f"{phase['seconds']:.1f}",
            str(phase["received"]),
            str(phase["lost"]),
            *(_ms(phase["latency_us"] or {}, name) for name in ("p50", "p99", "max")),
            f"{phase['server_cpu_share']:.0%}",
        ]
        for phase in phases
    ]
    return figures.table(headings, rows)


def _kb(value: float) -> str:
    return f"{value / 1024:.1f}"


def _ms(summary: dict[str, float], name: str) -> str:
    return f"{summary[name] / 1000:.2f}" if name in summary else "-"


# --- the picture --------------------------------------------------------------------------------------


def picture(parts: Sequence[dict[str, Any]], machine: dict[str, Any]) -> str:
    """Return an SVG document."""
    panels = []
    for part in parts:
        if part["part"] == "memory":
            groups = [_group(f"{row['connections']}", row["rss_bytes_each"] / 1024) for row in part["rows"]]
            panels.append(Panel("Memory of an idle connection", "KB", groups))
        elif part["part"] == "heartbeats":
            groups = [_group(phase["phase"], 100 * phase["server_cpu_share"]) for phase in part["phases"]]
            panels.append(Panel(f"Processor time, {part['connections']} idle connections", "% of a core", groups))
        else:
            phases = part["chat"] if part["part"] in _STORMS else part["phases"]
            groups = [_group(p["phase"], (p["latency_us"] or {}).get("p99", 0.0) / 1000) for p in phases]
            name = _STORMS.get(part["part"], "readers that do not read")
            panels.append(Panel(f"p99 of the others' messages, {name}", "ms", groups))
    where = f"{machine['cpu_model']}, Python {machine['python']}, one core for the server"
    return draw("Connections", ("livechat",), panels, (where,))


def _group(name: str, value: float) -> Group:
    return Group(name, (Bar(value, (f"{value:.1f}",)),))


# --- running it ---------------------------------------------------------------------------------------


def assignment(options: argparse.Namespace, part: str) -> dict[str, Any]:
    """Return what the client of a part is told, but for the server's address."""
    told: dict[str, Any] = {"part": part, "room": options.room, "seconds": options.seconds}
    told |= QUICK_PAUSES if options.quick else PAUSES
    if part == "memory":
        told["sizes"] = options.sizes
    elif part in _STORMS:
        told |= {"insiders": options.insiders, "newcomers": options.newcomers, "offered_hz": options.offered}
        if part == "tls":
            told |= {"newcomers": options.tls_newcomers, "offered_hz": options.tls_offered}
        told |= {"chat_hz": CHAT_HZ, "chars": CHARS}
    elif part == "heartbeats":
        told |= {"connections": options.connections, "interval_s": HEARTBEAT_S}
    else:
        hot = min(HOT_ROOMS, max(1, options.connections // options.room // 2))
        told |= {"connections": options.connections, "never": options.never, "slow": options.slow}
        told |= {"hot_rooms": hot, "hot_hz": HOT_HZ, "quiet_hz": QUIET_HZ, "chars": SLOW_CHARS}
        told |= {"patience_s": PATIENCE_S}
    return told


def setting(text: str) -> tuple[str, str]:
    """Parse `GATEWAY_EGRESS_BYTES=65536` of the command line."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not name.isupper():
        raise argparse.ArgumentTypeError(f"expected a setting such as GATEWAY_EGRESS_BYTES=65536, got {text}")
    return name, value


def settings(options: argparse.Namespace, part: str, folder: Path) -> dict[str, str]:
    """Return the server's settings that are not the defaults; what they name is made in `folder`."""
    chosen = {"STORE_URL": "memory:"}
    if part == "tls":
        certificate, key = make_certificate(folder)
        chosen |= {"TLS_CERT": str(certificate), "TLS_KEY": str(key)}
    if part == "slow" and options.quick:
        chosen["GATEWAY_EGRESS_BYTES"] = QUICK_EGRESS_BYTES
    return chosen | dict(options.set)


async def run_part(options: argparse.Namespace, part: str, folder: Path, line: ProgressLine) -> dict[str, Any]:
    """Measure a part with a fresh server and a fresh client.

    Raises:
        Failed: one of them ended without a result, or it took too long.
    """
    token = secrets.token_urlsafe(24)
    server_cpus, client_cpus = two_cores(sorted(os.sched_getaffinity(0)))
    async with running_server(folder, token, **settings(options, part, folder / "tls")) as (url, pid):
        pin(pid, server_cpus)
        told = assignment(options, part) | {"url": url, "token": token, "server_pid": pid}
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "benchmarks.support.crowd_parts"],
            stdin=json.dumps(told).encode(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=False,
        )
        result: dict[str, Any] | None = None
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(start)
            pin(process.pid, client_cpus)
            assert process.stdout is not None
            rest = b""
            with trio.move_on_after(BEYOND_S) as scope:
                async for data in process.stdout:
                    *lines, rest = (rest + data).split(b"\n")
                    for said in map(json.loads, lines):
                        if "progress" in said:
                            line.tell(said["progress"])
                        else:
                            result = said["result"]
            nursery.cancel_scope.cancel()
        if result is None:
            raise Failed("the client took too long" if scope.cancelled_caught else "the client failed; see above")
        return {"part": part} | result


async def run(options: argparse.Namespace, parts: list[dict[str, Any]]) -> None:
    """Measure one part after another; each is there as soon as it is known."""
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        for number, part in enumerate(options.parts, 1):
            line = ProgressLine(f"{number}/{len(options.parts)} {part}")
            try:
                parts.append(await run_part(options, part, Path(folder) / part, line))
            finally:
                line.end()


def files_lacking(options: argparse.Namespace) -> int:
    """Return how many more open files a process would have to be allowed."""
    newcomers = max(options.newcomers, options.tls_newcomers)
    most = max(options.connections, *options.sizes, options.insiders + newcomers) + OWN_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if hard == resource.RLIM_INFINITY else max(0, most - hard)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connections", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", type=names_of(PARTS), default=list(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--sizes", type=whole_numbers(60_000), help="connections whose memory is counted")
    parser.add_argument("--connections", type=int, help="of the parts heartbeats and slow")
    parser.add_argument("--room", type=int, help="members of each channel")
    parser.add_argument("--insiders", type=int, help="who talk while the storm lasts")
    parser.add_argument("--newcomers", type=int, help="who come in the storm")
    parser.add_argument("--offered", type=int, help="connections a second in the storm")
    parser.add_argument("--tls-newcomers", type=int, help="who come in the storm over TLS")
    parser.add_argument("--tls-offered", type=int, help="connections a second in the storm over TLS")
    parser.add_argument("--never", type=int, help="who never read")
    parser.add_argument("--slow", type=int, help="who read 1 KB/s")
    parser.add_argument(
        "--set", type=setting, action="append", default=[], help="of the server, as GATEWAY_EGRESS_BYTES=65536"
    )
    parser.add_argument("--seconds", type=float, help="how long each phase lasts")
    parser.add_argument("--json", type=Path, default=RESULTS / "connections.json", help="[%(default)s]")
    parser.add_argument("--svg", type=Path, default=RESULTS / "connections.svg", help="[%(default)s]")
    parser.add_argument("--quick", action="store_true", help="few connections, short phases")
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
        elif not isinstance(value, list) and not 0 < getattr(options, name) <= 60_000:
            parser.error(f"--{name.replace('_', '-')}: expected 1 to 60000, got {getattr(options, name):g}")
    options.sizes = sorted(options.sizes)
    if not 10 <= options.room <= options.connections:
        parser.error(f"--room: expected 10 to {options.connections}, got {options.room}")
    return options


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    lacking = files_lacking(options)
    if lacking:
        print(f"connections: the limit of open files (ulimit -Hn) is too low by {lacking}", file=sys.stderr)
        return 1
    allow_many_sockets()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    parts: list[dict[str, Any]] = []
    status = 0
    try:
        trio.run(run, options, parts)
    except* Failed as group:
        print(f"connections: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if parts:
        for part in parts:
            print(show(part))
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        options.svg.write_text(picture(parts, machine))
        print(f"written to {options.svg}")
        figures.write_json(options.json, document(options, parts, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

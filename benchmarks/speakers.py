"""What a meeting costs a server of which only the loudest are forwarded, beside one that forwards everybody.

    python -m benchmarks.speakers                                 200 members, 3 of them speak; about a minute
    python -m benchmarks.speakers --quick                         a few seconds, to see that it works
    python -m benchmarks.speakers --members 50 --speakers 2 --rate 20 --profile AEAD_AES_128_GCM

All members send packets with audio levels: some speak, the others send the noise of a quiet room. Each listens
on a socket of its own. Three rows, each with a server process and a client process of its own, on this machine:

    all        no max_speakers: every packet goes to every other member
    loudest    max_speakers as many as speak: the same packets, of which only theirs are forwarded
    real time  the same at 50 packets a second from each member, which is how voice is sent; not with --quick

To forward everybody in real time would take many processors, so the first two compare at a lower rate, at which
a server can keep up. What counts is the processor time of the server, user and system. The results go to the
terminal and, with facts of the machine, to a JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks.support import figures
from benchmarks.support.meeting import Meeting
from benchmarks.support.processes import ROOT, Failed, allow_many_sockets, running_server
from benchmarks.support.scenario import PROFILES

JSON_FILE: Final = Path(__file__).parent / "results" / "speakers.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""

MEMBERS: Final = 200
SPEAKERS: Final = 3
RATE_HZ: Final = 4.0
"""From each member; above the hang-over of speech (0.3 s), so that speech is seen to go on."""
REAL_TIME_HZ: Final = 50.0
SECONDS: Final = 10.0
FULL: Final = {"members": MEMBERS, "speakers": SPEAKERS, "rate": RATE_HZ, "seconds": SECONDS}
QUICK: Final = {"members": 20, "speakers": 2, "rate": 10.0, "seconds": 1.0}
LOST_SHARE: Final = 0.01
OTHERS_CORES: Final = 0.25
"""More of other programs' work than this goes with a remark."""
BEYOND_S: Final = 120.0
"""What a row may take beyond its length: connecting, joining, preparing packets."""


def document(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], started_at: str, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "speakers"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...; load_average is before the start
    members, speakers, seconds, profile
    rows        one object each:
        row                   "all", "loudest" or "real time"
        max_speakers          null: everybody is forwarded
        rate_hz               packets a second from each member
        packets               sent by all members
        expected, received    copies at the listeners
        of_silent             of those received: of members who do not speak
        samples_opened        packets that were decrypted and compared, all rightly
        cpu_cores             kept busy meanwhile: server, client, others
        server_cpu_s          processor time of the server
        cpu_us_per_packet     the same for each packet sent
    saved       share of the processor time of "all" that "loudest" does not take, and of that for each packet
                that "real time" does not; null if it is not known
    """
    return {
        "format": FORMAT,
        "benchmark": "speakers",
        "started_at": started_at,
        "machine": machine,
        "members": options.members,
        "speakers": options.speakers,
        "seconds": options.seconds,
        "profile": options.profile,
        "rows": list(rows),
        "saved": {name: saved(rows, name) for name in ("loudest", "real time")},
    }


def saved(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return what share of the processor time for each packet a row saves; None if it is not known."""
    by_name: dict[str, float] = {row["row"]: row["cpu_us_per_packet"] for row in rows}
    if name not in by_name or not by_name.get("all"):
        return None
    return round(1 - by_name[name] / by_name["all"], 4)


HEADINGS: Final = (
    *("forwarded", "packets/s in", "copies", "lost", "of the silent"),
    *("server CPU us/packet", "cores: server", "client", "others"),
)


def table_row(row: dict[str, Any], seconds: float) -> list[str]:
    """Return a line of the table."""
    counts = [f"{row['packets'] / seconds:.0f}", str(row["received"]), str(row["expected"] - row["received"])]
    cores = [f"{row['cpu_cores'][who]:.2f}" for who in ("server", "client", "others")]
    return [row["row"], *counts, str(row["of_silent"]), f"{row['cpu_us_per_packet']:.1f}", *cores]


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what must be known to read the table rightly."""
    lines = [
        f"! {row['row']}: packets were lost, so the server did less than it should, and its figures are too good"
        for row in rows
        if row["expected"] - row["received"] > LOST_SHARE * row["expected"]
    ]
    if any(row["cpu_cores"]["others"] > OTHERS_CORES for row in rows):
        lines.append("! other programs were busy meanwhile: it is not this server alone that was measured")
    return lines


def planned(options: argparse.Namespace) -> list[tuple[str, int | None, float]]:
    """Return the rows: (name, max_speakers, packets a second from each member)."""
    rows = [("all", None, options.rate), ("loudest", options.speakers, options.rate)]
    return rows if options.quick else [*rows, ("real time", options.speakers, REAL_TIME_HZ)]


async def run(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Measure one row after another; each is there as soon as it is known."""
    plans = planned(options)
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        for number, (name, max_speakers, rate_hz) in enumerate(plans, 1):
            print(f"{number}/{len(plans)} {name}: {options.members} members", file=sys.stderr, flush=True)
            result = await run_row(options, Path(folder) / str(number), max_speakers, rate_hz)
            result["cpu_us_per_packet"] = round(result["server_cpu_s"] * 1e6 / result["packets"], 2)
            rows.append({"row": name, "max_speakers": max_speakers, "rate_hz": rate_hz} | result)


async def run_row(
    options: argparse.Namespace, folder: Path, max_speakers: int | None, rate_hz: float
) -> dict[str, Any]:
    """Measure with a fresh server and a fresh client.

    Raises:
        Failed: one of them ended without a result, or it took too long.
    """
    token = secrets.token_urlsafe(24)
    async with running_server(folder, token) as (url, pid):
        meeting = Meeting(
            url=url,
            token=token,
            server_pid=pid,
            members=options.members,
            speakers=options.speakers,
            max_speakers=max_speakers,
            rate_hz=rate_hz,
            seconds=options.seconds,
            profile=options.profile,
        )
        command = [sys.executable, "-m", "benchmarks.support.meeting"]
        stdin = json.dumps(attrs.asdict(meeting)).encode()
        with trio.move_on_after(options.seconds + BEYOND_S):
            done = await trio.run_process(command, stdin=stdin, cwd=ROOT, capture_stdout=True, check=False)
            if done.returncode:
                raise Failed("the client failed; see above")
            result: dict[str, Any] = json.loads(done.stdout)
            return result
        raise Failed("the client took too long")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speakers", description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, help=f"who all send and listen  [{MEMBERS}]")
    parser.add_argument("--speakers", type=int, help=f"members who speak; also max_speakers  [{SPEAKERS}]")
    parser.add_argument("--rate", type=float, help=f"packets a second from each member  [{RATE_HZ:g}]")
    parser.add_argument("--seconds", type=float, help=f"how long each row lasts  [{SECONDS:g}]")
    parser.add_argument("--profile", choices=PROFILES, default=PROFILES[0], help="[%(default)s]")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where to write the results  [%(default)s]")
    parser.add_argument("--quick", action="store_true", help="a small meeting")
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not 2 <= options.members <= 1000:
        parser.error(f"--members: expected 2 to 1000, got {options.members}")
    if not 1 <= options.speakers < options.members:
        parser.error(f"--speakers: expected 1 to {options.members - 1}, got {options.speakers}")
    if not 0 < options.rate <= 1000:
        parser.error(f"--rate: expected up to 1000, got {options.rate:g}")
    if not 0 < options.seconds <= 600:
        parser.error(f"--seconds: expected up to 600, got {options.seconds:g}")
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
        print(f"speakers: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows:
        print(figures.table(HEADINGS, [table_row(row, options.seconds) for row in rows]))
        for line in remarks(rows):
            print(line)
        for name in ("loudest", "real time"):
            share = saved(rows, name)
            if share is not None:
                print(f"{name}: {share:.1%} less of the server's processor time a packet than to forward all")
        figures.write_json(options.json, document(options, rows, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

"""How long `POST /api/v1/jobs` takes until its 202, which comes only once the job is stored.

    python -m benchmarks.jobs                       about half a minute
    python -m benchmarks.jobs --quick               a few seconds, to see that it works
    python -m benchmarks.jobs --rounds 5000 --pause-ms 0
    python -m benchmarks.jobs --store-url memory:   what is left without the disk

The server is a process of its own with SQLite on disk (`synchronous=FULL`); the client is the standard library's
`http.client`, which keeps one connection alive and asks for one thing at a time. Each job really runs: it exports
the history of a channel into a file, while the next ones are handed in. Beside new jobs the same requests are sent
again, which their Idempotency-Keys answer. The time is from before the request is written to after the body was
read.

The results go to the terminal and to a JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trio

from benchmarks.support import figures
from benchmarks.support.processes import Failed, running_server
from benchmarks.support.requests import BlockingClient

IDENTIFY, READY, CREATE, JOIN, MESSAGE, ACK = 3, 4, 10, 11, 20, 200
JSON_FILE: Final = Path(__file__).parent / "results" / "jobs.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""
USER: Final = "bench"
CHANNEL: Final = "bench"
MESSAGES: Final = 100
"""What each job exports."""
TARGET_MS: Final = 5.0
"""What the 99th percentile of new jobs is to be at most."""

Rows = list[dict[str, Any]]


def document(options: argparse.Namespace, rows: Rows, started_at: str, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "jobs"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...
    pause_ms    between two requests
    store_url   null: SQLite on disk
    messages    what each job exports
    rows        one object each:
        what    "new" or "again" (the same Idempotency-Keys)
        rounds  measurements
        us      p50, p99, p99.9, mean, min, max
    """
    return {
        "format": FORMAT,
        "benchmark": "jobs",
        "started_at": started_at,
        "machine": machine,
        "pause_ms": options.pause_ms,
        "store_url": options.store_url,
        "messages": MESSAGES,
        "rows": rows,
    }


class Bench:
    """One server, and one connection to it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        address = urlsplit(url)
        assert address.hostname is not None
        self._http = HTTPConnection(address.hostname, address.port)

    def set_up(self) -> None:
        """Make the channel whose history the jobs export."""
        client = BlockingClient(self._url)
        client.ask(IDENTIFY, {"token": self._token, "user_id": USER}, READY)
        client.ask(CREATE, {"channel_id": CHANNEL}, ACK)
        client.ask(JOIN, {"channel_id": CHANNEL}, ACK)
        for number in range(MESSAGES):
            client.ask(MESSAGE, {"channel_id": CHANNEL, "content": "m" * 200}, ACK, id=number)
        client.drop()

    def post(self, key: str) -> tuple[int, str]:
        """Hand in a job; return how many nanoseconds that took, and its id.

        Raises:
            Failed: it was not taken.
        """
        body = json.dumps({"kind": "export_history", "input": {"channel_id": CHANNEL}})
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/json",
            "Idempotency-Key": key,
            "X-User-Id": USER,
        }
        begun = time.perf_counter_ns()
        self._http.request("POST", "/api/v1/jobs", body, headers)
        response = self._http.getresponse()
        told = response.read()
        elapsed = time.perf_counter_ns() - begun
        if response.status != 202:
            raise Failed(f"expected 202, got {response.status}: {told.decode()}")
        return elapsed, json.loads(told)["job_id"]


def measure(url: str, token: str, rounds: int, pause_s: float) -> Rows:
    """Hand in so many jobs, then all of them again. Blocks."""
    bench = Bench(url, token)
    bench.set_up()
    for number in range(min(50, rounds)):
        bench.post(f"warm-{number}")
    times: dict[str, list[int]] = {"new": [], "again": []}
    ids: dict[str, list[str]] = {"new": [], "again": []}
    for what in times:
        for number in range(rounds):
            elapsed, job_id = bench.post(f"key-{number}")
            times[what].append(elapsed)
            ids[what].append(job_id)
            time.sleep(pause_s)
    if ids["new"] != ids["again"] or len(set(ids["new"])) != rounds:
        raise Failed("a key was not answered by the job that it stands for")
    return [{"what": what, "rounds": rounds, "us": figures.summarize_us(taken)} for what, taken in times.items()]


def print_table(rows: Rows) -> None:
    """Print the figures."""
    names = ("p50", "p99", "p99.9", "max")
    lines = [
        [row["what"], f"{row['rounds']:,}", *(f"{row['us'][name] / 1000:.2f}" for name in names)] for row in rows
    ]
    print(figures.table(["POST /jobs, ms", "rounds", *names], lines))
    p99_ms = rows[0]["us"]["p99"] / 1000
    print(f"\nnew jobs: p99 {p99_ms:.2f} ms, {'within' if p99_ms <= TARGET_MS else 'beyond'} {TARGET_MS:g} ms")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.jobs", description="Measure POST /api/v1/jobs.")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--rounds", type=_positive, default=2000)
    parser.add_argument("--pause-ms", type=float, default=5.0, help="between two requests (default 5)")
    parser.add_argument("--store-url", help="as in the configuration (default: SQLite on disk)")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where the figures go")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds = 20
    if not 0 <= options.pause_ms <= 10_000:
        parser.error("--pause-ms: expected 0 to 10000")
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {number}")
    return number


async def run(options: argparse.Namespace) -> Rows:
    """Measure with a server of its own."""
    token = secrets.token_urlsafe(24)
    # Nobody is refused: what is measured is how long taking a job takes.
    bounds = {"JOBS_PER_USER": "1000000", "JOBS_QUEUE_MAX": "1000000"}
    if options.store_url is not None:
        bounds["STORE_URL"] = options.store_url
    with tempfile.TemporaryDirectory() as folder:
        async with running_server(Path(folder), token, **bounds) as (url, _):
            return await trio.to_thread.run_sync(measure, url, token, options.rounds, options.pause_ms / 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit status."""
    options = parse(arguments)
    machine = figures.machine_facts()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    rows: Rows = []
    status = 0
    try:
        rows = trio.run(run, options)
    except* (Failed, OSError) as group:
        print(f"jobs: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows:
        print_table(rows)
        figures.write_json(options.json, document(options, rows, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

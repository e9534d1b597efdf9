"""How long a client waits to be up to date again: RESUME after missed messages, READY with many channels.

    python -m benchmarks.resume                     everything, about a minute
    python -m benchmarks.resume --quick             a few seconds, to see that it works
    python -m benchmarks.resume --missed 100,1000,10000 --channels 100,1000 --rounds 200

RESUME: from the send of RESUME to the last byte of RESUMED, all missed messages of one channel before it; beside
it the same messages fetched by HISTORY, a hundred at a time, on a connection that is open already. READY: from the
send of IDENTIFY to the last byte of READY, for a user who is a member of so many channels; beside it the same
asked channel by channel with CHANNEL_INFO, all sent at once.

The server is a process of its own with SQLite on disk; the client waits for one thing at a time and parses none of
what is replayed. The results go to the terminal and to a JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.support import figures
from benchmarks.support.processes import Failed, running_server
from benchmarks.support.requests import BlockingClient, Reply, Unexpected

IDENTIFY, READY, RESUME, RESUMED, CREATE, JOIN, INFO, MESSAGE, HISTORY, ACK = 3, 4, 5, 6, 10, 11, 16, 20, 21, 200
JSON_FILE: Final = Path(__file__).parent / "results" / "resume.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""
MISSED: Final = (100, 1000)
CHANNELS: Final = (100, 1000)
ROUNDS: Final = 100
QUICK: Final = {"missed": [20], "channels": [10], "rounds": 3}
CONTENT: Final = "m" * 200
HISTORY_LIMIT: Final = 100
IN_FLIGHT: Final = 200
"""Requests of the set-up that wait for their answer at a time."""

Rows = list[dict[str, Any]]


def document(options: argparse.Namespace, rows: Rows, started_at: str, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "resume"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...
    rows        one object each:
        what        "resume" or "ready"
        count       messages missed, or channels
        rounds      measurements
        bytes       of what was sent to the client each time
        us          p50, p99, p99.9, mean, min, max
        beside      the other way to the same: "history" or "channel_info"
        beside_us   the same figures of it
        ratio       of the means: beside / this
    """
    return {
        "format": FORMAT,
        "benchmark": "resume",
        "started_at": started_at,
        "machine": machine,
        "content_chars": len(CONTENT),
        "rows": rows,
    }


class Bench:
    """One server and what is asked of it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def connect(self, user_id: str) -> tuple[BlockingClient, Reply]:
        """Open a connection with a new session; return it and READY."""
        client = BlockingClient(self._url)
        return client, client.ask(IDENTIFY, {"token": self._token, "user_id": user_id}, READY)

    def resume(self, count: int, rounds: int) -> dict[str, Any]:
        """Measure RESUME after `count` messages that a session has not heard."""
        channel_id = f"missed-{count}"
        sender, _ = self.connect("sender")
        listener, ready = self.connect("listener")
        sender.ask(CREATE, {"channel_id": channel_id}, ACK)
        sender.ask(JOIN, {"channel_id": channel_id}, ACK)
        joined = listener.ask(JOIN, {"channel_id": channel_id}, ACK)
        after = joined.packet["d"]["data"]["last_seq"]
        position = {
            "session_id": ready.packet["d"]["session_id"],
            "token": self._token,
            "channels": {channel_id: after},
        }
        for number in range(count):
            sender.ask(MESSAGE, {"channel_id": channel_id, "content": CONTENT}, ACK, id=number)
        resumed, fetched, size = [], [], 0
        for _ in range(rounds):
            fetched.append(self._history(listener, channel_id, after, count))
            listener.drop()
            listener = BlockingClient(self._url)
            reply = listener.ask(RESUME, position, RESUMED)
            told = reply.packet["d"]["channels"][channel_id]
            if not told["recovered"] or told["replayed"] != count:
                raise Unexpected(f"expected {count} messages, got {told}")
            resumed.append(reply.elapsed_ns)
            size = reply.bytes_before
        sender.drop()
        listener.drop()
        return row("resume", count, size, resumed, "history", fetched)

    @staticmethod
    def _history(client: BlockingClient, channel_id: str, after: int, count: int) -> int:
        """Fetch the same messages page by page; return how long it took, in nanoseconds."""
        elapsed_ns = fetched = 0
        while fetched < count:
            page = {"channel_id": channel_id, "after_seq": after + fetched, "limit": HISTORY_LIMIT}
            reply = client.ask(HISTORY, page, ACK)
            elapsed_ns += reply.elapsed_ns
            fetched += len(reply.packet["d"]["data"]["messages"])
        return elapsed_ns

    def ready(self, count: int, rounds: int) -> dict[str, Any]:
        """Measure READY for a member of `count` channels, each with a message."""
        user_id = f"member-of-{count}"
        member, _ = self.connect(user_id)
        channel_ids = [f"channel-{count}-{number}" for number in range(count)]
        for channel_id in channel_ids:
            member.ask(CREATE, {"channel_id": channel_id}, ACK)
            member.ask(JOIN, {"channel_id": channel_id}, ACK)
            member.ask(MESSAGE, {"channel_id": channel_id, "content": CONTENT}, ACK, id=1)
        ready, asked, size = [], [], 0
        for _ in range(rounds):
            asked.append(self._infos(member, channel_ids))
            member.drop()
            member, reply = self.connect(user_id)
            if len(reply.packet["d"]["channels"]) != count:
                raise Unexpected(f"expected {count} channels, got {len(reply.packet['d']['channels'])}")
            ready.append(reply.elapsed_ns)
            size = reply.bytes_of_reply
        member.drop()
        return row("ready", count, size, ready, "channel_info", asked)

    @staticmethod
    def _infos(client: BlockingClient, channel_ids: Sequence[str]) -> int:
        """Ask for the channels one by one, without waiting in between; return how long it took, in nanoseconds."""
        started_ns = time.perf_counter_ns()
        client.ask_all([(INFO, {"channel_id": channel_id}) for channel_id in channel_ids], ACK)
        return time.perf_counter_ns() - started_ns


def row(
    what: str, count: int, size: int, values_ns: list[int], beside: str, beside_ns: list[int]
) -> dict[str, Any]:
    """Return a row as `document` describes it."""
    return {
        "what": what,
        "count": count,
        "rounds": len(values_ns),
        "bytes": size,
        "us": figures.summarize_us(values_ns),
        "beside": beside,
        "beside_us": figures.summarize_us(beside_ns),
        "ratio": round(sum(beside_ns) / sum(values_ns), 2),
    }


HEADINGS: Final = (
    "what",
    "of",
    "rounds",
    "bytes",
    "p50 ms",
    "p99 ms",
    "max ms",
    "beside",
    "p50 ms",
    "p99 ms",
    "ratio",
)


def table_row(result: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    cells = [result["what"], str(result["count"]), str(result["rounds"]), str(result["bytes"])]
    cells += [f"{result['us'][name] / 1000:.2f}" for name in ("p50", "p99", "max")]
    cells += [result["beside"], *(f"{result['beside_us'][name] / 1000:.2f}" for name in ("p50", "p99"))]
    return [*cells, f"{result['ratio']:.2f}"]


def whole_numbers(text: str) -> list[int]:
    """Parse `10,100` of the command line."""
    values = [int(part) for part in text.split(",")]
    if not all(0 < value <= 10_000 for value in values):
        raise ValueError
    return values


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resume", description=__doc__.split("\n")[0])
    parser.add_argument("--missed", type=whole_numbers, help="messages missed, such as 100,1000")
    parser.add_argument("--channels", type=whole_numbers, help="channels of a user, such as 100,1000")
    parser.add_argument("--rounds", type=int, help=f"measurements of each  [{ROUNDS}]")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it works")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where to write  [%(default)s]")
    options = parser.parse_args(arguments)
    defaults = QUICK if options.quick else {"missed": list(MISSED), "channels": list(CHANNELS), "rounds": ROUNDS}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if not 0 < options.rounds <= 10_000:
        parser.error(f"--rounds: expected 1 to 10000, got {options.rounds}")
    return options


async def run(options: argparse.Namespace, rows: Rows) -> None:
    """Measure one thing after another; each row is there as soon as it is known."""
    token = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        async with running_server(Path(folder) / "data", token) as (url, _pid):
            bench = Bench(url, token)
            for count in options.missed:
                rows.append(await trio.to_thread.run_sync(bench.resume, count, options.rounds))
            for count in options.channels:
                rows.append(await trio.to_thread.run_sync(bench.ready, count, options.rounds))


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: Rows = []
    status = 0
    try:
        trio.run(run, options, rows)
    except* (Failed, Unexpected, OSError) as group:
        print(f"resume: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    if rows:
        print(figures.table(HEADINGS, [table_row(result) for result in rows]))
        figures.write_json(options.json, document(options, rows, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

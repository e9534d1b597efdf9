"""How many messages a second the store makes durable, beside one transaction for each message.

    python -m benchmarks.store                      everything, some three minutes
    python -m benchmarks.store --quick              a few seconds, to see that it works
    python -m benchmarks.store --only sqlite-full,postgres --senders 1,10,200 --seconds 5

So many senders, spread over ten channels, each send a message with a nonce as soon as their last one is
answered: first through livechat's store, where messages that wait share a transaction, then each in a
transaction of its own in a thread, on the same tables and with the same rows; on PostgreSQL also over the twenty
connections of a usual pool, where the server syncs several transactions at once. All run in this process, in
turns of a third of the seconds, so that a disk that is slower for a while is so for all; each with a new
database. `sqlite-normal` syncs at checkpoints only, so its messages may be lost in a power cut; `memory` is the
store without a disk.

PostgreSQL is a throw-away server on this machine's disk, with fsync on. The results go to the terminal and to a
JSON file (its shape is documented in `document`).
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks.support import figures
from benchmarks.support.one_by_one import OneByOne
from benchmarks.support.processes import Failed
from livechat.protocol.types import ChannelId, UserId
from livechat.store.base import Outcome, Store, perform
from livechat.store.opening import open_store
from livechat.store.operations import CreateChannel, CreateMessage, JoinChannel
from livechat.store.rows import Stored, new_message_id
from livechat.tuning import tune_process

JSON_FILE: Final = Path(__file__).parent / "results" / "store.json"
FORMAT: Final = 1
"""Version of the JSON document's shape."""
BACKENDS: Final = ("sqlite-full", "sqlite-normal", "postgres", "memory")
SENDERS: Final = (1, 10, 200)
SECONDS: Final = 6.0
QUICK_SECONDS: Final = 0.3
ROUNDS: Final = 3
WARM_UP_S: Final = 0.2
CHANNELS: Final = 10
CONTENT: Final = "m" * 100
CONNECTIONS: Final = {"sqlite-full": (1,), "sqlite-normal": (1,), "postgres": (1, 20), "memory": ()}
"""Over how many connections messages are stored one by one; SQLite has one writer at a time."""
NOW_MS: Final = 1_700_000_000_000

Send = Callable[[CreateMessage], Awaitable[object]]
Rows = list[dict[str, Any]]


def document(options: argparse.Namespace, rows: Rows, started_at: str, machine: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON document.

    format      1
    benchmark   "store"
    started_at  ISO 8601, UTC
    machine     cpu_count, cpus_usable, cpu_model, platform, python, ...
    rows        one object each:
        store        sqlite-full, sqlite-normal, postgres or memory
        senders      at a time
        group        messages_per_s, latency_us (p50, p99, p99.9, mean, min, max), transactions
        one_by_one   a list of: connections, messages_per_s, latency_us, ratio (of the messages per second:
                     group / one by one); empty for memory
    """
    return {
        "format": FORMAT,
        "benchmark": "store",
        "started_at": started_at,
        "machine": machine,
        "seconds": options.seconds,
        "channels": CHANNELS,
        "content_chars": len(CONTENT),
        "rows": rows,
    }


# --- what is sent ---------------------------------------------------------------------------------


def channel_of(sender: int) -> ChannelId:
    """Return where a sender sends."""
    return ChannelId(f"channel-{sender % CHANNELS}")


async def prepare(store: Store, senders: int) -> None:
    """Make the channels and their members."""
    for number in range(CHANNELS):
        owner = UserId("owner")
        channel_id = channel_of(number)
        await perform(
            store,
            CreateChannel(channel_id, channel_id, "conference", True, 10_000, False, None, None, owner, NOW_MS),
        )
    for sender in range(senders):
        await perform(store, JoinChannel(channel_of(sender), UserId(f"user-{sender}"), NOW_MS))


def message(sender: int, number: int) -> CreateMessage:
    """Return one of the messages of a sender."""
    return CreateMessage(
        channel_id=channel_of(sender),
        author_id=UserId(f"user-{sender}"),
        content=CONTENT,
        message_type="TEXT",
        attachment=None,
        mentions=(),
        nonce=f"{sender}-{number}",
        body_digest=b"0123456789abcdef",
        message_id=new_message_id(),
        now_ms=NOW_MS,
    )


@attrs.frozen
class Measured:
    """Some seconds of sending; the warm-up left out."""

    latencies_ns: list[int]
    elapsed_s: float
    transactions: int = 0


def summary(rounds: Sequence[Measured]) -> dict[str, Any]:
    """Return messages a second and their latencies over all rounds."""
    latencies_ns = [latency_ns for each in rounds for latency_ns in each.latencies_ns]
    return {
        "messages_per_s": round(len(latencies_ns) / sum(each.elapsed_s for each in rounds)),
        "latency_us": figures.summarize_us(latencies_ns),
    }


async def measure(send: Send, senders: int, seconds: float) -> Measured:
    """Send for a while."""
    latencies_ns: list[int] = []
    begin = trio.current_time() + WARM_UP_S
    end = begin + seconds

    async def keep_sending(sender: int) -> None:
        number = 0
        while (now := trio.current_time()) < end:
            started_ns = time.perf_counter_ns()
            await send(message(sender, number))
            number += 1
            if begin <= now:
                latencies_ns.append(time.perf_counter_ns() - started_ns)

    async with trio.open_nursery() as nursery:
        for sender in range(senders):
            nursery.start_soon(keep_sending, sender)
    # Those that were under way at the end are counted, and the time that they took.
    return Measured(latencies_ns, trio.current_time() - begin)


async def measure_submitted(store: Store, senders: int, seconds: float) -> Measured:
    """Do the same as the gateway's handlers do: submit, and go on from the callback that runs after the commit."""
    latencies_ns: list[int] = []
    begin = trio.current_time() + WARM_UP_S
    end = begin + seconds
    left = senders
    finished = trio.Event()

    def send(sender: int, number: int) -> None:
        nonlocal left
        now = trio.current_time()
        if now >= end:
            left -= 1
            if not left:
                finished.set()
            return
        started_ns = time.perf_counter_ns()

        def done(outcome: Outcome[Stored]) -> None:
            outcome.unwrap()
            if begin <= now:
                latencies_ns.append(time.perf_counter_ns() - started_ns)
            send(sender, number + 1)

        store.submit(message(sender, number), done)

    for sender in range(senders):
        send(sender, 0)
    await finished.wait()
    return Measured(latencies_ns, trio.current_time() - begin)


# --- where ----------------------------------------------------------------------------------------


def new_database(backend: str, folder: Path, postgres: Any) -> tuple[str, Callable[[], Any], str]:
    """Make a new database; return its URL, what connects to it, and the placeholder of the driver."""
    if backend == "postgres":
        url = postgres.url(postgres.create_database())
        return url, partial(_connect_postgres, url), "%s"
    path = folder / "livechat.db"
    synchronous = "FULL" if backend == "sqlite-full" else "NORMAL"
    url = "memory:" if backend == "memory" else f"sqlite:///{path}"
    return url, partial(_connect_sqlite, path, synchronous), "?"


def _connect_sqlite(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    return connection


def _connect_postgres(url: str) -> Any:
    import psycopg

    return psycopg.connect(url, autocommit=True)


@asynccontextmanager
async def opened(url: str, folder: Path, backend: str) -> AsyncGenerator[Store]:
    """Open livechat's store on a database."""
    synchronous = "normal" if backend == "sqlite-normal" else "full"
    async with open_store(url, folder, timeout_s=30.0, queue_max=65_536, synchronous=synchronous) as store:  # type: ignore[arg-type]
        yield store


async def run_row(backend: str, senders: int, seconds: float, postgres: Any) -> dict[str, Any]:
    """Measure all ways with so many senders, in turns; return a row as `document` describes it."""
    grouped: list[Measured] = []
    single: dict[int, list[Measured]] = {connections: [] for connections in CONNECTIONS[backend]}
    for _ in range(ROUNDS):
        grouped.append(await group_commit(backend, senders, seconds / ROUNDS, postgres))
        for connections, rounds in single.items():
            rounds.append(await one_by_one(backend, connections, senders, seconds / ROUNDS, postgres))
    group = summary(grouped)
    others = [{"connections": connections} | summary(rounds) for connections, rounds in single.items()]
    for other in others:
        other["ratio"] = round(group["messages_per_s"] / other["messages_per_s"], 1)
    group["transactions"] = sum(each.transactions for each in grouped)
    return {"store": backend, "senders": senders, "group": group, "one_by_one": others}


async def group_commit(backend: str, senders: int, seconds: float, postgres: Any) -> Measured:
    """Measure livechat's store."""
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        url, _, _ = new_database(backend, Path(folder), postgres)
        async with opened(url, Path(folder), backend) as store:
            await prepare(store, senders)
            before = store.statistics().batches
            measured = await measure_submitted(store, senders, seconds)
            return attrs.evolve(measured, transactions=store.statistics().batches - before)


async def one_by_one(backend: str, connections: int, senders: int, seconds: float, postgres: Any) -> Measured:
    """Measure one transaction for each message."""
    with tempfile.TemporaryDirectory(prefix="livechat-benchmark-") as folder:
        url, connect, mark = new_database(backend, Path(folder), postgres)
        async with opened(url, Path(folder), backend) as store:
            await prepare(store, senders)
        plain = OneByOne(connect, connections, mark)
        try:
            return await measure(plain.send, senders, seconds)
        finally:
            plain.close()


# --- the command ----------------------------------------------------------------------------------

HEADINGS: Final = ("store", "senders", "way", "messages/s", "p50 ms", "p99 ms", "messages/commit", "group wins by")


def table_rows(result: dict[str, Any]) -> list[list[str]]:
    """Return the lines of the table for one row."""
    group, start = result["group"], [result["store"], str(result["senders"])]
    per_commit = "-"
    if result["store"] != "memory":
        per_commit = f"{group['messages_per_s'] * result['seconds'] / group['transactions']:.1f}"
    lines = [[*start, "group commit", *_cells(group), per_commit, ""]]
    for single in result["one_by_one"]:
        way = f"one by one, {single['connections']} connection{'s' * (single['connections'] > 1)}"
        lines.append([*start, way, *_cells(single), "1", f"{single['ratio']:.1f}"])
    return lines


def _cells(measured: dict[str, Any]) -> list[str]:
    latency = measured["latency_us"]
    return [str(measured["messages_per_s"]), *(f"{latency[name] / 1000:.2f}" for name in ("p50", "p99"))]


def names(text: str) -> list[str]:
    """Parse `sqlite-full,postgres` of the command line."""
    chosen = text.split(",")
    if not set(chosen) <= set(BACKENDS):
        raise ValueError
    return chosen


def whole_numbers(text: str) -> list[int]:
    """Parse `1,10` of the command line."""
    values = [int(part) for part in text.split(",")]
    if not all(0 < value <= 1000 for value in values):
        raise ValueError
    return values


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__.split("\n")[0])
    parser.add_argument("--only", type=names, default=list(BACKENDS), help=f"of {', '.join(BACKENDS)}")
    parser.add_argument("--senders", type=whole_numbers, default=list(SENDERS), help="at a time, such as 1,10,200")
    parser.add_argument("--seconds", type=float, help=f"how long each measurement lasts  [{SECONDS:g}]")
    parser.add_argument("--quick", action="store_true", help="short ones, to see that it works")
    parser.add_argument("--json", type=Path, default=JSON_FILE, help="where to write  [%(default)s]")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    if not 0 < options.seconds <= 600:
        parser.error(f"--seconds: expected up to 600, got {options.seconds:g}")
    return options


@contextmanager
def postgres_if(wanted: bool) -> Generator[Any]:
    """Run a throw-away PostgreSQL, with fsync on, if it is wanted."""
    if not wanted:
        yield None
        return
    try:
        from tests.support.postgres import PostgresServer
    except ImportError as exc:
        raise Failed(f"PostgreSQL takes what the tests need; pip install -e '.[test]' ({exc})") from exc

    server = PostgresServer("fsync=on", "synchronous_commit=on")
    server.start()
    try:
        yield server
    finally:
        server.remove()


async def run(options: argparse.Namespace, rows: Rows) -> None:
    """Measure one thing after another; each row is there as soon as it is known."""
    with postgres_if("postgres" in options.only) as postgres:
        for backend in options.only:
            for senders in options.senders:
                result = await run_row(backend, senders, options.seconds, postgres)
                rows.append(result | {"seconds": options.seconds})
                print(f"{backend}, {senders} senders: done", file=sys.stderr)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    options = parse_arguments()
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine = figures.machine_facts()
    rows: Rows = []
    status = 0
    tune_process()  # as `livechat serve` does
    try:
        trio.run(run, options, rows)
    except Failed as exc:
        print(f"store: {exc}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    if rows:
        print(figures.table(HEADINGS, [line for row in rows for line in table_rows(row)]))
        figures.write_json(options.json, document(options, rows, started_at, machine))
    return status


if __name__ == "__main__":
    sys.exit(main())

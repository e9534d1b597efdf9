"""Owns the question what voice does to chat: the same chat, with the relay idle and with the relay at its limit.

It must not let its own work make the difference: sending chat, sending voice and receiving both are one loop,
which spins whether there is voice or not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from benchmarks.support.arrivals import Drain
from benchmarks.support.chat import ChatLoad
from benchmarks.support.gateway import keep_alive
from benchmarks.support.load import Tell, measure
from benchmarks.support.media_compare import TellTrial, compare
from benchmarks.support.media_probe import Flow, packets_of
from benchmarks.support.media_start import RunningServer
from benchmarks.support.mmsg import Outbox
from benchmarks.support.pacing import open_metronome
from benchmarks.support.scenario import Assignment, Scenario

CHAT_RATE_HZ: Final = 100.0
CHAT_FAN_OUT: Final = 20
ROUNDS: Final = 4
"""Without and with voice, in turn; of each the round with the lowest 99th percentile counts."""
SECONDS_TIMES: Final = 10
"""So many times as long as a trial of the relay is a round."""
GOAL_MS: Final = 2.0
"""What voice may add to chat's 99th percentile."""
LONGER_S: Final = 1.0
"""Voice goes on for longer than chat, which begins later and waits for what is late."""


async def beside_gateway(
    server: RunningServer, outbox: Outbox, seconds: float, tell: Tell, tell_trial: TellTrial
) -> dict[str, Any]:
    """Find the relay's limit, then measure chat beside none and beside so much voice.

    Raises:
        Failed: the relay does not relay.
    """
    [relay] = await compare([server.system], outbox, seconds, tell_trial)
    saturation = relay["saturation"]
    chat_s = seconds * SECONDS_TIMES
    assignment = Assignment(
        Scenario("chat", CHAT_RATE_HZ, CHAT_FAN_OUT, chat_s), server.url, server.token, server.system.pid
    )
    rows: dict[str, list[dict[str, Any]]] = {"without": [], "with": []}
    drain = Drain()
    load = ChatLoad(assignment, drain)
    count = assignment.scenario.count
    try:
        async with open_metronome() as metronome, trio.open_nursery() as nursery:
            nursery.start_soon(drain.run)
            await load.set_up(tell)
            nursery.start_soon(keep_alive, load.clients)
            for number in range(2 * ROUNDS):
                if number % 2 and saturation is None:
                    continue
                rate_hz = saturation["rate_hz"] if number % 2 else None
                async with _voice(server, outbox, rate_hz, chat_s) as flow:
                    row = await measure(
                        load, metronome, number * count, count, CHAT_RATE_HZ, server.system.pid, _tell_nothing
                    )
                rows["with" if number % 2 else "without"].append(_row(row, flow))
            nursery.cancel_scope.cancel()
    finally:
        drain.close()
        for client in load.clients:
            client.close()
    return {
        "relay": relay,
        "chat_rate_hz": CHAT_RATE_HZ,
        "chat_fan_out": CHAT_FAN_OUT,
        "seconds": chat_s,
        "rounds": rows,
    } | _difference(rows)


@asynccontextmanager
async def _voice(
    server: RunningServer, outbox: Outbox, rate_hz: float | None, seconds: float
) -> AsyncGenerator[Flow | None]:
    """Send voice in the background, or only spin as if."""
    flow = None
    if rate_hz is not None:
        flow = Flow(server.system, outbox, packets_of(outbox, rate_hz, seconds + LONGER_S), rate_hz)

    async def spin() -> None:
        while True:
            if flow is not None:
                flow.step()
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(spin)
        yield flow
        nursery.cancel_scope.cancel()


def _row(row: dict[str, Any], flow: Flow | None) -> dict[str, Any]:
    kept = ("sent", "lost", "latency_us", "send_lateness_us", "client_late", "cpu_cores")
    chat = {name: row[name] for name in kept}
    if flow is None:
        return chat
    while flow.system.drain.take():
        pass
    flow.system.verify()
    return chat | {"voice_legs": flow.received}


def _difference(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what the quietest rounds say: the 99th percentiles in milliseconds, and what voice adds.

    Rounds in which the client was late with its own sends say nothing of the server.
    """
    told = {
        name: [row for row in of if row["latency_us"] is not None and not row["client_late"]]
        for name, of in rows.items()
    }
    quiet = {name: min((row["latency_us"]["p99"] for row in of), default=None) for name, of in told.items()}
    without, beside = quiet["without"], quiet["with"]
    added = None if without is None or beside is None else round((beside - without) / 1000, 3)
    return {
        "p99_without_ms": None if without is None else round(without / 1000, 3),
        "p99_with_ms": None if beside is None else round(beside / 1000, 3),
        "p99_added_ms": added,
        "goal_ms": GOAL_MS,
    }


def _tell_nothing(_progress: tuple[str, int, int]) -> None:
    """The trials were told already; a round is short."""

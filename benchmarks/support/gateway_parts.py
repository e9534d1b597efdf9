"""Owns the order in which the gateway's benchmark asks what of whom: systems in turn, in several rounds.

It must not judge what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import attrs

from benchmarks.support.chat_client import ClientProcess, running_client
from benchmarks.support.gateway_systems import OWN, Running, running
from benchmarks.support.inbound import KINDS
from benchmarks.support.processes import Failed

PARTS: Final = ("fan-out", "rooms", "deflate", "inbound", "chunks")
SLOW_TRIAL_S: Final = 4.0
"""A trial that took so long says what there is to say: it is not repeated."""
INBOUND_SYSTEMS: Final = (OWN, "trio-websocket")
INBOUND_CONNECTIONS: Final = (1, 50)
DEFLATE_SYSTEMS: Final = (OWN, "ws", "websockets")
DEFLATE_FAN_OUTS: Final = range(100, 1001)
"""More members, or fewer, say nothing more."""
ROOMS: Final = 100
ROOM_MEMBERS: Final = 10
VIEWERS: Final = 100
SLOW_VIEWERS: Final = 10

Tell = Callable[[str], None]
Trial = tuple[str, dict[str, Any]]
"""What it is called, and what its client is asked to do."""


@attrs.frozen
class Case:
    """What is measured with the same connections."""

    part: str
    load: str
    """Of the client: `crowd`, `askers` or `viewers`."""
    rooms: int
    members: int
    trials: Sequence[Trial]
    only: Sequence[str] = ()
    """Systems; none are named: all."""
    thin: int = 0
    deflate: bool = False
    """Whether what is sent is compressed (permessage-deflate)."""
    rounds_max: int = 100

    def __str__(self) -> str:
        return f"{self.part}, {self.rooms} x {self.members}"


def cases(parts: Sequence[str], fan_outs: Sequence[int], windows: Sequence[int], seconds: float) -> list[Case]:
    """Return what the parts consist of."""

    def said(window: int) -> Trial:
        return f"w={window}", {"window": window, "seconds": seconds}

    made: list[Case] = []
    if "fan-out" in parts:
        trials = [said(window) for window in windows]
        made += [Case("fan-out", "crowd", 1, fan_out, trials) for fan_out in fan_outs]
    if "rooms" in parts:
        made.append(Case("rooms", "crowd", ROOMS, ROOM_MEMBERS, [said(1)]))
    if "deflate" in parts:
        trials = [said(window) for window in windows]
        some = [fan_out for fan_out in fan_outs if fan_out in DEFLATE_FAN_OUTS] or fan_outs[:1]
        made += [Case("deflate", "crowd", 1, fan_out, trials, DEFLATE_SYSTEMS, deflate=True) for fan_out in some]
    if "inbound" in parts:
        asked = [(kind, {"kind": kind, "seconds": seconds}) for kind in KINDS]
        made += [
            Case("inbound", "askers", connections, 1, asked, INBOUND_SYSTEMS)
            for connections in INBOUND_CONNECTIONS
        ]
    if "chunks" in parts:
        watched = [
            (name, {"seconds": max(1.0, seconds * 20), "slow": slow})
            for name, slow in (("all read", False), ("ten read slowly", True))
        ]
        made.append(Case("chunks", "viewers", 1, 1 + VIEWERS, watched, (OWN,), SLOW_VIEWERS, rounds_max=1))
    return made


@attrs.define
class Contender:
    """A system in a case: what it did in each trial, or why it did not."""

    server: Running
    client: ClientProcess
    connect_s: float = 0.0
    results: dict[str, list[dict[str, Any]]] = attrs.Factory(dict)
    failure: str | None = None
    too_slow: set[str] = attrs.Factory(set)

    async def connect(self, case: Case) -> None:
        """Connect all members."""
        server = attrs.asdict(self.server) | {"dialect": self.server.dialect}
        try:
            done = await self.client.ask(
                "connect",
                load=case.load,
                server=server,
                rooms=case.rooms,
                members=case.members,
                thin=case.thin,
                deflate=case.deflate,
            )
        except Failed as exc:
            self.failure = str(exc)
        else:
            self.connect_s = done["seconds"]

    async def run(self, name: str, arguments: dict[str, Any]) -> None:
        """Do one trial, unless this system has failed, or is too slow to be asked twice."""
        if self.failure is not None or name in self.too_slow:
            return
        start = time.monotonic()
        try:
            result = await self.client.ask("run", **arguments)
        except Failed as exc:
            # What its connections hold is not known any more.
            self.failure = str(exc)
            return
        self.results.setdefault(name, []).append(result)
        if time.monotonic() - start > SLOW_TRIAL_S:
            self.too_slow.add(name)


@attrs.frozen
class Surroundings:
    """Where everything takes place."""

    folder: Path
    npm_folder: Path
    server_cpus: set[int]
    client_cpus: set[int]


async def measure(
    case: Case, systems: Sequence[str], rounds: int, places: Surroundings, tell: Tell
) -> list[dict[str, Any]]:
    """Measure a case; returns a row a trial, each with all systems that take part.

    All servers run all the time, connected; only one at a time has something to do. In each round they have their
    turns one after another, so whatever disturbs the machine for a while disturbs them all.
    """
    names = [name for name in systems if not case.only or name in case.only]
    async with AsyncExitStack() as stack:
        contenders = []
        for name in names:
            tell(f"connecting to {name}")
            server = await stack.enter_async_context(
                running(name, places.folder / name, places.server_cpus, places.npm_folder, deflate=case.deflate)
            )
            client = await stack.enter_async_context(running_client(name, places.client_cpus))
            contender = Contender(server, client)
            await contender.connect(case)
            contenders.append(contender)
        for number in range(min(rounds, case.rounds_max)):
            for trial, arguments in case.trials:
                for contender in _in_turn(contenders, number):
                    tell(f"round {number + 1}, {trial}: {contender.server.name}")
                    await contender.run(trial, arguments)
    return [_row(case, trial, contenders) for trial, _ in case.trials]


def _in_turn(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Return all, each round another first."""
    first = number % len(contenders) if contenders else 0
    return [*contenders[first:], *contenders[:first]]


def _row(case: Case, trial: str, contenders: Sequence[Contender]) -> dict[str, Any]:
    return {
        "part": case.part,
        "rooms": case.rooms,
        "members": case.members,
        "trial": trial,
        "systems": [
            {
                "system": contender.server.name,
                "connect_s": contender.connect_s,
                "failure": contender.failure,
                "rounds": contender.results.get(trial, []),
            }
            for contender in contenders
        ],
    }

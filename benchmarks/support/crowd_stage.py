"""Owns what all parts of the benchmark of connections need: a crowd in rooms, chat among it, time cut into phases.

It must not know which part is measured.
"""

from __future__ import annotations

import gc
import json
import time
from array import array
from collections.abc import Callable
from typing import Any, Final

import attrs

from benchmarks.support.cpu import process_cpu_ns, waited_ns
from benchmarks.support.crowd import Crowd, Member, latencies_ns, message
from benchmarks.support.figures import summarize_us
from benchmarks.support.gateway import frame
from benchmarks.support.prometheus import Samples, gc_pauses, scrape
from benchmarks.support.scenario import Progress, progress_line

CONNECT_AT_ONCE: Final = 64
JOIN_AT_ONCE: Final = 128
SET_UP_TIMEOUT_S: Final = 300.0
STRAGGLERS_S: Final = 5.0
"""How long what is missing is waited for at the end of a phase."""
KEEP_ALIVE_S: Final = 20.0
"""Between the heartbeats of one connection where they are not what is measured; the server asks for 30."""
HEARTBEAT: Final = b'{"op":1,"d":null}'


class Broken(Exception):
    """What was to be measured did not come to be."""


@attrs.define
class Phase:
    """A stretch of time, and the messages that were due in it."""

    name: str
    first: int
    begun_ns: int
    server_ns: int
    last: int = 0
    ended_ns: int = 0


class Stage:
    """A crowd in rooms of the same size, and what the server and we ourselves use of the processors."""

    def __init__(self, url: str, token: str, server_pid: int, room: int) -> None:
        self.crowd = Crowd(url, token)
        self._at = url, token
        self._before: Samples = {}
        """What the server had counted when the clock was started."""
        self.server_pid = server_pid
        self.room = room
        self.rooms: dict[str, list[Member]] = {}
        self.phases: list[Phase] = []
        self.beats = 0
        """Heartbeats sent."""
        self._begun_ns = self._own_ns = self._waited_ns = 0

    # --- setting up -------------------------------------------------------------------------------

    def fill(self, total: int, small_buffer: Callable[[int], bool] = lambda _: False) -> None:
        """Connect and join until there are so many in all.

        Args:
            small_buffer: tells by its number who has but a small receive buffer.

        Raises:
            Broken: not all came in.
        """
        crowd = self.crowd
        joined = len(crowd.members)

        def all_in() -> bool:
            while len(crowd.members) < total and len(crowd.members) - crowd.ready < CONNECT_AT_ONCE:
                crowd.begin(small_buffer=small_buffer(len(crowd.members)))
            return crowd.ready >= total or bool(crowd.ends)

        tell(("connecting", joined, total))
        crowd.run(all_in, SET_UP_TIMEOUT_S)
        self._check(crowd.ready >= total, f"{crowd.ready} of {total} came in")
        self._join(crowd.members[joined:], joined)
        tell(("joined", total, total))

    def _join(self, members: list[Member], first: int) -> None:
        begun = []
        for number, member in enumerate(members, first):
            member.channel = f"room-{number // self.room}"
            if member.channel not in self.rooms:
                self.rooms[member.channel] = []
                begun.append(member)
            self.rooms[member.channel].append(member)
        self._ask(begun, '{{"op":10,"d":{{"channel_id":"{0}","capacity":{1}}},"id":1}}')
        self._ask(members, '{{"op":11,"d":{{"channel_id":"{0}"}},"id":1}}')

    def _ask(self, members: list[Member], packet: str) -> None:
        crowd, before, asked = self.crowd, self.crowd.acks, 0

        def all_answered() -> bool:
            nonlocal asked
            while asked < len(members) and asked - (crowd.acks - before) < JOIN_AT_ONCE:
                crowd.send(members[asked], frame(packet.format(members[asked].channel, self.room).encode()))
                asked += 1
            return crowd.acks - before >= len(members) or bool(crowd.errors) or bool(crowd.ends)

        crowd.run(all_answered, SET_UP_TIMEOUT_S)
        self._check(crowd.acks - before >= len(members), f"answered: {crowd.acks - before} of {len(members)}")

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Broken(f"{what}; ended: {dict(self.crowd.ends)}; refused: {self.crowd.errors[:3]}")

    def beat(self, interval_s: float) -> None:
        """Have every member that there is then send heartbeats from now on, one after another."""
        heartbeat, position = frame(HEARTBEAT), 0
        due_ns = time.perf_counter_ns()

        def one() -> int:
            nonlocal position, due_ns
            members = self.crowd.members
            position = (position + 1) % len(members)
            if members[position].status == "open" and members[position].ready_ns:
                self.beats += self.crowd.send(members[position], heartbeat)
            # Their number may grow meanwhile.
            due_ns += round(interval_s * 1e9 / len(members))
            return due_ns

        self.crowd.at(due_ns, one)

    # --- measuring --------------------------------------------------------------------------------

    def start_clock(self) -> None:
        """From now on everything counts."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._before = scrape(*self._at)
        self.crowd.busy_ns = 0
        self.crowd.lateness_ns = array("q")
        self._begun_ns, self._own_ns = time.perf_counter_ns(), time.process_time_ns()
        self._waited_ns = waited_ns(self.server_pid)

    def begin_phase(self, name: str, chat: Chat | None = None) -> Phase:
        """End the phase that there is, and begin the next."""
        self.end_phase(chat)
        sent = 0 if chat is None else len(chat.due_ns)
        self.phases.append(Phase(name, sent, time.perf_counter_ns(), process_cpu_ns(self.server_pid)))
        tell((name, 0, 1))
        return self.phases[-1]

    def end_phase(self, chat: Chat | None = None) -> None:
        """End the phase that there is, if any."""
        if self.phases and not self.phases[-1].ended_ns:
            phase = self.phases[-1]
            phase.ended_ns = time.perf_counter_ns()
            phase.server_ns = process_cpu_ns(self.server_pid) - phase.server_ns
            phase.last = 0 if chat is None else len(chat.due_ns)

    def facts(self) -> dict[str, Any]:
        """Return what shows whether this client was the bottleneck."""
        elapsed_ns = time.perf_counter_ns() - self._begun_ns
        return {
            "busy_share": round(self.crowd.busy_ns / elapsed_ns, 3),
            "cpu_share": round((time.process_time_ns() - self._own_ns) / elapsed_ns, 3),
            "lateness_us": summarize_us(self.crowd.lateness_ns),
            "server_waited_share": round((waited_ns(self.server_pid) - self._waited_ns) / elapsed_ns, 3),
        }

    def server_facts(self) -> dict[str, Any]:
        """Return what the server itself has counted; the clock must not run any more."""
        samples = scrape(*self._at)
        return {
            "gc_pauses": gc_pauses(self._before, samples),
            "egress_held_bytes": samples["livechat_egress_held_bytes", frozenset()],
            "egress_limit_bytes": samples["livechat_egress_limit_bytes", frozenset()],
        }

    def held_bytes(self) -> int:
        """Return what waits in all the server's egress queues together."""
        return round(scrape(*self._at)["livechat_egress_held_bytes", frozenset()])

    def phase_facts(self, phase: Phase, chat: Chat | None) -> dict[str, Any]:
        """Return what there is to say of a phase."""
        elapsed_ns = phase.ended_ns - phase.begun_ns
        facts = {
            "phase": phase.name,
            "seconds": round(elapsed_ns / 1e9, 3),
            "server_cpu_share": round(phase.server_ns / elapsed_ns, 3),
        }
        if chat is not None:
            times = latencies_ns(self.crowd, chat.due_ns, phase.first, phase.last)
            expected = sum(chat.receivers[phase.first : phase.last])
            facts |= {
                "sent": phase.last - phase.first,
                "expected": expected,
                "received": len(times),
                "lost": expected - len(times),
                "latency_us": summarize_us(times),
            }
        return facts


class Chat:
    """Messages on a schedule, in turn in each of the rooms."""

    def __init__(self, stage: Stage, rooms: list[str], rate_hz: float, chars: int) -> None:
        self.due_ns: array[int] = array("q")
        """Of each message, by its number."""
        self.receivers: array[int] = array("q")
        """Who read and were connected when it was due."""
        self._stage = stage
        self._loads = [(rooms, rate_hz, chars)]
        self._stopped = False

    def add(self, rooms: list[str], rate_hz: float, chars: int) -> None:
        """Have other rooms talk as well, at another rate."""
        self._loads.append((rooms, rate_hz, chars))

    def start(self) -> None:
        """Begin."""
        for rooms, rate_hz, chars in self._loads:
            self._start(rooms, round(1e9 / rate_hz), chars)

    def stop(self) -> None:
        """Say nothing more, and wait for what is on its way."""
        self._stopped = True
        crowd, expected = self._stage.crowd, sum(self.receivers)
        crowd.run(lambda: len(crowd.numbers) >= expected, STRAGGLERS_S)

    def _start(self, rooms: list[str], interval_ns: int, chars: int) -> None:
        due_ns = time.perf_counter_ns() + interval_ns
        turn = 0

        def say() -> int | None:
            nonlocal due_ns, turn
            if self._stopped:
                return None
            channel = rooms[turn % len(rooms)]
            members = [m for m in self._stage.rooms[channel] if not m.end and not m.is_apart]
            number = len(self.due_ns)
            self.due_ns.append(due_ns)
            self.receivers.append(len(members))
            speaker = members[turn // len(rooms) % len(members)]
            if not self._stage.crowd.send(speaker, message(channel, number, chars)):
                raise Broken(f"a message could not be sent: {dict(self._stage.crowd.ends)}")
            turn += 1
            due_ns += interval_ns
            return due_ns

        self._stage.crowd.at(due_ns, say)


def tell(progress: Progress) -> None:
    """Tell the parent how far it is."""
    print(progress_line(progress), flush=True)


def serialize(assignment: dict[str, Any]) -> bytes:
    """Return what a client process reads from its standard input."""
    return json.dumps(assignment).encode()

"""Owns the client process of the benchmark of connections, `python -m benchmarks.support.crowd_parts`.

It reads an assignment from its standard input and prints lines of JSON: how far it is, and at last the result.

It must not start processes; `benchmarks.connections` says what each part measures.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.support.crowd import Member
from benchmarks.support.crowd_stage import KEEP_ALIVE_S, Broken, Chat, Phase, Stage, tell
from benchmarks.support.figures import summarize_us
from benchmarks.support.memory import memory_of
from benchmarks.support.processes import allow_many_sockets
from benchmarks.support.prometheus import by_label, scrape
from benchmarks.support.scenario import result_line

BASE: Final = 100
"""Connections there before memory is counted, so that what is made once is there already."""
STORM_TIMEOUT_S: Final = 60.0
SLOW_BYTES: Final = 128
SLOW_INTERVAL_NS: Final = 125_000_000
"""Together 1 KB/s."""
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def memory(stage: Stage, told: dict[str, Any]) -> dict[str, Any]:
    """Count what each idle connection holds."""
    stage.fill(BASE)
    stage.beat(KEEP_ALIVE_S)
    stage.crowd.pause(told["settle_s"])
    stage.start_clock()
    base = memory_of(stage.server_pid)
    rows = []
    for size in told["sizes"]:
        begun_ns = time.perf_counter_ns()
        before = len(stage.crowd.members)
        stage.fill(BASE + size)
        set_up_s = (time.perf_counter_ns() - begun_ns) / 1e9
        stage.crowd.pause(told["settle_s"])
        now = memory_of(stage.server_pid)
        rows.append(
            {
                "connections": size,
                "added_per_s": round((len(stage.crowd.members) - before) / set_up_s),
                "rss_bytes": now.rss_bytes,
                "rss_bytes_each": round((now.rss_bytes - base.rss_bytes) / size),
                "pss_bytes_each": round((now.pss_bytes - base.pss_bytes) / size),
                "egress_held_bytes": stage.held_bytes(),
            }
        )
    return {"base": {"connections": BASE, "rss_bytes": base.rss_bytes}, "rows": rows}


def storm(stage: Stage, told: dict[str, Any]) -> dict[str, Any]:
    """Let a crowd come at once while others talk."""
    stage.fill(told["insiders"])
    stage.beat(KEEP_ALIVE_S)
    chat = Chat(stage, list(stage.rooms), told["chat_hz"], told["chars"])
    crowd, first, count = stage.crowd, len(stage.crowd.members), told["newcomers"]
    stage.start_clock()
    chat.start()
    stage.begin_phase("before", chat)
    crowd.pause(told["seconds"])
    stage.begin_phase("during", chat)
    begun_ns = time.perf_counter_ns()
    interval_ns = round(1e9 / told["offered_hz"])

    def knock() -> int | None:
        number = len(crowd.members) - first + 1
        crowd.begin()
        return begun_ns + number * interval_ns if number < count else None

    crowd.at(begun_ns, knock)
    gone = sum(crowd.ends.values())
    crowd.run(
        lambda: crowd.ready - first + sum(crowd.ends.values()) - gone >= count,
        STORM_TIMEOUT_S + count / told["offered_hz"],
    )
    stage.begin_phase("after", chat)
    crowd.pause(told["seconds"])
    stage.end_phase(chat)
    chat.stop()
    came = [member for member in crowd.members[first:] if member.ready_ns]
    last_ns = max((member.ready_ns for member in came), default=begun_ns)
    all_in_s = (last_ns - begun_ns) / 1e9
    offered_s = (crowd.members[-1].begun_ns - begun_ns) / 1e9
    return {
        "offered_per_s": round((count - 1) / offered_s) if offered_s else None,
        "newcomers": count,
        "came_in": len(came),
        "ended": dict(Counter(member.end for member in crowd.members[first:] if member.end)),
        "still_waiting": sum(not member.ready_ns and not member.end for member in crowd.members[first:]),
        "all_in_s": round(all_in_s, 3),
        "accepted_per_s": round(len(came) / all_in_s) if all_in_s else None,
        "cpu_us_each": _cpu_us_beyond(stage.phases[0], stage.phases[1], max(1, len(came))),
        "ready_us": summarize_us(member.ready_ns - member.begun_ns for member in came),
        "chat": [stage.phase_facts(phase, chat) for phase in stage.phases],
        "disorder": crowd.disorder,
    }


def _cpu_us_beyond(before: Phase, during: Phase, count: int) -> float:
    """Return what the server used in a phase for each of `count`, beyond what it used at all times before."""
    share = before.server_ns / (before.ended_ns - before.begun_ns)
    return round((during.server_ns - share * (during.ended_ns - during.begun_ns)) / 1000 / count, 1)


def heartbeats(stage: Stage, told: dict[str, Any]) -> dict[str, Any]:
    """Have idle connections do nothing, and then send heartbeats."""
    stage.fill(told["connections"])
    stage.crowd.pause(told["settle_s"])
    stage.start_clock()
    stage.begin_phase("silent")
    stage.crowd.pause(told["seconds"])
    stage.begin_phase("heartbeats")
    before = stage.crowd.heartbeat_acks
    stage.beat(told["interval_s"])
    stage.crowd.pause(told["seconds"])
    stage.end_phase()
    sent = stage.beats
    stage.crowd.run(lambda: stage.crowd.heartbeat_acks - before >= sent, 2.0)
    silent, beating = (stage.phase_facts(phase, None) for phase in stage.phases)
    return {
        "connections": told["connections"],
        "interval_s": told["interval_s"],
        "sent": sent,
        "answered": min(sent, stage.crowd.heartbeat_acks - before),
        "ended": dict(stage.crowd.ends),
        "phases": [silent, beating],
        "cpu_us_each": round((stage.phases[1].server_ns - stage.phases[0].server_ns) / 1000 / max(1, sent), 1),
    }


def slow(stage: Stage, told: dict[str, Any]) -> dict[str, Any]:
    """Have some read nothing, and some 1 KB/s, among many who read all; half of the slow ones in quiet rooms."""
    hot = told["hot_rooms"]
    never, slow_hot, slow_quiet = _stalled_numbers(told, stage.room)
    small = set(slow_hot + slow_quiet + never)
    stage.fill(told["connections"], small.__contains__)
    stage.beat(KEEP_ALIVE_S)
    names = list(stage.rooms)
    chat = Chat(stage, names[:hot], told["hot_hz"] * hot, told["chars"])
    if names[hot:]:
        chat.add(names[hot:], told["quiet_hz"], told["chars"])
    members = stage.crowd.members
    groups = {
        "never": [members[number] for number in never],
        "1 KB/s, loud room": [members[number] for number in slow_hot],
        "1 KB/s, quiet room": [members[number] for number in slow_quiet],
    }
    for number in small:
        members[number].is_apart = True
    watch = _Watch(stage, told)
    stage.start_clock()
    chat.start()
    stage.begin_phase("all read", chat)
    stage.crowd.pause(told["seconds"])
    stage.begin_phase("some stalled", chat)
    for group in groups.values():
        for member in group:
            stage.crowd.stall(member)
    for member in groups["1 KB/s, loud room"] + groups["1 KB/s, quiet room"]:
        _read_slowly(stage, member)
    doomed = len(groups["never"]) + len(groups["1 KB/s, loud room"])
    stage.crowd.run(lambda: watch.closed >= doomed, told["patience_s"])
    stage.begin_phase("after", chat)
    stage.crowd.pause(told["seconds"])
    stage.end_phase(chat)
    chat.stop()
    for number in small:
        if members[number].is_stalled:
            stage.crowd.resume(members[number])
    stage.crowd.pause(told["let_out_s"])
    return {
        "connections": told["connections"],
        "stalled": [
            {"group": name, "members": len(group), "ends": dict(Counter(m.end or "kept" for m in group))}
            for name, group in groups.items()
        ],
        "closed_by_server": watch.codes(),
        "others_ended": sum(bool(member.end) for number, member in enumerate(members) if number not in small),
        "phases": [stage.phase_facts(phase, chat) for phase in stage.phases],
        "memory": watch.memory(),
        "disorder": stage.crowd.disorder,
    }


def _stalled_numbers(told: dict[str, Any], room: int) -> tuple[list[int], list[int], list[int]]:
    """Choose who stalls: (never read, read slowly in loud rooms, read slowly in quiet rooms).

    The first members of each room talk as well, so they are the last ones that stall.
    """
    hot = told["hot_rooms"]
    loud = [number * room + place for place in range(room - 1, 1, -1) for number in range(hot)]
    quiet_rooms = range(hot, told["connections"] // room)
    quiet = [number * room + place for place in range(room - 1, 1, -1) for number in quiet_rooms]
    in_quiet = min(told["slow"] // 2, len(quiet))
    in_loud = told["slow"] - in_quiet
    return loud[: told["never"]], loud[told["never"] : told["never"] + in_loud], quiet[:in_quiet]


def _read_slowly(stage: Stage, member: Member) -> None:
    due_ns = time.perf_counter_ns()

    def read() -> int | None:
        nonlocal due_ns
        if member.end or not member.is_stalled:
            return None
        stage.crowd.read_some(member, SLOW_BYTES)
        due_ns += SLOW_INTERVAL_NS
        return due_ns

    stage.crowd.at(due_ns, read)


class _Watch:
    """Asks the server now and then what it holds and whom it closed; in a thread, so that nothing waits for it."""

    def __init__(self, stage: Stage, told: dict[str, Any]) -> None:
        self.closed = 0
        """Connections that the server has closed as slow consumers, or found broken."""
        self._url, self._token, self._pid = told["url"], told["token"], stage.server_pid
        self._interval_ns: int = round(told["sample_s"] * 1e9)
        self._samples: list[tuple[int, int, float, float]] = []
        """(resident bytes, TCP's bytes, bytes in egress queues, what of their budget is used)"""
        self._first = self._codes()
        self._last = self._first
        self._busy = False
        stage.crowd.at(time.perf_counter_ns(), self._sample)

    def codes(self) -> dict[str, float]:
        """Return how many the server has closed since the beginning, by close code."""
        last = self._codes()
        return {code: count for code in last if (count := last[code] - self._first.get(code, 0))}

    def memory(self) -> dict[str, float]:
        """Return what was held at first and at most."""
        names = ("server_rss_bytes", "tcp_bytes", "egress_bytes", "egress_held_bytes")
        columns = list(zip(*self._samples, strict=True))
        first = {f"{name}_first": column[0] for name, column in zip(names, columns, strict=True)}
        return first | {f"{name}_max": max(column) for name, column in zip(names, columns, strict=True)}

    def _sample(self) -> int:
        if not self._busy:
            self._busy = True
            threading.Thread(target=self._ask, daemon=True).start()
        return time.perf_counter_ns() + self._interval_ns

    def _ask(self) -> None:
        try:
            rss, tcp = rss_bytes(self._pid), tcp_bytes()
            self._last = self._codes()
            self._samples.append((rss, tcp, self._egress, self._held))
            self.closed = round(sum(self._last[code] - self._first.get(code, 0) for code in self._last))
        finally:
            self._busy = False

    def _codes(self) -> dict[str, float]:
        samples = scrape(self._url, self._token)
        self._egress = samples["livechat_egress_queue_bytes", frozenset()]
        self._held = samples["livechat_egress_held_bytes", frozenset()]
        return by_label(samples, "livechat_connections_closed_total", "code")


def rss_bytes(pid: int) -> int:
    """Return what is resident of a process; quicker than `memory_of`. Source: proc(5), /proc/[pid]/statm."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


def tcp_bytes() -> int:
    """Return what the kernel holds in the buffers of all TCP sockets of the machine, this client's too."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        name, *words = line.split()
        if name == "TCP:":
            return int(words[words.index("mem") + 1]) * PAGE_BYTES
    return 0


PARTS: Final[dict[str, Callable[[Stage, dict[str, Any]], dict[str, Any]]]] = {
    "memory": memory,
    "storm": storm,
    "tls": storm,
    "heartbeats": heartbeats,
    "slow": slow,
}


def main() -> int:
    """Measure one part; returns the exit status."""
    told = json.loads(sys.stdin.read())
    allow_many_sockets()
    stage = Stage(told["url"], told["token"], told["server_pid"], told["room"])
    try:
        result = PARTS[told["part"]](stage, told)
        facts = {"client": stage.facts(), "server": stage.server_facts()}
    except Broken as exc:
        print(f"{told['part']}: {exc}", file=sys.stderr)
        return 1
    finally:
        stage.crowd.close()
    tell(("done", 1, 1))
    print(result_line(result | facts | {"refused": len(stage.crowd.errors)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

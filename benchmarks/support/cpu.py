"""Owns who used the processors while it was measured: the server, the client, or somebody else.

It must not be used while the clock runs, only before and after. Source: proc(5), /proc/stat and /proc/[pid]/stat.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

_TICKS_HZ: Final = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)
"""Of the line `cpu`: idle and iowait."""
_GUEST_FIELDS_FROM: Final = 8
"""Guests' time is counted in user's already."""
_UTIME, _STIME = 11, 12
"""Among the fields that follow the name in /proc/[pid]/stat."""


@attrs.frozen
class CpuTimes:
    """What was used up to a moment, in seconds."""

    at_s: float
    machine_s: float
    """By all, on all processors, with what the hypervisor took."""
    server_s: float
    client_s: float


def cpu_times(server_pid: int) -> CpuTimes:
    """Return what was used up to now; this process is the client."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    busy = sum(fields[:_GUEST_FIELDS_FROM]) - sum(fields[place] for place in _IDLE_FIELDS)
    # The name may contain anything, also spaces; it ends at the last parenthesis.
    server = Path(f"/proc/{server_pid}/stat").read_text().rpartition(")")[2].split()
    return CpuTimes(
        at_s=time.monotonic(),
        machine_s=busy / _TICKS_HZ,
        server_s=(int(server[_UTIME]) + int(server[_STIME])) / _TICKS_HZ,
        client_s=time.process_time(),
    )


def cpu_cores(before: CpuTimes, after: CpuTimes) -> dict[str, float]:
    """Return how many cores each kept busy in between: server, client, others."""
    elapsed_s = after.at_s - before.at_s
    server = (after.server_s - before.server_s) / elapsed_s
    client = (after.client_s - before.client_s) / elapsed_s
    others = (after.machine_s - before.machine_s) / elapsed_s - server - client
    # The kernel counts in ticks, so small differences may come out below zero.
    return {"server": round(server, 2), "client": round(client, 2), "others": round(max(0.0, others), 2)}


def process_cpu_ns(pid: int) -> int:
    """Return what a process has used of the processors, all its threads, in nanoseconds.

    Exact at any moment, unlike /proc/[pid]/stat, which counts in ticks of 10 ms.

    Source: clock_getcpuclockid(3), which makes the clock's number of a process id like this.
    """
    return time.clock_gettime_ns(~pid << 3 | 2)


def waited_ns(pid: int) -> int:
    """Return how long a process's main thread has stood ready without getting a processor, in nanoseconds.

    Source: /proc/[pid]/schedstat, its second number (kernel: Documentation/scheduler/sched-stats.rst).
    """
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])


def pin(pid: int, cpus: set[int]) -> None:
    """Keep a process, with all threads it has and will have, on these processors."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


def two_cores(usable: Sequence[int]) -> tuple[set[int], set[int]]:
    """Return the processors for a server and for its client: one each, or the same where there is only one."""
    return {min(usable)}, {max(usable)}

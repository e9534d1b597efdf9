"""Owns what an operator is shown of a server as a whole: how much, how fast, how well.

It must not change anything but by the probe of store and backplane, and does not decide who is an operator.
"""

from __future__ import annotations

import os
import resource
from typing import Final

import attrs

from livechat.handlers.node import Node, WorkerInfo
from livechat.telemetry.rates import Rates
from livechat.version import __version__

STATM: Final = "/proc/self/statm"


@attrs.frozen
class StoreStatus:
    """The store, as it works."""

    works: bool
    """A row went through it and back, at most a second ago."""
    detail: str
    """`ok`, or in a few words what is wrong."""
    commit_latency_last_ms: float
    commit_latency_max_ms: float
    """Since the start."""
    commit_latency_p50_ms: float
    """Since the start: half of all commits were at most so slow, as near as the buckets of the metric tell."""
    commit_latency_p99_ms: float
    queue_depth: int
    """Operations that wait for a transaction."""
    operations: int
    batches: int
    failures: int


@attrs.frozen
class EgressStatus:
    """What waits for clients to read it."""

    frames: int
    frames_max: int
    """In the fullest queue."""
    bytes: int


@attrs.frozen
class ServerStatus:
    """A server as a whole."""

    server: str
    """`livechat/` and the version."""
    node_id: str
    started_at: int
    """Milliseconds since 1970."""
    uptime_s: float
    draining: bool
    connections: int
    sessions: int
    """Parked ones included."""
    sessions_parked: int
    users_online: int
    """Users with a connection."""
    channels: int
    """Channels that somebody here is a member of."""
    subscriptions: int
    peers: int
    """Media peers."""
    media_workers: list[WorkerInfo]
    """Processes that relay media; empty: the server's own does."""
    trace_watchers: int
    memory_bytes: int
    """What the process has in physical memory."""
    store: StoreStatus
    backplane: str
    """`ok`, or in a few words what is wrong."""
    egress: EgressStatus
    rates: Rates


async def status(node: Node) -> ServerStatus:
    """Show the server as a whole; its store and backplane are probed, at most once a second."""
    verdict = await node.readiness.verdict()
    counted, gauges = node.store.statistics(), node.instruments.gauges()
    latency = counted.commit_latency
    return ServerStatus(
        server=f"livechat/{__version__}",
        node_id=node.node_id,
        started_at=node.started_at_ms,
        uptime_s=round(node.now() - node.started_at, 3),
        draining=node.draining,
        connections=gauges.connections,
        sessions=gauges.sessions,
        sessions_parked=gauges.sessions_parked,
        users_online=len({session.user_id for session in node.users if session.outlet is not None}),
        channels=gauges.channels,
        subscriptions=gauges.subscriptions,
        peers=len(node.media.hub),
        media_workers=node.media.workers(),
        trace_watchers=len(node.packets),
        memory_bytes=_memory_bytes(),
        store=StoreStatus(
            works=verdict.store_works,
            detail=verdict.store,
            commit_latency_last_ms=_ms(counted.commit_latency_last_s),
            commit_latency_max_ms=_ms(counted.commit_latency_max_s),
            commit_latency_p50_ms=_ms(min(latency.quantile(0.5), counted.commit_latency_max_s)),
            commit_latency_p99_ms=_ms(min(latency.quantile(0.99), counted.commit_latency_max_s)),
            queue_depth=counted.queue_depth,
            operations=counted.operations,
            batches=counted.batches,
            failures=counted.failures,
        ),
        backplane=verdict.backplane,
        egress=EgressStatus(gauges.egress_frames, gauges.egress_frames_max, gauges.egress_bytes),
        rates=node.rates.rates(node.now()),
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _memory_bytes() -> int:
    try:
        with open(STATM) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Where there is no /proc: what it has had at most.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

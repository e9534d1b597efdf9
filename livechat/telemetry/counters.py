"""Owns the plain numbers that a server keeps of its own work; whoever does the work adds to them.

It must not know who reads them: the hot path does `+= 1` and nothing else. One object per server, touched in its
Trio thread only. Labels are drawn from small fixed sets, never from what a client sent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Literal, get_args

import attrs

from livechat.protocol.types import FloorDenial, FloorRevocation, RekeyCause
from livechat.telemetry.histogram import PAUSE_BOUNDS_S, Histogram

Refusal = Literal["tls", "no_request", "bad_upgrade", "origin", "token", "unavailable", "limit"]
"""Why a connection came to nothing: the TLS handshake failed, no request came in time, the upgrade was malformed
or from a foreign page, its token was bad, the authenticator was away, an address had too many."""
DropClass = Literal["durable", "transient", "droppable"]
"""What was not sent: an event that is told again on RESUME; a reply or a passing event; a media chunk."""
DropReason = Literal["slow_consumer", "connection_closed", "connection_lost", "queue_full"]
ResumeFailure = Literal["no_session", "token", "unavailable", "shutting_down", "internal"]


def _zeros(labels: Iterable[Any]) -> Counter[Any]:
    """Return counters that are there before anything is counted: a rate needs a first value to rise from."""
    return Counter(dict.fromkeys(labels, 0))


@attrs.define(slots=True)
class FloorCounters:
    """What became of the floors of push-to-talk channels."""

    grants: int = 0
    """FLOOR_GRANTEDs, those included that were said again to who had the floor already."""
    denies: Counter[FloorDenial] = attrs.field(factory=lambda: _zeros(get_args(FloorDenial)))
    revokes: Counter[FloorRevocation] = attrs.field(factory=lambda: _zeros(get_args(FloorRevocation)))


@attrs.define(slots=True)
class JobCounters:
    """What became of the jobs; kept by whoever runs them."""

    queued: int = 0
    """Jobs that wait, now."""
    running: int = 0
    """Jobs that run, now."""
    submitted: Counter[str] = attrs.field(factory=Counter)
    """Jobs taken, by kind."""
    finished: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """Jobs that are over, by (kind, state)."""
    durations: defaultdict[str, Histogram] = attrs.field(factory=lambda: defaultdict(Histogram))
    """From the start of a job to its end, by kind, seconds."""


@attrs.define(slots=True)
class Counters:
    """Everything that is counted, since the start of the server."""

    packets_in: int = 0
    """WebSocket messages from clients."""
    packets_out: int = 0
    """Packets handed to connections."""
    bytes_in: int = 0
    """Bytes from WebSocket clients, frame headers included, TLS not."""
    bytes_out: int = 0
    """Bytes to WebSocket clients, likewise."""
    chunks: int = 0
    """Media chunks taken from clients, each for a whole channel."""
    chunk_bytes: int = 0
    """What those held."""
    sessions_started: int = 0
    """IDENTIFYs that opened a session."""
    reconnects: int = 0
    """RESUMEs that came, whatever became of them."""
    resumes_ok: int = 0
    resumes_failed: Counter[ResumeFailure] = attrs.field(factory=lambda: _zeros(get_args(ResumeFailure)))
    commands: defaultdict[int, Histogram] = attrs.field(factory=lambda: defaultdict(Histogram))
    """From the arrival of a request to its answer, by known opcode, seconds; -1: all unknown ones."""
    errors: Counter[int] = attrs.field(factory=Counter)
    """ERROR packets and HTTP problems, by code."""
    drops: Counter[tuple[DropClass, DropReason]] = attrs.field(
        factory=lambda: _zeros(product(get_args(DropClass), get_args(DropReason)))
    )
    """Packets that were handed to a connection and never sent."""
    superseded: int = 0
    """Packets that were not sent as a newer one of the same state came before they left."""
    closes: Counter[int] = attrs.field(factory=Counter)
    """WebSocket connections that ended, by close code."""
    refused: Counter[Refusal] = attrs.field(factory=lambda: _zeros(get_args(Refusal)))
    """Connections that never became a WebSocket, or HTTP."""
    http: Counter[tuple[str, str, int]] = attrs.field(factory=Counter)
    """HTTP responses by (route, method, status)."""
    http_durations: defaultdict[tuple[str, str], Histogram] = attrs.field(factory=lambda: defaultdict(Histogram))
    """From a request's head to the end of its response, by (route, method), seconds."""
    gc_pauses: dict[int, Histogram] = attrs.field(factory=lambda: {i: Histogram(PAUSE_BOUNDS_S) for i in range(3)})
    """How long the garbage collector stopped the process, by generation, seconds."""
    rekeys: Counter[RekeyCause] = attrs.field(factory=lambda: _zeros(get_args(RekeyCause)))
    """Changes of a voice's keys, by cause."""
    jobs: JobCounters = attrs.field(factory=JobCounters)
    floor: FloorCounters = attrs.field(factory=FloorCounters)


@attrs.frozen
class Gauges:
    """How things stand at one moment; the server gathers them when somebody asks."""

    connections: int = 0
    accepted: int = 0
    """TCP connections so far."""
    sessions: int = 0
    sessions_parked: int = 0
    channels: int = 0
    subscriptions: int = 0
    floors_taken: int = 0
    """Push-to-talk channels whose floor somebody has."""
    floor_queue: int = 0
    """Sessions that wait for a floor, all in all."""
    streams: int = 0
    """Live media streams over WebSocket."""
    stream_bytes: int = 0
    """Of their `init` chunks, which are kept."""
    egress_frames: int = 0
    """Frames that wait for clients, in all queues together."""
    egress_frames_max: int = 0
    """Frames that wait in the fullest queue."""
    egress_bytes: int = 0
    """Bytes that wait for clients, in all queues together."""
    egress_queues: int = 0
    """Queues in which something waits, or of which TLS has taken something and not sent it."""
    egress_held_bytes: int = 0
    """What counts against the budget of all queues together: those bytes, and what TLS has taken and not sent."""
    egress_limit_bytes: int = 0
    """That budget; 0: none."""
    egress_evictions: int = 0
    """Connections closed to keep within it."""
    relay: Mapping[str, int] = attrs.field(factory=dict)
    """What became of the datagrams; `livechat.media.counters`."""

"""Owns how a server's numbers look to Prometheus. One registry per server; nothing is registered globally.

It must not count anything: it reads what others counted, when somebody asks. Names that scrapers rely on are part
of the server's contract; README lists them.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import trio
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from livechat.handlers.node import Node, WorkerInfo, WorkerState
from livechat.protocol.opcodes import CloseCode, Op
from livechat.protocol.requests import REQUESTS
from livechat.telemetry.counters import Counters, FloorCounters, Gauges, JobCounters
from livechat.telemetry.histogram import Histogram
from livechat.version import __version__

SCRAPE_TIMEOUT_S: Final = 5.0
_TRAFFIC: Final = ("received", "rtp_accepted", "rtcp_accepted", "rtp_forwarded", "rtcp_forwarded", "keepalive")
"""Counters of the relay that count what went well; all but these and the next are reasons of drops."""
_RTCP: Final = (
    "rtcp_reports_received",
    "rtcp_reports_sent",
    "rtcp_reports_translated",
    "rtcp_terminated",
    "nacks",
    "retransmitted",
    "key_frame_requests",
    "key_frame_requests_forwarded",
)
"""Counters of what reports and requests came to."""


class Exposition:
    """Writes the numbers of one server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._families = _Families()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._families)
        ProcessCollector(registry=self._registry)
        # Walking the process's descriptors takes milliseconds where there are many: so it has a thread, but one.
        self._limiter = trio.CapacityLimiter(1)
        self._turn = trio.Lock()

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the numbers as they are now, and the content type.

        Args:
            accept: the request's Accept header; decides between Prometheus' text and OpenMetrics.

        Raises:
            trio.TooSlowError: too many ask at once.
        """
        encode, content_type = choose_encoder(accept)
        with trio.fail_after(SCRAPE_TIMEOUT_S):
            async with self._turn:
                self._families.current = tuple(families(self._node))
                body = await trio.to_thread.run_sync(encode, self._registry, limiter=self._limiter)
        return body, content_type


class _Families(Collector):
    """Hands the registry what was gathered in the Trio thread, where the counters live."""

    current: tuple[Metric, ...] = ()

    def collect(self) -> Iterable[Metric]:
        return self.current


def families(node: Node) -> Iterator[Metric]:
    """Yield everything that livechat itself knows."""
    counters, gauges = node.instruments.counters, node.instruments.gauges()
    yield InfoMetricFamily(
        "livechat_build", "The server.", value={"version": __version__, "node_id": node.node_id}
    )
    yield from _gateway(counters, gauges)
    yield from _commands(counters)
    yield from _http(counters)
    yield from _store(node)
    yield from _media(gauges)
    yield from _media_workers(node.media.workers())
    yield _by_label("livechat_media_rekeys", "Changes of a voice's keys.", "cause", counters.rekeys)
    yield from _floor(counters.floor, gauges)
    yield from _jobs(counters.jobs)
    yield from _runtime(counters)


def _gateway(counters: Counters, gauges: Gauges) -> Iterator[Metric]:
    yield _gauge("livechat_connections", "WebSocket connections.", gauges.connections)
    yield _counter("livechat_connections_accepted", "TCP connections accepted.", gauges.accepted)
    yield _by_label(
        "livechat_connections_refused", "Connections that came to nothing.", "reason", counters.refused
    )
    closes = {str(code): number for code, number in counters.closes.items()}
    yield _by_label("livechat_connections_closed", "WebSockets that ended; 0: other codes.", "code", closes)
    yield _counter(
        "livechat_slow_consumers",
        "Connections closed as their client read too slowly.",
        counters.closes[CloseCode.SLOW_CONSUMER],
    )
    yield _gauge("livechat_sessions", "Sessions, parked ones included.", gauges.sessions)
    yield _gauge("livechat_sessions_parked", "Sessions that wait to be resumed.", gauges.sessions_parked)
    yield _counter("livechat_sessions_started", "Sessions opened by IDENTIFY.", counters.sessions_started)
    yield _counter("livechat_reconnects", "Clients that came back with RESUME.", counters.reconnects)
    resumes = CounterMetricFamily("livechat_resumes", "RESUMEs answered.", labels=("result", "reason"))
    resumes.add_metric(("ok", ""), counters.resumes_ok)
    for reason, number in sorted(counters.resumes_failed.items()):
        resumes.add_metric(("failed", reason), number)
    yield resumes
    yield _gauge("livechat_channels", "Channels that this server has in memory.", gauges.channels)
    yield _gauge("livechat_subscriptions", "Sessions subscribed to channels, all in all.", gauges.subscriptions)
    packets = {"in": counters.packets_in, "out": counters.packets_out}
    yield _by_label("livechat_messages", "WebSocket messages (packets).", "direction", packets)
    size = {"in": counters.bytes_in, "out": counters.bytes_out}
    yield _by_label("livechat_bytes", "Bytes over WebSockets.", "direction", size)
    yield _counter("livechat_chunks", "Media chunks taken from clients.", counters.chunks)
    yield _counter("livechat_chunk_bytes", "Bytes that those held.", counters.chunk_bytes)
    yield _gauge("livechat_streams", "Live streams of media chunks.", gauges.streams)
    yield _gauge("livechat_stream_bytes", "Bytes of init chunks that are kept.", gauges.stream_bytes)
    yield _gauge("livechat_egress_queue_depth", "Frames that wait for clients to read.", gauges.egress_frames)
    yield _gauge("livechat_egress_queue_depth_max", "Frames in the fullest queue.", gauges.egress_frames_max)
    yield _gauge("livechat_egress_queue_bytes", "Bytes that wait for clients to read.", gauges.egress_bytes)
    yield _gauge("livechat_egress_queues", "Connections for which something waits.", gauges.egress_queues)
    yield _gauge(
        "livechat_egress_held_bytes", "Bytes that wait, TLS included: what is limited.", gauges.egress_held_bytes
    )
    yield _gauge(
        "livechat_egress_limit_bytes", "How many may wait for all clients; 0: any.", gauges.egress_limit_bytes
    )
    yield _counter(
        "livechat_egress_evictions", "Connections closed as too much waited for all.", gauges.egress_evictions
    )
    yield _counter(
        "livechat_egress_superseded", "Packets left out for a newer one of the same.", counters.superseded
    )
    drops = CounterMetricFamily("livechat_drops", "Packets never sent.", labels=("class", "reason"))
    for (kind, why), number in sorted(counters.drops.items()):
        drops.add_metric((kind, why), number)
    yield drops


def _commands(counters: Counters) -> Iterator[Metric]:
    durations = HistogramMetricFamily(
        "livechat_command_duration_seconds", "From a request's arrival to its answer.", labels=("op",)
    )
    for op, histogram in sorted(counters.commands.items()):
        _observe(durations, (Op(op).name if op in REQUESTS else "UNKNOWN",), histogram)
    yield durations
    errors = {str(code): number for code, number in counters.errors.items()}
    yield _by_label("livechat_errors", "ERROR packets and HTTP problems.", "code", errors)


def _http(counters: Counters) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "livechat_http_requests", "HTTP responses.", labels=("route", "method", "status")
    )
    for (route, method, status), number in sorted(counters.http.items()):
        requests.add_metric((route, method, str(status)), number)
    yield requests
    durations = HistogramMetricFamily(
        "livechat_http_request_duration_seconds",
        "From a request's head to the end of its response.",
        labels=("route", "method"),
    )
    for labels, histogram in sorted(counters.http_durations.items()):
        _observe(durations, labels, histogram)
    yield durations


def _store(node: Node) -> Iterator[Metric]:
    statistics = node.store.statistics()
    yield _histogram(
        "livechat_store_commit_duration_seconds", "From BEGIN to the end of COMMIT.", statistics.commit_latency
    )
    yield _gauge("livechat_store_queue_depth", "Operations that wait for a commit.", statistics.queue_depth)
    yield _counter("livechat_store_operations", "Operations answered.", statistics.operations)
    yield _counter("livechat_store_commits", "Transactions committed.", statistics.batches)
    yield _counter("livechat_store_failures", "Operations that the store failed.", statistics.failures)
    yield _counter(
        "livechat_store_late", "Writes that proved stored after a RETRY had been answered.", statistics.late
    )


def _media(gauges: Gauges) -> Iterator[Metric]:
    relay = dict(gauges.relay)
    yield _gauge("livechat_media_peers", "Media peers that are relayed for.", relay.pop("peers", 0))
    traffic = {name: relay.pop(name, 0) for name in _TRAFFIC}
    yield _by_label("livechat_media_packets", "Datagrams and packets of the relay.", "kind", traffic)
    control = {name.removeprefix("rtcp_"): relay.pop(name, 0) for name in _RTCP}
    yield _by_label("livechat_media_rtcp", "Reports, and requests of listeners.", "kind", control)
    yield _by_label("livechat_media_drops", "Datagrams and packets that were dropped.", "reason", relay)


def _media_workers(workers: Sequence[WorkerInfo]) -> Iterator[Metric]:
    states = Counter[str](worker.state for worker in workers)
    family = GaugeMetricFamily("livechat_media_workers", "Processes that relay media.", labels=("state",))
    for state in get_args(WorkerState):
        family.add_metric((state,), states[state])
    yield family
    restarts = {str(worker.worker): worker.restarts for worker in workers}
    yield _by_label(
        "livechat_media_worker_restarts", "Workers that were started anew, as they failed.", "worker", restarts
    )
    cpu = {str(worker.worker): worker.cpu_s for worker in workers}
    yield _by_label("livechat_media_worker_cpu_seconds", "Processor time used by workers.", "worker", cpu)
    packets = CounterMetricFamily(
        "livechat_media_worker_packets", "Packets of workers.", labels=("worker", "direction")
    )
    peers = GaugeMetricFamily("livechat_media_worker_peers", "Media peers by worker.", labels=("worker",))
    memory = GaugeMetricFamily(
        "livechat_media_worker_memory_bytes", "Physical memory of workers.", labels=("worker",)
    )
    for worker in workers:
        name = str(worker.worker)
        packets.add_metric((name, "in"), worker.packets_received)
        packets.add_metric((name, "out"), worker.packets_forwarded)
        peers.add_metric((name,), worker.peers)
        memory.add_metric((name,), worker.memory_bytes)
    yield from (packets, peers, memory)


def _floor(floor: FloorCounters, gauges: Gauges) -> Iterator[Metric]:
    yield _gauge("livechat_floor_taken", "Push-to-talk channels whose floor is taken.", gauges.floors_taken)
    yield _gauge("livechat_floor_queue_depth", "Sessions that wait for a floor.", gauges.floor_queue)
    yield _counter("livechat_floor_grants", "Floors granted.", floor.grants)
    yield _by_label("livechat_floor_denies", "Floors denied.", "reason", floor.denies)
    yield _by_label("livechat_floor_revokes", "Floors taken away.", "cause", floor.revokes)


def _jobs(jobs: JobCounters) -> Iterator[Metric]:
    yield _gauge("livechat_jobs_queued", "Jobs that wait.", jobs.queued)
    yield _gauge("livechat_jobs_running", "Jobs that run.", jobs.running)
    yield _by_label("livechat_jobs_submitted", "Jobs taken.", "kind", jobs.submitted)
    finished = CounterMetricFamily("livechat_jobs_finished", "Jobs that are over.", labels=("kind", "state"))
    for labels, number in sorted(jobs.finished.items()):
        finished.add_metric(labels, number)
    yield finished
    durations = HistogramMetricFamily(
        "livechat_job_duration_seconds", "From a job's start to its end.", labels=("kind",)
    )
    for kind, histogram in sorted(jobs.durations.items()):
        _observe(durations, (kind,), histogram)
    yield durations


def _runtime(counters: Counters) -> Iterator[Metric]:
    trio_now = trio.lowlevel.current_statistics()
    yield _gauge("livechat_trio_tasks", "Tasks that live.", trio_now.tasks_living)
    yield _gauge("livechat_trio_tasks_runnable", "Tasks that wait for their turn.", trio_now.tasks_runnable)
    yield _gauge(
        "livechat_trio_run_sync_soon_queue", "Calls of other threads that wait.", trio_now.run_sync_soon_queue_size
    )
    pauses = HistogramMetricFamily(
        "livechat_gc_pause_seconds", "Pauses of the garbage collector.", labels=("generation",)
    )
    for generation, histogram in counters.gc_pauses.items():
        _observe(pauses, (str(generation),), histogram)
    yield pauses


# --- families of one shape ------------------------------------------------------------------------


def _gauge(name: str, description: str, value: float) -> Metric:
    return GaugeMetricFamily(name, description, value=value)


def _counter(name: str, description: str, value: float) -> Metric:
    return CounterMetricFamily(name, description, value=value)


def _by_label(name: str, description: str, label: str, numbers: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, description, labels=(label,))
    for value, number in sorted(numbers.items()):
        family.add_metric((value,), number)
    return family


def _histogram(name: str, description: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, description, labels=())
    _observe(family, (), histogram)
    return family


def _observe(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets = [("+Inf" if bound == float("inf") else repr(bound), count) for bound, count in histogram.cumulated()]
    family.add_metric(labels, buckets, histogram.total)

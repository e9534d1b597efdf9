"""Owns how things stand at one moment, gathered for whoever watches the server. It must not change anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from livechat.gateway.budget import Budget
from livechat.gateway.connection import Connection
from livechat.handlers.node import Node
from livechat.telemetry.counters import Gauges


def gather(
    node: Node,
    connections: Collection[Connection],
    *,
    budget: Budget,
    accepted: int,
    relay: Mapping[str, int],
) -> Gauges:
    """Look at everything once; a millisecond or so for ten thousand connections.

    Args:
        budget: of all egress queues.
        accepted: TCP connections so far.
        relay: what became of the datagrams.
    """
    waiting = [connection.queued for connection in connections]
    return Gauges(
        connections=len(connections),
        accepted=accepted,
        sessions=len(node.users),
        sessions_parked=sum(session.outlet is None for session in node.users),
        channels=len(node.channels),
        subscriptions=sum(len(channel.subscribers) for channel in node.channels),
        floors_taken=sum(floor.holder is not None for floor in node.floors),
        floor_queue=sum(len(floor.waiting) for floor in node.floors),
        streams=len(node.streams),
        stream_bytes=node.streams.kept_bytes,
        egress_frames=sum(each.frames for each in waiting),
        egress_frames_max=max((each.frames for each in waiting), default=0),
        egress_bytes=sum(each.bytes for each in waiting),
        egress_queues=budget.holders,
        egress_held_bytes=budget.used_bytes,
        egress_limit_bytes=budget.limit_bytes,
        egress_evictions=budget.closed,
        relay=relay,
    )

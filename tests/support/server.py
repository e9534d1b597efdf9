"""A real server on loopback for integration tests, and what to ask it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
import trio.testing

import livechat
from livechat.gateway.settings import GatewaySettings
from livechat.store.base import perform
from livechat.store.operations import TransientMembers

SECRET = "a-secret-for-tests-only"
DEADLINE_S = 20.0
"""Bounds every wait of a test: it is only reached when something is broken."""
NO_LIMITS = livechat.RateLimits(messages_per_s=0, history_per_s=0, sync_per_s=0, read_per_s=0, others_per_s=0)
"""Tests send as fast as they can; those of the limits set their own."""

NO_REPORTS_MS = 3_600_000


def make_config(data_dir: Path, **overrides: Any) -> livechat.Config:
    """A configuration on free ports; `gateway` overrides are merged into quick test defaults."""
    gateway = attrs.evolve(GatewaySettings(drain_ms=0, close_timeout_ms=1000), **overrides.pop("gateway", {}))
    overrides.setdefault("rates", NO_LIMITS)
    media = overrides.pop("media", livechat.MediaSettings())
    if media.report_interval_ms == livechat.MediaSettings().report_interval_ms:
        # The server's own reports come by chance, among what a test waits for; those of them set their interval.
        media = attrs.evolve(media, report_interval_ms=NO_REPORTS_MS)
    overrides["media"] = media
    return livechat.Config(port=0, udp_port=0, data_dir=data_dir, secret=SECRET, gateway=gateway, **overrides)


@asynccontextmanager
async def running_server(data_dir: Path, **overrides: Any) -> AsyncGenerator[livechat.Server]:
    """Run a server on free loopback ports; leaving does not wait for clients."""
    with trio.fail_after(120):
        async with livechat.open_server(make_config(data_dir, **overrides)) as server:
            yield server


async def wait_until(condition: Any) -> None:
    """Wait until `condition()` holds: for what a server does a moment after the client saw something."""
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the server has no event for every thing a test may ask
            await trio.sleep(0.005)


def counted(server: livechat.Server) -> dict[str, float]:
    """What the gateway holds: connections, sessions, parked ones, channels, subscriptions, media peers."""
    gateway = server.statistics()["gateway"]
    names = ("connections", "sessions", "sessions_parked", "channels", "subscriptions")
    return {name: gateway[name] for name in names} | {"peers": server.statistics()["media"]["peers"]}


async def store_at_rest(server: livechat.Server) -> None:
    """Wait until nothing that a server does in its store by itself, once it has started, is under way."""
    store = server._node.store
    while True:
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = store.statistics().operations
        await perform(store, TransientMembers())
        await trio.testing.wait_all_tasks_blocked(0.01)
        if store.statistics().operations == before + 1:
            return

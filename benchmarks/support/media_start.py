"""Owns how relays come to life: livechat with rooms joined over the gateway, peers with theirs on standard input.

It must not send media. Every process is kept on the processor it is given, and ended whatever happens.
"""

from __future__ import annotations

import importlib.util
import json
import secrets
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from benchmarks.support.arrivals import Drain
from benchmarks.support.chat import each
from benchmarks.support.cpu import pin
from benchmarks.support.gateway import CHANNEL_CREATE, CHANNEL_JOIN, GatewayClient, keep_alive
from benchmarks.support.load import Tell
from benchmarks.support.media_drain import MediaDrain
from benchmarks.support.media_system import MediaSystem, RoomKeys, packet_bytes
from benchmarks.support.processes import ROOT, kill, port_of, running_server
from benchmarks.support.prometheus import by_label, scrape
from livechat.srtp.profile import SrtpProfile

OWN: Final = "livechat"
PEERS: Final = {
    "trio-naive": ("benchmarks.peers.trio_naive", "pylibsrtp"),
    "asyncio-pylibsrtp": ("benchmarks.peers.asyncio_pylibsrtp", "pylibsrtp"),
    "aiortc": ("benchmarks.peers.aiortc_path", "aiortc"),
}
"""Name -> (program, the package it needs)."""
ROOMS: Final = {2: 32, 10: 16, 50: 4, 200: 2}
"""Rooms that talk at once, by fan-out: enough to fill a core with talkers who are not absurd."""
SAMPLED_ROOMS: Final = 4
SSRC_FIRST: Final = 0x1000_0000
DROP_NAME: Final = "livechat_media_drops_total"
ABOUT_RTCP: Final = ("rtcp_", "reports_", "nack_", "key_frame_", "feedback_")
"""Reasons that begin so are of reports and requests, which have budgets of their own: no voice is lost by them."""
PAUSE_NAME: Final = "livechat_gc_pause_seconds"


@attrs.frozen
class MediaScenario:
    """One row of the table."""

    profile: str
    payload_bytes: int
    fan_out: int

    @property
    def rooms(self) -> int:
        """How many talkers there are, each in a room of its own."""
        return ROOMS.get(self.fan_out, max(2, min(32, 400 // self.fan_out)))

    def __str__(self) -> str:
        return f"{self.profile}, {self.payload_bytes} bytes, to {self.fan_out}"


def available_peers(find: Callable[[str], object | None] = importlib.util.find_spec) -> dict[str, str | None]:
    """Return every peer's name, and what it lacks: the name of a package, or None."""
    return {name: None if find(package) else package for name, (_, package) in PEERS.items()}


def make_drain(scenario: MediaScenario) -> MediaDrain:
    """Open the sockets for the listeners of one relay."""
    length = packet_bytes(scenario.profile, scenario.payload_bytes)
    return MediaDrain(length, scenario.fan_out, min(SAMPLED_ROOMS, scenario.rooms))


@attrs.frozen
class RunningServer:
    """A livechat under load."""

    system: MediaSystem
    url: str
    token: str = attrs.field(repr=False)

    def gc_pauses(self) -> dict[str, dict[str, float]]:
        """Return the collector's pauses since the start, by generation: count and seconds in all."""
        samples = scrape(self.url, self.token)
        counts, sums = (by_label(samples, f"{PAUSE_NAME}_{what}", "generation") for what in ("count", "sum"))
        return {generation: {"count": counts[generation], "sum_s": sums[generation]} for generation in counts}


@asynccontextmanager
async def running_livechat(
    scenario: MediaScenario, folder: Path, cpus: set[int], tell: Tell, **more: str
) -> AsyncGenerator[RunningServer]:
    """Run `livechat serve`, with every room joined as clients do it.

    Args:
        more: settings, see `running_server`.

    Raises:
        Failed, Refused, ConnectionLost: it did not start, or refused a client.
    """
    token = secrets.token_urlsafe(24)
    with ExitStack() as stack:
        drain, media_drain = Drain(), make_drain(scenario)
        stack.callback(drain.close)
        stack.callback(media_drain.close)
        rooms = GatewayRooms(scenario, drain, media_drain)
        for client in rooms.clients:
            stack.callback(client.close)
        async with running_server(folder, token, **more) as (url, pid), trio.open_nursery() as nursery:
            pin(pid, cpus)
            nursery.start_soon(drain.run)
            address = await rooms.set_up(url, token, tell)
            nursery.start_soon(keep_alive, rooms.clients)
            drops = partial(_drops, url, token)
            system = MediaSystem(
                OWN, pid, address, scenario.profile, scenario.payload_bytes, rooms.keys(), media_drain, drops
            )
            stack.callback(system.close)
            yield RunningServer(system, url, token)
            nursery.cancel_scope.cancel()


def _drops(url: str, token: str) -> dict[str, float]:
    dropped = by_label(scrape(url, token), DROP_NAME, "reason")
    return {reason: count for reason, count in dropped.items() if not reason.startswith(ABOUT_RTCP)}


class GatewayRooms:
    """Users that are in every room: one that talks in all of them, the others listen in all of them."""

    def __init__(self, scenario: MediaScenario, drain: Drain, media_drain: MediaDrain) -> None:
        self._scenario = scenario
        self._media_drain = media_drain
        self._talker = GatewayClient(drain, "talker")
        self._listeners = [GatewayClient(drain, f"listener-{number}") for number in range(scenario.fan_out)]
        self.clients = [self._talker, *self._listeners]
        self._ssrcs = [0] * scenario.rooms
        self._keys = [b""] * scenario.rooms
        self._listener_keys = [[b""] * scenario.fan_out for _ in range(scenario.rooms)]

    async def set_up(self, url: str, token: str, tell: Tell) -> tuple[str, int]:
        """Connect and join everyone; returns where media goes."""
        await each((partial(client.connect, url, token) for client in self.clients), "connected", tell)
        for room in range(self._scenario.rooms):
            wanted = {"channel_id": f"room-{room}", "capacity": len(self.clients)}
            await self._talker.request(CHANNEL_CREATE, wanted)
        await each((partial(self._listen, number) for number in range(len(self._listeners))), "joined", tell)
        address = ("", 0)
        for room in range(self._scenario.rooms):
            media = await self._join(self._talker, room, None)
            self._ssrcs[room] = media["ssrc"]
            self._keys[room] = b64decode(media["client_key"])
            address = media["host"], media["port"]
        return address

    async def _listen(self, number: int) -> None:
        for room in range(self._scenario.rooms):
            host, port = self._media_drain.address(room, number)
            media = await self._join(self._listeners[number], room, {"host": host, "port": port})
            self._listener_keys[room][number] = b64decode(media["server_key"])

    async def _join(self, client: GatewayClient, room: int, address: dict[str, Any] | None) -> dict[str, Any]:
        offer: dict[str, Any] = {"profiles": [self._scenario.profile]}
        if address is not None:
            offer["address"] = address
        joined = await client.request(CHANNEL_JOIN, {"channel_id": f"room-{room}", "media": offer})
        media: dict[str, Any] = joined["media"]
        return media

    def keys(self) -> list[RoomKeys]:
        """Return the keys of every room."""
        return [RoomKeys(*room) for room in zip(self._ssrcs, self._keys, self._listener_keys, strict=True)]


@asynccontextmanager
async def running_peer(name: str, scenario: MediaScenario, cpus: set[int]) -> AsyncGenerator[MediaSystem]:
    """Run a peer with rooms of its own.

    Raises:
        Failed: it did not begin to listen.
    """
    rooms, drain = _random_rooms(scenario), make_drain(scenario)
    document = json.dumps({"profile": scenario.profile, "rooms": _describe(rooms, drain)}).encode()
    command = [sys.executable, "-m", PEERS[name][0]]
    start = partial(
        trio.run_process,
        command,
        stdin=document,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=False,
        deliver_cancel=kill,
    )
    # Whatever fails, the sockets are closed; to close them twice does no harm.
    with closing(drain):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(start)
            port = await port_of(name, process)
            pin(process.pid, cpus)
            address = ("127.0.0.1", port)
            profile, payload_bytes = scenario.profile, scenario.payload_bytes
            system = MediaSystem(name, process.pid, address, profile, payload_bytes, rooms, drain, dict)
            with closing(system):
                yield system
            nursery.cancel_scope.cancel()


def _random_rooms(scenario: MediaScenario) -> list[RoomKeys]:
    length = SrtpProfile(scenario.profile).master_bytes
    return [
        RoomKeys(
            SSRC_FIRST + room,
            secrets.token_bytes(length),
            [secrets.token_bytes(length) for _ in range(scenario.fan_out)],
        )
        for room in range(scenario.rooms)
    ]


def _describe(rooms: list[RoomKeys], drain: MediaDrain) -> list[dict[str, Any]]:
    described = []
    for number, room in enumerate(rooms):
        listeners = []
        for listener, key in enumerate(room.listener_keys):
            host, port = drain.address(number, listener)
            listeners.append({"key": b64encode(key).decode(), "host": host, "port": port})
        described.append({"ssrc": room.ssrc, "key": b64encode(room.key).decode(), "listeners": listeners})
    return described

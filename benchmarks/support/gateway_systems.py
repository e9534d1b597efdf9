"""Owns how the chat servers that are compared come to life, each a process on the processor it is given.

It must not talk to them. What is not installed is named, and left out.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from benchmarks.support import npm
from benchmarks.support.cpu import pin
from benchmarks.support.processes import ROOT, START_TIMEOUT_S, Failed, kill, port_of, running_server

OWN: Final = "livechat"
DURABLE: Final = "livechat-durable"
HOUR_MS: Final = "3600000"
SETTINGS: Final = {
    # Nobody's heartbeat is part of what is measured, here or at the peers.
    "GATEWAY_HEARTBEAT_INTERVAL_MS": HOUR_MS,
}
DEFLATE: Final = {"GATEWAY_COMPRESSION": "permessage-deflate"}
STORES: Final = {OWN: {"STORE_URL": "memory:"}, DURABLE: {}}
"""Livechat without a store, and with every message committed before it is sent (SQLite, synchronous=FULL)."""
BARE: Final = "bare"
"""One send per delivery and nothing else: no rival, but the ceiling of all that send each delivery by itself."""
MODULES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    BARE: ("benchmarks.peers.bare_sends", ()),
    "websockets": ("benchmarks.peers.websockets_broadcast", ("websockets",)),
    "python-socketio": ("benchmarks.peers.socketio_rooms", ("socketio", "uvicorn")),
    "trio-websocket": ("benchmarks.peers.trio_websocket_rooms", ("trio_websocket",)),
}
"""Name -> (program, the packages it needs)."""
SCRIPTS: Final = {"ws": "ws.js", "socket.io": "socketio.js"}
NATS: Final = "nats"
SYSTEMS: Final = (OWN, DURABLE, *SCRIPTS, *(name for name in MODULES if name != BARE), NATS, BARE)
DIALECTS: Final = {
    OWN: "livechat",
    DURABLE: "livechat",
    "socket.io": "socket.io",
    "python-socketio": "socket.io",
    NATS: "nats",
}
"""Those that are not named speak `plain`."""
PEERS_FOLDER: Final = ROOT / "benchmarks" / "peers"
NATS_CONFIG: Final = """\
listen: "127.0.0.1:{port}"
ping_interval: "1h"
write_deadline: "10s"
max_pending: 64MB
websocket {{ listen: "127.0.0.1:{websocket_port}", no_tls: true, compression: false }}
"""
"""The limits are NATS' defaults."""


@attrs.frozen
class Running:
    """A server that listens."""

    name: str
    port: int
    pid: int
    token: str = attrs.field(default="", repr=False)

    @property
    def dialect(self) -> str:
        """What it speaks."""
        return DIALECTS.get(self.name, "plain")


def lacking(names: Sequence[str], npm_folder: Path) -> dict[str, str]:
    """Return what is not installed of what these systems need, by system; packages for node are installed."""
    missing: dict[str, str] = {}
    if any(name in SCRIPTS for name in names) and (lack := npm.provide(npm_folder)) is not None:
        missing |= {name: lack for name in names if name in SCRIPTS}
    for name in names:
        if name in MODULES:
            absent = [package for package in MODULES[name][1] if importlib.util.find_spec(package) is None]
            if absent:
                missing[name] = f"{' and '.join(absent)} (the extra `bench`)"
        elif name == NATS and nats_server() is None:
            missing[name] = "nats-server (on PATH, or by the extra `bench`)"
    return missing


def nats_server() -> str | None:
    """Return where NATS' server is: beside our interpreter, or on PATH."""
    return shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")


@asynccontextmanager
async def running(
    name: str, folder: Path, cpus: set[int], npm_folder: Path, *, deflate: bool = False
) -> AsyncGenerator[Running]:
    """Run a system until the block is left.

    Args:
        folder: for its data; must be new.
        deflate: whether it compresses for those who ask for it; livechat, ws and websockets can.

    Raises:
        Failed: it did not begin to listen.
    """
    if name in STORES:
        token = secrets.token_urlsafe(24)
        settings = SETTINGS | STORES[name] | (DEFLATE if deflate else {})
        async with running_server(folder, token, **settings) as (url, pid):
            pin(pid, cpus)
            yield Running(name, int(url.rpartition(":")[2].partition("/")[0]), pid, token)
    elif name == NATS:
        async with _running_nats(folder, cpus) as server:
            yield server
    else:
        command = ["node", str(PEERS_FOLDER / SCRIPTS[name])] if name in SCRIPTS else _module(name)
        environment = os.environ | {"NODE_PATH": str(npm.modules(npm_folder)), "PEER_DEFLATE": "01"[deflate]}
        async with _running_program(name, command, cpus, environment) as process:
            yield Running(name, await port_of(name, process), process.pid)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", MODULES[name][0]]


@asynccontextmanager
async def _running_nats(folder: Path, cpus: set[int]) -> AsyncGenerator[Running]:
    program = nats_server()
    assert program is not None
    port, websocket_port = free_ports(2)
    config = await trio.to_thread.run_sync(_write_nats_config, folder, port, websocket_port)
    command = [program, "-c", str(config), "-l", str(folder / "nats.log")]
    async with _running_program(NATS, command, cpus, os.environ) as process:
        with trio.move_on_after(START_TIMEOUT_S) as scope:
            # It says so in its log alone.
            while process.poll() is None and not _answers(websocket_port):  # noqa: ASYNC110
                await trio.sleep(0.02)
        if scope.cancelled_caught or process.poll() is not None:
            raise Failed(f"{NATS} did not begin to listen")
        yield Running(NATS, websocket_port, process.pid)


def _write_nats_config(folder: Path, port: int, websocket_port: int) -> Path:
    folder.mkdir(parents=True)
    config = folder / "nats.conf"
    config.write_text(NATS_CONFIG.format(port=port, websocket_port=websocket_port))
    return config


@asynccontextmanager
async def _running_program(
    name: str, command: Sequence[str], cpus: set[int], environment: os._Environ[str] | dict[str, str]
) -> AsyncGenerator[trio.Process]:
    """Run a program that has, from its first moment, no other processors than these."""
    start = partial(
        trio.run_process,
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        check=False,
        deliver_cancel=kill,
        preexec_fn=partial(os.sched_setaffinity, 0, cpus),
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        yield process
        nursery.cancel_scope.cancel()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody has at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True

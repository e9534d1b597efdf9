"""Owns the processes of a measurement: a server of its own and a client of its own, ended whatever happens.

It must not interpret results.
"""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.support.scenario import Assignment, Progress, Scenario

ROOT: Final = Path(__file__).resolve().parents[2]
"""Where `livechat` and `benchmarks` are importable from, installed or not."""
START_TIMEOUT_S: Final = 30.0
BEYOND_S: Final = 120.0
"""What a scenario may take beyond its length: connecting, joining, waiting for what is late."""

_GATEWAY_LINE: Final = re.compile(r"^\s*gateway\s+(wss?://\S+)\s*$", re.MULTILINE)


class Failed(Exception):
    """A measurement came to nothing; the text says why."""


def allow_many_sockets() -> None:
    """Raise the soft limit on open files to the hard one, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def running_server(folder: Path, token: str, **more: str) -> AsyncGenerator[tuple[str, int]]:
    """Run `livechat serve` on free ports with its data in `folder`; yields (gateway's URL, process id).

    Args:
        token: the shared secret.
        more: settings, as in the environment but without `LIVECHAT_`.

    Raises:
        Failed: it did not begin to listen.
    """
    command = [sys.executable, "-m", "livechat", "serve", "--host", "127.0.0.1", "--port", "0", "--udp-port", "0"]
    command += ["--data-dir", str(folder), "--log-level", "warning"]
    # The defaults are what is measured; only, no client is to be slowed down.
    settings = {"LIVECHAT_SECRET": token}
    settings |= {f"LIVECHAT_{name}": value for name, value in more.items()}
    settings |= {f"LIVECHAT_RATES_{kind}_PER_S": "0" for kind in ("MESSAGES", "HISTORY", "OTHERS")}
    others = {name: value for name, value in os.environ.items() if not name.startswith("LIVECHAT_")}
    start = partial(
        trio.run_process,
        command,
        env=others | settings,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=False,
        deliver_cancel=kill,
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        output = ""
        with trio.move_on_after(START_TIMEOUT_S):
            while (listening := _GATEWAY_LINE.search(output)) is None:
                part = await process.stdout.receive_some()
                if not part:
                    break
                output += part.decode()
        if listening is None:
            raise Failed("the server did not begin to listen")
        yield listening[1], process.pid
        nursery.cancel_scope.cancel()


async def port_of(name: str, process: trio.Process) -> int:
    """Return the port that a program prints once it listens.

    Raises:
        Failed: it ended, or took too long.
    """
    assert process.stdout is not None
    line = b""
    with trio.move_on_after(START_TIMEOUT_S):
        while not line.endswith(b"\n") and (part := await process.stdout.receive_some()):
            line += part
    if not line.endswith(b"\n"):
        raise Failed(f"{name} did not begin to listen")
    return int(line)


async def kill(process: trio.Process) -> None:
    """End a program at once; nobody will read its data, nor what it has to say about that."""
    process.kill()


async def run_client(assignment: Assignment, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Run the client process until it has a result.

    Raises:
        Failed: it ended without one, or took too long.
    """
    command = [sys.executable, "-m", "benchmarks.support.client"]
    start = partial(
        trio.run_process, command, stdin=assignment.serialize(), cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    result: dict[str, Any] | None = None
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        assert process.stdout is not None
        rest = b""
        with trio.move_on_after(assignment.scenario.seconds + BEYOND_S) as scope:
            async for part in process.stdout:
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    told = json.loads(line)
                    if "progress" in told:
                        tell(told["progress"])
                    else:
                        result = told["result"]
        nursery.cancel_scope.cancel()
    if result is None:
        raise Failed("the client took too long" if scope.cancelled_caught else "the client failed; see above")
    return result


async def run_scenario(scenario: Scenario, folder: Path, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Measure one scenario with fresh processes, so that none inherits what another left behind.

    Args:
        folder: for the server's data; must be new.
    """
    token = secrets.token_urlsafe(24)
    async with running_server(folder, token) as (url, pid):
        return await run_client(Assignment(scenario, url, token, pid), tell)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first exception in a group of groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found

"""Runs an example as a user would: `python examples/<name>.py`, in a process that ends with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0
"""Bounds every wait: it is only reached when something is broken."""


def command(name: str, *arguments: str) -> list[str]:
    """Return the command line."""
    return [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments]


def environment(**more: str) -> dict[str, str]:
    """Return the environment: livechat need not be installed, and the caller's own settings are left out."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("LIVECHAT_")}
    return others | {"PYTHONPATH": str(ROOT)} | more


async def run(name: str, *arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run an example until it ends by itself."""
    with trio.fail_after(DEADLINE_S):
        return await trio.run_process(
            command(name, *arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=cwd,
            env=environment(**more),
        )


@asynccontextmanager
async def running(name: str, *arguments: str, cwd: Path, **more: str) -> AsyncGenerator[trio.Process]:
    """Run an example while the block runs; its standard output can be read."""
    start = partial(
        trio.run_process,
        command(name, *arguments),
        stdout=subprocess.PIPE,
        check=False,
        cwd=cwd,
        env=environment(**more),
    )
    async with trio.open_nursery() as nursery:
        yield await nursery.start(start)
        nursery.cancel_scope.cancel()


async def read_line(process: trio.Process) -> str:
    """Return the next line of its standard output."""
    assert process.stdout is not None
    line = b""
    with trio.fail_after(DEADLINE_S):
        while not line.endswith(b"\n"):
            byte = await process.stdout.receive_some(1)
            assert byte, f"it ended after {line!r}"
            line += byte
    return line.decode().rstrip("\n")

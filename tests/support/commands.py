"""A command of livechat that goes on until it is told to stop, in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.process import PATIENCE_S, clean_environment


class Command:
    """A running command; its standard output and its standard error are one stream of lines."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.output = ""

    async def wait_for(self, text: str) -> str:
        """Read until a line holds `text`; return that line."""
        seen = 0
        with trio.fail_after(PATIENCE_S):
            while True:
                *lines, _ = self.output.split("\n")
                for line in lines[seen:]:
                    if text in line:
                        return line
                seen = len(lines)
                assert await self._read(), f"it ended: {self.output}"

    async def _read(self) -> bool:
        assert self.process.stdout is not None
        data = await self.process.stdout.receive_some()
        self.output += data.decode()
        return bool(data)

    async def ended(self) -> int:
        """Wait for it to end; return its exit status. `output` is complete then."""
        with trio.fail_after(PATIENCE_S):
            while await self._read():
                pass
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and wait for its end."""
        self.process.send_signal(number)
        return await self.ended()


@asynccontextmanager
async def command(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> AsyncGenerator[Command]:
    """Run a command while the block runs; it is killed at the latest when that is left."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "livechat", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=cwd,
        env={**clean_environment(), "PYTHONUNBUFFERED": "1", **(env or {})},
    )
    assert process.stdout is not None
    try:
        yield Command(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()

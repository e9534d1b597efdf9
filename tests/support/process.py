"""`livechat serve` as its users start it: a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

PATIENCE_S = 60.0
"""Bounds every wait; a process has to load first, on a machine that may be busy."""
BANNER_END = "Ctrl-C stops."


class ServerProcess:
    """A running server process."""

    def __init__(self, process: trio.Process, banner: str) -> None:
        self.process = process
        self.banner = banner

    @property
    def url(self) -> str:
        """Where its gateway listens."""
        found = re.search(r"wss?://\S+/ws", self.banner)
        assert found is not None, self.banner
        return found.group()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for it to end; return its exit status."""
        with trio.fail_after(PATIENCE_S):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    data_dir: Path, *arguments: str, env: dict[str, str] | None = None, log: Path | None = None
) -> AsyncGenerator[ServerProcess]:
    """Run `livechat serve` on free ports; it is killed at the latest when the block is left.

    Args:
        log: where its standard error goes; None: to ours.
    """
    command = [sys.executable, "-m", "livechat", "serve", "--port", "0", "--udp-port", "0"]
    # Opened at once: nothing else runs yet.
    with open(log or os.devnull, "ab") as stderr:  # noqa: ASYNC230
        process = await trio.lowlevel.open_process(
            [*command, "--data-dir", str(data_dir), *arguments],
            stdout=subprocess.PIPE,
            stderr=None if log is None else stderr,
            env={**clean_environment(), **(env or {})},
        )
    assert process.stdout is not None
    try:
        banner = ""
        with trio.fail_after(PATIENCE_S):
            while BANNER_END not in banner:
                data = await process.stdout.receive_some()
                assert data, f"the server ended: {banner}"
                banner += data.decode()
        yield ServerProcess(process, banner)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()


def run_livechat(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the console script to its end; for what ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "livechat", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**clean_environment(), **(env or {})},
    )


def clean_environment() -> dict[str, str]:
    """The environment without settings of livechat."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LIVECHAT_")}

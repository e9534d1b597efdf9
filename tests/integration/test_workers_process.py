"""`livechat serve --media-workers`: signals to the server, and a server that is killed, leave no worker behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from tests.support.process import serving
from tests.support.server import wait_until

MODULE = b"livechat.media.workers"


def workers_of(pid: int) -> list[int]:
    """Return the workers among the children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and MODULE in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (OSError, IndexError, ValueError):
            continue  # no process, or one that has just ended
    return found


def is_running(pid: int) -> bool:
    """Tell whether a process runs; of one that is nobody's child any more, init may not have heard yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
async def test_the_end_of_the_server_is_the_end_of_its_workers(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with serving(tmp_path / "data", "--media-workers", "2", log=log) as server:
        assert server.banner.count("udp://127.0.0.1:") == 2
        await wait_until(lambda: len(workers_of(server.process.pid)) == 2)
        pids = workers_of(server.process.pid)
        # As a terminal or a service manager does, to all of the group.
        for pid in pids:
            await wait_until(lambda pid=pid: ignores(pid, signal.SIGTERM))
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        assert all(map(is_running, pids))
        server.send(number)
        assert await server.ended() == (0 if number == signal.SIGTERM else -number)
        await wait_until(lambda: not any(map(is_running, pids)))
    text = await trio.Path(log).read_text()
    assert "media worker failed" not in text
    assert "Traceback" not in text


def ignores(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process ignores a signal yet."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    ignored = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return bool(ignored >> (number - 1) & 1)

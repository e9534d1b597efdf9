from __future__ import annotations

import os
import signal
from pathlib import Path

import trio

from tests.examples.programs import DEADLINE_S, read_line, run, running


async def test_embed_serves_its_guest_beside_its_own_task_and_ends(tmp_path: Path) -> None:
    done = await run("embed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    printed = done.stdout.decode()
    for expected in (
        "with a forged ticket: token: expected a ticket",
        "welcome, alice",
        "heard message 2 of foyer: 'good evening'",
        "host:  1 connected",
        "the server is closed",
    ):
        assert expected in printed
    assert os.listdir(tmp_path) == []


async def test_embed_forever_stays_until_it_is_interrupted(tmp_path: Path) -> None:
    async with running("embed", "--forever", cwd=tmp_path) as process:
        while "Ctrl-C stops" not in await read_line(process):
            pass
        process.send_signal(signal.SIGINT)
        with trio.fail_after(DEADLINE_S):
            assert await process.wait() == 0

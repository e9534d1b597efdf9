"""Owns a client process, seen from the command that starts it: commands go in, answers come out.

It must not know what the commands mean; see `gateway_client`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import trio

from benchmarks.support.processes import ROOT, Failed

ANSWER_TIMEOUT_S: Final = 180.0


class ClientProcess:
    """A process that does one thing after another."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self._name = name
        self._process = process
        self._rest = b""

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Have it do something; return what came out.

        Raises:
            Failed: it said so, took too long, or ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = json.dumps({"do": do, **arguments}).encode() + b"\n"
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            await self._process.stdin.send_all(command)
            while b"\n" not in self._rest and (part := await self._process.stdout.receive_some()):
                self._rest += part
        line, newline, self._rest = self._rest.partition(b"\n")
        if not newline:
            raise Failed(f"{self._name}: its client ended or took too long")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise Failed(f"{self._name}: {answer['failed']}")
        return answer


@asynccontextmanager
async def running_client(name: str, cpus: set[int]) -> AsyncGenerator[ClientProcess]:
    """Run a client on these processors until the block is left; the name is for messages."""
    start = partial(
        trio.run_process,
        [sys.executable, "-m", "benchmarks.support.gateway_client"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        check=False,
        deliver_cancel=_kill,
        preexec_fn=partial(os.sched_setaffinity, 0, cpus),
    )
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(start)
        yield ClientProcess(name, process)
        nursery.cancel_scope.cancel()


async def _kill(process: trio.Process) -> None:
    process.kill()

"""`livechat serve` as a service manager and a hasty operator start and stop it: real processes, real signals."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.support.client import RECONNECT, identified
from tests.support.process import clean_environment, serving
from tests.support.server import DEADLINE_S, SECRET
from tests.support.service_manager import service_manager

QUICK = {"LIVECHAT_GATEWAY_DRAIN_MS": "200", "LIVECHAT_SECRET": SECRET}


async def test_a_service_manager_is_told_of_every_state(tmp_path: Path) -> None:
    async with service_manager(tmp_path / "notify") as manager:
        async with serving(tmp_path / "data", env={**QUICK, **manager.environment}) as server:
            ready = await manager.told()
            assert ready == {"READY": "1", "STATUS": f"listening at {server.url}"}
            server.send(signal.SIGHUP)
            reloading = await manager.told()
            assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
            assert await manager.told() == {"READY": "1", "STATUS": "reloaded"}
            async with identified(server.url, "alice") as alice:
                server.send(signal.SIGTERM)
                assert await manager.told() == {"STOPPING": "1", "STATUS": "draining 1 connections"}
                await alice.expect(RECONNECT)
                assert await alice.closed() == 4003
            assert await server.ended() == 0
        assert manager.told_already() == []


async def test_it_is_ready_only_once_it_listens(tmp_path: Path) -> None:
    async with service_manager(tmp_path / "notify") as manager:
        async with serving(tmp_path / "data", env={**QUICK, **manager.environment}) as server:
            await manager.told()
            async with identified(server.url, "alice"):
                pass
        (tmp_path / "data" / "secret").mkdir()
        arguments = ["--port", "0", "--udp-port", "0", "--data-dir", str(tmp_path / "data")]
        refused = await trio.run_process(
            [sys.executable, "-m", "livechat", "serve", *arguments],
            capture_stderr=True,
            check=False,
            env={**clean_environment(), **manager.environment},
        )
        assert refused.returncode == 2
        assert manager.told_already() == []


async def test_the_watchdog_is_told_while_the_store_works_and_not_while_it_does_not(tmp_path: Path) -> None:
    async with service_manager(f"@livechat-test-{os.getpid()}") as manager:
        env = {**QUICK, **manager.environment, "WATCHDOG_USEC": "200000"}
        async with serving(tmp_path, env=env):
            told: list[dict[str, str]] = []
            # On a busy machine the store may miss its tenth of a second; then it is told again once it answers.
            while told.count({"WATCHDOG": "1"}) < 2:
                told.append(await manager.told())
            database = sqlite3.connect(tmp_path / "livechat.db", isolation_level=None)
            try:
                database.execute("BEGIN IMMEDIATE")
                while await manager.told() != {"STATUS": "the store does not answer"}:
                    pass  # told before it was locked
            finally:
                database.close()
            while await manager.told() != {"STATUS": "works again"}:
                pass


# --- a signal before it serves --------------------------------------------------------------------


def interrupt_when(
    program: str, line: str, number: signal.Signals = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """Run a program and send it a signal once it has printed a line."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == line
            process.send_signal(number)
            out, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


# Nothing is imported in between: there Python loses a KeyboardInterrupt in the callback of an import lock.
STANDS_STILL = "import time; print('here', flush=True); time.sleep(60)"


def test_ctrl_c_during_the_imports_leaves_no_traceback() -> None:
    program = f"""
import builtins, sys
real = builtins.__import__
def slow(name, *rest):
    if name == "click":
        {STANDS_STILL}
    return real(name, *rest)
builtins.__import__ = slow
from livechat.__main__ import main
sys.argv = ["livechat", "serve"]
main()
"""
    finished = interrupt_when(program, "here")
    assert (finished.returncode, finished.stdout, finished.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_before_trio_runs_leaves_no_traceback() -> None:
    program = f"""
import sys, livechat.config
def slow(*_):
    {STANDS_STILL}
livechat.config.load_config = slow
from livechat.__main__ import main
sys.argv = ["livechat", "serve"]
main()
"""
    finished = interrupt_when(program, "here")
    assert (finished.returncode, finished.stdout) == (130, "")
    assert finished.stderr.strip() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_store_is_opened_ends_the_start(number: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import sys, trio, livechat.cli.serve
from contextlib import asynccontextmanager
from functools import partial
@asynccontextmanager
async def slow(config):
    print("here", flush=True)
    await trio.sleep_forever()
    yield
livechat.cli.serve.open_server = partial(livechat.cli.serve.open_server, open_store=slow)
from livechat.__main__ import main
sys.argv = ["livechat", "serve", "--port", "0", "--udp-port", "0", "--data-dir", {str(tmp_path)!r}]
main()
"""
    finished = interrupt_when(program, "here", number)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert finished.stderr == "livechat: stopped before it listened\n"

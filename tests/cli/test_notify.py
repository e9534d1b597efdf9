from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from livechat.cli.notify import ServiceManager
from tests.support.service_manager import service_manager

WATCHDOG = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}


async def well() -> bool:
    await trio.lowlevel.checkpoint()
    return True


@pytest.mark.parametrize("is_abstract", [False, True])
async def test_each_state_is_one_datagram(is_abstract: bool, tmp_path: Path) -> None:
    async with service_manager(f"@livechat-{uuid4()}" if is_abstract else tmp_path / "notify") as listening:
        manager = ServiceManager(listening.environment)
        await manager.ready("listening at ws://x/ws")
        assert await listening.told() == {"READY": "1", "STATUS": "listening at ws://x/ws"}
        before_us = time.monotonic_ns() // 1000
        await manager.reloading()
        told = await listening.told()
        assert before_us <= int(told.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
        assert told == {"RELOADING": "1"}
        await manager.stopping("draining 3 connections")
        assert await listening.told() == {"STOPPING": "1", "STATUS": "draining 3 connections"}


async def test_a_child_does_not_find_the_socket(tmp_path: Path) -> None:
    async with service_manager(tmp_path / "notify") as listening:
        environment = {**listening.environment, **WATCHDOG, "HOME": "/"}
        ServiceManager(environment)
        assert environment == {"HOME": "/"}


@pytest.mark.parametrize("name", ["", "vsock:2:1", "relative", "/no/such/socket", "@nobody-listens-here"])
async def test_where_nobody_listens_the_server_goes_on(name: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": name, **WATCHDOG})
    await manager.ready("")
    await manager.reloading()
    await manager.stopping("")


async def test_a_manager_that_reads_nothing_is_not_waited_for_for_ever(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with service_manager(tmp_path / "notify") as listening:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filling:
            filling.setblocking(False)
            try:
                while True:
                    filling.sendto(b"x", listening.environment["NOTIFY_SOCKET"])
            except BlockingIOError:
                pass
            await ServiceManager(listening.environment).ready("")


async def test_the_watchdog_is_told_at_half_of_its_interval(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with service_manager(tmp_path / "notify") as listening:
        manager = ServiceManager({**listening.environment, "WATCHDOG_USEC": "60000000"})
        with trio.move_on_after(89):
            await manager.keep_watchdog(well)
        assert listening.told_already() == [{"WATCHDOG": "1"}] * 3  # at 0, 30 and 60 seconds


async def test_a_server_that_does_not_work_is_silent_until_it_does(tmp_path: Path) -> None:
    async with service_manager(tmp_path / "notify") as listening, trio.open_nursery() as nursery:
        mended = trio.Event()

        async def probe() -> bool:
            await trio.lowlevel.checkpoint()
            return mended.is_set()

        manager = ServiceManager({**listening.environment, **WATCHDOG})
        nursery.start_soon(manager.keep_watchdog, probe)
        assert await listening.told() == {"STATUS": "the store does not answer"}
        mended.set()
        assert await listening.told() == {"WATCHDOG": "1"}
        assert await listening.told() == {"STATUS": "works again"}
        assert await listening.told() == {"WATCHDOG": "1"}
        nursery.cancel_scope.cancel()


async def test_a_probe_that_hangs_counts_as_not_working(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async with service_manager(tmp_path / "notify") as listening:
        manager = ServiceManager({**listening.environment, "WATCHDOG_USEC": "60000000"})

        async def hang() -> bool:
            await trio.Event().wait()
            return True

        with trio.move_on_after(600):
            await manager.keep_watchdog(hang)
        assert listening.told_already() == [{"STATUS": "the store does not answer"}]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
    ],
)
async def test_who_is_not_watched_is_not_probed(environment: dict[str, str], tmp_path: Path) -> None:
    async with service_manager(tmp_path / "notify") as listening:
        await ServiceManager({**listening.environment, **environment}).keep_watchdog(well)
        assert listening.told_already() == []

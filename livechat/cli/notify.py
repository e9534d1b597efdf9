"""Owns what the service manager is told: that the server is ready, reloads, stops, and still works.

It must not decide when; `livechat serve` does. Where no service manager listens, nothing is sent.

    NOTIFY_SOCKET                  where to: a path, or `@name` in the abstract namespace
    WATCHDOG_USEC, WATCHDOG_PID    how often it wants to hear WATCHDOG=1, and from whom

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final

import structlog
import trio

log = structlog.get_logger("livechat.serve")

SEND_TIMEOUT_S: Final = 1.0
"""For one datagram, should the service manager not read; then it goes without."""
WATCHDOG_SHARE: Final = 0.5
"""Of its interval, after which it is told again, as sd_watchdog_enabled(3) recommends."""
PROBE_SHARE: Final = 0.4
"""Of its interval, within which the probe has to answer; both together are less than the whole."""


class ServiceManager:
    """Whoever started the process, where it wants to be told of its states.

    Args:
        environment: of the process. What is used is taken out of it, so that no child speaks for the server.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        name = environment.pop("NOTIFY_SOCKET", "")
        self._address = _address(name)
        self._watchdog_s = _watchdog_s(environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", ""))
        if name and self._address is None:
            log.warning("cannot notify the service manager", error="NOTIFY_SOCKET is no path and no @name")

    async def ready(self, status: str) -> None:
        """Say that the server listens, or has reloaded."""
        await self._send(f"READY=1\nSTATUS={status}")

    async def reloading(self) -> None:
        """Say that the settings are read again, until `ready`; the time tells which signal it answers."""
        await self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    async def stopping(self, status: str) -> None:
        """Say that the server drains, and is not to be waited for as if it hung."""
        await self._send(f"STOPPING=1\nSTATUS={status}")

    async def keep_watchdog(self, probe: Callable[[], Awaitable[bool]]) -> None:
        """Say for ever that the server works, as long as it does; return at once where nobody watches.

        Args:
            probe: tells whether it works; cancelled if it takes too long, which counts as no.
        """
        if self._address is None or self._watchdog_s is None:
            return
        is_well = True
        while True:
            due = trio.current_time() + self._watchdog_s * WATCHDOG_SHARE
            was_well, is_well = is_well, False
            with trio.move_on_after(self._watchdog_s * PROBE_SHARE):
                is_well = await probe()
            if is_well:
                await self._send("WATCHDOG=1")
            if is_well is not was_well:
                await self._send("STATUS=works again" if is_well else "STATUS=the store does not answer")
                log.warning("watchdog", works=is_well)
            await trio.sleep_until(due)

    async def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                with trio.fail_after(SEND_TIMEOUT_S):
                    # Connected, for only then does the kernel know whose queue it is to wait for.
                    await sock.connect(self._address)
                    await sock.send(message.encode())
        except (OSError, trio.TooSlowError) as exc:
            # A server that nobody is told of serves all the same.
            log.warning("cannot notify the service manager", error=str(exc))


def _address(name: str) -> str | None:
    """Return where to send; None where there is nobody, or not by a socket of this machine (`vsock:…`)."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_s(interval_us: str, pid: str) -> float | None:
    if pid and pid != str(os.getpid()):
        return None
    return int(interval_us) / 1e6 if interval_us.isdecimal() and int(interval_us) > 0 else None

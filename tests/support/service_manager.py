"""What a service manager is to a server: the socket at which it wants to be told."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.server import DEADLINE_S


class FakeServiceManager:
    """Listens as systemd does."""

    def __init__(self, sock: trio.socket.SocketType, name: str) -> None:
        self._sock = sock
        self.environment = {"NOTIFY_SOCKET": name}

    async def told(self) -> dict[str, str]:
        """Return the assignments of the next datagram."""
        with trio.fail_after(DEADLINE_S):
            datagram = await self._sock.recv(4096)
        return dict(line.split("=", 1) for line in datagram.decode().splitlines())

    def told_already(self) -> list[dict[str, str]]:
        """Return the assignments of the datagrams that have come, and were not read yet."""
        all_told = []
        sock = socket.socket(fileno=self._sock.fileno())
        try:
            while True:
                datagram = sock.recv(4096, socket.MSG_DONTWAIT)
                all_told.append(dict(line.split("=", 1) for line in datagram.decode().splitlines()))
        except BlockingIOError:
            return all_told
        finally:
            sock.detach()


@asynccontextmanager
async def service_manager(name: str | Path) -> AsyncGenerator[FakeServiceManager]:
    """Listen at a path, or at `@name` in the abstract namespace."""
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        text = str(name)
        await sock.bind("\0" + text[1:] if text.startswith("@") else text)
        yield FakeServiceManager(sock, text)

"""What may happen to a COMMIT on its way to PostgreSQL: a proxy between the store and the server."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Literal

import trio

from tests.support.postgres import USER, PostgresServer

Fate = Literal["lost", "unanswered", "late", "stuck"]
"""Of a COMMIT, and of its connection:

    lost         never arrives; the connection breaks
    unanswered   arrives and is done; the connection breaks before the answer is back
    late         arrives only after `release`; the client's side of the connection breaks at once
    stuck        arrives only after `release`; the connection stays as it is
"""
COMMIT = b"COMMIT\0"
SOCKET_NAME = ".s.PGSQL.5432"


class Proxy:
    """Passes everything on, but for the next COMMIT once it is armed."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = str(server.folder / SOCKET_NAME)
        self._folder = Path(tempfile.mkdtemp(prefix="livechat-proxy-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / SOCKET_NAME))
        self._listener.listen()
        self._fate: Fate | None = None
        self._refuses = False
        self._reached = threading.Event()
        self._released = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self._folder}"

    def arm(self, fate: Fate, *, then_refuse: bool = False) -> None:
        """Decide what happens to the next COMMIT, and whether new connections are refused from then on."""
        self._fate = fate
        self._then_refuse = then_refuse

    async def wait_reached(self) -> None:
        """Wait until the COMMIT has met its fate, or waits for `release`."""
        assert await trio.to_thread.run_sync(self._reached.wait, 30)

    def release(self) -> None:
        """Let a COMMIT arrive that is late or stuck."""
        self._released.set()

    def admit(self) -> None:
        """Take new connections again."""
        self._refuses = False

    def close(self) -> None:
        """End everything."""
        self._released.set()
        for sock in (self._listener, *self._sockets):
            _end(sock)
        for thread in self._threads:
            thread.join(30)
        shutil.rmtree(self._folder)

    def _start(self, *function_and_arguments: object) -> None:
        function, *arguments = function_and_arguments
        thread = threading.Thread(target=function, args=arguments, name="test-proxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._refuses:
                    _end(client)
                    continue
                server = socket.socket(socket.AF_UNIX)
                self._sockets.append(server)
                server.connect(self._server)
                self._start(self._pass_requests, client, server)
                self._start(self._pass_answers, server, client)

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                if COMMIT in data and self._fate is not None:
                    self._deal_with(data, client, server)
                else:
                    server.sendall(data)
        _end(server)

    def _pass_answers(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _end(client)

    def _deal_with(self, data: bytes, client: socket.socket, server: socket.socket) -> None:
        fate, self._fate = self._fate, None
        self._refuses = self._then_refuse
        if fate in ("lost", "late", "unanswered"):
            _end(client)
        if fate in ("late", "stuck"):
            self._reached.set()
            assert self._released.wait(30)
        if fate != "lost":
            server.sendall(data)
        if fate == "unanswered":
            # The server reads what has arrived before it sees the end.
            server.shutdown(socket.SHUT_WR)
        self._reached.set()


def _end(sock: socket.socket) -> None:
    """Wake whoever waits for this socket, on either side, and close it."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

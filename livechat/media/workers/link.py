"""Owns the gateway's end of one run of a worker: its process, and the pipe to it.

It must not know what is said over the pipe. To say something never waits: a worker that does not read is given a
bounded buffer, and past it is ended like one that hangs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import trio

from livechat.media.workers.messages import FrameReader, Message, MessageError, serialize

BACKLOG_BYTES_MAX: Final = 16 << 20
"""Commands that wait for a worker to read them: those of some 40,000 joins."""
READ_BYTES: Final = 65_536
SILENT_TICKS_MAX: Final = 5
"""A timeout is counted in so many parts, each with its own look at the pipe. So a pause of our own process, which
lets one of them pass at most, is not taken for a worker's."""
PRIVATE_ENV: Final = "LIVECHAT_"
"""Settings, the secret among them: a worker is told what it must know, and that over the pipe."""


class WorkerFailed(Exception):
    """A worker is of no use any more; the text says why, in a few words."""


class Link:
    """One run of a worker; made by `start`."""

    def __init__(self, process: trio.Process, pipe: socket.socket) -> None:
        self.process = process
        self._pipe = pipe
        self._reader = FrameReader()
        self._backlog: deque[memoryview] = deque()
        self._backlog_bytes = 0
        self._wake = trio.Event()
        self.is_overrun = False
        """Whether more waited for it than may."""

    # --- saying ---------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Say something, after all that was said before. Never waits or raises; to a dead worker it is lost."""
        frame = memoryview(serialize(message))
        if not self._backlog:
            frame = self._send(frame)
            if not frame:
                return
        if self.is_overrun:
            return
        self._backlog.append(frame)
        self._backlog_bytes += len(frame)
        self._wake.set()
        if self._backlog_bytes > BACKLOG_BYTES_MAX:
            self.is_overrun = True
            self.process.kill()

    def _send(self, frame: memoryview) -> memoryview:
        """Send what the system takes; return the rest."""
        try:
            return frame[self._pipe.send(frame) :]
        except BlockingIOError:
            return frame
        except OSError:
            # It is gone. Who reads the pipe finds out, and tells.
            return frame[len(frame) :]

    async def write(self) -> None:
        """Send what `post` could not, for ever."""
        while True:
            await self._wake.wait()
            await trio.lowlevel.wait_writable(self._pipe)
            while self._backlog:
                before = self._backlog[0]
                rest = self._send(before)
                self._backlog_bytes -= len(before) - len(rest)
                if rest:
                    self._backlog[0] = rest
                    break
                self._backlog.popleft()
            else:
                self._wake = trio.Event()

    # --- hearing --------------------------------------------------------------------------------------

    async def messages(self, timeout_s: float, first_timeout_s: float) -> AsyncGenerator[Message]:
        """Yield what the worker says, as long as it lives.

        Args:
            timeout_s: a worker that is silent for so long hangs.
            first_timeout_s: the same before its first word.

        Raises:
            WorkerFailed: it ended, hangs, or talks nonsense.
        """
        limit_s = first_timeout_s
        while data := await self._read(limit_s):
            try:
                for message in self._reader.feed(data):
                    yield message
            except MessageError as exc:
                raise WorkerFailed(str(exc)) from exc
            limit_s = timeout_s
        raise WorkerFailed("ended")

    async def _read(self, timeout_s: float) -> bytes:
        for _ in range(SILENT_TICKS_MAX):
            with trio.move_on_after(timeout_s / SILENT_TICKS_MAX):
                await trio.lowlevel.wait_readable(self._pipe)
            try:
                return self._pipe.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return b""
        raise WorkerFailed(f"silent for {timeout_s:g} s")

    # --- ending ---------------------------------------------------------------------------------------

    async def end(self, timeout_s: float) -> None:
        """Wait for a worker to end that was told to; kill it when it does not. Leaves no zombie."""
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.write)
                await self.process.wait()
                nursery.cancel_scope.cancel()
        await self.bury()

    async def bury(self) -> None:
        """Kill the worker, unless it has ended, and close the pipe."""
        self.process.kill()
        with trio.CancelScope(shield=True):
            await self.process.wait()
        self._pipe.close()

    @property
    def outcome(self) -> str:
        """How the process ended, in a few words."""
        if self.is_overrun:
            return "too much waited for it"
        status = self.process.returncode
        if status is None:
            return "runs"
        return f"status {status}" if status >= 0 else f"signal {-status}"


async def start(sock: socket.socket) -> Link:
    """Start a worker on a UDP socket, which it inherits; besides that and its end of the pipe it gets nothing.

    Raises:
        OSError: the system can't have one more process.
    """
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        theirs.setblocking(False)
        # A cancellation in the middle would leave a process that nobody knows of.
        with trio.CancelScope(shield=True):
            process = await _open_process(theirs, sock)
    except BaseException:
        ours.close()
        raise
    finally:
        # Ours alone must not keep their end open: its end is how we learn of theirs.
        theirs.close()
    return Link(process, ours)


async def _open_process(pipe: socket.socket, sock: socket.socket) -> trio.Process:
    descriptors = pipe.fileno(), sock.fileno()
    # -P: what happens to lie in the working directory is not loaded, unless it is here, too.
    command = [sys.executable, "-P", "-m", "livechat.media.workers", *map(str, descriptors)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_ENV)}
    # An embedder may have found us anywhere; the worker is to find the same.
    env["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return await trio.lowlevel.open_process(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        env=env,
        # A terminal's Ctrl-C and Ctrl-Z are for the gateway, also before the worker can say that it ignores them.
        process_group=0,
    )

"""The gateway's end of the pipe, with processes that do not do what a worker should."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio

from livechat.media.workers import link
from livechat.media.workers.link import Link, WorkerFailed
from livechat.media.workers.messages import Close, FrameReader, Go, Message, Ready, serialize

DEADLINE_S = 10.0


@asynccontextmanager
async def idle_worker() -> AsyncGenerator[tuple[Link, socket.socket]]:
    """A process that sleeps, and the end of the pipe that it should have."""
    process = await trio.lowlevel.open_process(["sleep", "1000"], stdin=subprocess.DEVNULL)
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        subject = Link(process, ours)
        try:
            with trio.fail_after(DEADLINE_S):
                yield subject, theirs
        finally:
            await subject.bury()


async def hear(subject: Link, timeout_s: float = DEADLINE_S) -> list[Message]:
    return [message async for message in subject.messages(timeout_s, timeout_s)]


async def test_a_worker_that_reads_late_misses_nothing() -> None:
    async with idle_worker() as (subject, theirs):
        commands = [Close(number, farewell=False) for number in range(20_000)]
        for command in commands:
            subject.post(command)
        theirs.setblocking(False)
        reader, heard = FrameReader(), list[Message]()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subject.write)
            while len(heard) < len(commands):
                await trio.lowlevel.wait_readable(theirs)
                heard += list(reader.feed(theirs.recv(65_536)))
            nursery.cancel_scope.cancel()
        assert heard == commands
        subject.post(Go())
        assert list(reader.feed(theirs.recv(100))) == [Go()]


async def test_a_worker_for_which_too_much_waits_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "BACKLOG_BYTES_MAX", 10_000)
    async with idle_worker() as (subject, _):
        while not subject.is_overrun:
            subject.post(Close(1, farewell=True))
        subject.post(Close(1, farewell=True))
        await subject.process.wait()
        assert subject._backlog_bytes < 20_000
        assert subject.outcome == "too much waited for it"


async def test_to_a_dead_worker_what_is_said_is_lost() -> None:
    async with idle_worker() as (subject, theirs):
        theirs.close()
        subject.post(Go())
        await subject.bury()
        subject.post(Go())
        assert subject.outcome == "signal 9"


async def test_a_silent_worker_fails() -> None:
    async with idle_worker() as (subject, _):
        with pytest.raises(WorkerFailed, match=r"silent for 0\.05 s"):
            await hear(subject, 0.05)


async def test_the_end_of_the_pipe_is_the_worker_s() -> None:
    async with idle_worker() as (subject, theirs):
        theirs.sendall(serialize(Ready()))
        theirs.close()
        messages = subject.messages(DEADLINE_S, DEADLINE_S)
        assert await anext(messages) == Ready()
        with pytest.raises(WorkerFailed, match="ended"):
            await anext(messages)


async def test_a_worker_that_talks_nonsense_fails() -> None:
    async with idle_worker() as (subject, theirs):
        theirs.sendall(b"Traceback (most recent call last):")
        with pytest.raises(WorkerFailed, match="expected a frame of at most"):
            await hear(subject)


async def test_a_worker_that_does_not_end_when_told_is_killed() -> None:
    async with idle_worker() as (subject, _):
        await subject.end(0.05)
        assert subject.outcome == "signal 9"


async def test_a_worker_inherits_its_pipe_and_its_socket_and_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIVECHAT_SECRET", "not for workers")
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with trio.fail_after(DEADLINE_S):
            subject = await link.start(sock)
            try:
                process = trio.Path("/proc") / str(subject.process.pid)
                # It is known to have begun a little before the system can tell what it is.
                while b"livechat.media.workers" not in (command := await (process / "cmdline").read_bytes()):
                    await trio.lowlevel.checkpoint()
                environment = await (process / "environ").read_bytes()
            finally:
                await subject.bury()
    assert b"not for workers" not in environment
    arguments = command.split(b"\0")
    assert arguments[2:4] == [b"-m", b"livechat.media.workers"]
    assert all(argument.isdigit() for argument in arguments[4:6])

"""A worker's life as the gateway sees it, with runs that are played by this process."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import ExitStack, asynccontextmanager

import pytest
import structlog
import trio

from livechat.hub.peer import ChannelRules, MediaPeer, NoEvents
from livechat.media import udp
from livechat.media.settings import DEFAULT_SPEAKING, MediaSettings
from livechat.media.workers import link, supervisor
from livechat.media.workers.link import Link
from livechat.media.workers.messages import (
    Begin,
    FrameReader,
    Go,
    KeysWorn,
    LogLine,
    Message,
    Open,
    Ready,
    Report,
    Speaking,
    Stop,
    serialize,
)
from livechat.media.workers.supervisor import Supervisor
from tests.media.workers.test_messages import make_peer

DEADLINE_S = 10.0
BEGIN = Begin(MediaSettings(), DEFAULT_SPEAKING)


class Run:
    """The worker's end of one run."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = trio.SocketStream(trio.socket.from_stdlib_socket(pipe))
        self._reader = FrameReader()
        self._heard: list[Message] = []

    async def hear(self) -> Message:
        while not self._heard:
            self._heard += self._reader.feed(await self._pipe.receive_some(65_536))
        return self._heard.pop(0)

    async def say(self, *messages: Message) -> None:
        await self._pipe.send_all(b"".join(map(serialize, messages)))

    async def end(self) -> None:
        await self._pipe.aclose()


class Events(NoEvents):
    """Renews keys where it is to, and notes the rest."""

    def __init__(self) -> None:
        self.noted: list[object] = []
        self.renew = True

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        self.noted.append((peer.peer_id, speaking, level_db))

    def keys_worn(self, peer: MediaPeer) -> None:
        self.noted.append(peer.peer_id)
        raise ZeroDivisionError("a bug of the node")

    def moved(self, peers: Collection[MediaPeer]) -> None:
        for peer in peers:
            if not self.renew:
                raise ZeroDivisionError("a bug of the node")
            peer.client_key, peer.server_key = peer.client_key[::-1], peer.server_key[::-1]


Runs = trio.MemoryReceiveChannel[Run]


@asynccontextmanager
async def supervised(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[tuple[Supervisor, Events, Runs]]:
    """Run a supervisor whose workers are ends of pipes; they come by a channel."""
    send, receive = trio.open_memory_channel[Run](10)

    async def start(_sock: socket.socket) -> Link:
        ours, theirs = socket.socketpair()
        stack.callback(theirs.close)
        ours.setblocking(False)
        process = await trio.lowlevel.open_process(["sleep", "1000"], stdin=subprocess.DEVNULL)
        send.send_nowait(Run(theirs))
        return Link(process, ours)

    monkeypatch.setattr(link, "start", start)
    monkeypatch.setattr(supervisor, "PAUSE_MIN_S", 0.01)
    events = Events()
    with ExitStack() as stack, send, receive, trio.fail_after(DEADLINE_S):
        sock = stack.enter_context(udp.open_media_socket("127.0.0.1", 0))
        subject = Supervisor(0, sock, BEGIN, rules_of=lambda _channel_id: ChannelRules())
        subject.events = events
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(subject.run)
                yield subject, events, receive
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await subject.stop(0.01)


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await trio.sleep(0.002)


async def begun(run: Run, *opened: MediaPeer) -> None:
    """Hear what a run is told first: of so many peers, each with the keys that it has now."""
    assert await run.hear() == BEGIN
    told = [await run.hear() for _ in opened]
    for message, peer in zip(told, opened, strict=True):
        assert isinstance(message, Open)
        assert (message.peer.peer_id, message.peer.server_key) == (peer.peer_id, peer.server_key)
    assert await run.hear() == Go()


async def test_each_run_is_told_of_all_peers_under_keys_that_no_run_before_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with supervised(monkeypatch) as (subject, _, runs):
        first = await runs.receive()
        await begun(first)
        peers = [make_peer(peer_id=number) for number in range(3)]
        for peer in peers:
            subject.open(peer)
            assert isinstance(await first.hear(), Open)
        subject.close(peers[0], farewell=True)
        spent = peers[1].server_key
        await first.end()
        second = await runs.receive()
        await begun(second, *peers[1:])
        assert peers[1].server_key != spent
        await second.say(Ready())
        await until(lambda: subject.info().state == "running")
        assert (subject.info().restarts, subject.info().peers) == (1, 2)


async def test_who_gets_no_new_keys_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with structlog.testing.capture_logs() as lines:
        async with supervised(monkeypatch) as (subject, events, runs):
            first = await runs.receive()
            await begun(first)
            subject.open(make_peer())
            events.renew = False
            await first.end()
            await begun(await runs.receive())
            assert subject.info().peers == 0
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["peers could not be moved"]


async def test_what_a_worker_tells_is_passed_on_and_what_fails_there_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with structlog.testing.capture_logs() as lines:
        async with supervised(monkeypatch) as (subject, events, runs):
            run = await runs.receive()
            subject.open(make_peer())
            stranger: list[Message] = [Speaking(99, speaking=True, level_db=-3), KeysWorn(99)]
            await run.say(Ready(), *stranger, KeysWorn(7), Speaking(7, speaking=True, level_db=-30))
            await run.say(LogLine("debug", "said so", {"bytes": "3"}), LogLine("__init__", "nonsense", {}))
            await run.say(Report((), {"received": 5, "rtp_forwarded": 9}, 1.5, 77))
            await until(lambda: subject.info().packets_received == 5)
            assert events.noted == [7, (7, True, -30)]
            assert (subject.info().cpu_s, subject.info().memory_bytes) == (1.5, 77)
            await run.end()
            await runs.receive()
            # Nobody speaks whose worker is gone; and what was counted stays.
            assert events.noted[2:] == [(7, False, -127)]
            assert (subject.info().packets_received, subject.info().packets_forwarded) == (5, 9)
            assert (subject.info().cpu_s, subject.info().memory_bytes) == (1.5, 0)
    said = [(line["log_level"], line["event"]) for line in lines]
    assert said == [
        ("error", "message of a media worker failed"),
        ("debug", "said so"),
        ("error", "nonsense"),
        ("warning", "media worker failed, it is started anew"),
    ]


async def test_a_worker_that_commands_the_gateway_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with structlog.testing.capture_logs() as lines:
        async with supervised(monkeypatch) as (_, _, runs):
            await (await runs.receive()).say(Stop())
            await runs.receive()
    assert lines[0]["why"] == "sent Stop, signal 9"

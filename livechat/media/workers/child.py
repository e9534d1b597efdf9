"""Owns a worker's side: a relay and its UDP socket, told by the pipe what to do, telling what came of it.

It must not decide anything; the gateway does. It ends when the pipe does, so that a gateway that was killed leaves
nothing behind. `python -m livechat.media.workers` runs it.

A client's first packet may be here a moment after the gateway sent its ACK. What the gateway said of the client
before that is in the pipe by then, so the pipe is read before each turn of the relay, not only in turn with it.

What is to be told is kept as state, not as a queue: the latest edge of each speaker, the peers that have changed.
So a gateway that does not read for a while makes nothing grow here.
"""

from __future__ import annotations

import math
import os
import resource
import socket
import time
from typing import Any, Final

import structlog
import trio

from livechat.hub.peer import MediaPeer
from livechat.media import udp
from livechat.media.making import make_relay
from livechat.media.relay import Relay
from livechat.media.workers.messages import (
    REPORT_PEERS_MAX,
    Begin,
    Close,
    FrameReader,
    Go,
    KeysWorn,
    LogLine,
    Message,
    Open,
    PeerReport,
    Ready,
    Rekey,
    Report,
    SetRules,
    Speaking,
    Stop,
    report_interval_s,
    serialize,
)

READ_BYTES: Final = 65_536
"""Done before the relay goes on: at most some 250 joins, 10 ms of making ciphers."""
LOG_LINES_MAX: Final = 100
"""Lines that wait for the gateway to read them; later ones are dropped."""
LOG_FIELD_CHARS_MAX: Final = 8_000
_STATM: Final = "/proc/self/statm"

_Shown = tuple[object, ...]


class Outbox:
    """What the gateway is to be told; the `MediaEvents` of the worker's relay."""

    def __init__(self) -> None:
        self._speaking: dict[int, Speaking] = {}
        self._worn: set[int] = set()
        self._lines: list[LogLine] = []
        self._ready: list[Ready] = []
        self._wake = trio.Event()

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        """See `MediaEvents`."""
        self._speaking[peer.peer_id] = Speaking(peer.peer_id, speaking, level_db)
        self._wake.set()

    def keys_worn(self, peer: MediaPeer) -> None:
        """See `MediaEvents`."""
        self._worn.add(peer.peer_id)
        self._wake.set()

    def moved(self, peers: object) -> None:
        """See `MediaEvents`; only the gateway moves peers."""
        raise AssertionError("a worker moves nobody")

    def log(self, level: str, event: str, fields: dict[str, str]) -> None:
        """Have the gateway log a line."""
        if len(self._lines) < LOG_LINES_MAX:
            self._lines.append(LogLine(level, event, fields))
            self._wake.set()

    def go(self) -> None:
        """Tell that the worker relays."""
        self._ready.append(Ready())
        self._wake.set()

    def forget(self, peer_id: int) -> None:
        """Tell nothing more of a peer that has ended."""
        self._speaking.pop(peer_id, None)
        self._worn.discard(peer_id)

    async def wait(self) -> None:
        """Wait until there is something to tell."""
        await self._wake.wait()

    def take(self) -> list[Message]:
        """Return what is to be told, and forget it."""
        told: list[Message] = [*self._ready, *self._lines, *self._speaking.values(), *map(KeysWorn, self._worn)]
        self._ready.clear()
        self._lines.clear()
        self._speaking.clear()
        self._worn.clear()
        self._wake = trio.Event()
        return told


class Worker:
    """A worker's process.

    Args:
        pipe: a connected stream socket; the gateway has the other end.
        sock: as from `udp.open_media_socket`.
    """

    def __init__(self, pipe: socket.socket, sock: socket.socket) -> None:
        pipe.setblocking(False)
        self._pipe = pipe
        self._reader = FrameReader()
        self._socket = sock
        self._outbox = Outbox()
        self._relay: Relay
        """Set by `Begin`."""
        self._peers: dict[int, MediaPeer] = {}
        self._shown: dict[int, _Shown] = {}
        """What the gateway knows of each peer."""
        self._opened: dict[int, float] = {}
        """When it was told of a peer whose client may not know these keys yet."""
        self._report_interval_s = math.inf
        self._begun = trio.Event()
        self._going = trio.Event()
        self._over = trio.Event()

    def configure_log(self) -> None:
        """Have every line of this process logged by the gateway, whose level, form and masking count for it."""

        def pass_on(_logger: object, level: str, fields: structlog.typing.EventDict) -> str:
            event = str(fields.pop("event", ""))[:LOG_FIELD_CHARS_MAX]
            told = {name: str(value)[:LOG_FIELD_CHARS_MAX] for name, value in fields.items()}
            self._outbox.log(level, event, told)
            raise structlog.DropEvent

        processors: list[Any] = [structlog.processors.format_exc_info, pass_on]
        structlog.configure(processors=processors, cache_logger_on_first_use=False)

    async def run(self) -> None:
        """Relay until the gateway says so, or is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._relay_on)
            nursery.start_soon(self._tell)
            nursery.start_soon(self._listen)
            await self._over.wait()
            nursery.cancel_scope.cancel()

    async def _listen(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._pipe)
            self._obey()

    async def _relay_on(self) -> None:
        await self._going.wait()
        await udp.run(self._socket, self._relay, before_turn=self._obey)

    # --- being told -----------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Do what the pipe holds."""
        if self._over.is_set():
            return
        try:
            data = self._pipe.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._over.set()
        for message in self._reader.feed(data):
            self._do(message)

    def _do(self, command: Message) -> None:
        match command:
            case Open():
                peer = command.peer.make_peer(trio.current_time())
                self._peers[peer.peer_id] = peer
                if not peer.keys_taken:
                    self._opened[peer.peer_id] = trio.current_time()
                self._relay.add_peer(peer, command.rules)
            case Close():
                self._close(command)
            case SetRules():
                self._relay.set_rules(command.channel_id, command.rules)
            case Rekey():
                peer = self._peers[command.peer_id]
                command.apply(peer, trio.current_time())
                self._opened.pop(command.peer_id, None)
                self._relay.rekey(peer, trio.current_time())
            case Begin():
                self._relay = make_relay(command.settings, command.speaking, self._outbox)
                self._report_interval_s = report_interval_s(command.settings)
                self._begun.set()
            case Go():
                self._going.set()
                self._outbox.go()
            case Stop():
                self._over.set()
            case _:
                raise AssertionError(f"{type(command).__name__} is no command")

    def _close(self, command: Close) -> None:
        peer = self._peers.pop(command.peer_id)
        self._shown.pop(command.peer_id, None)
        self._opened.pop(command.peer_id, None)
        goodbyes = self._relay.remove_peer(peer)
        self._outbox.forget(command.peer_id)
        if command.farewell:
            udp.send_now(self._socket, self._relay, goodbyes)

    # --- telling --------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Tell edges at once, and report once an interval. Where the gateway does not read, this waits alone."""
        try:
            await self._begun.wait()
            report_at = trio.current_time()
            while True:
                with trio.move_on_at(report_at):
                    await self._outbox.wait()
                for told in self._outbox.take():
                    await self._send(told)
                if trio.current_time() >= report_at:
                    await self._report()
                    report_at = trio.current_time() + self._report_interval_s
        except OSError:
            pass  # the gateway is gone; who reads the pipe ends the worker

    async def _send(self, message: Message) -> None:
        frame = memoryview(serialize(message))
        while frame:
            try:
                frame = frame[self._pipe.send(frame) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._pipe)

    async def _report(self) -> None:
        """Report in parts, with the sending of each in between; the last, perhaps empty, is a sign of life."""
        changed: list[PeerReport] = []
        for peer in list(self._peers.values()):
            self._see_taken(peer)
            shown = _shown(peer)
            if peer.is_ended or self._shown.get(peer.peer_id) == shown:
                continue
            self._shown[peer.peer_id] = shown
            peer.sent_up_to = self._relay.sent_up_to(peer)
            changed.append(PeerReport.of(peer, trio.current_time()))
            if len(changed) == REPORT_PEERS_MAX:
                await self._send_report(changed)
                changed = []
        await self._send_report(changed)

    def _see_taken(self, peer: MediaPeer) -> None:
        """Note that a client has the keys that its peer began with here; later changes are seen by the relay."""
        opened_at = self._opened.get(peer.peer_id)
        if opened_at is not None and peer.last_seen is not None and peer.last_seen >= opened_at:
            peer.keys_taken = True
            del self._opened[peer.peer_id]

    async def _send_report(self, changed: list[PeerReport]) -> None:
        report = Report(tuple(changed), self._relay.statistics(), time.process_time(), memory_bytes())
        await self._send(report)


def _shown(peer: MediaPeer) -> _Shown:
    """Return what changes whenever a report on the peer would."""
    return (
        peer.address,
        peer.last_seen,
        peer.keys_taken,
        peer.rekeys,
        peer.packets_received,
        peer.packets_rejected,
        peer.packets_forwarded,
        # What our own reports find out, perhaps after its last packet; the rest of it comes by packets.
        peer.quality.packets_lost_up,
        peer.quality.fraction_lost_up,
        peer.quality.jitter_up_ms,
    )


def memory_bytes() -> int:
    """Return what this process has in physical memory."""
    try:
        with open(_STATM) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Where there is no /proc: what it has had at most.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

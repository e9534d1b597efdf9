"""Owns one worker over all its runs: started, told of its peers, listened to, and started anew when it fails.

It must not draw keys or tell clients; the node does (`MediaEvents.moved`), and no keys that a run has seen are
told to the next one (see `roster`).

    down --- start ---> starting --- Ready ---> running
     ^                     |                       |
     +-- ended, silent, or more waits than may ----+       then a pause, none the first time

The UDP socket is the gateway's, and each run inherits it: a port that is taken shows when the server starts,
nobody else can get it in between, and what arrives meanwhile waits in the system's buffer for the next run.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import structlog
import trio

from livechat.handlers.node import WorkerInfo, WorkerState
from livechat.hub.peer import ChannelRules, MediaEvents, MediaPeer, NoEvents
from livechat.media.workers import link
from livechat.media.workers.link import Link, WorkerFailed
from livechat.media.workers.messages import (
    Begin,
    Close,
    Go,
    KeysWorn,
    LogLine,
    Message,
    Open,
    PeerFacts,
    Ready,
    Rekey,
    Report,
    SetRules,
    Speaking,
    Stop,
)
from livechat.media.workers.roster import Roster
from livechat.media.workers.tally import Tally
from livechat.protocol.types import Address, ChannelId

START_TIMEOUT_S: Final = 30.0
"""Until a worker's first word: it loads some hundred modules, maybe on a busy machine."""
STEADY_S: Final = 60.0
"""Who has run for so long failed by accident: it is started again at once."""
PAUSE_MIN_S: Final = 0.25
PAUSE_MAX_S: Final = 15.0
"""Before a worker is started that failed again: twice as long each time."""
LOST_AFTER_S: Final = 10.0
"""A worker that failed, and fails again after so long, gets no more joins until it relays."""
QUIET_DB: Final = -127
"""How loud a peer is whose worker is gone."""
MOVE_AT_ONCE: Final = 32
"""Peers that are given new keys, and told to a worker, before other tasks get their turn."""

LOG_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})

log = structlog.get_logger(__name__)


class Supervisor:
    """One worker.

    Args:
        number: counts from 0.
        sock: as from `udp.open_media_socket`; the caller closes it.
        begin: what each run is told first.
        rules_of: returns the rules of a channel that has peers.
    """

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        begin: Begin,
        *,
        rules_of: Callable[[ChannelId], ChannelRules],
    ) -> None:
        self.number = number
        self.events: MediaEvents = NoEvents()
        self.tally = Tally()
        self.restarts = 0
        self.address: Address = sock.getsockname()[:2]
        self._socket = sock
        self._begin = begin
        self._timeout_s = begin.settings.worker_timeout_ms / 1000
        self._rules_of = rules_of
        self._roster = Roster()
        self._speaking: dict[int, MediaPeer] = {}
        """Who speaks, as the worker told."""
        self._link: Link | None = None
        """None while it is down. A link whose worker has just ended takes what it is told, and loses it."""
        self._state: WorkerState = "down"
        self._down_since: float | None = None
        """Since when nothing is relayed; None: it is."""
        self._cpu_before_s = 0.0
        self._cpu_now_s = 0.0
        self._memory_bytes = 0
        self.is_lost = False
        """Whether it makes no sense to join: it failed for long. A start that takes long is no failure yet."""

    def info(self) -> WorkerInfo:
        """Show how the worker is."""
        counters = self.tally.total()
        return WorkerInfo(
            worker=self.number,
            state=self._state,
            port=self.address[1],
            pid=None if self._link is None else self._link.process.pid,
            restarts=self.restarts,
            peers=len(self._roster),
            cpu_s=round(self._cpu_before_s + self._cpu_now_s, 3),
            memory_bytes=self._memory_bytes,
            packets_received=counters["received"],
            packets_forwarded=counters["rtp_forwarded"] + counters["rtcp_forwarded"],
        )

    # --- what the plane tells -------------------------------------------------------------------------

    def open(self, peer: MediaPeer) -> None:
        """Relay for a peer with new keys, at once or as soon as the worker runs."""
        self._roster.wait(peer)
        if self._link is not None:
            self._tell(self._link, peer)

    def close(self, peer: MediaPeer, *, farewell: bool) -> None:
        """Stop to relay for a peer."""
        self._speaking.pop(peer.peer_id, None)
        if self._roster.remove(peer):
            self._post(Close(peer.peer_id, farewell))

    def rekey(self, peer: MediaPeer) -> None:
        """Go over to new keys. A peer that waits for a worker is told to it with its keys of then."""
        if self._roster.get_open(peer.peer_id) is not None:
            self._post(Rekey.of(peer))

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        """Say whose media is forwarded."""
        self._post(SetRules(channel_id, rules))

    def _post(self, message: Message) -> None:
        if self._link is not None:
            self._link.post(message)

    def _tell(self, to: Link, peer: MediaPeer) -> None:
        to.post(Open(PeerFacts.of(peer, trio.current_time()), self._rules_of(peer.channel_id)))
        self._roster.told(peer)

    # --- its life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the worker running until cancelled; it then still runs, and `stop` ends it."""
        failures = 0
        self._down_since = trio.current_time()
        while True:
            started_at = trio.current_time()
            why = await self._run_once()
            now = trio.current_time()
            failures = 1 if now - started_at >= STEADY_S else failures + 1
            self._fail(why, now)
            if failures > 1:
                await trio.sleep(min(PAUSE_MIN_S * 2 ** (failures - 2), PAUSE_MAX_S))
            self.restarts += 1

    async def _run_once(self) -> str:
        """Start the worker and stay with it until it fails; return why."""
        try:
            current = await link.start(self._socket)
        except OSError as exc:
            return f"cannot be started: {exc.strerror or exc}"
        self._state, self._link = "starting", current
        current.post(self._begin)
        why = ""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(current.write)
            nursery.start_soon(self._move_in, current)
            try:
                async with aclosing(current.messages(self._timeout_s, START_TIMEOUT_S)) as messages:
                    async for message in messages:
                        self._take(message)
            except WorkerFailed as exc:
                why = str(exc)
            nursery.cancel_scope.cancel()
        # Not in a `finally`: when the server ends, the worker is still to say goodbye to its peers.
        self._state, self._link = "down", None
        await current.bury()
        return f"{why}, {current.outcome}"

    async def _move_in(self, current: Link) -> None:
        """Tell a new run of all peers; those of the run before get new keys first, and clients hear of it."""
        while spent := self._roster.spent(MOVE_AT_ONCE):
            try:
                self.events.moved(spent)
            except Exception:
                # The boundary: a bug there costs these peers their voice, and nobody else anything.
                log.exception("peers could not be moved", worker=self.number, peers=len(spent))
            for peer in spent:
                self._roster.renewed(peer)
            self._tell_waiting(current)
            await trio.lowlevel.checkpoint()
        while self._roster.waiting(1):
            self._tell_waiting(current)
            await trio.lowlevel.checkpoint()
        current.post(Go())

    def _tell_waiting(self, current: Link) -> None:
        for peer in self._roster.waiting(MOVE_AT_ONCE):
            self._tell(current, peer)

    def _fail(self, why: str, now: float) -> None:
        peers = self._roster.lost()
        speakers = list(self._speaking.values())
        self._speaking.clear()
        for peer in speakers:
            self.events.speaking(peer, False, QUIET_DB)
        self.tally.restart()
        self._cpu_before_s += self._cpu_now_s
        self._cpu_now_s, self._memory_bytes = 0.0, 0
        if self._down_since is None:
            self._down_since = now
        log.warning("media worker failed, it is started anew", worker=self.number, why=why, peers=peers)
        if not self.is_lost and now - self._down_since > LOST_AFTER_S:
            self.is_lost = True
            log.error("media worker does not come back, its channels have no voice", worker=self.number)

    async def stop(self, timeout_s: float) -> None:
        """End the worker once it has done what it was told."""
        if self._link is not None:
            self._link.post(Stop())
            await self._link.end(timeout_s)
            self._state, self._link = "down", None

    # --- what the worker tells ------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        try:
            self._hear(message)
        except WorkerFailed:
            raise
        except Exception:
            # The boundary: a bug in what becomes of a message must not end the server.
            log.exception("message of a media worker failed", worker=self.number, kind=type(message).__name__)

    def _hear(self, message: Message) -> None:
        match message:
            case Ready():
                self._state, self._down_since = "running", None
                if self.is_lost:
                    self.is_lost = False
                    log.info("media worker is back", worker=self.number)
            case Report():
                self._note(message)
            case Speaking():
                peer = self._roster.get_open(message.peer_id)
                if peer is not None:
                    self._note_speaking(peer, message)
            case KeysWorn():
                peer = self._roster.get_open(message.peer_id)
                if peer is not None:
                    self.events.keys_worn(peer)
            case LogLine():
                level = message.level if message.level in LOG_LEVELS else "error"
                getattr(log, level)(message.event, worker=self.number, **message.fields)
            case _:
                raise WorkerFailed(f"sent {type(message).__name__}")

    def _note_speaking(self, peer: MediaPeer, told: Speaking) -> None:
        if told.speaking:
            self._speaking[peer.peer_id] = peer
        else:
            self._speaking.pop(peer.peer_id, None)
        self.events.speaking(peer, told.speaking, told.level_db)

    def _note(self, report: Report) -> None:
        now = trio.current_time()
        for told in report.peers:
            peer = self._roster.get_open(told.peer_id)
            if peer is not None:
                told.tell(peer, now)
        self.tally.update(report.counters)
        self._cpu_now_s, self._memory_bytes = report.cpu_s, report.memory_bytes

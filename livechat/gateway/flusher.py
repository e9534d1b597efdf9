"""Owns what was sent to channels and is yet to be handed to their subscribers' connections.

It must not decide who hears what (`fanout`), nor know sockets (`egress`). To each connection all looks as if every
packet had been handed to it at once: whatever else is sent there follows what is yet to be handed (`follow`), and
whatever changes what it hears lets it `catch_up` first. Only packets of different channels may change places,
between which there is no order to keep.

    a packet of a channel                                      is
    the first one in a turn of all tasks                       handed out at once
    another one in the same turn                               gathered
    any one, if several had gathered when it was last flushed  gathered
    any one, if many hear the channel                          gathered

What has gathered goes out together, joined once per codec (`Batch`), to so many connections at a time that other
tasks get their turn between (`Hearers`). While it gathers, `_Room.ahead` says how many of a channel's packets a
session has been handed already, or does not get. A session that is sent something else meanwhile has a tail of its
own, which leaves in one piece as well. Offenders past their limits are closed only between two rounds of sends:
nothing changes while one is under way.
"""

from __future__ import annotations

from typing import Final

import structlog
import trio

from livechat.gateway.egress import push_to_all
from livechat.gateway.hearers import AT_ONCE_MAX, Hearers, Piece
from livechat.hub.channels import Channel, ChannelHub
from livechat.hub.users import Session
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.telemetry.counters import Counters
from livechat.telemetry.packets import PacketTrace

log = structlog.get_logger("livechat.gateway")

BATCH_PACKETS_MAX: Final = 64
BATCH_BYTES_MAX: Final = 262_144
"""How much is joined into one piece; of bytes, about."""
PENDING_PACKETS_MAX: Final = 512
PENDING_BYTES_MAX: Final = 1 << 20
"""How much gathers in a channel, about; past either all of it is handed out at once."""
QUIET_ROUNDS: Final = 3
"""Turns of all other tasks without more packets after which what has gathered is handed out: a message takes two
from the socket to its handler."""
ROUNDS_MAX: Final = 64
"""Turns of all other tasks for which packets may gather, as long as more come with each."""


class _Room:
    """A channel to which something was sent."""

    __slots__ = (
        "_batches",
        "_hearers",
        "_is_stale",
        "ahead",
        "bytes",
        "channel",
        "gathers",
        "generation",
        "handed",
        "packets",
        "sizes",
        "turn",
        "under_way",
    )

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.gathers = False
        """Its last packets came several at a time, so the next one may wait a moment for those that follow."""
        self.turn = -1
        """In which its last packet was handed out at once."""
        self.packets: list[Outgoing] = []
        """Yet to be handed out, in order."""
        self.sizes: list[int] = []
        """Of each, bytes, about."""
        self.bytes = 0
        self.ahead: dict[Session, int] = {}
        """How many of them a session has been handed, or does not get; none, where it is not named."""
        self.under_way = 0
        """How many of them are being handed out, piece by piece."""
        self.handed = 0
        """Pieces of hearers that have been handed those."""
        self.generation = 0
        """Moves on when packets leave the front of the list."""
        self._is_stale = False
        """Others hear the channel than those who are listed."""
        self._hearers: Hearers | None = None
        self._batches: dict[tuple[int, int], Batch] = {}

    @property
    def hearers(self) -> Hearers:
        """Who hears the channel; while packets are being handed out, as it was when that began (see `ahead`)."""
        if self._hearers is None:
            self._hearers = Hearers(self.channel.subscribers)
        return self._hearers

    def moved(self, session: Session) -> None:
        """Note that a session hears the channel from now on, or no more, or by another outlet."""
        if self.packets:
            self.ahead[session] = len(self.packets)
        if self.under_way:
            self._is_stale = True
        else:
            # At once: the list holds the queues of those who have gone.
            self._hearers = None

    def add(self, packet: Outgoing, size: int) -> None:
        self.packets.append(packet)
        self.sizes.append(size)
        self.bytes += size

    def batch(self, start: int, end: int) -> Batch:
        """Return some of the packets in one piece, which is made once."""
        batch = self._batches.get((start, end))
        if batch is None:
            batch = self._batches[start, end] = Batch(self.packets[start:end])
        return batch

    def ahead_of(self, session: Session) -> int:
        """Return how many of the packets a session has been handed, or does not get."""
        ahead = self.ahead.get(session, 0)
        if self.handed and ahead < self.under_way and self.hearers.places.get(session, self.handed) < self.handed:
            return self.under_way
        return ahead

    def take(self, session: Session) -> list[Outgoing]:
        """Return the packets that a session has not been handed; from now on it has."""
        start, end = self.ahead_of(session), len(self.packets)
        if start >= end:
            return []
        self.ahead[session] = end
        return self.packets[start:end]

    def first_batch(self) -> int:
        """Return how many packets may go out in one piece."""
        size = 0
        for count, each in enumerate(self.sizes[:BATCH_PACKETS_MAX]):
            size += each
            if size > BATCH_BYTES_MAX and count:
                return count
        return min(len(self.packets), BATCH_PACKETS_MAX)

    def begin(self) -> None:
        """Choose what is handed out next, to those who hear the channel now."""
        if not self.under_way:
            self.under_way = self.first_batch()

    def drop(self) -> None:
        """Forget the packets that are under way: everybody has been handed them."""
        count, self.under_way, self.handed = self.under_way, 0, 0
        self.generation += 1
        self._batches.clear()
        if self._is_stale:
            self._hearers, self._is_stale = None, False
        if count == len(self.packets):
            self.clear()
            return
        del self.packets[:count]
        self.bytes -= sum(self.sizes[:count])
        del self.sizes[:count]
        self.ahead = {session: ahead - count for session, ahead in self.ahead.items() if ahead > count}

    def clear(self) -> None:
        """Forget all packets."""
        self.packets.clear()
        self.sizes.clear()
        self.ahead.clear()
        self._batches.clear()
        self.bytes = self.under_way = self.handed = 0


class _Turns(trio.abc.Instrument):
    """Counts the turns of all tasks."""

    def __init__(self) -> None:
        self.number = 0

    def before_io_wait(self, timeout: float) -> None:
        """See `trio.abc.Instrument`: every task that could go on has done so."""
        self.number += 1


class Flusher:
    """Hands the packets of channels to their subscribers; it is the hub's `Backlog`.

    Until `run` runs, and after it, every packet is handed out at once.

    Args:
        packets: who watches packets sees them one by one, as each connection sends them.
        counters: where they are counted otherwise.
    """

    def __init__(
        self, hub: ChannelHub, packets: PacketTrace | None = None, counters: Counters | None = None
    ) -> None:
        self._hub = hub
        self._trace = PacketTrace() if packets is None else packets
        self._counters = Counters() if counters is None else counters
        self._rooms: dict[Channel, _Room] = {}
        self._pending: dict[Channel, _Room] = {}
        """Those in which something has gathered, in the order in which that began."""
        self._is_running = False
        self._turns = _Turns()
        self._idle: trio.lowlevel.Task | None = None
        """Our task, while it waits for something to gather."""
        self._tails: dict[Session, list[Outgoing]] = {}
        """What sessions are yet to be handed that is not the same for all."""
        self._came = 0
        """Packets that gathered, ever."""

    # --- in ---------------------------------------------------------------------------------------

    def send(self, channel: Channel, packet: Outgoing, *, but: Session | None = None, size: int = 0) -> None:
        """Hand a packet to all subscribers of a channel, now or soon; never waits.

        Args:
            but: the session that does not get it.
            size: about how many bytes it has, if it may have many.
        """
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room(channel)
        if not room.packets and self._goes_at_once(room):
            self._send_at_once(room, packet, but)
            return
        if but is not None and but in channel.subscribers:
            self._catch_up(room, but)
            room.ahead[but] = len(room.packets) + 1
        if not room.packets:
            self._pending[channel] = room
            self._wake()
        self._came += 1
        room.add(packet, size)
        if not self._is_running or len(room.packets) >= PENDING_PACKETS_MAX or room.bytes >= PENDING_BYTES_MAX:
            self._hand_out_all(room)

    def _goes_at_once(self, room: _Room) -> bool:
        if not self._is_running:
            return True
        if room.gathers or room.turn == self._turns.number or len(room.channel.subscribers) > AT_ONCE_MAX:
            return False
        room.turn = self._turns.number
        return True

    def _wake(self) -> None:
        if self._idle is not None:
            trio.lowlevel.reschedule(self._idle)
            self._idle = None

    def _send_at_once(self, room: _Room, packet: Outgoing, but: Session | None) -> None:
        batch = Batch([packet])
        for piece in room.hearers.pieces:
            if but is None and not self._tails and self._push_piece(piece, batch):
                continue
            for session in piece.sessions:
                if session is but or session.outlet is None:
                    continue
                if self._tails and session in self._tails:
                    self._tails[session].append(packet)
                else:
                    self._hand(session, batch)

    # --- the hub's backlog ------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """See `Backlog`."""
        return bool(self._pending or self._tails)

    def follow(self, session: Session, packet: Outgoing) -> bool:
        """See `Backlog`."""
        tail = self._tails.get(session)
        behind = [room for room in self._rooms_of(session) if room.ahead_of(session) < len(room.packets)]
        if tail is None:
            if not behind:
                return False
            tail = self._tails[session] = []
        for room in behind:
            tail += room.take(session)
        tail.append(packet)
        if len(tail) >= BATCH_PACKETS_MAX:
            self._release(session)
        return True

    def catch_up(self, session: Session) -> None:
        """See `Backlog`."""
        self._release(session)
        for room in self._rooms_of(session):
            self._catch_up(room, session)

    def _rooms_of(self, session: Session) -> list[_Room]:
        """List the channels that a session hears and in which something has gathered."""
        if not self._pending:
            return []
        if len(self._pending) == 1:
            (only,) = self._pending.values()
            return [only] if session in only.channel.subscribers else []
        heard = self._hub.channels_of(session)
        if len(heard) < len(self._pending):
            channels = [self._hub.get(channel_id) for channel_id in heard]
            return [self._pending[channel] for channel in channels if channel in self._pending]
        return [room for room in self._pending.values() if session in room.channel.subscribers]

    def _catch_up(self, room: _Room, session: Session) -> None:
        start, end = room.ahead_of(session), len(room.packets)
        if session in self._tails:
            self._tails[session] += room.take(session)
        elif start < end:
            room.ahead[session] = end
            self._hand(session, room.batch(start, end))

    def _release(self, session: Session) -> None:
        """Hand a session its tail."""
        tail = self._tails.pop(session, None)
        if tail:
            self._hand(session, Batch(tail))

    def entered(self, session: Session, channel: Channel) -> None:
        """See `Backlog`."""
        self._moved(session, channel)

    def left(self, session: Session, channel: Channel) -> None:
        """See `Backlog`."""
        self._moved(session, channel)

    def _moved(self, session: Session, channel: Channel) -> None:
        room = self._rooms.get(channel)
        if room is not None:
            room.moved(session)

    def ending(self, channel: Channel) -> None:
        """See `Backlog`."""
        room = self._rooms.pop(channel, None)
        if room is not None and room.packets:
            self._hand_out_all(room)

    # --- out --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Hand out what gathers, for ever.

        Cancellation:
            What has gathered is handed out first.
        """
        self._is_running = True
        trio.lowlevel.add_instrument(self._turns)
        try:
            while True:
                if not self._pending:
                    await self._wait()
                await self._settle()
                for room in list(self._pending.values()):
                    await self._flush(room)
                for session in list(self._tails):
                    self._release(session)
        finally:
            trio.lowlevel.remove_instrument(self._turns)
            self._is_running = False
            for room in list(self._pending.values()):
                self._hand_out_all(room)
            for session in list(self._tails):
                self._release(session)

    async def _wait(self) -> None:
        """Wait until something has gathered."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._idle = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _settle(self) -> None:
        """Let the other tasks go on as long as that makes more packets gather."""
        quiet = 0
        for _ in range(ROUNDS_MAX):
            came = self._came
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self._came == came else 0
            if quiet == QUIET_ROUNDS:
                return

    async def _flush(self, room: _Room) -> None:
        """Hand out what gathered in a channel, as much as fits into one piece."""
        if not room.packets:
            return  # all of it was handed out meanwhile
        room.gathers = len(room.packets) > 1
        room.begin()
        generation, size = room.generation, 0
        for piece in room.hearers.pieces:
            size += len(piece.sessions)
            if size > AT_ONCE_MAX:
                await trio.lowlevel.checkpoint()
                if room.generation != generation:
                    return
                size = len(piece.sessions)
            self._hand_piece(room, piece)
        self._drop(room)

    def _hand_out_all(self, room: _Room) -> None:
        while room.packets:
            room.begin()
            for piece in room.hearers.pieces[room.handed :]:
                self._hand_piece(room, piece)
            self._drop(room)

    def _drop(self, room: _Room) -> None:
        room.drop()
        if not room.packets:
            self._pending.pop(room.channel, None)

    def _hand_piece(self, room: _Room, piece: Piece) -> None:
        """Hand what is under way to those of a piece that lack it."""
        count, ahead, tails = room.under_way, room.ahead, self._tails
        whole = room.batch(0, count)
        if ahead or tails or not self._push_piece(piece, whole):
            for session in piece.sessions:
                start = ahead.get(session, 0)
                if start >= count:
                    continue
                # Noted first: whatever the outlet does with it, it is handed out once.
                ahead[session] = count
                if tails and session in tails:
                    self._hand(session, Batch(tails.pop(session) + room.packets[start:count]))
                else:
                    self._hand(session, room.batch(start, count) if start else whole)
        room.handed += 1

    def _push_piece(self, piece: Piece, batch: Batch) -> bool:
        """Send the same to all of a piece; False, and nothing was sent: they are to be sent to one by one."""
        if piece.codec is None or self._trace.is_watched:
            return False
        try:
            joined, frames = batch.joined(piece.codec)
        except Exception:
            if len(batch.packets) == 1:
                # It must end neither our task nor what the others are told: all see a gap in seq.
                log.exception("fan-out failed")
            else:
                for packet in batch.packets:
                    self._push_piece(piece, Batch([packet]))
            return True
        self._counters.packets_out += len(frames) * len(piece.queues)
        push_to_all(piece.queues, joined, frames, batch.tags)
        return True

    def _hand(self, session: Session, batch: Batch) -> None:
        """Send some packets to one session."""
        if session.outlet is None:
            return
        try:
            session.outlet.send_batch(batch)
        except Exception:
            if len(batch.packets) == 1:
                log.exception("fan-out failed", user=session.user_id)
            else:
                for packet in batch.packets:
                    self._hand(session, Batch([packet]))

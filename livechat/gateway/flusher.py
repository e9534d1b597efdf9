"""Owns what was sent to channels and is yet to be handed to their subscribers' connections.

It must not decide who hears what (`fanout`), nor know sockets (`egress`). To each connection all looks as if every
packet had been handed to it at once: whatever else is sent there follows what is yet to be handed (`follow`), and
whatever changes what it hears lets it `catch_up` first. Only packets of different channels may change places,
between which there is no order to keep.

    channel    first packet                       until the flusher has seen it idle
    cold       handed out at once                 hot
    hot        gathers                            hot; its packets go out together, joined once per codec
    gathers    (was hot with several at a time)   hot; the first one gathers as well

While a channel is hot, `ahead` says how many of its packets a session has been handed already, or does not get.
A session that is sent something else meanwhile has a tail of its own, which leaves in one piece as well.
Offenders past their limits are closed only between two rounds of sends: nothing changes while one is under way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog
import trio

from livechat.hub.channels import Channel, ChannelHub
from livechat.hub.users import Session
from livechat.protocol.outgoing import Batch, Outgoing

log = structlog.get_logger("livechat.gateway")

AT_ONCE_MAX: Final = 256
"""Connections that are sent something without other tasks getting their turn, about a millisecond."""
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
    """A hot channel."""

    __slots__ = ("_batches", "ahead", "bytes", "channel", "generation", "packets", "sizes")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.packets: list[Outgoing] = []
        """Yet to be handed out, in order."""
        self.sizes: list[int] = []
        """Of each, bytes, about."""
        self.bytes = 0
        self.ahead: dict[Session, int] = {}
        """How many of them a session has been handed, or does not get; none, where it is not named."""
        self.generation = 0
        """Moves on when packets leave the front of the list."""
        self._batches: dict[tuple[int, int], Batch] = {}

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

    def take(self, session: Session) -> list[Outgoing]:
        """Return the packets that a session has not been handed; from now on it has."""
        start, end = self.ahead.get(session, 0), len(self.packets)
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

    def drop(self, count: int) -> None:
        """Forget the first packets, which everybody has been handed."""
        self.generation += 1
        self._batches.clear()
        if count == len(self.packets):
            self.packets.clear()
            self.sizes.clear()
            self.ahead.clear()
            self.bytes = 0
            return
        del self.packets[:count]
        self.bytes -= sum(self.sizes[:count])
        del self.sizes[:count]
        self.ahead = {session: ahead - count for session, ahead in self.ahead.items() if ahead > count}


class Flusher:
    """Hands the packets of channels to their subscribers; it is the hub's `Backlog`.

    Until `run` runs, and after it, every packet is handed out at once.
    """

    def __init__(self, hub: ChannelHub) -> None:
        self._hub = hub
        self._rooms: dict[Channel, _Room] = {}
        """The hot channels, in order of heating up."""
        self._pending: dict[Channel, _Room] = {}
        """Those in which something has gathered."""
        self._is_running = False
        self._idle: trio.lowlevel.Task | None = None
        """Our task, while it waits for a channel to become hot."""
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
            is_small = len(channel.subscribers) <= AT_ONCE_MAX
            if not self._is_running or (is_small and not channel.gathers):
                self._heat(channel)
                self._send_at_once(channel, packet, but)
                return
            room = self._heat(channel)
        if but is not None and but in channel.subscribers:
            self._catch_up(room, but)
            room.ahead[but] = len(room.packets) + 1
        if not room.packets:
            self._pending[channel] = room
        self._came += 1
        room.add(packet, size)
        if not self._is_running or len(room.packets) >= PENDING_PACKETS_MAX or room.bytes >= PENDING_BYTES_MAX:
            self._hand_out_all(room)

    def _heat(self, channel: Channel) -> _Room:
        room = _Room(channel)
        if self._is_running:
            self._rooms[channel] = room
            if self._idle is not None:
                trio.lowlevel.reschedule(self._idle)
                self._idle = None
        return room

    def _send_at_once(self, channel: Channel, packet: Outgoing, but: Session | None) -> None:
        batch = Batch([packet])
        # A list of its own: an outlet may be anything, so who hears the channel may change meanwhile.
        for session in list(channel.subscribers):
            if session is but or session.outlet is None:
                continue
            if self._tails and session in self._tails:
                self._tails[session].append(packet)
            else:
                session.outlet.send_batch(batch)

    # --- the hub's backlog ------------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """See `Backlog`."""
        return bool(self._pending or self._tails)

    def follow(self, session: Session, packet: Outgoing) -> bool:
        """See `Backlog`."""
        tail = self._tails.get(session)
        behind = [room for room in self._rooms_of(session) if room.ahead.get(session, 0) < len(room.packets)]
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
        heard = self._hub.channels_of(session)
        if len(heard) < len(self._pending):
            channels = [self._hub.get(channel_id) for channel_id in heard]
            return [self._pending[channel] for channel in channels if channel in self._pending]
        return [room for room in self._pending.values() if session in room.channel.subscribers]

    def _catch_up(self, room: _Room, session: Session) -> None:
        start, end = room.ahead.get(session, 0), len(room.packets)
        if session in self._tails:
            self._tails[session] += room.take(session)
        elif start < end and session.outlet is not None:
            # Noted first: whatever the outlet does with it, it is handed out once.
            room.ahead[session] = end
            session.outlet.send_batch(room.batch(start, end))

    def _release(self, session: Session) -> None:
        """Hand a session its tail."""
        tail = self._tails.pop(session, None)
        if tail:
            self._hand_tail(session, tail)

    def _hand_tail(self, session: Session, packets: list[Outgoing]) -> None:
        outlet = session.outlet
        if outlet is None:
            return
        try:
            outlet.send_batch(Batch(packets))
        except Exception:
            # It must end neither the task nor what the others are told; this client sees a gap in seq.
            log.exception("fan-out failed", user=session.user_id)

    def entered(self, session: Session, channel: Channel) -> None:
        """See `Backlog`."""
        room = self._pending.get(channel)
        if room is not None:
            room.ahead[session] = len(room.packets)

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
        try:
            while True:
                if not self._rooms:
                    await self._wait()
                if self._pending:
                    await self._settle()
                for room in list(self._rooms.values()):
                    try:
                        await self._flush(room)
                    except Exception:
                        # What can't be handed out must not hold up the other channels for ever.
                        log.exception("fan-out failed", channel=room.channel.facts.channel_id)
                        self._drop(room, len(room.packets))
                for session in list(self._tails):
                    self._release(session)
        finally:
            self._is_running = False
            for room in list(self._pending.values()):
                self._hand_out_all(room)
            for session in list(self._tails):
                self._release(session)
            self._rooms.clear()

    async def _wait(self) -> None:
        """Wait until a channel is hot."""

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
        """Hand out what gathered in a hot channel, or let it cool down if nothing did."""
        channel = room.channel
        if not room.packets:
            if self._rooms.get(channel) is room:
                del self._rooms[channel]
            return
        channel.gathers = len(room.packets) > 1
        count, generation = room.first_batch(), room.generation
        sessions = list(channel.subscribers)
        for first in range(0, len(sessions), AT_ONCE_MAX):
            if first:
                await trio.lowlevel.checkpoint()
                if room.generation != generation:
                    return  # all of it was handed out meanwhile
            is_last = first + AT_ONCE_MAX >= len(sessions)
            self._hand_out(room, sessions[first : first + AT_ONCE_MAX], count)
            if is_last:
                self._drop(room, count)
        if not sessions:
            self._drop(room, count)

    def _hand_out(self, room: _Room, sessions: Iterable[Session], count: int) -> None:
        """Hand the first packets to those of the sessions that hear the channel and lack them."""
        ahead, subscribers, tails, whole = room.ahead, room.channel.subscribers, self._tails, room.batch(0, count)
        for session in sessions:
            start = ahead.get(session, 0)
            outlet = session.outlet
            if start >= count or outlet is None or session not in subscribers:
                continue
            ahead[session] = count
            if tails and session in tails:
                self._hand_tail(session, tails.pop(session) + room.packets[start:count])
            else:
                outlet.send_batch(room.batch(start, count) if start else whole)

    def _hand_out_all(self, room: _Room) -> None:
        while room.packets:
            count = room.first_batch()
            self._hand_out(room, list(room.channel.subscribers), count)
            self._drop(room, count)

    def _drop(self, room: _Room, count: int) -> None:
        room.drop(count)
        if not room.packets:
            self._pending.pop(room.channel, None)

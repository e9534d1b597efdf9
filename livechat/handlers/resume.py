"""Handles op 5, RESUME: a connection goes on with a session whose own was lost.

It must not prove tokens; the connection does. What the session missed is told in order, without doubles or holes,
while the channels go on:

    claim     the session stays parked, so whatever happens is added to its spans; a second RESUME takes the claim
    chase     what lies in the spans is read and sent, until little is left
    hold      at one instant the session is subscribed, and what it hears from then on is held back;
              the rest, which ends at that instant, is read and sent; so are the events of jobs, see `job_replay`
    release   in the commit order of the store: what was held, then RESUMED; from here on the session is live
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import attrs
import structlog
import trio

from livechat.error import LiveError, ShuttingDown
from livechat.handlers import access, channels, chunks, floor, lifecycle, presence, rekey
from livechat.handlers.auth import Identity
from livechat.handlers.call import Call, Caller
from livechat.handlers.job_replay import JobReplay
from livechat.handlers.node import Node
from livechat.handlers.replay import Stretch, replay
from livechat.hub.users import Mark, Outlet, Queued, Session, SessionState, Span, mark_of
from livechat.protocol.events import (
    Announcement,
    InvalidSession,
    Resumed,
    ResumedChannel,
)
from livechat.protocol.opcodes import Op
from livechat.protocol.outgoing import Batch, Outgoing
from livechat.protocol.patterns import allowed
from livechat.protocol.requests import Resume
from livechat.protocol.types import ChannelId, StreamKey
from livechat.store.operations import ReadStates
from livechat.store.queries import GetAnnouncements
from livechat.store.rows import MemberState

log = structlog.get_logger("livechat.handlers")

HOLD_BELOW: Final = 256
"""Events left to replay at which the session begins to hear and what it hears is held back."""
STORAGE_TIMEOUT_S: Final = 5.0


class Hold:
    """The outlet of a session that hears again, but must be told first what came before.

    Args:
        rest: what is being told; it moves on as it is.
        missed: what is told after that.
        packets_max: more than so many make the client a slow consumer.
    """

    def __init__(
        self, caller: Caller, rest: Sequence[Stretch], missed: Iterable[Outgoing], packets_max: int
    ) -> None:
        self._caller = caller
        self._rest = rest
        self._missed = list(missed)
        self._packets_max = packets_max
        self._packets: list[Outgoing] = []

    @property
    def peer_host(self) -> str:
        """See `Outlet`."""
        return self._caller.peer_host

    @property
    def local_host(self) -> str:
        """See `Outlet`."""
        return self._caller.local_host

    @property
    def is_confidential(self) -> bool:
        """See `Outlet`."""
        return self._caller.is_confidential

    @property
    def queued(self) -> Queued:
        """See `Outlet`; with what is held."""
        queued = self._caller.queued
        return queued._replace(frames=queued.frames + len(self._packets))

    @property
    def sink(self) -> None:
        """See `Outlet`. All is held."""
        return None

    def send(self, packet: Outgoing) -> None:
        """Keep a packet for later; not a media chunk, which nobody wants late."""
        if packet.chunk is not None:
            return
        self._packets.append(packet)
        if len(self._packets) > self._packets_max:
            self._caller.overflow()

    def send_batch(self, batch: Batch) -> None:
        """Keep packets for later."""
        for packet in batch.packets:
            self.send(packet)

    def displace(self) -> None:
        """Another connection resumes the session."""
        self._caller.displace()

    def drop_chunks(self, channel_id: ChannelId) -> None:
        """See `Outlet`. While the session is told what it missed nobody sends it chunks."""

    def forget_stream(self, stream: StreamKey) -> None:
        """See `Outlet`."""

    def expel(self, code: int, reason: str) -> None:
        """See `Outlet`."""
        self._caller.expel(code, reason)

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """Name what was not told: what the connection had queued, the rest, what was missed and what is held."""
        rest = [
            (stretch.channel_id, seq)
            for stretch in self._rest
            for seq in range(stretch.span.after + 1, stretch.before)
        ]
        held = [mark for packet in self._packets if (mark := mark_of(packet)) is not None]
        return [*self._caller.cut(successor), *rest, *self._missed, *held]

    def missed_announcements(self) -> list[Announcement]:
        """Return the announcements that were missed; RESUMED carries them."""
        return [packet.payload for packet in self._missed if packet.op == Op.ANNOUNCEMENT]

    def sort(self, progress: _Progress) -> tuple[list[Outgoing], list[Outgoing]]:
        """Return what is to be sent before RESUMED, which counts it, and what after. It holds nothing any more."""
        told = {news.announcement_id for news in progress.announcements}
        before, after = [packet for packet in self._missed if packet.op != Op.ANNOUNCEMENT], []
        for packet in self._packets:
            if packet.op in (Op.CHANNEL_EVENT, Op.MESSAGE_EVENT):
                before.append(packet)
                if isinstance(packet.mark, tuple):
                    channel_id = packet.mark[0]
                    progress.replayed[channel_id] = progress.replayed.get(channel_id, 0) + 1
            elif packet.op != Op.ANNOUNCEMENT or packet.payload.announcement_id not in told:
                after.append(packet)
        self._missed, self._packets = [], []
        return before, after


@attrs.define(slots=True)
class _Progress:
    """What one RESUME has done so far."""

    replayed: dict[ChannelId, int] = attrs.field(factory=dict)
    lossy: set[ChannelId] = attrs.field(factory=set)
    """Channels of which something can't be replayed."""
    unknown: set[ChannelId] = attrs.field(factory=set)
    """Channels that the client names and that the session has no part in."""
    jobs: JobReplay = attrs.field(factory=JobReplay)
    announcements: list[Announcement] = attrs.field(factory=list)
    is_done: bool = False
    """RESUMED was sent."""

    def note(self, stretches: Sequence[Stretch]) -> None:
        """Take over what a replay has done."""
        for stretch in stretches:
            self.replayed[stretch.channel_id] = self.replayed.get(stretch.channel_id, 0) + stretch.replayed
            stretch.replayed = 0
            if not stretch.is_intact:
                self.lossy.add(stretch.channel_id)


async def resume(call: Call, request: Resume, identity: Identity | None) -> None:
    """Op 5 → the missed events, then RESUMED; or INVALID_SESSION.

    Args:
        identity: whom the token speaks for; None: it is good, but does not say.

    Raises:
        BackendUnavailable: the store can't be read; the session stays parked.
        ShuttingDown: this server is shutting down.
    """
    node = call.node
    if node.draining:
        raise ShuttingDown("this server is shutting down")
    session = node.users.get(request.session_id) if node.resume_window_s > 0 else None
    if session is None or (identity is not None and identity.user_id != session.user_id):
        # Not a word on which of the two it is: ids of other users' sessions are theirs.
        _refuse(call)
        return
    # Who does not say whom it speaks for may be anybody, so also the session's user.
    identity = identity or Identity(session.user_id)
    await _tell_storage(node, session)
    # Before anybody else loses the session to this token.
    access.check_not_revoked(node, identity)
    if session.state is SessionState.ENDED or not _claim(call, session):
        _refuse(call)
        return
    session.presence_batches = request.presence_batches
    progress = _Progress()
    knew = session.channels
    try:
        access.take_token(node, session, identity)
        # Of what an older token kept from it nothing was noted.
        members = node.channels.memberships(session.user_id)
        progress.lossy |= {channel_id for channel_id in members if not allowed(knew, channel_id)}
        _take_positions(node, session, request.channels or {}, progress)
        session.jobs_due.update(request.jobs or {})
        await progress.jobs.chase(node, call.caller, session)
        await _chase(call, session, progress)
        await _release(call, session, progress)
    finally:
        if session.claim is call.caller:
            lifecycle.release_claim(node, session)
        call.caller.unclaim()


def _refuse(call: Call) -> None:
    call.node.instruments.counters.resumes_failed["no_session"] += 1
    call.reply(Op.INVALID_SESSION, InvalidSession("no such session, or it is over; IDENTIFY instead"))


async def _tell_storage(node: Node, session: Session) -> None:
    """Make this node the session's in the storage; it is ours already, so the storage may well be away."""
    try:
        with trio.fail_after(STORAGE_TIMEOUT_S):
            await node.sessions.take_over(session.session_id, node.node_id)
    except (LiveError, trio.TooSlowError) as error:
        log.warning("session storage failed", error=str(error) or "timeout")


def _claim(call: Call, session: Session) -> bool:
    """Park the session if it is live still, and take it from whoever is resuming it."""
    if session.outlet is not None:
        session.outlet.displace()
    elif session.claim is not None:
        session.claim.displace()
    assert session.state is SessionState.PARKED
    if not call.caller.claim(session):
        return False
    session.claim = call.caller
    session.note_unsent(call.caller)
    return True


def _take_positions(node: Node, session: Session, positions: dict[ChannelId, int], progress: _Progress) -> None:
    """Let the client's own positions count: it knows best what has arrived."""
    deleted = {packet.payload.channel_id for packet in session.missed.values() if _is_deletion(packet)}
    for channel_id, seq in positions.items():
        if not session.may_hear(channel_id):
            progress.unknown.add(channel_id)
            continue
        spans = session.spans.get(channel_id)
        left_at = session.left.get(channel_id, 0)
        if not spans and seq < left_at:
            # Its user is out, and it has not heard of that; should the user join again, it must have.
            session.spans[channel_id] = [Span(seq, left_at)]
            continue
        if not spans:
            if channel_id not in session.unsubscribed:
                progress.unknown.add(channel_id)
            continue
        if channel_id in deleted:
            # The position is one in a channel that is gone; the new one of this id begins with the own join.
            progress.lossy.add(channel_id)
            continue
        while len(spans) > 1 and spans[0].last is not None and spans[0].last <= seq:
            del spans[0]
            # What lies between two spans is nothing that the session was to be told.
            seq = max(seq, spans[0].since)
        channel = node.channels.get(channel_id)
        if channel is not None and seq > channel.last_seq:
            # It claims to have seen what is not there; what is there it gets from now on.
            progress.lossy.add(channel_id)
            seq = channel.last_seq
        spans[0].after, spans[0].is_out = seq, False
        for later in spans[1:]:
            # A resume that came to nothing may have told of it, and the client has not seen that.
            later.after, later.is_out = max(seq, later.since), False


def _stretches(node: Node, session: Session) -> list[Stretch]:
    """List what the session has yet to be told, as things stand now."""
    stretches = []
    for channel_id, spans in session.spans.items():
        channel = node.channels.get(channel_id)
        for span in spans:
            last = span.last
            if last is None:
                last = span.after if channel is None else channel.last_seq
            stretches.append(Stretch(channel_id, span, last + 1, listener=session.user_id))
    return stretches


async def _chase(call: Call, session: Session, progress: _Progress) -> None:
    """Send what was missed, and what is added to it meanwhile, until little is left."""
    while True:
        _tell_deletions(call, session)
        stretches = _stretches(call.node, session)
        is_past = any(stretch.span.last is not None for stretch in stretches)
        if not is_past and sum(stretch.missing for stretch in stretches) <= HOLD_BELOW:
            return
        await replay(call.node, call.caller, stretches)
        progress.note(stretches)
        _drop_told(session)


def _tell_deletions(call: Call, session: Session) -> None:
    """Send what tells of deleted channels first: what they held is gone, and they may have been made again."""
    for packet in [packet for packet in session.missed.values() if _is_deletion(packet)]:
        del session.missed[packet.key]
        call.caller.send(packet)


def _is_deletion(packet: Outgoing) -> bool:
    return packet.op == Op.CHANNEL_EVENT and packet.payload.event == "delete"


def _drop_told(session: Session) -> None:
    """Forget the spans that have an end and were told up to it."""
    for channel_id, spans in list(session.spans.items()):
        left = [span for span in spans if span.last is None or span.after < span.last]
        if left:
            session.spans[channel_id] = left
        else:
            del session.spans[channel_id]


async def _release(call: Call, session: Session, progress: _Progress) -> None:
    node, since_ms = call.node, session.parked_at_ms
    rest = _stretches(node, session)
    hold = Hold(call.caller, rest, session.missed.values(), node.limits.held_packets)
    node.users.revive(session, hold)
    node.channels.attach(session)
    try:
        await replay(node, call.caller, rest)
        progress.note(rest)
        await progress.jobs.finish(node, call.caller, session)
        stored = await node.store.fetch(GetAnnouncements(since_ms, node.now_ms()))
        progress.announcements = _merge(stored, hold.missed_announcements(), node.now_ms())
        await _finish(call, session, hold, progress)
    finally:
        if session.outlet is hold:
            # The store failed: the client may try again, on this connection or another.
            lifecycle.connection_lost(node, session, resumable=True)
        if session.state is SessionState.PARKED and not progress.is_done:
            # What was announced since then it has not been told.
            session.parked_at_ms = since_ms


def _merge(stored: Iterable[Announcement], missed: Iterable[Announcement], now_ms: int) -> list[Announcement]:
    """Return each announcement once, ascending by time, those left out that have expired.

    Args:
        stored: those made since the session was parked last.
        missed: those that it was not told; some may be older than that.
    """
    by_id = {news.announcement_id: news for news in (*missed, *stored)}
    valid = [news for news in by_id.values() if news.expires_at is None or news.expires_at > now_ms]
    return sorted(valid, key=lambda news: (news.created_at, news.announcement_id))


async def _finish(call: Call, session: Session, hold: Hold, progress: _Progress) -> None:
    finished = trio.Event()

    def loaded(states: tuple[MemberState, ...]) -> None:
        node.channels.backlog.catch_up(session)
        if session.outlet is not hold or not call.caller.activate(session):
            return  # the connection has ended, or another one has taken over
        node.channels.has_moved(session)
        before, after = hold.sort(progress)
        for packet in before:
            call.caller.send(packet)
        call.reply(Op.RESUMED, _resumed(node, session, states, progress))
        progress.is_done = True
        node.instruments.counters.resumes_ok += 1
        for packet in after:
            call.caller.send(packet)
        floor.show(node, session, list(node.channels.channels_of(session)), was_away=True)
        chunks.show(node, session, list(node.channels.channels_of(session)))
        rekey.resumed(node, session)
        node.keeper.note(session)

    node = call.node
    call.submit(ReadStates(session.user_id), loaded, settled=finished.set)
    await finished.wait()


def _resumed(node: Node, session: Session, states: Sequence[MemberState], progress: _Progress) -> Resumed:
    resumed = {}
    for state in states:
        channel_id = state.channel.channel_id
        if not session.may_hear(channel_id):
            continue
        resumed[channel_id] = ResumedChannel(
            replayed=progress.replayed.get(channel_id, 0),
            last_seq=state.channel.last_seq,
            read_seq=state.member.read_seq,
            unread=state.unread,
            recovered=channel_id not in progress.lossy,
            active_members=channels.active_members(node, channel_id, session.user_id),
        )
    for channel_id in progress.unknown:
        resumed.setdefault(channel_id, ResumedChannel(0, 0, 0, 0, recovered=False, active_members=[]))
    return Resumed(
        session_id=session.session_id,
        channels=resumed,
        presence=presence.came(node, session),
        announcements=progress.announcements,
        jobs=progress.jobs.resumed(),
    )

"""Owns who is here: users, their sessions, and whether each session has a connection.

It must not send, wait or look at a clock; it knows nothing of channels beyond the ids a session joined.

A session's life, one line per state:

    LIVE    attached to a connection              -> PARKED (connection lost), ENDED (closed, kicked)
    PARKED  no connection, resumable until then   -> LIVE (resumed), ENDED (window over)
    ENDED   in no hub; the object is only history

A parked session that a connection has claimed is being replayed what it missed; until that is done it counts as
parked, and whatever happens meanwhile is added to what it has to be told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from enum import Enum, auto
from math import inf
from typing import Final, NamedTuple, Protocol

import attrs

from livechat.protocol.outgoing import Batch, JobMark, Outgoing
from livechat.protocol.patterns import ChannelPatterns
from livechat.protocol.types import ChannelId, JobId, PresenceStatus, SessionId, StreamKey, UserId

Mark = tuple[ChannelId, int] | JobMark | Outgoing
"""What must be told again if it was not sent: (channel, seq) of a sequenced event, an event of a job, or a packet
that has a key."""

LEFT_MAX: Final = 100
"""Channels that a session remembers to have left; past it the oldest go."""
MISSED_MAX: Final = 1024
"""Events without a seq that a parked session keeps to be told later; past it the oldest go."""


def mark_of(packet: Outgoing) -> Mark | None:
    """Return what names a packet that must be told again if it was not sent; None: it need not be."""
    return packet.mark if packet.key is None else packet


class SessionState(Enum):
    LIVE = auto()
    PARKED = auto()
    ENDED = auto()


class Queued(NamedTuple):
    """How it stands with what one client is sent."""

    frames: int = 0
    """That wait for it to read."""
    bytes: int = 0
    """Of those."""
    chunks_dropped: int = 0
    """Media chunks that it was not sent, as it reads too slowly."""


class Outlet(Protocol):
    """What a session's events leave through: a connection's egress queue."""

    @property
    def peer_host(self) -> str:
        """The client's address, as told by a trusted proxy where there is one."""
        ...

    @property
    def local_host(self) -> str:
        """The address at which the client reached us."""
        ...

    @property
    def is_confidential(self) -> bool:
        """TLS or loopback: fit to carry media keys."""
        ...

    @property
    def queued(self) -> Queued:
        """What waits for the client, and what it did not get."""
        ...

    @property
    def sink(self) -> object | None:
        """What frames for many may be pushed to past `send_batch`, by who knows its kind; None: nothing is."""
        ...

    def send(self, packet: Outgoing) -> None:
        """Queue a packet; never waits, never raises."""
        ...

    def send_batch(self, batch: Batch) -> None:
        """Queue packets of the channels that the session hears; never waits, never raises.

        Only `livechat.hub.channels.Backlog` calls it: these come after nothing that was sent later.
        """
        ...

    def displace(self) -> None:
        """Park the session, and close the connection: another one resumes it."""
        ...

    def drop_chunks(self, channel_id: ChannelId) -> None:
        """Drop the media chunks of a channel that wait to be sent: its session does not hear it any more."""
        ...

    def forget_stream(self, stream: StreamKey) -> None:
        """Forget what was dropped of a media stream, which is over."""
        ...

    def expel(self, code: int, reason: str) -> None:
        """Close the connection, which ends the session; nobody takes it over.

        Args:
            code: of the close frame, 4500-4999.
            reason: short, for people.
        """
        ...

    def cut(self, successor: Outlet | None) -> Sequence[Mark]:
        """Send no more events; return those that were queued and never sent, and are to be told again.

        Args:
            successor: what the session's events leave through from now on, if that is known: should it be the
                same connection, then what is queued there will still be sent.
        """
        ...


@attrs.define(slots=True, eq=False)
class Span:
    """A part of a channel's sequence that a parked session has yet to be told."""

    after: int
    """The last seq that it was told."""
    last: int | None = None
    """The last seq that concerns it: its user's own leave; None while the user is a member."""
    is_out: bool = False
    """It was told of its user's leave: what follows concerns it only from the next join on."""
    since: int = attrs.field(init=False)
    """Where `after` stood at first: what was told from there on may not have arrived."""

    def __attrs_post_init__(self) -> None:
        self.since = self.after


@attrs.define(slots=True, eq=False)
class Session:
    """A user's conversation with the server; it outlives the connection it runs on."""

    session_id: SessionId = attrs.field(repr=False)
    user_id: UserId
    created_at: float
    """Monotonic seconds."""
    expires_at: int | None = None
    """When its token ends, in milliseconds since 1970; None: never."""
    is_admin: bool = False
    """Its token has the `admin` scope."""
    channels: ChannelPatterns | None = None
    """The channels that its token is good for; None: all."""
    priority: int = 100
    """Of its claims to the floor that state none."""
    priority_max: int | None = None
    """What its token allows those at most; None: anything."""
    token_id: str | None = attrs.field(default=None, repr=False)
    """By which its token can be revoked."""
    family_id: str | None = attrs.field(default=None, repr=False)
    """By which its token can be revoked with all others of the same login."""
    issued_at: int | None = None
    """When its token was issued; see `livechat.handlers.auth.Identity`."""
    status: PresenceStatus = "ONLINE"
    """What it shows of itself while it is connected."""
    status_text: str | None = None
    presence_batches: bool = False
    """Its client reads PRESENCE_EVENTs of many users."""
    presence_version: int = 0
    """The newest change of presence that it knows; see `livechat.hub.presence`."""
    outlet: Outlet | None = None
    """The connection's egress; None while parked or ended."""
    state: SessionState = SessionState.LIVE
    parked_at: float | None = None
    parked_at_ms: int = 0
    """Milliseconds since 1970 when it was parked last."""
    joined: frozenset[ChannelId] = attrs.field(default=frozenset(), repr=False)
    """Channels of this session's own successful CHANNEL_JOINs."""
    focus: ChannelId | None = None
    """The channel on its screen."""
    unsubscribed: frozenset[ChannelId] = attrs.field(default=frozenset(), repr=False)
    """Channels of its user that it does not want to hear."""
    unread_due: frozenset[ChannelId] = attrs.field(default=frozenset(), repr=False)
    """Unsubscribed channels whose unread count is to be told."""
    unread_told_at: float = -inf
    """Monotonic seconds when unread counts were told last."""
    claim: Outlet | None = None
    """The connection that resumes it, while it is parked."""
    spans: dict[ChannelId, list[Span]] = attrs.field(factory=dict, repr=False)
    """While parked: what it has missed of each channel it is subscribed to, ascending."""
    left: dict[ChannelId, int] = attrs.field(factory=dict, repr=False)
    """Channels that its user has left lately, each with the seq of that leave, which may not have arrived."""
    missed: dict[Hashable, Outgoing] = attrs.field(factory=dict, repr=False)
    """While parked: what it has missed that has no seq, by its key."""
    jobs_due: dict[JobId, int] = attrs.field(factory=dict, repr=False)
    """Jobs whose events it is yet to be told from the store, each with the last `event_seq` that it was told."""
    tail: Outlet | None = None
    """While parked: the outlet that was lost, until it has told what it had not sent."""

    def may_hear(self, channel_id: ChannelId) -> bool:
        """Tell whether its token is good for a channel."""
        return self.channels is None or self.channels.allow(channel_id)

    def forget_disallowed(self) -> None:
        """While parked: forget what it has missed of channels that its token is not good for any more."""
        for channel_id in [channel_id for channel_id in self.spans if not self.may_hear(channel_id)]:
            del self.spans[channel_id]
        for key, packet in list(self.missed.items()):
            concerned: ChannelId | None = getattr(packet.payload, "channel_id", None)
            if concerned is not None and not self.may_hear(concerned):
                del self.missed[key]

    def miss(self, packet: Outgoing) -> None:
        """Keep a packet that has a key for when the session is resumed, in place of an older one of that key."""
        assert packet.key is not None
        self.missed.pop(packet.key, None)
        self.missed[packet.key] = packet
        if len(self.missed) > MISSED_MAX:
            del self.missed[next(iter(self.missed))]

    def miss_from(self, channel_id: ChannelId, seq: int) -> None:
        """Note that the parked session is to be told of everything in the channel from `seq` on."""
        self.spans.setdefault(channel_id, []).append(Span(seq - 1))

    def miss_until(self, channel_id: ChannelId, seq: int) -> None:
        """Note that nothing after `seq` concerns the session, whose user has left the channel."""
        self.left.pop(channel_id, None)
        self.left[channel_id] = seq
        if len(self.left) > LEFT_MAX:
            del self.left[next(iter(self.left))]
        spans = self.spans.get(channel_id)
        if spans and spans[-1].last is None:
            spans[-1].last = seq

    def miss_job_event(self, mark: JobMark) -> None:
        """Note that the session is to be told of this event, and of those of its job that follow."""
        before = mark.event_seq - 1
        self.jobs_due[mark.job_id] = min(before, self.jobs_due.get(mark.job_id, before))

    def note_unsent(self, successor: Outlet | None) -> None:
        """Add to what the parked session has missed what its lost outlet has not sent, and let go of that.

        Args:
            successor: see `Outlet.cut`.
        """
        if self.tail is None:
            return
        unsent = self.tail.cut(successor)
        self.tail = None
        later, self.missed = self.missed, {}
        for packet in (*[mark for mark in unsent if isinstance(mark, Outgoing)], *later.values()):
            self.miss(packet)
        seqs: dict[ChannelId, set[int]] = {}
        for mark in unsent:
            if isinstance(mark, JobMark):
                self.miss_job_event(mark)
            elif not isinstance(mark, Outgoing):
                seqs.setdefault(mark[0], set()).add(mark[1])
        for channel_id, unsent_seqs in seqs.items():
            self._miss_again(channel_id, sorted(unsent_seqs))

    def _miss_again(self, channel_id: ChannelId, seqs: list[int]) -> None:
        """Put what was handed out and never sent before what has been missed since."""
        spans = self.spans.setdefault(channel_id, [])
        again: list[Span] = []
        for seq in seqs:
            if spans and seq > spans[0].after:
                break  # it is in there already
            if again and again[-1].last == seq - 1:
                again[-1].last = seq
            else:
                # What lies between was no event of this session: the user was no member, or it did not listen.
                again.append(Span(seq - 1, seq))
        if again and spans and again[-1].last == spans[0].after:
            spans[0].after = again.pop().after
        spans[:0] = again


class UserHub:
    """Every session of this node, by id and by user."""

    __slots__ = ("_by_id", "_by_user", "arriving")

    def __init__(self) -> None:
        self.arriving: Counter[UserId] = Counter()
        """How many sessions of each user are being opened; nobody else is in it."""
        self._by_id: dict[SessionId, Session] = {}
        self._by_user: dict[UserId, dict[SessionId, Session]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def get(self, session_id: SessionId) -> Session | None:
        """Return a living or parked session."""
        return self._by_id.get(session_id)

    def sessions_of(self, user_id: UserId) -> Collection[Session]:
        """Return the user's living and parked sessions."""
        return self._by_user.get(user_id, {}).values()

    def live_sessions_of(self, user_id: UserId) -> list[Session]:
        """Return the user's sessions that have a connection."""
        return [session for session in self.sessions_of(user_id) if session.outlet is not None]

    def is_connected(self, user_id: UserId) -> bool:
        """Tell whether any session of the user has a connection."""
        return any(session.outlet is not None for session in self.sessions_of(user_id))

    def is_arriving(self, user_id: UserId) -> bool:
        """Tell whether a session of the user is being opened."""
        return user_id in self.arriving

    def add(self, session: Session) -> None:
        """Take in a new session that has a connection."""
        assert session.session_id not in self._by_id
        assert session.state is SessionState.LIVE
        self._by_id[session.session_id] = session
        self._by_user.setdefault(session.user_id, {})[session.session_id] = session

    def park(self, session: Session, now: float, now_ms: int) -> None:
        """Note that a session lost its connection and waits to be resumed."""
        assert session.state is SessionState.LIVE
        session.tail, session.outlet = session.outlet, None
        session.state = SessionState.PARKED
        session.parked_at = now
        session.parked_at_ms = now_ms

    def revive(self, session: Session, outlet: Outlet) -> None:
        """Note that a parked session has a connection again, through which it has been told what it missed."""
        assert session.state is SessionState.PARKED
        session.outlet = outlet
        session.state = SessionState.LIVE
        session.parked_at = None
        session.claim = None
        session.tail = None
        session.spans.clear()
        session.missed.clear()

    def end(self, session: Session) -> bool:
        """Forget a session; return whether it was its user's last one on this node."""
        assert session.state is not SessionState.ENDED
        session.outlet = session.claim = session.tail = None
        session.state = SessionState.ENDED
        session.spans.clear()
        session.missed.clear()
        session.jobs_due.clear()
        del self._by_id[session.session_id]
        sessions = self._by_user[session.user_id]
        del sessions[session.session_id]
        if sessions:
            return False
        del self._by_user[session.user_id]
        return True

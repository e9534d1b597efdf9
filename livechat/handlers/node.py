"""Owns what a handler may use: this node's hubs, its store and backplane, its clocks. One object per server.

It must not open or run anything; the composition root does (`livechat.server`).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, Protocol

import attrs
import trio

from livechat.accounts.logins import Logins
from livechat.cluster.backplane import Backplane, FloorNotice
from livechat.cluster.keeper import SessionKeeper
from livechat.cluster.sessions import SessionStorage
from livechat.files.service import FileService
from livechat.handlers.auth import Authenticator, Identity
from livechat.handlers.content import ContentFilter
from livechat.handlers.limits import ChatLimits
from livechat.handlers.readiness import Readiness
from livechat.hub.channels import ChannelHub
from livechat.hub.deadlines import Deadlines
from livechat.hub.floor import FloorHub
from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import ChannelRules, MediaEvents, MediaPeer
from livechat.hub.presence import PresenceHub
from livechat.hub.speakers import SpeakerHub
from livechat.hub.streams import StreamHub
from livechat.hub.users import UserHub
from livechat.limits.addresses import Addresses
from livechat.limits.settings import AddressLimits
from livechat.protocol.types import Address, ChannelId, JobId, SessionId, UserId
from livechat.store.base import Store
from livechat.store.job_rows import Job, JobOutput, JobPage, JobWithEvents, Submitted
from livechat.telemetry.instruments import Instruments
from livechat.telemetry.packets import PacketTrace
from livechat.telemetry.rates import RecentRates
from livechat.tokens.issuer import TokenIssuer, wall_clock_ms
from livechat.tokens.revocations import MemoryRevocations, Revocations
from livechat.tokens.settings import AuthSettings

WorkerState = Literal["down", "starting", "running"]


@attrs.frozen
class WorkerInfo:
    """One process that relays media, over all its runs."""

    worker: int
    """Counts from 0."""
    state: WorkerState
    port: int
    """UDP."""
    pid: int | None
    """None: it does not run."""
    restarts: int
    peers: int
    cpu_s: float
    """Processor time used."""
    memory_bytes: int
    """What it has in physical memory."""
    packets_received: int
    """Datagrams of any kind."""
    packets_forwarded: int
    """SRTP and SRTCP packets made."""


class MediaPlane(Protocol):
    """The port to the relay: it is told who comes and goes, and says where media is to be sent."""

    hub: MediaPeerHub

    def subscribe(self, events: MediaEvents) -> None:
        """Tell this one what happens on the media side."""
        ...

    def statistics(self) -> Mapping[str, int]:
        """Return every counter by name, and the number of peers."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Show the processes that relay; none if the server itself does."""
        ...

    def worker_of(self, channel_id: ChannelId) -> int | None:
        """Return which of them relays for a channel."""
        ...

    def check_available(self, channel_id: ChannelId) -> None:
        """Check that media of a channel can be relayed.

        Raises:
            MediaNotPossible: its worker failed, and does not come back.
        """
        ...

    def endpoint(self, channel_id: ChannelId, local_host: str) -> Address:
        """Return what to tell a client that reached the gateway at `local_host`: (host, UDP port)."""
        ...

    def reachable(self, address: Address) -> Address | None:
        """Return an IP address in the form in which the relay sends to it; None if it cannot."""
        ...

    def set_rules(self, channel_id: ChannelId, rules: ChannelRules) -> None:
        """Say whose media is forwarded in a channel from now on; nothing happens if it has no peers."""
        ...

    def rekey(self, peer: MediaPeer) -> None:
        """Go over to the new keys that the hub gave a peer; the old ones end after the overlap."""
        ...

    def open(self, peer: MediaPeer, rules: ChannelRules) -> None:
        """Begin to relay for a peer that was added to the hub.

        Args:
            rules: of its channel, from now on.
        """
        ...

    def close(self, peer: MediaPeer) -> None:
        """Stop relaying for a peer, tell the others by RTCP BYE, and take it out of the hub."""
        ...

    def close_channel(self, channel_id: ChannelId) -> None:
        """Do the same for all peers of a channel that is gone; there is nobody left to tell."""
        ...


class Jobs(Protocol):
    """The port to jobs. All methods may raise what the store raises: `NotPersisted`, `Overloaded`, …"""

    async def submit(
        self,
        identity: Identity,
        kind: str,
        given: dict[str, Any],
        *,
        session_id: SessionId | None = None,
        key: str | None = None,
    ) -> Submitted:
        """Keep a job that is to be done, and return once it is kept.

        Args:
            identity: whose it is.
            kind: what is to be done.
            given: what the kind needs to know, a JSON object.
            session_id: the owner's session that alone is to hear of it, as long as it is there.
            key: the same one by the same user within 24 h makes no second job, and answers as the first did.

        Raises:
            UnknownJobKind: nobody does such jobs.
            Forbidden: the owner's token is not good for it.
            ProtocolError: `given` does not fit.
            PayloadTooLarge: `given` is too large.
            IdempotencyKeyReused: the key was used for another job.
            Overloaded: too many jobs wait, or the user has too many.
        """
        ...

    async def get(self, job_id: JobId, user_id: UserId | None, *, after: int, most: int) -> JobWithEvents:
        """Return a job and its events after one.

        Args:
            user_id: who asks; None: somebody who may see all.

        Raises:
            JobNotFound: there is none, or it is another user's.
        """
        ...

    async def list(self, user_id: UserId, *, before: JobId | None, most: int) -> JobPage:
        """Return a user's jobs, the newest first; with `before` those that are older than that one."""
        ...

    async def cancel(self, job_id: JobId, user_id: UserId | None) -> Job:
        """Cancel a job that is not over yet; return it as it stands.

        Raises:
            JobNotFound: there is none, or it is another user's.
        """
        ...

    async def open_output(self, job_id: JobId, user_id: UserId | None) -> tuple[JobOutput, AsyncIterator[bytes]]:
        """Return what file a job has made, and what yields its content.

        Raises:
            JobNotFound: there is none, or it is another user's, or its file is not here.
        """
        ...


@attrs.define(slots=True, eq=False)
class Node:
    """Everything a handler works on."""

    node_id: str
    store: Store
    backplane: Backplane
    sessions: SessionStorage
    keeper: SessionKeeper
    users: UserHub
    presence: PresenceHub
    media: MediaPlane
    jobs: Jobs
    authenticator: Authenticator
    limits: ChatLimits
    files: FileService
    resume_window_s: float
    """How long a session stays parked."""
    media_keys_in_clear: bool = False
    """Whether SRTP keys may be told over a connection that is neither TLS nor loopback."""
    media_overlap_s: float = 10.0
    """How long a voice's older keys are good beside its newer."""
    rekey_after_s: float = 0.0
    """How old a voice's keys get; 0: as old as it."""
    content_filter: ContentFilter | None = None
    """Decides what may be said; None: everything."""
    hosts: frozenset[str] = frozenset()
    """By what hosts and ports (`127.0.0.1:8080`) the server knows that it is reached; there may be more."""
    channels: ChannelHub = attrs.field(factory=ChannelHub)
    speakers: SpeakerHub = attrs.field(factory=SpeakerHub)
    streams: StreamHub = attrs.field(factory=StreamHub)
    floors: FloorHub = attrs.field(factory=FloorHub)
    floor_notices: deque[FloorNotice] = attrs.field(factory=deque)
    """What is yet to be told of floors, in order."""
    floor_is_telling: bool = False
    """It is being told."""
    presence_changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Where the task waits that tells changes of presence."""
    deadlines: Deadlines = attrs.field(factory=Deadlines)
    announcing: list[int] = attrs.field(factory=list)
    """Times of the announcements that are being stored, and that nobody was told of yet."""
    instruments: Instruments = attrs.field(factory=Instruments)
    readiness: Readiness = attrs.field(init=False)
    packets: PacketTrace = attrs.field(factory=PacketTrace)
    draining: bool = False
    """Shutting down: no new session begins."""
    addresses: Addresses = attrs.field(factory=lambda: Addresses(AddressLimits()))
    """What the addresses of clients have asked lately."""
    now: Callable[[], float] = trio.current_time
    """Monotonic seconds."""
    now_ms: Callable[[], int] = wall_clock_ms
    """Milliseconds since 1970."""
    auth: AuthSettings = AuthSettings()
    allowed_origins: tuple[str, ...] = ()
    """Browser origins from which the cookie with a token is accepted."""
    trusted_proxies: tuple[str, ...] = ()
    """Hosts or networks whose word is taken for where a request comes from."""
    issuer: TokenIssuer | None = None
    """Makes tokens that the authenticator takes; None: it takes none."""
    logins: Logins | None = None
    """The built-in accounts; None: they are switched off."""
    revocations: Revocations = attrs.field(factory=lambda: MemoryRevocations(wall_clock_ms))

    started_at: float = attrs.field(init=False)
    """Monotonic seconds."""
    started_at_ms: int = attrs.field(init=False)
    """Milliseconds since 1970."""
    rates: RecentRates = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.started_at, self.started_at_ms = self.now(), self.now_ms()
        self.rates = RecentRates(self.instruments.counters, self.started_at)
        self.readiness = Readiness(self.node_id, self.store, self.backplane)


def new_session_id() -> SessionId:
    """Return an unguessable session id (`sess_` and 160 random bits)."""
    return SessionId("sess_" + secrets.token_hex(20))

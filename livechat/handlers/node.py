"""Owns what a handler may use: this node's hubs, its store and backplane, its clocks. One object per server.

It must not open or run anything; the composition root does (`livechat.server`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from livechat.cluster.backplane import Backplane
from livechat.cluster.keeper import SessionKeeper
from livechat.cluster.sessions import SessionStorage
from livechat.handlers.auth import Authenticator
from livechat.handlers.content import ContentFilter
from livechat.handlers.limits import ChatLimits
from livechat.hub.channels import ChannelHub
from livechat.hub.deadlines import Deadlines
from livechat.hub.media import MediaPeer, MediaPeerHub
from livechat.hub.presence import PresenceHub
from livechat.hub.users import UserHub
from livechat.protocol.types import Address, ChannelId, SessionId
from livechat.store.base import Store


class MediaPlane(Protocol):
    """The port to the relay: it is told who comes and goes, and says where media is to be sent."""

    hub: MediaPeerHub

    def endpoint(self, local_host: str) -> Address:
        """Return what to tell a client that reached the gateway at `local_host`: (host, UDP port)."""
        ...

    def reachable(self, address: Address) -> Address | None:
        """Return an IP address in the form in which the relay sends to it; None if it cannot."""
        ...

    def open(self, peer: MediaPeer) -> None:
        """Begin to relay for a peer that was added to the hub."""
        ...

    def close(self, peer: MediaPeer) -> None:
        """Stop relaying for a peer, tell the others by RTCP BYE, and take it out of the hub."""
        ...

    def close_channel(self, channel_id: ChannelId) -> None:
        """Do the same for all peers of a channel that is gone; there is nobody left to tell."""
        ...


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


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
    authenticator: Authenticator
    limits: ChatLimits
    resume_window_s: float
    """How long a session stays parked."""
    media_keys_in_clear: bool = False
    """Whether SRTP keys may be told over a connection that is neither TLS nor loopback."""
    content_filter: ContentFilter | None = None
    """Decides what may be said; None: everything."""
    channels: ChannelHub = attrs.field(factory=ChannelHub)
    presence_changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Where the task waits that tells changes of presence."""
    deadlines: Deadlines = attrs.field(factory=Deadlines)
    announcing: list[int] = attrs.field(factory=list)
    """Times of the announcements that are being stored, and that nobody was told of yet."""
    draining: bool = False
    """Shutting down: no new session begins."""
    now: Callable[[], float] = trio.current_time
    """Monotonic seconds."""
    now_ms: Callable[[], int] = _wall_clock_ms
    """Milliseconds since 1970."""


def new_session_id() -> SessionId:
    """Return an unguessable session id (`sess_` and 160 random bits)."""
    return SessionId("sess_" + secrets.token_hex(20))

"""Owns how an event reaches every node, ourselves included: the port, and the one for a single node.

It must not decide who hears an event; each node's fan-out does. Local and remote delivery are the same path:
a handler publishes, the backplane delivers, in the order of publishing per channel. A notice is a hint for other
nodes: what has a `seq` is in the store before it is published, so a node that missed one finds it there.

    notice          tier           heard by
    ChannelNotice   room           subscribed sessions of the channel's members
    FocusNotice     active room    sessions that have the channel on their screen
    SpeakingNotice  room           subscribed sessions of the channel's members
    ChunkNotice     room           those too, but for who waits for a keyframe
    FloorNotice     room           those too, or the one that has the floor of the channel or wants it
    UserNotice      user           all sessions of one user
    GlobalNotice    global         everybody
    ProbeNotice     -              the node that sent it: that it arrives is all it tells

What a request caused carries that request's trace: a notice takes it up by itself, wherever it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from livechat.hub.channels import ChannelFacts
from livechat.protocol.chunks import ChunkEvent
from livechat.protocol.events import (
    Announcement,
    ChannelEvent,
    Message,
    Notification,
    ReadEvent,
    SettingsEvent,
    TypingEvent,
    UnreadEvent,
)
from livechat.protocol.jobs import JobEvent
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.protocol.value import value
from livechat.protocol.voice_events import FloorEvent, SpeakingEvent
from livechat.telemetry.trace import traceparent


@value
class ChannelNotice:
    """Something that happened in a channel and that its members are to hear."""

    event: ChannelEvent | Message
    origin: SessionId | None = None
    """The session that got its ACK instead of the event."""
    facts: ChannelFacts | None = None
    """The channel as it is now; given with `join` and with an `update` of the channel."""
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""


@value
class FocusNotice:
    """Something that only who looks at a channel is to hear."""

    event: TypingEvent | ReadEvent
    origin: SessionId | None = None
    """The session that caused it, and does not hear it."""
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""


@attrs.frozen
class SpeakingNotice:
    """That somebody begins or ends to speak; no request caused it."""

    event: SpeakingEvent


@attrs.frozen
class ChunkNotice:
    """A piece of live media; whoever does not hear it now never will."""

    event: ChunkEvent
    origin: SessionId
    """The session that published it, and does not hear it."""
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""


@attrs.frozen
class FloorNotice:
    """Something about the floor of a push-to-talk channel."""

    event: FloorEvent
    only: SessionId | None = None
    """The session that alone hears it; None: all that are subscribed to the channel."""
    origin: SessionId | None = None
    """The session that does not hear it: it was told otherwise."""
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""


@value
class UserNotice:
    """Something that concerns one user."""

    user_id: UserId
    event: Notification | UnreadEvent | SettingsEvent | JobEvent
    origin: SessionId | None = None
    """The session that caused it, and does not hear it."""
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""
    only: SessionId | None = None
    """The session that alone hears it, as long as the user has it; then all hear it."""
    channel_id: ChannelId | None = None
    """The channel that a job is about: sessions whose token is not good for it hear nothing."""


@attrs.frozen
class GlobalNotice:
    """Something that everybody is to hear."""

    event: Announcement
    trace: str | None = attrs.field(factory=traceparent)
    """The traceparent of the request that caused it."""


@attrs.frozen
class ProbeNotice:
    """A node's question to the backplane whether it delivers."""

    node_id: str
    """Who asks; no other node has anything to do with it."""
    number: int
    """Of this node's probes."""


Notice = (
    ChannelNotice
    | FocusNotice
    | FloorNotice
    | SpeakingNotice
    | ChunkNotice
    | UserNotice
    | GlobalNotice
    | ProbeNotice
)
Deliver = Callable[[Notice], None]


class Backplane(Protocol):
    """The port."""

    def publish(self, notice: Notice) -> None:
        """Hand a notice to every node. Never blocks."""

    def subscribe(self, deliver: Deliver) -> None:
        """Have `deliver` called for every notice, in the Trio thread, in order."""


class MemoryBackplane:
    """The backplane of a single node: publishing is delivering."""

    def __init__(self) -> None:
        self._subscribers: list[Deliver] = []

    def subscribe(self, deliver: Deliver) -> None:
        """See `Backplane`."""
        self._subscribers.append(deliver)

    def publish(self, notice: Notice) -> None:
        """See `Backplane`."""
        for deliver in self._subscribers:
            deliver(notice)

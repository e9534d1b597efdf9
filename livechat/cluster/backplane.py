"""Owns how an event reaches every node, ourselves included: the port, and the one for a single node.

It must not decide who hears an event; each node's fan-out does. Local and remote delivery are the same path:
a handler publishes, the backplane delivers, in the order of publishing per channel. A notice is a hint for other
nodes: what has a `seq` is in the store before it is published, so a node that missed one finds it there.

    notice          tier           heard by
    ChannelNotice   room           subscribed sessions of the channel's members
    FocusNotice     active room    sessions that have the channel on their screen
    UserNotice      user           all sessions of one user
    GlobalNotice    global         everybody
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from livechat.hub.channels import ChannelFacts
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
from livechat.protocol.types import SessionId, UserId


@attrs.frozen
class ChannelNotice:
    """Something that happened in a channel and that its members are to hear."""

    event: ChannelEvent | Message
    origin: SessionId | None = None
    """The session that got its ACK instead of the event."""
    facts: ChannelFacts | None = None
    """The channel as it is now; given with `join` and with an `update` of the channel."""


@attrs.frozen
class FocusNotice:
    """Something that only who looks at a channel is to hear."""

    event: TypingEvent | ReadEvent
    origin: SessionId | None = None
    """The session that caused it, and does not hear it."""


@attrs.frozen
class UserNotice:
    """Something that concerns one user."""

    user_id: UserId
    event: Notification | UnreadEvent | SettingsEvent
    origin: SessionId | None = None
    """The session that caused it, and does not hear it."""


@attrs.frozen
class GlobalNotice:
    """Something that everybody is to hear."""

    event: Announcement


Notice = ChannelNotice | FocusNotice | UserNotice | GlobalNotice
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

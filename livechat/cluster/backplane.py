"""Owns how an event reaches every node, ourselves included: the port, and the one for a single node.

It must not decide who hears an event; each node's fan-out does. Local and remote delivery are the same path:
a handler publishes, the backplane delivers, in the order of publishing per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs

from livechat.hub.channels import ChannelFacts
from livechat.protocol.events import ChannelEvent, Message
from livechat.protocol.types import SessionId


@attrs.frozen
class ChannelNotice:
    """Something that happened in a channel and that its members are to hear."""

    event: ChannelEvent | Message
    origin: SessionId | None = None
    """The session that got its ACK instead of the event."""
    facts: ChannelFacts | None = None
    """The channel as it is now; given with `join` and `update`."""


Deliver = Callable[[ChannelNotice], None]


class Backplane(Protocol):
    """The port."""

    def publish(self, notice: ChannelNotice) -> None:
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

    def publish(self, notice: ChannelNotice) -> None:
        """See `Backplane`."""
        for deliver in self._subscribers:
            deliver(notice)

"""Owns how each packet to a client is delivered: its class, and what a coalesced packet tells the state of.

It must not queue or drop anything; the egress queue does.

Source: the protocol's delivery classes.

    class       opcodes                              when the client reads too slowly
    DURABLE     all that are not named below         waits; past the queue's limits the connection is closed (4001)
    COALESCED   PRESENCE, TYPING, UNREAD, READ,      an older one of the same state that waits still is left out
                SPEAKING
    DROPPABLE   MEDIA_CHUNK                          the oldest is left out
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Any, Final

import attrs

from livechat.protocol.events import PresenceBatch, ReadEvent, TypingEvent, UnreadEvent, UserPresence
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.voice_events import SpeakingEvent


class Delivery(Enum):
    """What may become of a packet that its receiver does not read in time."""

    DURABLE = auto()
    COALESCED = auto()
    DROPPABLE = auto()


@attrs.frozen
class StateMark:
    """Names the state that a coalesced packet tells: a newer one of an equal mark makes an older one needless."""

    op: Op
    channel_id: ChannelId | None = None
    user_id: UserId | None = None


DELIVERIES: Final[Mapping[int, Delivery]] = MappingProxyType(
    {
        Op.READ_EVENT: Delivery.COALESCED,
        Op.PRESENCE_EVENT: Delivery.COALESCED,
        Op.TYPING_EVENT: Delivery.COALESCED,
        Op.UNREAD_EVENT: Delivery.COALESCED,
        Op.SPEAKING: Delivery.COALESCED,
        Op.MEDIA_CHUNK_EVENT: Delivery.DROPPABLE,
    }
)
"""The class of every opcode that is not durable."""


def delivery_of(op: int) -> Delivery:
    """Return the class of an opcode."""
    return DELIVERIES.get(op, Delivery.DURABLE)


def state_of(op: int, payload: Any) -> StateMark | None:
    """Return what a coalesced packet tells the state of; None for all others.

    None as well for presences of many users in one packet: they are left whole and in their place, so that no
    user's newest state is lost with another's.
    """
    state = _STATES.get(op)
    return None if state is None else state(payload)


def _of_member(op: Op) -> Callable[[ReadEvent | TypingEvent | SpeakingEvent], StateMark]:
    return lambda event: StateMark(op, event.channel_id, event.user_id)


def _of_unread(event: UnreadEvent) -> StateMark:
    return StateMark(Op.UNREAD_EVENT, event.channel_id)


def _of_presence(event: UserPresence | PresenceBatch) -> StateMark | None:
    if isinstance(event, UserPresence):
        return StateMark(Op.PRESENCE_EVENT, user_id=event.user_id)
    return None


_STATES: Final[Mapping[int, Callable[[Any], StateMark | None]]] = MappingProxyType(
    {
        Op.READ_EVENT: _of_member(Op.READ_EVENT),
        Op.PRESENCE_EVENT: _of_presence,
        Op.TYPING_EVENT: _of_member(Op.TYPING_EVENT),
        Op.UNREAD_EVENT: _of_unread,
        Op.SPEAKING: _of_member(Op.SPEAKING),
    }
)

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

from livechat.protocol.events import PresenceBatch, ReadEvent, TypingEvent, UnreadEvent, UserPresence
from livechat.protocol.opcodes import Op
from livechat.protocol.types import ChannelId, UserId
from livechat.protocol.value import value
from livechat.protocol.voice_events import SpeakingEvent


class Delivery(Enum):
    """What may become of a packet that its receiver does not read in time."""

    DURABLE = auto()
    COALESCED = auto()
    DROPPABLE = auto()


@value
class StateMark:
    """Names the state that a coalesced packet tells: a newer one of an equal mark makes an older one needless."""

    op: Op
    channel_id: ChannelId | None = None
    user_id: UserId | None = None


def _of_member(op: Op) -> Callable[[ReadEvent | TypingEvent | SpeakingEvent], StateMark]:
    return lambda event: StateMark(op, event.channel_id, event.user_id)


def _of_unread(event: UnreadEvent) -> StateMark:
    return StateMark(Op.UNREAD_EVENT, event.channel_id)


def _of_presence(event: UserPresence | PresenceBatch) -> StateMark | None:
    if isinstance(event, UserPresence):
        return StateMark(Op.PRESENCE_EVENT, user_id=event.user_id)
    return None


@value
class Rule:
    """How the packets of an opcode are delivered."""

    delivery: Delivery
    state_of: Callable[[Any], StateMark | None] | None = None
    """What the payload of a coalesced one tells the state of. None for presences of many users in one packet: they
    are left whole and in their place, so that no user's newest state is lost with another's."""


RULES: Final[Mapping[int, Rule]] = MappingProxyType(
    {
        Op.READ_EVENT: Rule(Delivery.COALESCED, _of_member(Op.READ_EVENT)),
        Op.PRESENCE_EVENT: Rule(Delivery.COALESCED, _of_presence),
        Op.TYPING_EVENT: Rule(Delivery.COALESCED, _of_member(Op.TYPING_EVENT)),
        Op.UNREAD_EVENT: Rule(Delivery.COALESCED, _of_unread),
        Op.SPEAKING: Rule(Delivery.COALESCED, _of_member(Op.SPEAKING)),
        Op.MEDIA_CHUNK_EVENT: Rule(Delivery.DROPPABLE),
    }
)
"""Of every opcode that is not durable: packets are tagged by it, and it is what the gateway's description says."""


def delivery_of(op: int) -> Delivery:
    """Return the class of an opcode."""
    return RULES[op].delivery if op in RULES else Delivery.DURABLE

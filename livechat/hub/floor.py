"""Owns the floor of push-to-talk channels: who may talk, who waits, and what each of them is told. Pure.

It must not send, find out who is in a channel, or look at a clock: `now` (monotonic seconds) comes in; what is to
be told, in order, and the next deadline come out.

Source: 3GPP TS 24.380, section 6.3.4 (the floor as a whole: "G: Floor Idle", "G: Floor Taken") and section 6.3.5
(as one participant has it: "U: permitted", "U: not permitted and Floor Taken", "U: not permitted and Floor Idle").
As there, requests queue by priority, then by arrival, and a more urgent one takes the floor away. Unlike there, a
revoked floor is gone at once, as the relay cuts the media off: nothing has to be waited for ("U: pending Floor
Revoke"), and the next one may talk.

    the floor   the session   REQUEST   RELEASE   PING   LEAVE     REVOKE
    IDLE        OUTSIDE       GRANT     4001      4001   NOTHING   4001
    TAKEN       HOLDING       CONFIRM   PASS_ON   PONG   PASS_ON   PASS_ON
                WAITING       CONTEND   CANCEL    4001   CANCEL    -
                OUTSIDE       CONTEND   4001      4001   NOTHING   -

A participant is a session: the same user on two devices may have the floor on one and wait on the other. Nobody
waits for an idle floor.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from math import ceil
from typing import Final

import attrs

from livechat.error import FloorNotHeld
from livechat.hub.settings import FloorSettings
from livechat.protocol.types import ChannelId, FloorDenial, FloorIndicator, FloorRevocation, SessionId, UserId
from livechat.protocol.voice_events import (
    FloorDeny,
    FloorEvent,
    FloorGranted,
    FloorIdle,
    FloorPong,
    FloorQueuePosInfo,
    FloorRevoke,
    FloorTaken,
)

RANKS: Final[dict[FloorIndicator, int]] = {"normal": 0, "broadcast": 0, "imminent_peril": 1, "emergency": 2}
"""What counts before any priority: danger."""


class State(Enum):
    """Of the floor."""

    IDLE = auto()
    TAKEN = auto()


class Standing(Enum):
    """Of one session toward the floor."""

    HOLDING = auto()
    WAITING = auto()
    OUTSIDE = auto()


class Event(Enum):
    """What happens to one session."""

    REQUEST = auto()
    RELEASE = auto()
    PING = auto()
    LEAVE = auto()
    """It is in the channel no more, or has lost its connection."""
    REVOKE = auto()
    """The floor is taken away from it."""


class Action(Enum):
    """What comes of it."""

    GRANT = auto()
    """It has the floor."""
    CONFIRM = auto()
    """It has had it already; it is told so again."""
    CONTEND = auto()
    """It takes the floor away from the holder, or waits, or may not even wait."""
    PASS_ON = auto()
    """The first who waits has the floor; nobody has it if nobody waits."""
    CANCEL = auto()
    """It waits no more."""
    PONG = auto()
    """It may go on."""
    NOTHING = auto()


TRANSITIONS: Final[dict[State, dict[Standing, dict[Event, Action]]]] = {
    State.IDLE: {
        Standing.OUTSIDE: {
            Event.REQUEST: Action.GRANT,
            Event.LEAVE: Action.NOTHING,
        },
    },
    State.TAKEN: {
        Standing.HOLDING: {
            Event.REQUEST: Action.CONFIRM,
            Event.RELEASE: Action.PASS_ON,
            Event.PING: Action.PONG,
            Event.LEAVE: Action.PASS_ON,
            Event.REVOKE: Action.PASS_ON,
        },
        Standing.WAITING: {
            Event.REQUEST: Action.CONTEND,
            Event.RELEASE: Action.CANCEL,
            Event.LEAVE: Action.CANCEL,
        },
        Standing.OUTSIDE: {
            Event.REQUEST: Action.CONTEND,
            Event.LEAVE: Action.NOTHING,
        },
    },
}
"""What is not in it is the error 4001."""


@attrs.frozen
class Claim:
    """A session that has the floor or wants it."""

    session_id: SessionId = attrs.field(repr=False)
    user_id: UserId
    priority: int
    indicator: FloorIndicator = "normal"

    @property
    def urgency(self) -> tuple[int, int]:
        """By which claims are compared: an emergency before imminent peril before all else, then the priority."""
        return RANKS[self.indicator], self.priority


@attrs.frozen
class Told:
    """An event, and who is to hear it."""

    event: FloorEvent
    only: SessionId | None = attrs.field(default=None, repr=False)
    """This session; None: all that are subscribed to the channel ..."""
    but: SessionId | None = attrs.field(default=None, repr=False)
    """... except for this one."""


class Floor:
    """The floor of one channel.

    Every method that changes something returns what is to be told, in order. At `next_due` it wants `expire`.
    """

    __slots__ = ("_alive_at", "_granted_at", "_settings", "channel_id", "holder", "waiting")

    def __init__(self, channel_id: ChannelId, settings: FloorSettings) -> None:
        self.channel_id = channel_id
        self.holder: Claim | None = None
        self.waiting: list[Claim] = []
        """The most urgent first, of equally urgent ones the one that has waited longest."""
        self._settings = settings
        self._granted_at = 0.0
        self._alive_at = 0.0
        """When the holder was heard of last."""

    @property
    def state(self) -> State:
        """Whether anybody has it."""
        return State.IDLE if self.holder is None else State.TAKEN

    @property
    def next_due(self) -> float | None:
        """When the holder loses it unless something happens; None while it is idle."""
        return None if self.holder is None else min(self._silent_at, self.over_at)

    @property
    def shortest_s(self) -> float:
        """How long the floor is anybody's at least, unless it is given back or taken away: seconds."""
        return min(self._settings.ping_timeout_ms, self._settings.duration_max_ms) / 1000

    @property
    def held_since(self) -> float:
        """When the holder was granted the floor."""
        return self._granted_at

    @property
    def _silent_at(self) -> float:
        return self._alive_at + self._settings.ping_timeout_ms / 1000

    @property
    def over_at(self) -> float:
        """When the holder loses the floor at the latest."""
        return self._granted_at + self._settings.duration_max_ms / 1000

    def standing(self, session_id: SessionId) -> Standing:
        """Return how a session stands toward the floor."""
        if self.holder is not None and self.holder.session_id == session_id:
            return Standing.HOLDING
        if any(claim.session_id == session_id for claim in self.waiting):
            return Standing.WAITING
        return Standing.OUTSIDE

    # --- what happens to it -------------------------------------------------------------------------

    def request(self, claim: Claim, now: float) -> list[Told]:
        """Let a session have the floor or wait for it; asked again, it keeps its place, or gets a better one."""
        action = self._action(Event.REQUEST, claim.session_id)
        if action is Action.GRANT:
            return self._grant(claim, now)
        if action is Action.CONFIRM:
            return self._confirm(claim, now)
        return self._contend(claim, now)

    def release(self, session_id: SessionId, now: float) -> list[Told]:
        """Let a session give the floor back, or wait no more.

        Raises:
            FloorNotHeld: it does neither have it nor wait for it.
        """
        return self._end(self._action(Event.RELEASE, session_id), session_id, now)

    def ping(self, session_id: SessionId, now: float) -> list[Told]:
        """Note that the holder is still there.

        Raises:
            FloorNotHeld: somebody else has the floor, or nobody.
        """
        self._action(Event.PING, session_id)
        self._alive_at = now
        return [Told(FloorPong(self.channel_id), only=session_id)]

    def leave(self, session_id: SessionId, now: float, cause: FloorRevocation | None = None) -> list[Told]:
        """Note that a session is gone, whatever it has been to the floor.

        Args:
            cause: told to it if it had the floor; None: it knows.
        """
        return self._end(self._action(Event.LEAVE, session_id), session_id, now, cause)

    def leave_all(self, user_id: UserId, now: float) -> list[Told]:
        """Note that all sessions of a user are gone, and know it; none of them gets the floor on the way."""
        # First those that wait, and all of them at once: else one would have it, or a better place, for a moment.
        told = self._cancel({claim.session_id for claim in self.waiting if claim.user_id == user_id})
        if self.holder is not None and self.holder.user_id == user_id:
            told += self._pass_on(now, None)
        return told

    def revoke(self, cause: FloorRevocation, now: float) -> list[Told]:
        """Take the floor away from its holder.

        Raises:
            FloorNotHeld: nobody has it.
        """
        session_id = SessionId("") if self.holder is None else self.holder.session_id
        return self._end(self._action(Event.REVOKE, session_id), session_id, now, cause)

    def expire(self, now: float) -> list[Told]:
        """Take the floor away if its holder's time is up."""
        if self.next_due is None or now < self.next_due:
            return []
        return self.revoke("ping_timeout" if self._silent_at < self.over_at else "max_duration", now)

    def _action(self, event: Event, session_id: SessionId) -> Action:
        state, standing = self.state, self.standing(session_id)
        action = TRANSITIONS[state][standing].get(event)
        if action is None:
            raise FloorNotHeld(
                f"channel_id: {event.name} while the floor is {state.name}, this session {standing.name}"
            )
        return action

    # --- what comes of it ---------------------------------------------------------------------------

    def _end(
        self, action: Action, session_id: SessionId, now: float, cause: FloorRevocation | None = None
    ) -> list[Told]:
        if action is Action.PASS_ON:
            return self._pass_on(now, cause)
        return self._cancel({session_id}) if action is Action.CANCEL else []

    def _grant(self, claim: Claim, now: float) -> list[Told]:
        self.holder = claim
        self._granted_at = self._alive_at = now
        return [
            self._granted(now),
            Told(FloorTaken(self.channel_id, claim.user_id, claim.indicator), but=claim.session_id),
        ]

    def _granted(self, now: float) -> Told:
        assert self.holder is not None
        # At least one: nobody is told of a floor that is over.
        left_ms = max(1, ceil((self.over_at - now) * 1000 - 1e-3))
        return Told(FloorGranted(self.channel_id, self.holder.user_id, left_ms), only=self.holder.session_id)

    def _confirm(self, claim: Claim, now: float) -> list[Told]:
        """Tell the holder again; one that has become more urgent is from now on, but has no more time for it."""
        assert self.holder is not None
        before = self.holder
        if claim.urgency > before.urgency:
            self.holder = claim
        told = [self._granted(now)]
        if self.holder.indicator != before.indicator:
            told.append(
                Told(FloorTaken(self.channel_id, claim.user_id, claim.indicator), but=claim.session_id),
            )
        return told

    def _contend(self, claim: Claim, now: float) -> list[Told]:
        assert self.holder is not None
        places = self._places()
        asked_before = next((each for each in self.waiting if each.session_id == claim.session_id), None)
        if asked_before is not None:
            if claim.urgency <= asked_before.urgency:
                return [self._place(places[claim.session_id], claim.session_id)]
            self.waiting.remove(asked_before)
        if claim.urgency > self.holder.urgency:
            revoked = self._revoked("preempted")
            return [revoked, *self._grant(claim, now), *self._moved(places)]
        return self._wait(claim, places)

    def _wait(self, claim: Claim, places: dict[SessionId, int]) -> list[Told]:
        """Queue a claim where it belongs; a full queue loses its last, which may be this one."""
        most = self._settings.waiting_max
        position = sum(each.urgency >= claim.urgency for each in self.waiting)
        if position >= most:
            return [self._deny(claim, "queue_full" if most else "taken")]
        self.waiting.insert(position, claim)
        dropped = [self._deny(each, "queue_full") for each in self.waiting[most:]]
        del self.waiting[most:]
        places.pop(claim.session_id, None)
        return [*dropped, *self._moved(places)]

    def _pass_on(self, now: float, cause: FloorRevocation | None) -> list[Told]:
        told = [] if cause is None else [self._revoked(cause)]
        if not self.waiting:
            self.holder = None
            return [*told, Told(FloorIdle(self.channel_id))]
        places = self._places()
        return [*told, *self._grant(self.waiting.pop(0), now), *self._moved(places)]

    def _cancel(self, session_ids: set[SessionId]) -> list[Told]:
        places = self._places()
        self.waiting = [claim for claim in self.waiting if claim.session_id not in session_ids]
        return self._moved(places)

    def _revoked(self, cause: FloorRevocation) -> Told:
        assert self.holder is not None
        return Told(FloorRevoke(self.channel_id, cause), only=self.holder.session_id)

    def _deny(self, claim: Claim, reason: FloorDenial) -> Told:
        return Told(FloorDeny(self.channel_id, reason), only=claim.session_id)

    def _places(self) -> dict[SessionId, int]:
        """Return the place of each that waits, from 1."""
        return {claim.session_id: place for place, claim in enumerate(self.waiting, 1)}

    def _moved(self, before: dict[SessionId, int]) -> list[Told]:
        """Tell those that wait elsewhere than before."""
        places = self._places()
        return [self._place(place, who) for who, place in places.items() if before.get(who) != place]

    def _place(self, place: int, session_id: SessionId) -> Told:
        return Told(FloorQueuePosInfo(self.channel_id, place, len(self.waiting)), only=session_id)


class FloorHub:
    """The floors of this node.

    A floor stays here while it is idle until its deadline comes: so a channel has one entry among the deadlines,
    however often its floor changes hands.
    """

    __slots__ = ("_floors", "settings")

    def __init__(self, settings: FloorSettings | None = None) -> None:
        self.settings = settings or FloorSettings()
        self._floors: dict[ChannelId, Floor] = {}

    def __len__(self) -> int:
        return len(self._floors)

    def __iter__(self) -> Iterator[Floor]:
        return iter(self._floors.values())

    def get(self, channel_id: ChannelId) -> Floor | None:
        """Return a channel's floor; None: nobody has it."""
        return self._floors.get(channel_id)

    def holder(self, channel_id: ChannelId) -> Claim | None:
        """Return who has a channel's floor."""
        floor = self._floors.get(channel_id)
        return None if floor is None else floor.holder

    def open(self, channel_id: ChannelId) -> Floor:
        """Keep the floor of a channel that has none here; whoever calls has to see to its deadlines."""
        assert channel_id not in self._floors
        floor = self._floors[channel_id] = Floor(channel_id, self.settings)
        return floor

    def forget(self, channel_id: ChannelId) -> None:
        """Drop the floor of a channel, if there is one."""
        self._floors.pop(channel_id, None)

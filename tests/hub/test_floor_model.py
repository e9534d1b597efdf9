"""The floor as its participants see it: what each is told always adds up to what is so."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from livechat.error import FloorNotHeld
from livechat.hub.floor import RANKS, Claim, Floor, State, Told
from livechat.hub.settings import FloorSettings
from livechat.protocol import voice_events
from livechat.protocol.types import ChannelId, FloorIndicator, SessionId, UserId

SESSIONS = {SessionId(f"sess_{user}{device}"): UserId(user) for user in "abcd" for device in "12"}
WHO = st.sampled_from(sorted(SESSIONS))
WAITING_MAX = 4


@attrs.define
class View:
    """What one client believes, by what it was told."""

    has_floor: bool = False
    place: int | None = None
    talker: UserId | None = None
    """Who has the floor, if somebody else has."""


@attrs.define
class Wish:
    """One that waits, in the model."""

    claim: Claim
    number: int
    """Of its arrival."""

    @property
    def order(self) -> tuple[int, int, int]:
        return -RANKS[self.claim.indicator], -self.claim.priority, self.number


class Channel(RuleBasedStateMachine):
    """A floor, the views of its clients, and a model that knows nothing but the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.floor = Floor(ChannelId("ops"), FloorSettings(waiting_max=WAITING_MAX))
        self.views = {session_id: View() for session_id in SESSIONS}
        self.now = 0.0
        self.holder: Claim | None = None
        self.granted_at = self.pinged_at = 0.0
        self.wishes: list[Wish] = []
        self.arrivals = 0

    # --- what happens -----------------------------------------------------------------------------------

    @rule(
        who=WHO,
        priority=st.integers(0, 3),
        indicator=st.sampled_from(sorted(RANKS)),
    )
    def request(self, who: SessionId, priority: int, indicator: FloorIndicator) -> None:
        claim = Claim(who, SESSIONS[who], priority, indicator)
        self.hear(self.floor.request(claim, self.now))
        if self.holder is None:
            self.grant(claim)
        elif self.holder.session_id == who:
            if claim.urgency > self.holder.urgency:
                self.holder = claim
        elif claim.urgency > self.holder.urgency:
            self.wishes = [wish for wish in self.wishes if wish.claim.session_id != who]
            self.grant(claim)
        else:
            self.wait(claim)

    def wait(self, claim: Claim) -> None:
        earlier = [wish for wish in self.wishes if wish.claim.session_id == claim.session_id]
        if earlier and claim.urgency <= earlier[0].claim.urgency:
            return
        self.wishes = [wish for wish in self.wishes if wish.claim.session_id != claim.session_id]
        self.arrivals += 1
        self.wishes.append(Wish(claim, self.arrivals))
        self.wishes = sorted(self.wishes, key=lambda wish: wish.order)[:WAITING_MAX]

    def grant(self, claim: Claim) -> None:
        self.holder = claim
        self.granted_at = self.pinged_at = self.now

    def pass_on(self) -> None:
        self.holder = None
        if self.wishes:
            self.grant(self.wishes.pop(0).claim)

    @rule(who=WHO)
    def release(self, who: SessionId) -> None:
        self.end(who, lambda: self.floor.release(who, self.now))

    @rule(who=WHO, cause=st.sampled_from(["disconnect", None]))
    def leave(self, who: SessionId, cause: str | None) -> None:
        told = self.floor.leave(who, self.now, "disconnect" if cause else None)
        self.views[who].place = None  # it knows; so it does of the floor, if it has left the channel
        if cause is None:
            self.views[who].has_floor = False
        self.hear(told)
        self.drop(who)

    def end(self, who: SessionId, act: Callable[[], list[Told]]) -> None:
        known = self.holds(who) or any(wish.claim.session_id == who for wish in self.wishes)
        try:
            told = act()
        except FloorNotHeld:
            assert not known
            return
        assert known
        self.views[who].has_floor, self.views[who].place = False, None  # it has said so itself
        self.hear(told)
        self.drop(who)

    def drop(self, who: SessionId) -> None:
        if self.holds(who):
            self.pass_on()
        else:
            self.wishes = [wish for wish in self.wishes if wish.claim.session_id != who]

    def holds(self, who: SessionId) -> bool:
        return self.holder is not None and self.holder.session_id == who

    @rule(user=st.sampled_from("abcd"))
    def remove(self, user: str) -> None:
        mine = [session_id for session_id, owner in SESSIONS.items() if owner == user]
        for session_id in mine:
            self.views[session_id].has_floor, self.views[session_id].place = False, None
        told = self.floor.leave_all(UserId(user), self.now)
        assert not any(each.only in mine for each in told)
        self.hear(told)
        self.wishes = [wish for wish in self.wishes if wish.claim.user_id != user]
        if self.holder is not None and self.holder.user_id == user:
            self.pass_on()

    @rule()
    def revoke(self) -> None:
        try:
            told = self.floor.revoke("admin_revoke", self.now)
        except FloorNotHeld:
            assert self.holder is None
            return
        assert self.holder is not None
        self.hear(told)
        self.pass_on()

    @rule(who=WHO)
    def ping(self, who: SessionId) -> None:
        try:
            self.hear(self.floor.ping(who, self.now))
        except FloorNotHeld:
            assert not self.holds(who)
            return
        assert self.holds(who)
        self.pinged_at = self.now

    @rule(seconds=st.sampled_from([0.5, 2.0, 5.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        is_due = self.holder is not None and (self.now >= self.pinged_at + 6 or self.now >= self.granted_at + 30)
        told = self.floor.expire(self.now)
        self.hear(told)
        assert bool(told) is is_due
        if is_due:
            self.pass_on()

    # --- what clients make of it --------------------------------------------------------------------------

    def hear(self, told: list[Told]) -> None:
        for each in told:
            for session_id, view in self.views.items():
                if each.only in (None, session_id) and each.but != session_id:
                    self.believe(view, each.event)

    @staticmethod
    def believe(view: View, event: voice_events.FloorEvent) -> None:
        match event:
            case voice_events.FloorGranted():
                view.has_floor, view.place, view.talker = True, None, None
            case voice_events.FloorRevoke():
                assert view.has_floor, "revoked from who did not have it"
                view.has_floor = False
            case voice_events.FloorDeny():
                assert not view.has_floor
                view.place = None
            case voice_events.FloorTaken(user_id=user_id):
                assert not view.has_floor, "taken from who has it, unsaid"
                view.talker = user_id
            case voice_events.FloorIdle():
                assert not view.has_floor, "idle for who has it, unsaid"
                assert view.place is None, "idle while somebody waits"
                view.talker = None
            case voice_events.FloorQueuePosInfo(queue_position=place, queue_size=size):
                assert not view.has_floor
                assert 1 <= place <= size <= WAITING_MAX
                view.place = place
            case voice_events.FloorPong():
                assert view.has_floor

    # --- what is always so ----------------------------------------------------------------------------------

    @invariant()
    def the_floor_is_what_the_rules_say(self) -> None:
        assert self.floor.holder == self.holder
        assert self.floor.waiting == [wish.claim for wish in self.wishes]
        assert (self.floor.state is State.IDLE) is (self.holder is None)
        if self.holder is None:
            assert not self.wishes
            assert self.floor.next_due is None

    @invariant()
    def never_two_have_it_and_no_grant_is_lost(self) -> None:
        holding = [session_id for session_id, view in self.views.items() if view.has_floor]
        assert holding == ([] if self.holder is None else [self.holder.session_id])

    @invariant()
    def everybody_knows_who_talks(self) -> None:
        talker = None if self.holder is None else self.holder.user_id
        for session_id, view in self.views.items():
            if not self.holds(session_id):
                assert view.talker == talker

    @invariant()
    def everybody_who_waits_knows_its_place(self) -> None:
        places = {wish.claim.session_id: place for place, wish in enumerate(self.wishes, 1)}
        assert {who: view.place for who, view in self.views.items() if view.place is not None} == places


Channel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestChannel = Channel.TestCase

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import MediaPeer
from livechat.hub.speakers import SpeakerHub
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.protocol.voice_events import SpeakingEvent
from livechat.srtp.profile import SrtpProfile

ROOM = ChannelId("room")


class Told:
    """A hub with peers, what is awaited of it, and what it told."""

    def __init__(self, *users: str, interval_s: float = 1.0) -> None:
        self.media = MediaPeerHub(random.Random(1).randbytes)
        self.media.on_removed = self._removed
        self.hub = SpeakerHub(interval_s)
        self.now = 100.0
        self.awaited: list[tuple[float, MediaPeer]] = []
        self.events: list[SpeakingEvent] = []
        self.peers = [self.join(user) for user in users]

    def join(self, user: str) -> MediaPeer:
        profile = SrtpProfile.AEAD_AES_128_GCM
        return self.media.add(ROOM, UserId(user), SessionId(f"sess_{user}"), profile=profile, now=self.now)

    def note(self, peer: MediaPeer, speaking: bool, level_db: int = -30) -> None:
        self._await(peer, self.hub.note(peer, speaking, level_db, self.now))

    def _removed(self, peer: MediaPeer) -> None:
        self._await(peer, self.hub.end(peer, self.now))

    def _await(self, peer: MediaPeer, due: float | None) -> None:
        if due is not None:
            self.awaited.append((due, peer))

    def run(self, seconds: float = 0.0) -> list[SpeakingEvent]:
        """Let time pass; return what was told in it."""
        self.now += seconds
        before = len(self.events)
        while self.awaited and min(due for due, _ in self.awaited) <= self.now:
            entry = min(self.awaited, key=lambda each: each[0])
            self.awaited.remove(entry)
            event = self.hub.take(entry[1], max(entry[0], self.now))
            if event is not None:
                self.events.append(event)
        return self.events[before:]

    def said(self, seconds: float = 0.0) -> list[tuple[str, bool]]:
        return [(event.user_id, event.speaking) for event in self.run(seconds)]

    @property
    def active(self) -> list[str]:
        return [each.user_id for each in self.hub.active(ROOM)]


def test_a_beginning_and_an_end_are_told_with_ssrc_and_level() -> None:
    told = Told("ann")
    (ann,) = told.peers
    told.note(ann, True, -31)
    assert told.run() == [SpeakingEvent(ROOM, ann.user_id, ann.egress_ssrc, True, -31)]
    told.note(ann, False, -60)
    assert told.run(1) == [SpeakingEvent(ROOM, ann.user_id, ann.egress_ssrc, False, -60)]


def test_within_the_interval_the_newest_waits_and_what_cancels_out_is_not_told() -> None:
    told = Told("ann")
    (ann,) = told.peers
    told.note(ann, True)
    assert told.said() == [("ann", True)]
    told.note(ann, False)
    assert told.said(0.5) == []
    told.note(ann, True)
    assert told.said(10) == []
    for speaking in (False, True, False):
        told.note(ann, speaking)
    assert told.said() == [("ann", False)]
    assert told.awaited == []


def test_users_do_not_wait_for_each_other() -> None:
    told = Told("ann", "bob")
    ann, bob = told.peers
    told.note(ann, True)
    told.run()
    told.note(bob, True)
    assert told.said() == [("bob", True)]


def test_the_last_to_begin_is_listed_first() -> None:
    told = Told("ann", "bob", "cyd")
    ann, bob, cyd = told.peers
    for peer in (ann, bob, cyd):
        told.note(peer, True, -20)
    told.note(ann, False)
    told.note(ann, True, -25)
    assert told.active == ["ann", "cyd", "bob"]
    assert [each.level_db for each in told.hub.active(ROOM)] == [-25, -20, -20]
    assert len(told.hub.active(ROOM, 2)) == 2
    assert told.hub.active(ROOM)[0].ssrc == ann.egress_ssrc
    assert told.hub.active(ChannelId("elsewhere")) == []


def test_a_peer_that_is_gone_speaks_no_more_and_that_is_told_at_once() -> None:
    told = Told("ann", "bob")
    ann, bob = told.peers
    told.note(ann, True)
    told.note(bob, True)
    told.run(0.1)
    told.media.remove(ann)
    assert told.active == ["bob"]
    assert told.said() == [("ann", False)]
    told.note(ann, True)
    assert told.said(10) == []
    assert told.active == ["bob"]


def test_of_who_never_spoke_or_came_and_went_unheard_nothing_is_told_or_kept() -> None:
    told = Told("ann", "bob")
    ann, bob = told.peers
    told.note(bob, True)
    for peer in (ann, bob):
        told.media.remove(peer)
    assert told.said(10) == []
    assert told.active == []
    assert told.hub._voices == {}


def test_the_end_of_what_never_began_is_nothing() -> None:
    told = Told("ann")
    (ann,) = told.peers
    told.note(ann, False, -127)
    assert told.said(10) == []
    assert told.hub._voices == {}


def test_who_takes_a_voice_over_is_told_of_apart() -> None:
    told = Told("ann")
    (old,) = told.peers
    told.note(old, True)
    told.run()
    told.media.remove(old)
    new = told.join("ann")
    told.note(new, True)
    events = told.run()
    assert [(event.ssrc, event.speaking) for event in events] == [
        (old.egress_ssrc, False),
        (new.egress_ssrc, True),
    ]
    assert told.active == ["ann"]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=40))
def test_events_alternate_keep_their_distance_and_end_as_things_are(changes: list[tuple[bool, float]]) -> None:
    told = Told("ann")
    (ann,) = told.peers
    times = []
    for speaking, pause in changes:
        told.note(ann, speaking)
        times += [told.now for _ in told.run(pause)]
    told.run(10)
    states = [event.speaking for event in told.events]
    assert states == [number % 2 == 0 for number in range(len(states))]
    assert bool(states and states[-1]) == bool(changes and changes[-1][0])
    assert told.active == (["ann"] if changes and changes[-1][0] else [])
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))
    assert told.awaited == []

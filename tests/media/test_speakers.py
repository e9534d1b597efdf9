"""Speech and `max_speakers` in a relay, with packets that are protected and opened."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.hub.peer import ChannelRules, ExtensionIds, MediaPeer, NoEvents
from livechat.media.speakers import SCAN_INTERVAL_S
from livechat.protocol.types import ChannelId, UserId
from livechat.rtp import extensions
from livechat.srtp.context import SrtpSender
from tests.support.room import Caller, Room
from tests.support.voice import master_of, rtp_packet

LOUD = 0x80 | 20
QUIET = 80
ONE = ChannelRules(max_speakers=1)


class Recorder(NoEvents):
    """Notes who was said to speak."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.levels: list[int] = []

    def speaking(self, peer: MediaPeer, speaking: bool, level_db: int) -> None:
        self.told.append((peer.user_id, speaking))
        self.levels.append(level_db)


@attrs.define
class Stage:
    """A room of callers, and what its relay tells."""

    room: Room
    callers: list[Caller]
    events: Recorder

    def talk(self, seconds: float, **levels: int | None) -> None:
        """Have callers send packets of 20 ms for a while."""
        for _ in range(round(seconds / 0.02)):
            self.room.now += 0.02
            for caller in self.callers:
                name = str(caller.peer.user_id)
                if name in levels:
                    self.room.speak(caller, name.encode(), level=levels[name])
            self.room.run_due()

    def run_due(self) -> float | None:
        """Have the relay end speech that is over; return when it may be over next, reports aside."""
        return self.room.relay._speakers.run_due(self.room.now, self.events)

    def heard_by(self, caller: Caller) -> set[bytes]:
        """Return whom a caller has heard since it was asked last."""
        heard = set(caller.payloads)
        caller.heard.clear()
        return heard


def stage_of(*users: str, rules: ChannelRules | None = None) -> Stage:
    room = Room()
    events = Recorder()
    room.relay.events = events
    if rules is not None:
        room.set_rules(rules)
        room.rules = rules
    return Stage(room, [room.join(user, stated=True) for user in users], events)


# --- speech ---------------------------------------------------------------------------------------


def test_loud_packets_begin_speech_and_quiet_ones_end_it() -> None:
    stage = stage_of("ann", "bob")
    stage.talk(0.2, ann=LOUD, bob=QUIET)
    assert stage.events.told == [("ann", True)]
    assert stage.events.levels == [-33]
    stage.talk(1, ann=QUIET, bob=QUIET)
    assert stage.events.told == [("ann", True), ("ann", False)]


def test_speech_ends_when_no_packets_come_any_more() -> None:
    stage = stage_of("ann", "bob")
    stage.talk(0.2, ann=LOUD)
    due = stage.run_due()
    assert due is not None
    assert stage.events.told == [("ann", True)]
    stage.room.now += 0.31
    assert stage.run_due() is None
    assert stage.events.told == [("ann", True), ("ann", False)]


def test_while_somebody_speaks_something_is_due_and_not_too_often() -> None:
    stage = stage_of("ann", "bob")
    assert stage.run_due() is None
    for _ in range(50):
        stage.talk(0.02, ann=LOUD)
        due = stage.run_due()
        if stage.events.told:
            assert due is not None
            assert stage.room.now < due <= stage.room.now + 0.3


def test_many_who_end_one_after_the_other_are_not_looked_through_for_each() -> None:
    stage = stage_of("ann", "bob")
    stage.talk(0.2, ann=LOUD, bob=LOUD)
    stage.room.now += 0.01
    stage.room.speak(stage.callers[1], level=LOUD)
    stage.room.now += 0.295
    due = stage.run_due()
    assert stage.events.told[2:] == [("ann", False)]
    assert due == stage.room.now + SCAN_INTERVAL_S
    stage.room.now = due
    assert stage.run_due() is None
    assert stage.events.told[3:] == [("bob", False)]


def test_who_tells_no_levels_is_not_said_to_speak() -> None:
    stage = stage_of("ann", "bob")
    stage.talk(1, ann=None)
    assert stage.events.told == []
    assert stage.run_due() is None


@pytest.mark.parametrize(
    ("payload_type", "takes_place"), [(0, False), (13, True)], ids=["speech", "comfort noise"]
)
def test_comfort_noise_of_who_tells_no_levels_is_silence(payload_type: int, takes_place: bool) -> None:
    stage = stage_of("ann", "bob", "cyd", rules=ONE)
    ann, _, cyd = stage.callers
    stage.talk(0.2, ann=None)
    sender = SrtpSender(ann.peer.profile, ann.peer.client_key)
    for number in range(50):
        stage.room.now += 0.02
        packet = bytearray(rtp_packet(1000 + number, ann.peer.ssrc))
        packet[1] = payload_type
        stage.room.send(sender.protect(bytes(packet)), ann.address)
    stage.heard_by(cyd)
    stage.talk(0.02, bob=None)
    assert stage.heard_by(cyd) == ({b"bob"} if takes_place else set())


def test_without_an_id_for_levels_they_are_not_looked_at() -> None:
    stage = stage_of("ann", "bob")
    stage.callers[0].peer.extensions = ExtensionIds(audio_level=None)
    stage.talk(1, ann=LOUD)
    assert stage.events.told == []


def test_a_forged_level_changes_nothing() -> None:
    stage = stage_of("ann", "bob")
    ann = stage.callers[0]
    forger = SrtpSender(ann.peer.profile, master_of(ann.peer.profile, 99))
    for number in range(50):
        stage.room.now += 0.02
        packet = rtp_packet(number, ann.peer.ssrc, extension=extensions.serialize([(1, bytes([LOUD]))]))
        stage.room.send(forger.protect(packet), ann.address)
    assert stage.events.told == []
    assert stage.room.dropped() == {"authentication": 50}
    assert stage.run_due() is None


def test_an_altered_or_replayed_level_changes_nothing() -> None:
    stage = stage_of("ann", "bob")
    ann = stage.callers[0]
    for _ in range(10):
        stage.room.now += 0.02
        packet = ann.speak(level=QUIET)
        # The level is in clear, at its place in the header; the tag covers it.
        altered = packet[:17] + bytes([LOUD]) + packet[18:]
        assert extensions.audio_level_untrusted(altered, 1) == LOUD
        stage.room.send(altered, ann.address)
        stage.room.send(packet, ann.address)
    loud = ann.speak(level=LOUD)
    for _ in range(10):
        stage.room.send(loud, ann.address)
    assert stage.events.told == []
    assert stage.room.dropped() == {"authentication": 10, "replay": 9}


def test_late_packets_are_forwarded_and_their_levels_not_looked_at() -> None:
    stage = stage_of("ann", "bob")
    ann, bob = stage.callers
    late = [ann.speak(b"late", level=LOUD) for _ in range(5)]
    stage.talk(0.1, ann=QUIET)
    for packet in late:
        stage.room.send(packet, ann.address)
    assert bob.payloads.count(b"late") == 0, "they are older than the leg"
    held = [ann.speak(b"held", level=LOUD) for _ in range(5)]
    stage.talk(0.1, ann=QUIET)
    for packet in held:
        stage.room.send(packet, ann.address)
    assert bob.payloads.count(b"held") == 5
    assert stage.events.told == []


def test_who_left_in_the_middle_of_a_word_is_forgotten() -> None:
    stage = stage_of("ann", "bob")
    stage.talk(0.2, ann=LOUD)
    stage.room.leave(stage.callers.pop(0))
    stage.room.now += 10
    assert stage.run_due() is None
    assert stage.events.told == [("ann", True)]


# --- max_speakers ---------------------------------------------------------------------------------


def test_only_the_loudest_are_forwarded_and_the_others_counted() -> None:
    stage = stage_of("ann", "bob", "cyd", "dan", rules=ChannelRules(max_speakers=2))
    stage.talk(1, ann=0x80 | 25, bob=0x80 | 30, cyd=QUIET, dan=QUIET)
    listener = stage.room.join("eve", stated=True)
    stage.talk(1, ann=0x80 | 25, bob=0x80 | 30, cyd=QUIET, dan=QUIET)
    assert stage.heard_by(listener) == {b"ann", b"bob"}
    assert stage.room.dropped() == {"not_forwarded": 200}
    assert stage.callers[2].peer.packets_forwarded == 0
    assert stage.callers[2].peer.packets_received == 100
    assert stage.events.told == [("ann", True), ("bob", True)]


def test_a_louder_voice_takes_over_and_the_other_is_not_said_to_speak_any_more() -> None:
    stage = stage_of("ann", "bob", "cyd", rules=ONE)
    stage.talk(1, ann=0x80 | 30)
    stage.talk(1, ann=0x80 | 30, bob=0x80 | 15)
    stage.heard_by(stage.callers[2])
    stage.talk(1, ann=0x80 | 30, bob=0x80 | 15)
    assert stage.heard_by(stage.callers[2]) == {b"bob"}
    assert stage.events.told == [("ann", True), ("bob", True), ("ann", False)]


def test_the_limit_can_be_set_changed_and_lifted_while_people_talk() -> None:
    stage = stage_of("ann", "bob", "cyd", "eve")
    eve = stage.callers.pop()
    talk = {"ann": 0x80 | 35, "bob": 0x80 | 20, "cyd": 0x80 | 30}

    def heard() -> set[bytes]:
        stage.heard_by(eve)
        stage.talk(0.1, **talk)
        return stage.heard_by(eve)

    assert heard() == {b"ann", b"bob", b"cyd"}
    stage.room.set_rules(ONE)
    assert heard() == {b"bob"}
    stage.room.set_rules(ChannelRules(max_speakers=2))
    assert len(heard()) == 2
    stage.room.set_rules(ChannelRules(max_speakers=3))
    assert heard() == {b"ann", b"bob", b"cyd"}
    stage.room.set_rules(ONE)
    assert heard() == {b"bob"}
    stage.room.set_rules(ChannelRules())
    assert heard() == {b"ann", b"bob", b"cyd"}


def test_joining_and_leaving_change_nothing_for_who_is_heard() -> None:
    stage = stage_of("ann", "bob", rules=ONE)
    stage.talk(0.5, ann=LOUD, bob=LOUD)
    cyd = stage.room.join("cyd", stated=True)
    stage.talk(0.5, ann=LOUD, bob=LOUD)
    assert stage.heard_by(cyd) == {b"ann"}
    stage.room.leave(stage.callers.pop(0))
    stage.talk(0.1, bob=LOUD)
    assert stage.heard_by(cyd) == {b"bob"}


def test_channels_have_stages_of_their_own() -> None:
    stage = stage_of("ann", "bob", rules=ONE)
    elsewhere = [stage.room.join(user, stated=True, channel=ChannelId("elsewhere")) for user in ("cyd", "dan")]
    stage.talk(0.2, ann=LOUD)
    stage.room.speak(elsewhere[0], b"cyd", level=LOUD)
    assert elsewhere[1].payloads == [b"cyd"]


def test_without_the_floor_nobody_speaks_or_takes_a_place() -> None:
    rules = ChannelRules(max_speakers=1, floor_control=True, floor_holder=UserId("bob"))
    stage = stage_of("ann", "bob", "cyd", rules=rules)
    stage.talk(0.5, ann=LOUD, bob=LOUD)
    assert stage.heard_by(stage.callers[2]) == {b"bob"}
    assert stage.events.told == [("bob", True)]
    stage.room.set_rules(attrs.evolve(rules, floor_holder=None))
    stage.talk(0.1, bob=LOUD)
    assert stage.events.told == [("bob", True), ("bob", False)]


@pytest.mark.parametrize("level", [LOUD, None])
def test_who_lost_the_floor_keeps_no_place_by_talking_on(level: int | None) -> None:
    rules = ChannelRules(max_speakers=1, floor_control=True, floor_holder=UserId("ann"))
    stage = stage_of("ann", "bob", "cyd", rules=rules)
    stage.talk(0.5, ann=level, bob=level)
    assert stage.heard_by(stage.callers[2]) == {b"ann"}
    stage.room.set_rules(attrs.evolve(rules, floor_holder=UserId("bob")))
    stage.talk(0.02, ann=level, bob=level)
    assert stage.heard_by(stage.callers[2]) == {b"bob"}


@pytest.mark.parametrize("silent", [1, 100, 40_000])
def test_who_comes_back_goes_on_without_a_gap(silent: int) -> None:
    """After 2^15 numbers that nobody saw, a receiver would lose count of the rollovers."""
    stage = stage_of("ann", "bob", "cyd", rules=ONE)
    ann, bob, cyd = stage.callers
    stage.talk(0.2, ann=LOUD)
    stage.room.now += 1
    stage.talk(0.4, bob=LOUD)
    ann.sequence += silent - 1
    stage.room.speak(ann, b"unheard", level=QUIET)
    stage.room.now += 1
    stage.talk(0.2, ann=LOUD)
    sequences = [header.sequence for header, payload in cyd.heard if payload == b"ann"]
    assert sequences == list(range(sequences[0], sequences[0] + 20))
    assert b"unheard" not in cyd.payloads
    assert bob.payloads.count(b"ann") == 20


TALK = st.tuples(
    st.sampled_from(["ann", "bob", "cyd"]), st.sampled_from([LOUD, QUIET, 127, None]), st.integers(0, 9)
)


@given(st.lists(st.tuples(TALK, st.sampled_from([0.0, 0.02, 0.4]), st.sampled_from([None, 1, 2])), max_size=60))
def test_whatever_happens_no_index_comes_twice_and_sequences_go_up(
    script: list[tuple[tuple[str, int | None, int], float, int | None]],
) -> None:
    """The ledger of the room fails on a repeated index, libsrtp on a packet that it cannot open."""
    stage = stage_of("ann", "bob", "cyd")
    callers = {str(caller.peer.user_id): caller for caller in stage.callers}
    held: list[tuple[Caller, bytes]] = []
    for (name, level, skip), pause, limit in script:
        stage.room.now += pause
        stage.room.set_rules(ChannelRules(max_speakers=limit))
        caller = callers[name]
        packet = caller.speak(name.encode(), skip=skip if skip > 5 else 0, level=level)
        if skip == 1:
            held.append((caller, packet))
            continue
        stage.room.send(packet, caller.address)
        if skip == 2 and held:
            late_caller, late = held.pop()
            stage.room.send(late, late_caller.address)
    assert set(stage.room.dropped()) <= {"not_forwarded", "older_than_leg"}

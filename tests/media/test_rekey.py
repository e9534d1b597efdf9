"""Keys that change while media flow, in a relay without a socket, heard by libsrtp under a ledger."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pylibsrtp import Error

from livechat.hub.peer import MediaPeer, NoEvents
from livechat.media.legs import FIRST_INDEX_END, FIRST_INDEX_MIN, GO_ON_END, Leg
from livechat.media.rekey import RTCP_INDEX_WORN, RTP_INDEX_WORN, WEAR_LOOK_S
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind, classify
from livechat.srtp.context import RTCP_INDEX_MAX, RTP_INDEX_MAX, SrtpReceiver
from livechat.srtp.error import AuthenticationError
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed
from tests.support.room import CM_80, Caller, Room
from tests.support.voice import PROFILES, sender_report

each_profile = pytest.mark.parametrize("profile", PROFILES)

OVERLAP_S = 10.0


def room_of(*users: str, profile: SrtpProfile = CM_80) -> tuple[Room, list[Caller]]:
    """Return a room whose callers have stated where they hear; the first has spoken once."""
    room = Room()
    callers = [room.join(user, profile=profile, stated=True) for user in users]
    room.speak(callers[0], b"first")
    return room, callers


def leg_of(room: Room, talker: Caller, listener: Caller) -> Leg:
    return room.relay._nodes[talker.peer.peer_id].legs[listener.peer.peer_id]


def put_leg_at(room: Room, talker: Caller, listener: Caller, index: int) -> None:
    """Have the next packet of a leg leave with this index, as if many had before."""
    leg_of(room, talker, listener).offset = index - talker.sequence
    room.relay._nodes[talker.peer.peer_id].plan = None


def gaps(caller: Caller) -> list[int]:
    """Return by how much each sequence number that was heard is above the one before."""
    numbers = [header.sequence for header, _ in caller.heard]
    return [(after - before) & 0xFFFF for before, after in pairwise(numbers)]


# --- what a peer sends ----------------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize("keeps", [False, True])
def test_a_talker_goes_on_under_new_keys_without_a_gap(profile: SrtpProfile, keeps: bool) -> None:
    room, (ann, bob) = room_of("ann", "bob", profile=profile)
    for _ in range(10):
        room.speak(ann, skip=8_000)
    room.speak(ann)
    room.rekey(ann)
    room.speak(ann, b"under the old")
    late = ann.speak(b"late")
    ann.take_keys(rollover=ann.sequence >> 16 if keeps else 0)
    room.speak(ann, b"under the new")
    room.send(late, ann.address)
    room.wait(OVERLAP_S)
    for _ in range(10):
        room.speak(ann, skip=8_000)
    assert bob.payloads[-13:-10] == [b"under the old", b"under the new", b"late"]
    assert gaps(bob)[-13:-10] == [1, 2, 0xFFFF]
    assert len(bob.payloads) == 25
    assert room.dropped() == {}


@pytest.mark.parametrize("restart", [0, 30_000, 65_000])
def test_a_talker_that_begins_anew_is_heard_on(restart: int) -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(ann, skip=20_000)
    room.rekey(ann)
    ann.take_keys()
    ann.sequence = restart
    for _ in range(5):
        room.speak(ann, b"anew")
    assert bob.payloads[-5:] == [b"anew"] * 5


def test_the_old_keys_are_refused_once_the_overlap_is_over() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.rekey(ann)
    ann.is_deaf = True  # what the server reports to it goes under the new keys soon
    room.wait(OVERLAP_S - 0.001)
    room.speak(ann, b"just in time")
    assert bob.payloads[-1] == b"just in time"
    seen = ann.peer.last_seen
    room.wait(0.001)
    assert room.speak(ann, b"too late") == []
    assert room.send(ann.report(), ann.address) == []
    assert room.dropped() == {"authentication": 2}
    assert ann.peer.last_seen == seen
    # The new ones are good whenever they are taken.
    room.wait(3600.0)
    ann.take_keys()
    room.speak(ann, b"at last")
    assert bob.payloads[-1] == b"at last"
    assert ann.peer.keys_taken


def test_old_keys_move_nobody_once_the_new_were_seen() -> None:
    room, (ann, _) = room_of("ann", "bob")
    room.rekey(ann)
    held_back = ann.speak(b"held back")
    thief = ann._sender
    ann.take_keys()
    room.speak(ann)
    room.send(held_back, room.new_address())
    assert ann.peer.address == ann.address
    # Somebody who has got the old keys can neither run ahead with them nor draw the voice away.
    sequence = ann.sequence
    ann._sender, ann.sequence = thief, sequence + 500
    assert room.send(ann.speak(b"stolen"), room.new_address()) == []
    assert ann.peer.address == ann.address
    assert room.dropped() == {"replay": 1}


def test_a_forgery_during_the_change_is_counted_once_and_moves_nothing() -> None:
    room, (ann, _) = room_of("ann", "bob")
    room.rekey(ann)
    for taken in (False, True):
        if taken:
            ann.take_keys()
            room.speak(ann)
        packet = bytearray(ann.speak())
        packet[-1] ^= 1
        before = ann.peer.packets_rejected
        assert room.send(bytes(packet), room.new_address()) == []
        assert ann.peer.packets_rejected == before + 1
        assert room.dropped() == {"authentication": before + 1}
        assert ann.peer.address == ann.address
        assert ann.peer.keys_taken == taken


# --- what a peer hears ----------------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize(
    ("index", "goes_on"),
    [
        (FIRST_INDEX_MIN, True),
        (GO_ON_END - 1, True),
        (5 << 16 | 2_000, True),
        (GO_ON_END, False),
        (3 << 16 | 65_535, False),
        (7 << 16 | 0, False),
        (7 << 16 | FIRST_INDEX_MIN - 1, False),
    ],
)
def test_a_leg_goes_on_at_its_number_where_a_fresh_receiver_may_begin(
    profile: SrtpProfile, index: int, goes_on: bool
) -> None:
    room, (ann, bob) = room_of("ann", "bob", profile=profile)
    # One packet before the switch; its number is all that the test needs of it, bob's receiver is not there yet.
    put_leg_at(room, ann, bob, index - 2)
    before: Sealed = []
    room.relay.datagram(ann.speak(), ann.address, room.now, before)
    bob.heard.clear()
    room.rekey(bob)
    bob.take_keys()
    room.send(bob.report(), bob.address)
    late, next_one = ann.speak(b"late"), ann.speak(b"next")
    room.send(next_one, ann.address)
    room.send(late, ann.address)
    assert bob.payloads == [b"next", b"late"]
    first = bob.heard[0][0].sequence
    if goes_on:
        assert first == index & 0xFFFF
    else:
        assert FIRST_INDEX_MIN <= first < FIRST_INDEX_END
    assert bob.heard[1][0].sequence == first - 1
    for _ in range(5):
        room.speak(ann, skip=16_000)
    assert len(bob.heard) == 7


def test_a_listener_that_says_nothing_is_switched_in_the_middle_of_the_overlap() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.rekey(bob)
    old, bob_too = list(bob._receivers), bob
    bob_too.take_keys()
    for at in range(1, 12):
        room.wait(1.0)
        room.speak(ann, str(at).encode())
        # Whoever has only the old keys hears until then, and not after.
        bob._receivers = old if at < 5 else bob._receivers[:1]
        if at == 4:
            bob.take_keys()
    assert bob.payloads == [b"first", *(str(at).encode() for at in range(1, 12))]
    assert not bob.peer.keys_taken
    assert room.dropped() == {}


def test_a_report_of_a_listener_switches_it_and_reports_reach_it_under_both_keys() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    chunk = rtcp.SdesChunk(ann.peer.ssrc, ((rtcp.SDES_CNAME, b"ann"),))
    for _ in range(3):
        room.send(ann.report(sender_report(ann.peer.ssrc), rtcp.SourceDescription((chunk,))), ann.address)
    room.rekey(bob)
    bob.take_keys()
    old = bob._receivers[1]
    room.send(bob.report(), bob.address)
    bob._receivers = bob._receivers[:1]
    for _ in range(3):
        room.send(ann.report(sender_report(ann.peer.ssrc), rtcp.SourceDescription((chunk,))), ann.address)
        room.speak(ann)
    (packet, _) = room.speak(ann)[0]
    with pytest.raises(Error):
        old.unprotect(packet)
    assert bob.peer.keys_taken


def test_a_leg_of_a_talker_that_is_not_heard_now_goes_on_as_well() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    node = room.relay._nodes[ann.peer.peer_id]
    node.is_forwarded = False
    room.speak(ann, b"mute", skip=40_000)
    room.rekey(bob)
    bob.take_keys()
    room.send(bob.report(), bob.address)
    node.is_forwarded = True
    room.speak(ann, b"heard")
    room.speak(ann, b"again")
    assert bob.payloads == [b"first", b"heard", b"again"]
    assert gaps(bob) == [1, 1]


def test_legs_that_begin_again_together_share_a_header() -> None:
    room, callers = room_of("ann", "bob", "cyd", "dan")
    ann = callers[0]
    for listener in callers[1:]:
        put_leg_at(room, ann, listener, 60_000)
        room.rekey(listener)
        listener.take_keys()
    for listener in callers[1:]:
        room.send(listener.report(), listener.address)
    assert len({leg.offset for leg in room.relay._nodes[ann.peer.peer_id].legs.values()}) == 1


def test_who_leaves_during_a_change_is_forgotten() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.rekey(bob)
    room.leave(bob)
    room.wait(OVERLAP_S)
    assert not room.relay._key_changes._under_way
    assert room.speak(ann) == []


def test_a_change_before_the_last_one_ended_ends_that_one() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.rekey(ann)
    between = Caller(ann.peer, ann.address)
    between.sequence = 100
    room.rekey(ann)
    # Packets under the keys in between do not stand for the newest.
    room.send(between.speak(b"between"), ann.address)
    taken = [ann.peer.keys_taken]
    ann.take_keys()
    ann.sequence = 200
    room.speak(ann, b"newest")
    assert [*taken, ann.peer.keys_taken] == [False, True]
    assert bob.payloads == [b"first", b"between", b"newest"]


# --- whoever has left -----------------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize("rejoins", [False, True])
def test_the_keys_of_who_left_open_nothing_that_is_sent_later(profile: SrtpProfile, rejoins: bool) -> None:
    room, (ann, bob, eve) = room_of("ann", "bob", "eve", profile=profile)
    room.speak(ann)
    assert eve.payloads
    keys = [eve.peer.server_key, eve.peer.client_key]
    room.leave(eve)
    if rejoins:
        room.join("eve", profile=profile, ssrc=eve.peer.ssrc, stated=True)
    later = [packet for _ in range(3) for packet, _ in room.speak(ann)]
    later += [packet for packet, _ in room.send(ann.report(sender_report(ann.peer.ssrc)), ann.address)]
    room.rekey(bob)
    bob.take_keys()
    later += [packet for packet, _ in room.speak(bob)] + [packet for packet, _ in room.speak(ann)]
    assert len(later) >= 5
    for key in keys:
        for packet in later:
            receiver = SrtpReceiver(profile, key)
            opens: Callable[[bytes], bytes] = receiver.unprotect
            if classify(packet) is Kind.RTCP:
                opens = receiver.unprotect_rtcp
            with pytest.raises(AuthenticationError):
                opens(packet)


# --- the lifetime of keys -------------------------------------------------------------------------


class Worn(NoEvents):
    """Notes whose keys are worn."""

    def __init__(self) -> None:
        self.peers: list[MediaPeer] = []

    def keys_worn(self, peer: MediaPeer) -> None:
        self.peers.append(peer)


def look(room: Room) -> list[MediaPeer]:
    """Have the relay look for worn keys; return whose they are."""
    events = room.relay.events = Worn()
    room.wait(WEAR_LOOK_S)
    return list(dict.fromkeys(events.peers))


def test_keys_of_a_listener_are_worn_before_a_leg_ends_and_a_change_lets_it_go_on() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    assert look(room) == []
    node = room.relay._nodes[ann.peer.peer_id]
    # Nobody's receiver can follow there by what it has heard; what leaves is enough.
    for index, worn in ((RTP_INDEX_WORN, []), (RTP_INDEX_WORN + 1, [bob.peer]), (RTP_INDEX_MAX, [bob.peer])):
        put_leg_at(room, ann, bob, index)
        out: Sealed = []
        room.relay.datagram(ann.speak(), ann.address, room.now, out)
        assert len(out) == 1
        assert look(room) == worn
    room.relay.datagram(ann.speak(), ann.address, room.now, out := [])
    assert out == []
    assert room.dropped() == {"key_exhausted": 1}
    room.rekey(bob)
    bob.take_keys()
    room.send(bob.report(), bob.address)
    room.speak(ann, b"goes on")
    assert bob.payloads[-1] == b"goes on"
    room.wait(OVERLAP_S)
    assert look(room) == []
    assert node.receiver.highest(ann.peer.ssrc)[0] == ann.sequence - 1


def test_keys_of_a_listener_are_worn_before_its_srtcp_ends() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    goodbye = (rtcp.ReceiverReport(ann.peer.ssrc), rtcp.Goodbye((ann.peer.ssrc,)))

    def say_goodbye() -> int:
        room.speak(ann)  # without, it would not be told again
        return len(room.send(ann.report(*goodbye), ann.address))

    for index, worn in ((RTCP_INDEX_WORN, []), (RTCP_INDEX_WORN + 1, [bob.peer]), (RTCP_INDEX_MAX, [bob.peer])):
        leg_of(room, ann, bob).rtcp_next = index
        assert say_goodbye() == 1
        assert look(room) == worn
    assert say_goodbye() == 0
    assert room.dropped()["key_exhausted"] >= 1
    room.rekey(bob)
    bob.take_keys()
    room.send(bob.report(), bob.address)
    assert leg_of(room, ann, bob).rtcp_next == 0
    assert say_goodbye() == 1


def test_keys_of_a_talker_are_worn_before_they_end_and_are_refused_past_that() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    windows = room.relay._nodes[ann.peer.peer_id].receiver
    assert isinstance(windows, SrtpReceiver)
    windows._streams[ann.peer.ssrc].highest = RTP_INDEX_WORN
    assert look(room) == []
    windows._streams[ann.peer.ssrc].highest = RTP_INDEX_WORN + 1
    assert look(room) == [ann.peer]
    # 65,535 is followed by 0 of a rollover count that there is not.
    windows._streams[ann.peer.ssrc].highest = RTP_INDEX_MAX
    ann.sequence = 0x10000
    assert room.speak(ann) == []
    assert room.dropped() == {"key_exhausted": 1}
    room.rekey(ann)
    ann.take_keys()
    room.speak(ann, b"goes on")
    assert bob.payloads[-1] == b"goes on"
    room.wait(OVERLAP_S)
    assert look(room) == []


def test_srtcp_of_a_talker_wears_its_keys_too() -> None:
    room, (ann, _) = room_of("ann", "bob")
    ann._sender._rtcp_next[ann.peer.ssrc] = RTCP_INDEX_WORN + 1
    room.send(ann.report(), ann.address)
    assert look(room) == [ann.peer]


# --- at any moment --------------------------------------------------------------------------------


class Life:
    """Callers at 50 packets a second whose keys change at any moment, with late and lost packets on the way up."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.room = Room(seed)
        self.callers = [
            self.room.join(user, profile=self.rng.choice(PROFILES), stated=self.rng.random() < 0.5)
            for user in "abc"
        ]
        for caller in self.callers:
            caller.sequence = self.rng.choice((0, 40_000, 65_000))
            self.room.send(caller.report(), caller.address)
        for caller in self.callers:
            self.room.speak(caller, b"the legs begin")
        for caller in self.callers:
            caller.heard.clear()
        self.updates: list[tuple[float, Caller]] = []
        self.under_way: list[tuple[int, bytes, Caller, bytes]] = []
        self.expected: dict[int, Counter[bytes]] = {caller.peer.peer_id: Counter() for caller in self.callers}
        self.changed_at = {caller.peer.peer_id: 0.0 for caller in self.callers}
        self.changes = 0

    def tick(self, number: int) -> None:
        """Let 20 ms pass."""
        self.room.wait(0.02)
        for caller in self.callers:
            if self.rng.random() < 0.05 and self.room.now > self.changed_at[caller.peer.peer_id] + OVERLAP_S:
                self.room.rekey(caller)
                self.changed_at[caller.peer.peer_id] = self.room.now
                self.updates.append((self.room.now + self.rng.choice((0.0, 0.1, 4.9)), caller))
                self.changes += 1
        for update in [update for update in self.updates if update[0] <= self.room.now]:
            self.updates.remove(update)
            self.take(update[1])
        for caller in self.callers:
            payload = f"{caller.peer.peer_id} {number}".encode()
            packet = caller.speak(payload, skip=self.rng.choice((0, 0, 0, 0, 1)))
            if self.rng.random() < 0.9:
                self.under_way.append((number + self.rng.choice((0, 0, 0, 1, 3)), packet, caller, payload))
            if self.rng.random() < 0.1:
                self.under_way.append((number, caller.report(), caller, b""))
        self.arrive(number)

    def take(self, caller: Caller) -> None:
        """Have a client go over to its new keys, at rollover count 0 or the one that it had."""
        rollover = 0
        if self.rng.random() < 0.5:
            rollover = caller._sender._streams[caller.peer.ssrc].highest + 1 >> 16
        caller.take_keys(rollover=rollover)
        caller.speak()  # lost, and never skipped

    def arrive(self, number: int) -> None:
        arriving = [each for each in self.under_way if each[0] <= number]
        self.under_way = [each for each in self.under_way if each[0] > number]
        self.rng.shuffle(arriving)
        for _, packet, caller, payload in arriving:
            self.room.send(packet, caller.address)
            if payload:
                for other in self.callers:
                    if other is not caller:
                        self.expected[other.peer.peer_id][payload] += 1


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_keys_may_change_at_any_moment_and_nothing_is_lost_or_repeated(seed: int) -> None:
    life = Life(seed)
    for number in range(650):
        life.tick(number)
    life.arrive(1 << 30)
    assert life.changes >= 3
    for caller in life.callers:
        assert Counter(caller.payloads) == life.expected[caller.peer.peer_id]
    assert life.room.dropped() == {}

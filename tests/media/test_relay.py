from __future__ import annotations

import os
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.media.legs import FIRST_INDEX_END, FIRST_INDEX_MIN
from livechat.protocol.types import ChannelId
from livechat.rtp import rtcp
from livechat.srtp.context import RTCP_INDEX_MAX, RTP_INDEX_MAX, SrtpSender
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed, each_packet
from tests.support.room import CHANNEL, CM_80, Caller, Room
from tests.support.voice import PROFILES, receiver_state, rtp_packet, sender_report

each_profile = pytest.mark.parametrize("profile", PROFILES)


def room_of(*users: str, profile: SrtpProfile = CM_80) -> tuple[Room, list[Caller]]:
    """Return a room whose callers have all been heard of once, by a keep-alive."""
    room = Room()
    callers = [room.join(user, profile=profile) for user in users]
    for caller in callers:
        room.send(caller.report(), caller.address)
    return room, callers


# --- who hears what -------------------------------------------------------------------------------


@each_profile
def test_a_packet_reaches_every_other_and_only_them(profile: SrtpProfile) -> None:
    room, (ann, bob, cyd) = room_of("ann", "bob", "cyd", profile=profile)
    stranger = room.join("dan", channel=ChannelId("elsewhere"), stated=True)
    room.speak(ann, b"hello")
    assert (ann.payloads, bob.payloads, cyd.payloads) == ([], [b"hello"], [b"hello"])
    assert stranger.payloads == []
    assert bob.heard[0][0].ssrc == ann.peer.egress_ssrc
    assert ann.peer.packets_forwarded == 2


def test_listeners_may_each_have_another_profile() -> None:
    room = Room()
    ann = room.join("ann", profile=SrtpProfile.AEAD_AES_256_GCM)
    others = [room.join(f"user{number}", profile=profile, stated=True) for number, profile in enumerate(PROFILES)]
    room.speak(ann, b"hello")
    assert [other.payloads for other in others] == [[b"hello"]] * len(PROFILES)


def test_only_ssrc_and_sequence_number_of_the_header_change() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    header = bytes.fromhex("b2ef") + b"SQ" + b"TIME" + ann.peer.ssrc.to_bytes(4, "big")
    tail = b"CSR1CSR2" + bytes.fromhex("bede0001 10ff0000")
    packet = SrtpSender(ann.peer.profile, ann.peer.client_key).protect(header + tail + b"payload\x01")
    room.send(packet, ann.address)
    heard, payload = bob.heard[0]
    serialized = heard.serialize()
    assert serialized[:2] == header[:2]
    assert serialized[4:8] == b"TIME"
    assert serialized[8:12] == ann.peer.egress_ssrc.to_bytes(4, "big")
    assert serialized[12:] == tail
    assert payload == b"payload\x01"


def test_a_listener_without_an_address_gets_nothing_until_it_has_one() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob")
    room.speak(ann, b"lost")
    assert room.dropped() == {"no_address": 1}
    room.send(bob.report(), bob.address)
    room.speak(ann, b"heard")
    assert bob.payloads == [b"heard"]


def test_a_stated_address_gets_packets_before_it_sends_anything() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob", stated=True)
    room.speak(ann, b"hello")
    assert bob.payloads == [b"hello"]
    assert bob.peer.last_seen is None


def test_who_left_is_neither_heard_nor_reached() -> None:
    room, (ann, bob, cyd) = room_of("ann", "bob", "cyd")
    room.speak(ann)
    late = bob.speak()
    room.leave(bob)
    assert room.send(late, bob.address) == []
    assert room.dropped() == {"unknown_ssrc": 1}
    assert [address for _, address in room.speak(ann)] == [cyd.address]
    assert room.relay.statistics()["peers"] == 2


def test_the_keys_of_a_peer_are_relayed_once() -> None:
    room, (ann, _) = room_of("ann", "bob")
    with pytest.raises(AssertionError):
        room.relay.add_peer(ann.peer)
    room.leave(ann)
    with pytest.raises(AssertionError):
        room.relay.add_peer(ann.peer)


# --- sequence numbers -----------------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize("first", [0, 1, 40000, 65535])
def test_a_leg_begins_at_rollover_count_0_within_its_range(profile: SrtpProfile, first: int) -> None:
    room, (ann, bob) = room_of("ann", "bob", profile=profile)
    ann.sequence = first
    room.speak(ann)
    begin = bob.heard[0][0].sequence
    assert FIRST_INDEX_MIN <= begin < FIRST_INDEX_END
    for _ in range(3):
        room.speak(ann, skip=1)
    assert [header.sequence - begin for header, _ in bob.heard] == [0, 2, 4, 6]


@each_profile
def test_a_late_joiner_hears_from_its_first_packet_on(profile: SrtpProfile) -> None:
    room, (ann, bob) = room_of("ann", "bob", profile=profile)
    for _ in range(20):
        room.speak(ann, skip=5000)
    assert ann.sequence > 65536
    late = room.join("late", profile=profile, stated=True)
    room.speak(ann, b"first")
    room.speak(ann, b"second")
    assert late.payloads == [b"first", b"second"]
    assert FIRST_INDEX_MIN <= late.heard[0][0].sequence < FIRST_INDEX_END
    assert bob.payloads[-1] == b"second"


def test_a_late_joiner_hears_after_more_than_65536_packets_one_by_one() -> None:
    room = Room()
    ann = room.join("ann", profile=SrtpProfile.AEAD_AES_128_GCM)
    bob = room.join("bob", profile=SrtpProfile.AEAD_AES_128_GCM, stated=True)
    out: Sealed = []
    for _ in range(66_000):
        room.relay.datagram(ann.speak(), ann.address, room.now, out)
    for packet, _ in each_packet(out):
        bob.hear(packet)
    late = room.join("late", stated=True)
    room.speak(ann, b"hello")
    assert late.payloads == [b"hello"]
    assert len(bob.heard) == 66_001


def test_the_rollover_of_a_leg_is_its_own() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    for _ in range(60):
        room.speak(ann, skip=4000)
    assert len(bob.heard) == 60


def test_listeners_that_begin_together_or_near_share_a_header() -> None:
    room, (ann, bob, cyd) = room_of("ann", "bob", "cyd")
    room.speak(ann)
    near = room.join("near", stated=True)
    room.speak(ann)
    assert bob.heard[-1][0] == cyd.heard[-1][0] == near.heard[-1][0]
    for _ in range(3):
        room.speak(ann, skip=15_000)
    far = room.join("far", stated=True)
    room.speak(ann)
    assert far.heard[-1][0] != bob.heard[-1][0]
    assert bob.heard[-1][0] == near.heard[-1][0]


def test_a_packet_older_than_a_leg_is_not_for_it() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(ann)
    held_back = [ann.speak(b"old") for _ in range(3)]
    room.speak(ann, b"new")
    late = room.join("late", stated=True)
    room.speak(ann, b"newer")
    for packet in held_back:
        room.send(packet, ann.address)
    assert bob.payloads == [b"speech", b"new", b"newer", b"old", b"old", b"old"]
    assert late.payloads == [b"newer"]
    assert room.dropped() == {"older_than_leg": 3}
    room.speak(ann, b"newest")
    assert late.payloads == [b"newer", b"newest"]


def test_a_leg_may_begin_with_a_late_packet() -> None:
    room = Room()
    ann = room.join("ann")
    held_back = ann.speak(b"old")
    room.speak(ann)
    bob = room.join("bob", stated=True)
    room.send(held_back, ann.address)
    room.speak(ann, b"new")
    assert bob.payloads == [b"old", b"new"]


@each_profile
@pytest.mark.parametrize("jump", [32_767, 32_768, 32_769, 60_000])
def test_a_listener_follows_a_jump_of_any_size(profile: SrtpProfile, jump: int) -> None:
    # The leg starts at the end of its range, so that the jump takes it over a rollover.
    room, (ann, bob) = room_of("ann", "bob", profile=profile)
    room.relay._randbelow = lambda end: end - 1
    room.speak(ann, b"zero")
    room.speak(ann, b"one")
    room.speak(ann, b"two", skip=jump - 1)
    room.speak(ann, b"three")
    late = room.join("late", stated=True)
    room.speak(ann, b"four")
    assert bob.payloads == [b"zero", b"one", b"two", b"three", b"four"]
    assert late.payloads == [b"four"]
    # Beyond the reach of a receiver the numbers close up, below it the gap stays to be seen.
    gap = (bob.heard[2][0].sequence - bob.heard[1][0].sequence) & 0xFFFF
    assert gap == (jump if jump < 32_768 else 1)


def test_a_leg_ends_before_its_index_would_wrap() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(ann)
    (leg,) = room.relay._nodes[ann.peer.peer_id].legs.values()
    leg.offset = RTP_INDEX_MAX - ann.sequence
    room.relay._forget_plans(bob.peer)
    # The very last index is far from what bob's receiver expects, so do not have it opened.
    out: Sealed = []
    room.relay.datagram(ann.speak(), ann.address, room.now, out)
    assert len(out) == 1
    room.relay.datagram(ann.speak(), ann.address, room.now, out)
    assert len(out) == 1
    assert room.dropped() == {"key_exhausted": 1}


# --- addresses ------------------------------------------------------------------------------------


def test_the_newest_authentic_packet_decides_where_a_peer_is() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(bob)
    room.speak(ann)
    before = bob.heard[-1][0].sequence
    bob.address = room.new_address()
    room.speak(bob)
    assert bob.peer.address == bob.address
    out = room.speak(ann)
    assert [address for _, address in out] == [bob.address]
    # The leg goes on where it was: the key is the same, so must be the offset.
    assert bob.heard[-1][0].sequence == before + 1


def test_a_forged_packet_moves_nothing() -> None:
    room, (ann, _) = room_of("ann", "bob")
    room.speak(ann)
    ann.peer.last_seen = 5.0
    before = receiver_state(room.relay._nodes[ann.peer.peer_id].receiver)
    forger = SrtpSender(ann.peer.profile, bytes(30))
    forger._rtcp_next[ann.peer.ssrc] = 50
    room.send(forger.protect(rtp_packet(9, ann.peer.ssrc)), room.new_address())
    room.send(forger.protect_rtcp(rtcp.serialize(sender_report(ann.peer.ssrc))), room.new_address())
    assert ann.peer.address == ann.address
    assert ann.peer.last_seen == 5.0
    assert ann.peer.packets_rejected == 2
    assert receiver_state(room.relay._nodes[ann.peer.peer_id].receiver) == before
    assert room.dropped() == {"authentication": 2}


def test_a_replayed_packet_moves_nothing() -> None:
    room, (ann, _) = room_of("ann", "bob")
    packet = ann.speak()
    room.send(packet, ann.address)
    ann.peer.last_seen = 5.0
    assert room.send(packet, room.new_address()) == []
    assert ann.peer.address == ann.address
    assert ann.peer.last_seen == 5.0
    assert room.dropped() == {"replay": 1}


def test_an_authentic_packet_that_is_not_the_newest_is_heard_but_moves_nothing() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(ann, b"first")
    held_back = ann.speak(b"old")
    room.speak(ann, b"new")
    room.send(held_back, room.new_address())
    assert ann.peer.address == ann.address
    assert bob.payloads == [b"first", b"new", b"old"]


def test_srtcp_places_a_peer_only_until_its_first_srtp() -> None:
    room = Room()
    ann = room.join("ann")
    first, second = room.new_address(), room.new_address()
    room.send(ann.report(), first)
    assert ann.peer.address == first
    held_back = ann.report()
    room.send(ann.report(), second)
    room.send(held_back, first)
    assert ann.peer.address == second
    room.speak(ann)
    assert ann.peer.address == ann.address
    room.send(ann.report(), first)
    assert ann.peer.address == ann.address
    assert room.dropped() == {}


def test_a_stated_address_gives_way_to_where_packets_come_from() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob", stated=True)
    room.speak(ann, b"to the stated one")
    assert room.hub.expires_at(bob.peer) is None
    bob.address = room.new_address()
    room.send(bob.report(), bob.address)
    assert bob.peer.address == bob.address
    assert room.hub.expires_at(bob.peer) == room.now + 30.0
    room.speak(ann, b"to the real one")
    assert bob.payloads == [b"to the stated one", b"to the real one"]


def test_only_authentic_packets_are_a_sign_of_life() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.now += 7.0
    room.speak(ann)
    assert ann.peer.last_seen == room.now
    assert bob.peer.last_seen == room.now - 7.0
    room.send(bob.report(), bob.address)
    assert bob.peer.last_seen == room.now
    assert bob.peer.packets_received == 2


# --- RTCP -----------------------------------------------------------------------------------------


def test_a_goodbye_is_passed_on_and_the_peer_stays() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    packets = (rtcp.ReceiverReport(ann.peer.ssrc), rtcp.Goodbye((ann.peer.ssrc, 77), b"bye"))
    room.send(ann.report(*packets), ann.address)
    ssrc = ann.peer.egress_ssrc
    assert bob.reports == [[rtcp.ReceiverReport(ssrc), rtcp.Goodbye((ssrc,), b"bye")]]
    room.speak(ann)
    assert bob.payloads == [b"speech"]


def test_authentic_rtcp_that_does_not_parse_is_counted() -> None:
    room, (ann, _) = room_of("ann", "bob")
    sender = SrtpSender(ann.peer.profile, ann.peer.client_key)
    sender._rtcp_next[ann.peer.ssrc] = 100
    broken = bytes.fromhex("80c80001") + ann.peer.ssrc.to_bytes(4, "big")
    assert room.send(sender.protect_rtcp(broken), ann.address) == []
    assert room.dropped() == {"malformed": 1}


@pytest.mark.parametrize("hub_first", [False, True])
@each_profile
def test_who_leaves_says_goodbye_to_everyone_with_an_address(profile: SrtpProfile, hub_first: bool) -> None:
    room, (ann, bob, cyd) = room_of("ann", "bob", "cyd", profile=profile)
    room.join("mute", profile=profile)
    room.speak(ann)
    room.speak(bob)
    out = room.leave(ann, hub_first=hub_first)
    ssrc = ann.peer.egress_ssrc
    assert [address for _, address in out] == [bob.address, cyd.address]
    assert bob.reports == cyd.reports == [[rtcp.ReceiverReport(ssrc), rtcp.Goodbye((ssrc,))]]
    assert room.relay._nodes[bob.peer.peer_id].legs.keys().isdisjoint({ann.peer.peer_id})


def test_only_those_whom_it_reached_hear_who_leaves() -> None:
    room = Room()
    crowd = [room.join(f"u{number}", stated=True) for number in range(6)]
    talker, reporter, mute, *_ = crowd
    room.speak(talker)
    block = rtcp.ReportBlock(ssrc=talker.peer.egress_ssrc)
    room.report(reporter, rtcp.ReceiverReport(reporter.peer.ssrc, (block,)))
    assert room.leave(mute) == []
    assert [address for _, address in room.leave(reporter)] == [talker.address]
    assert len(room.leave(talker)) == 3
    assert room.leave(crowd[3]) == []


def test_srtcp_of_a_leg_ends_before_its_index_would_wrap() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    report = sender_report(ann.peer.ssrc)
    room.send(ann.report(report), ann.address)
    room.relay._nodes[ann.peer.peer_id].legs[bob.peer.peer_id].rtcp_next = RTCP_INDEX_MAX
    room.send(ann.report(report), ann.address)
    assert room.send(ann.report(report), ann.address) == []
    assert len(bob.reports) == 2
    # Its block speaks of nobody here.
    assert room.dropped() == {"key_exhausted": 1, "feedback_unheard": 3}


# --- what does not belong here --------------------------------------------------------------------


def test_every_kind_of_junk_is_counted_by_its_reason() -> None:
    room, (ann, _) = room_of("ann", "bob")
    ssrc = ann.peer.ssrc.to_bytes(4, "big")
    junk = [
        b"",
        bytes.fromhex("000100002112a442") + bytes(12),
        bytes.fromhex("16fefd") + bytes(20),
        bytes.fromhex("40000000") + bytes(20),
        b"\xff" * 30,
        b"\x80",
        b"\x80\x00" + bytes(9),
        b"\x80\xc9\x00\x01",
        b"\x80\x00" + bytes(6) + b"none" + bytes(20),
        b"\x80\xc9\x00\x01" + b"none" + bytes(20),
        b"\x80\x00" + bytes(6) + ssrc + bytes(9),
        b"\x9f\x00" + bytes(6) + ssrc + b"\xff" * 90,
        b"\x80\x00" + bytes(6) + ssrc + bytes(10),
        b"\x80\xc9\x00\x01" + ssrc + bytes(13),
    ]
    for datagram in junk:
        assert room.send(datagram, room.new_address()) == []
    assert room.dropped() == {
        "too_short": 4,
        "stun": 1,
        "dtls": 1,
        "unknown_first_byte": 2,
        "unknown_ssrc": 2,
        "malformed": 3,
        "authentication": 1,
    }
    assert room.relay.statistics()["received"] == len(junk) + 2


@given(st.binary(max_size=120))
def test_hostile_bytes_raise_nothing_and_cause_nothing(data: bytes) -> None:
    room, (ann, _) = room_of("ann", "bob")
    ssrc = ann.peer.ssrc.to_bytes(4, "big")
    for hostile in (data, b"\x90" + data[:7] + ssrc + data, b"\x80\xc8" + data[:2] + ssrc + data):
        assert room.send(hostile, room.new_address()) == []
    assert ann.peer.address == ann.address


def test_a_flood_of_made_up_ssrcs_leaves_nothing_behind() -> None:
    room, (ann, _) = room_of("ann", "bob")
    rng = random.Random(5)
    flood = [bytes([0x80, rng.choice((0, 200))]) + rng.randbytes(60) for _ in range(10_000)]
    source = room.new_address()
    room.send(flood[0], source)
    tracemalloc.start()
    try:
        before = tracemalloc.take_snapshot()
        for datagram in flood:
            room.relay.datagram(datagram, source, room.now, [])
        growth = tracemalloc.take_snapshot().compare_to(before, "filename")
    finally:
        tracemalloc.stop()
    ours = [each for each in growth if f"{os.sep}livechat{os.sep}" in each.traceback[0].filename]
    # A few counters grew past the small integers; ten thousand streams would be megabytes.
    assert sum(each.size_diff for each in ours) < 4096
    assert room.dropped() == {"unknown_ssrc": 10_001}
    assert receiver_state(room.relay._nodes[ann.peer.peer_id].receiver) == [{}, {ann.peer.ssrc: (0, 1)}]


def test_a_room_is_forgotten_with_its_last_voice() -> None:
    room, (ann, bob) = room_of("ann", "bob")
    room.speak(ann)
    room.leave(ann)
    room.leave(bob)
    assert room.relay.statistics()["peers"] == 0
    assert not room.relay._nodes
    assert not room.relay._by_ssrc
    assert not list(room.hub.peers_of(CHANNEL))

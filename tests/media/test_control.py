"""RTCP between the peers of a room: who is told what, and in whose terms."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.hub.peer import ChannelRules
from livechat.media.control import KEY_FRAMES_PER_S, OWN_REPORTS_PER_S, REPORTS_PER_S
from livechat.protocol.types import ChannelId, UserId
from livechat.rtp import rtcp
from livechat.rtp.feedback import (
    AnyPacket,
    BandwidthEstimate,
    FeedbackPacket,
    FullIntraRequest,
    Nack,
    PictureLoss,
    TransportWideFeedback,
)
from livechat.srtp.profile import SrtpProfile
from tests.rtp.test_feedback import FEEDBACK
from tests.rtp.test_rtcp import PACKETS
from tests.support.room import CHANNEL, CM_80, Caller, Room
from tests.support.voice import PROFILES, rtp_packet, sender_report

each_profile = pytest.mark.parametrize("profile", PROFILES)

NTP = 0x0123_4567_89AB_CDEF
LAST_SR = 0x4567_89AB


def talking_room(*users: str, profile: SrtpProfile = CM_80) -> tuple[Room, list[Caller]]:
    """Return a room in which the first talks, under another ssrc than its own, and the others have heard it."""
    room = Room()
    before = room.join(users[0], profile=profile)
    callers = [room.join(user, profile=profile, stated=True) for user in users[1:]]
    room.leave(before)
    talker = room.join(users[0], profile=profile, ssrc=before.peer.ssrc)
    assert talker.peer.egress_ssrc != talker.peer.ssrc
    room.speak(talker)
    for caller in callers:
        caller.take_reports()  # the goodbye
    return room, [talker, *callers]


def report_on(talker: Caller, **fields: int) -> rtcp.ReportBlock:
    return rtcp.ReportBlock(ssrc=talker.peer.egress_ssrc, **fields)


def receiver_report(listener: Caller, *blocks: rtcp.ReportBlock) -> rtcp.ReceiverReport:
    return rtcp.ReceiverReport(listener.peer.ssrc, blocks)


def cname(caller: Caller, name: bytes = b"me") -> rtcp.SourceDescription:
    return rtcp.SourceDescription((rtcp.SdesChunk(caller.peer.ssrc, ((rtcp.SDES_CNAME, name),)),))


# --- to the listeners -----------------------------------------------------------------------------


@each_profile
def test_a_sender_report_is_heard_under_the_egress_ssrc_with_the_counts_of_the_leg(profile: SrtpProfile) -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd", profile=profile)
    for _ in range(3):
        room.speak(ann, b"12345")
    late = room.join("late", profile=profile, stated=True)
    room.speak(ann, b"123")
    room.report(ann, sender_report(ann.peer.ssrc, packet_count=99), cname(ann))
    ssrc = ann.peer.egress_ssrc
    named = rtcp.SourceDescription((rtcp.SdesChunk(ssrc, ((rtcp.SDES_CNAME, b"me"),)),))
    whole = [rtcp.SenderReport(ssrc, NTP, 160, 5, len(b"speech") + 18), named]
    assert bob.reports == cyd.reports == [whole]
    assert late.reports == [[rtcp.SenderReport(ssrc, NTP, 160, 1, 3), named]]
    assert ann.reports == []


def test_a_leg_counts_what_was_sent_on_it() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    held_back = ann.speak(b"old")
    room.speak(ann, b"new")
    late, mute = room.join("late", stated=True), room.join("mute")
    room.speak(ann, b"newer")
    room.send(held_back, ann.address)
    room.report(ann, sender_report(ann.peer.ssrc))
    (told,), (told_late,) = bob.reports[0], late.reports[0]
    assert isinstance(told, rtcp.SenderReport)
    assert isinstance(told_late, rtcp.SenderReport)
    assert (told.packet_count, told.octet_count) == (4, len(b"speecholdnewnewer"))
    assert (told_late.packet_count, told_late.octet_count) == (1, len(b"newer"))
    assert mute.reports == []


def test_a_sender_report_before_the_first_packet_counts_nothing() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob", stated=True)
    room.report(ann, sender_report(ann.peer.ssrc))
    assert bob.reports == [[rtcp.SenderReport(ann.peer.egress_ssrc, NTP, 160, 0, 0)]]


def test_a_sender_report_on_what_nobody_hears_is_not_passed_on() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    room.relay.set_rules(CHANNEL, ChannelRules(floor_control=True, floor_holder=UserId("bob")))
    room.report(ann, sender_report(ann.peer.ssrc))
    assert bob.reports == []
    assert room.dropped()["not_forwarded"] == 1
    room.relay.set_rules(CHANNEL, ChannelRules(floor_control=True, floor_holder=UserId("ann")))
    room.report(ann, sender_report(ann.peer.ssrc))
    assert len(bob.reports) == 1


def test_nothing_gets_past_the_floor_as_rtcp() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    room.relay.set_rules(CHANNEL, ChannelRules(floor_control=True, floor_holder=UserId("bob")))
    for text in (b"one", b"two"):
        room.report(ann, receiver_report(ann), cname(ann, text), rtcp.Goodbye((ann.peer.ssrc,), text))
    assert bob.reports == []


def test_a_goodbye_is_not_told_again_before_something_was_heard() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    ssrc = ann.peer.egress_ssrc
    said = [rtcp.ReceiverReport(ssrc), rtcp.Goodbye((ssrc,))]
    for _ in range(3):
        room.report(ann, receiver_report(ann), rtcp.Goodbye((ann.peer.ssrc,)))
    assert bob.reports == [said]
    room.speak(ann)
    room.report(ann, receiver_report(ann), rtcp.Goodbye((ann.peer.ssrc,)))
    assert bob.reports == [said, said]


def test_a_description_without_a_sender_report_is_told_when_it_is_new() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    for name in (b"one", b"one", b"two"):
        room.report(ann, receiver_report(ann), cname(ann, name))
    ssrc = ann.peer.egress_ssrc
    assert bob.reports == [
        [rtcp.ReceiverReport(ssrc), rtcp.SourceDescription((rtcp.SdesChunk(ssrc, ((rtcp.SDES_CNAME, name),)),))]
        for name in (b"one", b"two")
    ]
    # With a sender report it is repeated: who joined later needs it.
    room.report(ann, sender_report(ann.peer.ssrc), cname(ann, b"two"))
    assert len(bob.reports[-1]) == 2


def test_the_name_of_a_mere_listener_goes_only_to_whom_it_reports_on() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    room.report(bob, receiver_report(bob), cname(bob))
    assert ann.reports == []
    room.report(bob, receiver_report(bob, report_on(ann)), cname(bob))
    ours = bob.peer.egress_ssrc
    assert ann.reports[0][1] == rtcp.SourceDescription((rtcp.SdesChunk(ours, ((rtcp.SDES_CNAME, b"me"),)),))
    assert cyd.reports == []
    # A crowd of listeners makes no leg for each pair of them.
    assert room.relay._nodes[bob.peer.peer_id].legs.keys() == {ann.peer.peer_id}


# --- report blocks --------------------------------------------------------------------------------


@each_profile
def test_a_report_block_reaches_its_publisher_in_its_own_terms(profile: SrtpProfile) -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd", profile=profile)
    sent = ann.sequence - 1
    heard = bob.heard[-1][0].sequence
    block = report_on(
        ann,
        fraction_lost=64,
        cumulative_lost=3,
        highest_sequence=heard,
        jitter=480,
        last_sr=LAST_SR,
        delay_since_last_sr=65536,
    )
    room.report(bob, receiver_report(bob, block))
    expected = attrs.evolve(block, ssrc=ann.peer.ssrc, highest_sequence=sent)
    assert ann.reports == [[rtcp.ReceiverReport(bob.peer.egress_ssrc, (expected,))]]
    assert cyd.reports == []
    assert room.relay.statistics()["rtcp_reports_translated"] == 1


def test_the_cycles_of_a_report_are_those_of_the_publisher() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    for _ in range(8):
        room.speak(ann, skip=10_000)
    wraps = [header.sequence for header, _ in bob.heard]
    highest = wraps[-1] + 65_536 * sum(after < before for before, after in pairwise(wraps))
    room.report(bob, receiver_report(bob, report_on(ann, highest_sequence=highest)))
    (report,) = ann.reports[0]
    assert isinstance(report, rtcp.ReceiverReport)
    assert report.reports[0].highest_sequence == ann.sequence - 1 > 65_536


def test_a_talkers_own_report_carries_blocks_too() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    room.speak(bob)
    room.report(bob, attrs.evolve(sender_report(bob.peer.ssrc), reports=(report_on(ann, jitter=5),)))
    to_ann: list[AnyPacket] = [packet for compound in ann.reports for packet in compound]
    assert [type(packet) for packet in to_ann] == [rtcp.SenderReport, rtcp.ReceiverReport]
    assert to_ann[0] == rtcp.SenderReport(bob.peer.egress_ssrc, NTP, 160, 1, 6)


def test_reports_on_those_who_are_not_heard_are_dropped() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    stranger = room.join("dan", channel=ChannelId("elsewhere"), stated=True)
    ear = room.join("eve", channel=ChannelId("elsewhere"), stated=True)
    room.speak(stranger)
    assert ear.payloads == [b"speech"]
    unheard = [
        ann.peer.ssrc,  # not what it is heard as
        bob.peer.egress_ssrc,  # itself
        cyd.peer.egress_ssrc,  # never said a word
        stranger.peer.egress_ssrc,  # of another channel
        bob.peer.reporter_ssrc,
    ]
    room.report(bob, receiver_report(bob, *map(rtcp.ReportBlock, unheard)))
    assert room.dropped() == {"feedback_unheard": 5}
    for each in (ann, cyd, stranger):
        assert each.reports == []
    assert bob.peer.quality.jitter_down_ms is None
    room.leave(ann)
    room.report(bob, receiver_report(bob, report_on(ann)))
    assert room.dropped() == {"feedback_unheard": 6}


def test_a_publisher_does_not_drown_in_reports() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    blocks = [report_on(ann)] * 31
    for _ in range(2):
        room.report(bob, receiver_report(bob, *blocks))
    assert len(ann.reports) == REPORTS_PER_S
    assert room.dropped() == {"reports_over_budget": 62 - REPORTS_PER_S}
    room.now += 1.0
    room.report(bob, receiver_report(bob, *blocks))
    assert len(ann.reports) == 2 * REPORTS_PER_S


def test_listeners_do_not_drown_in_what_one_says_of_itself() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    said = (sender_report(ann.peer.ssrc),)
    for _ in range(OWN_REPORTS_PER_S + 5):
        room.report(ann, *said)
    assert len(bob.reports) == OWN_REPORTS_PER_S
    assert room.dropped()["reports_over_budget"] == 5
    room.now += 1.0
    room.report(ann, *said)
    assert len(bob.reports) == OWN_REPORTS_PER_S + 1


def test_a_publisher_without_an_address_is_told_nothing() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    ann.peer.address = None
    room.report(bob, receiver_report(bob, report_on(ann)), PictureLoss(bob.peer.ssrc, ann.peer.egress_ssrc))
    assert room.dropped() == {"no_address": 2}
    assert room.relay.statistics()["rtcp_reports_translated"] == 0


# --- quality --------------------------------------------------------------------------------------


def test_a_listeners_reports_say_how_it_hears() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    room.speak(cyd)
    first = report_on(ann, fraction_lost=64, cumulative_lost=3, jitter=80)
    second = report_on(cyd, fraction_lost=128, cumulative_lost=4, jitter=160)
    room.report(bob, receiver_report(bob, first, second))
    quality = bob.peer.quality
    assert (quality.packets_lost_down, quality.fraction_lost_down) == (7, 0.5)
    # The test's packets are G.711 (payload type 0), with a clock of 8 kHz.
    assert quality.jitter_down_ms == 20.0
    room.report(bob, receiver_report(bob, attrs.evolve(first, cumulative_lost=5, fraction_lost=0)))
    assert (quality.packets_lost_down, quality.fraction_lost_down) == (9, 0.0)
    # Late ones are found again; what was lost in all never becomes less.
    room.report(bob, receiver_report(bob, attrs.evolve(first, cumulative_lost=-1)))
    assert quality.packets_lost_down == 9


def test_the_round_trip_is_measured_by_the_sender_report_that_went_on() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    room.report(bob, receiver_report(bob, report_on(ann, last_sr=LAST_SR)))
    assert bob.peer.quality.rtt_ms is None  # there was none yet
    room.report(ann, sender_report(ann.peer.ssrc))
    room.now += 2.04
    room.report(bob, receiver_report(bob, report_on(ann, last_sr=LAST_SR, delay_since_last_sr=2 * 65536)))
    assert bob.peer.quality.rtt_ms == pytest.approx(40)
    for last_sr, delay in ((LAST_SR + 1, 0), (LAST_SR, 3 * 65536), (0, 0)):
        room.report(bob, receiver_report(bob, report_on(ann, last_sr=last_sr, delay_since_last_sr=delay)))
    assert bob.peer.quality.rtt_ms == pytest.approx(40)


def test_one_sender_report_of_many_is_found_again() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    for number in range(20):
        room.report(ann, attrs.evolve(sender_report(ann.peer.ssrc), ntp_timestamp=(100 + number) << 16))
        room.now += 1.0
    room.report(bob, receiver_report(bob, report_on(ann, last_sr=118)))
    assert bob.peer.quality.rtt_ms == pytest.approx(2000)
    room.report(bob, receiver_report(bob, report_on(ann, last_sr=100)))
    assert bob.peer.quality.rtt_ms == pytest.approx(2000)


# --- key frames -----------------------------------------------------------------------------------


@each_profile
def test_a_request_for_a_key_frame_reaches_its_publisher(profile: SrtpProfile) -> None:
    room, (ann, bob) = talking_room("ann", "bob", profile=profile)
    room.report(bob, receiver_report(bob), PictureLoss(bob.peer.ssrc, ann.peer.egress_ssrc))
    ours = bob.peer.egress_ssrc
    assert ann.reports == [[rtcp.ReceiverReport(ours), PictureLoss(ours, ann.peer.ssrc)]]


def test_a_command_keeps_its_number_and_goes_to_each_that_it_names() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    room.speak(cyd)
    requests = ((ann.peer.egress_ssrc, 7), (cyd.peer.egress_ssrc, 250))
    room.report(bob, FullIntraRequest(bob.peer.ssrc, requests))
    ours = bob.peer.egress_ssrc
    assert ann.reports[-1][1] == FullIntraRequest(ours, ((ann.peer.ssrc, 7),))
    assert cyd.reports[-1][1] == FullIntraRequest(ours, ((cyd.peer.ssrc, 250),))


def test_a_publisher_is_asked_for_one_key_frame_in_half_a_second() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    room.speak(cyd)
    target = ann.peer.egress_ssrc

    def ask_all() -> None:
        for listener in (bob, cyd):
            room.report(listener, PictureLoss(listener.peer.ssrc, target))
            room.report(listener, FullIntraRequest(listener.peer.ssrc, ((target, 1),)))

    ask_all()
    room.now += 0.499
    ask_all()
    assert len(ann.reports) == 1
    assert room.dropped() == {"key_frame_held_back": 7}
    room.now += 0.001
    ask_all()
    assert len(ann.reports) == 2
    # The other publisher is asked by itself.
    room.report(bob, PictureLoss(bob.peer.ssrc, cyd.peer.egress_ssrc))
    assert len(cyd.reports) == 1
    statistics = room.relay.statistics()
    assert statistics["key_frame_requests"] == 13
    assert statistics["key_frame_requests_forwarded"] == 3
    assert KEY_FRAMES_PER_S == 2


def test_nobody_else_is_asked_for_key_frames() -> None:
    room, (ann, bob, cyd) = talking_room("ann", "bob", "cyd")
    for ssrc in (0, ann.peer.ssrc, bob.peer.egress_ssrc, cyd.peer.egress_ssrc):
        room.report(bob, PictureLoss(bob.peer.ssrc, ssrc), FullIntraRequest(bob.peer.ssrc, ((ssrc, 1),)))
    assert room.dropped() == {"feedback_unheard": 8}
    assert ann.reports == cyd.reports == []


# --- what ends here -------------------------------------------------------------------------------


def test_what_speaks_of_the_way_to_the_server_ends_at_the_server() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    ours, theirs = bob.peer.ssrc, ann.peer.egress_ssrc
    packets: list[FeedbackPacket] = [
        TransportWideFeedback(ours, theirs, 1, 1, 1, 1, bytes(4)),
        BandwidthEstimate(ours, 2, 250_000, (theirs,)),
    ]
    assert room.report(bob, receiver_report(bob), *packets) == []
    assert room.relay.statistics()["rtcp_terminated"] == 2
    assert room.dropped() == {}
    assert room.relay.statistics()["keepalive"] == 1


def test_types_that_are_not_known_are_counted_and_the_rest_is_heard() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    ssrc = bob.peer.ssrc.to_bytes(4, "big")
    unknown = [
        bytes.fromhex("80cf0001") + ssrc,  # XR
        bytes.fromhex("80cc0002") + ssrc + b"name",  # APP
        bytes.fromhex("82cd0002") + ssrc + ann.peer.egress_ssrc.to_bytes(4, "big"),  # TMMBR's number is 3
    ]
    request = rtcp.serialize(receiver_report(bob, report_on(ann)))
    room.send(bob._sender.protect_rtcp(b"".join(unknown) + request), bob.address)
    assert room.dropped() == {"rtcp_unknown": 3}
    assert len(ann.reports) == 1


def test_a_datagram_with_one_malformed_part_does_nothing() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    good = rtcp.serialize(receiver_report(bob, report_on(ann, jitter=8)))
    bad = bytes.fromhex("81cd0002") + bytes(8)
    assert room.send(bob._sender.protect_rtcp(good + bad), bob.address) == []
    assert room.dropped() == {"malformed": 1}
    assert bob.peer.quality.jitter_down_ms is None


def test_the_numbers_of_the_way_to_the_server_are_kept_from_receivers() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    elements = bytes.fromhex("10 ff 31 12 34 00 00 00".replace(" ", ""))  # level, transport-wide number, padding
    packet = rtp_packet(ann.sequence, ann.peer.ssrc, b"speech", extension=(0xBEDE, elements))
    room.send(ann._sender.protect(packet), ann.address)
    header, payload = bob.heard[-1]
    assert header.extension == (0xBEDE, bytes.fromhex("10 ff 00 00 00 00 00 00".replace(" ", "")))
    assert payload == b"speech"


def test_a_nack_of_what_nobody_sends_is_dropped() -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    assert room.report(bob, Nack.of(bob.peer.ssrc, ann.peer.ssrc, [1, 2, 3])) == []
    assert room.dropped() == {"feedback_unheard": 1}


# --- hostile members ------------------------------------------------------------------------------


@given(st.lists(st.one_of(FEEDBACK, PACKETS), min_size=1, max_size=4), st.binary(max_size=40))
def test_whatever_a_member_reports_breaks_nothing(
    packets: list[rtcp.RtcpPacket | FeedbackPacket], rest: bytes
) -> None:
    room, (ann, bob) = talking_room("ann", "bob")
    # What bob asks for he has: that it is the same is for the ledger to see.
    bob.is_deaf = True
    aimed = [_aim(packet, bob.peer.ssrc, ann.peer.egress_ssrc) for packet in packets]
    room.report(bob, receiver_report(bob), *aimed)
    room.report(bob, receiver_report(bob), *packets)
    head = bytes.fromhex("80c90001") + bob.peer.ssrc.to_bytes(4, "big")
    room.send(bob._sender.protect_rtcp(head + rest), bob.address, resends=True)
    bob.is_deaf = False
    room.speak(ann, b"as before")
    assert bob.payloads[-1] == b"as before"
    assert room.relay.statistics()["internal"] == 0


def _aim(packet: rtcp.RtcpPacket | FeedbackPacket, ours: int, theirs: int) -> rtcp.RtcpPacket | FeedbackPacket:
    """Have a packet speak of a publisher that is heard."""
    match packet:
        case rtcp.SenderReport() | rtcp.ReceiverReport():
            blocks = tuple(attrs.evolve(block, ssrc=theirs) for block in packet.reports)
            return attrs.evolve(packet, ssrc=ours, reports=blocks)
        case Nack() | PictureLoss() | TransportWideFeedback():
            return attrs.evolve(packet, sender_ssrc=ours, media_ssrc=theirs)
        case FullIntraRequest():
            return attrs.evolve(packet, requests=tuple((theirs, number) for _, number in packet.requests))
        case rtcp.SourceDescription():
            return rtcp.SourceDescription(tuple(attrs.evolve(chunk, ssrc=ours) for chunk in packet.chunks))
    return packet

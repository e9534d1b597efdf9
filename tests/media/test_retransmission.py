"""NACKs: what was lost comes again, byte by byte; a ledger of nonces fails on anything else."""

from __future__ import annotations

import pytest

from livechat.hub.peer import ChannelRules
from livechat.media.retransmission import RETRANSMISSIONS_PER_S, TIMES_MAX
from livechat.media.sent import SENT_PACKETS
from livechat.protocol.types import UserId
from livechat.rtp.feedback import Nack
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed, each_packet
from tests.support.room import CHANNEL, CM_80, Caller, Packets, Room
from tests.support.voice import PROFILES


def room_with(*listeners: str, profile: SrtpProfile = CM_80) -> tuple[Room, Caller, list[Caller]]:
    """Return a room, who talks in it, and who hears that."""
    room = Room()
    ann = room.join("ann", profile=profile)
    others = [room.join(user, profile=profile, stated=True) for user in listeners]
    room.speak(ann, b"first")
    return room, ann, others


def lose(room: Room, ann: Caller, listener: Caller, count: int = 1, payload: bytes = b"lost") -> Packets:
    """Have packets sent that one listener does not get; return what was on the way to it."""
    listener.is_deaf = True
    lost = [sent for _ in range(count) for sent in room.speak(ann, payload) if sent[1] == listener.address]
    listener.is_deaf = False
    return lost


def nack(listener: Caller, ann: Caller, lost: Packets) -> Nack:
    sequences = [int.from_bytes(packet[2:4], "big") for packet, _ in lost]
    return Nack.of(listener.peer.ssrc, ann.peer.egress_ssrc, sequences)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_was_lost_comes_again_as_it_was(profile: SrtpProfile) -> None:
    room, ann, (bob, cyd) = room_with("bob", "cyd", profile=profile)
    lost = lose(room, ann, bob, 20)
    room.speak(ann, b"last")
    assert room.report(bob, nack(bob, ann, lost)) == lost
    assert bob.payloads == [b"first", b"last"] + [b"lost"] * 20
    assert len(cyd.payloads) == 22
    statistics = room.relay.statistics()
    assert (statistics["nacks"], statistics["retransmitted"]) == (20, 20)
    assert room.dropped() == {}


def test_numbers_are_those_of_the_listeners_own_leg_across_a_wrap() -> None:
    room, ann, (bob,) = room_with("bob")
    for _ in range(6):
        room.speak(ann, skip=10_000)
    late = room.join("late", stated=True)
    room.speak(ann)
    for listener in (late, bob):
        lost = lose(room, ann, listener, payload=b"for " + listener.peer.user_id.encode())
        assert room.report(listener, nack(listener, ann, lost)) == lost
    assert bob.payloads[-1] == b"for bob"
    assert late.payloads[-2:] == [b"for late", b"for bob"]


def test_what_is_not_kept_any_more_is_counted() -> None:
    room, ann, (bob,) = room_with("bob")
    lost = lose(room, ann, bob, SENT_PACKETS + 2)
    assert room.report(bob, nack(bob, ann, lost[:2])) == []
    assert room.dropped() == {"nack_missing": 2}
    assert room.report(bob, nack(bob, ann, lost[2:4])) == lost[2:4]


def test_what_was_never_sent_is_not_sent() -> None:
    room, ann, (bob,) = room_with("bob")
    lose(room, ann, bob)
    late = room.join("late", stated=True)
    room.speak(ann)
    begin = late.heard[-1][0].sequence
    ahead_and_behind = [begin - 1, begin - 2, begin + 1, begin + 30_000]
    assert room.report(late, Nack.of(late.peer.ssrc, ann.peer.egress_ssrc, ahead_and_behind)) == []
    assert room.dropped() == {"nack_missing": 4}


def test_a_listener_that_moved_gets_what_it_lost_where_it_is() -> None:
    room, ann, (bob,) = room_with("bob")
    lost = lose(room, ann, bob)
    bob.address = room.new_address()
    room.report(bob)
    assert room.report(bob, nack(bob, ann, lost)) == [(packet, bob.address) for packet, _ in lost]
    assert bob.payloads == [b"first", b"lost"]


def test_two_listeners_behind_one_address_get_each_its_own() -> None:
    room, ann, (bob, cyd) = room_with("bob", "cyd")
    cyd.peer.address = cyd.address = bob.address
    room.relay._forget_plans(cyd.peer)
    out: Sealed = []
    room.relay.datagram(ann.speak(b"lost"), ann.address, room.now, out)
    room.relay.end_turn(out)
    for_bob, for_cyd = (packet for packet, _ in each_packet(out))
    again: Sealed = []
    for listener, packet in ((cyd, for_cyd), (bob, for_bob)):
        ask = nack(listener, ann, [(packet, listener.address)])
        room.relay.datagram(listener.report(ask), listener.address, room.now, again)
    assert again == [(for_cyd, bob.address), (for_bob, bob.address)]


def test_what_was_sent_before_a_pause_is_no_packet_after_it() -> None:
    room, ann, (bob,) = room_with("bob")
    lost = lose(room, ann, bob)
    room.relay.set_rules(CHANNEL, ChannelRules(floor_control=True, floor_holder=UserId("bob")))
    for _ in range(5):
        room.speak(ann)
    assert room.report(bob, nack(bob, ann, lost)) == lost
    room.relay.set_rules(CHANNEL, ChannelRules())
    room.speak(ann, b"again")
    room.report(bob, nack(bob, ann, lost))
    assert bob.payloads == [b"first", b"lost", b"again"]
    assert room.dropped() == {"not_forwarded": 5, "nack_missing": 1}


def test_a_packet_is_sent_again_a_few_times_only() -> None:
    room, ann, (bob,) = room_with("bob")
    lost = lose(room, ann, bob)
    bob.is_deaf = True
    for _ in range(TIMES_MAX + 2):
        room.now += 10.0
        room.report(bob, nack(bob, ann, lost))
    assert room.relay.statistics()["retransmitted"] == TIMES_MAX
    assert room.dropped() == {"nack_over_budget": 2}


def test_a_listener_has_a_budget_each_second() -> None:
    room, ann, (bob, cyd) = room_with("bob", "cyd")
    lost = lose(room, ann, bob, 120)
    # One NACK has room for all of them.
    assert len(room.report(bob, nack(bob, ann, lost))) == RETRANSMISSIONS_PER_S
    assert room.dropped() == {"nack_over_budget": 120 - RETRANSMISSIONS_PER_S}
    # It is the listener's own.
    lost_too = lose(room, ann, cyd)
    assert room.report(cyd, nack(cyd, ann, lost_too)) == lost_too
    room.now += 1.0
    rest = lost[RETRANSMISSIONS_PER_S:]
    assert room.report(bob, nack(bob, ann, rest)) == rest


def test_what_is_remembered_of_a_listener_is_bounded() -> None:
    room, ann, (bob,) = room_with("bob")
    bob.is_deaf = True
    for _ in range(3 * SENT_PACKETS):
        room.now += 1.0
        lost = lose(room, ann, bob)
        bob.is_deaf = True
        room.report(bob, nack(bob, ann, lost))
    (leg,) = room.relay._nodes[ann.peer.peer_id].legs.values()
    assert leg.resent is not None
    assert len(leg.resent) == SENT_PACKETS
    assert room.relay.statistics()["retransmitted"] == 3 * SENT_PACKETS


def test_a_nack_of_all_numbers_is_looked_at_in_part() -> None:
    room, ann, (bob,) = room_with("bob")
    room.report(bob, Nack.of(bob.peer.ssrc, ann.peer.egress_ssrc, range(1000, 6000)))
    assert room.relay.statistics()["nacks"] == SENT_PACKETS


def test_many_nacks_in_a_datagram_are_looked_at_as_far_as_one() -> None:
    room, ann, (bob,) = room_with("bob")
    lost = lose(room, ann, bob, 3)
    once = [nack(bob, ann, [packet]) for packet in lost]
    never = Nack.of(bob.peer.ssrc, ann.peer.egress_ssrc, range(5000, 5000 + SENT_PACKETS - 2))
    assert room.report(bob, *once[:2], never, once[2]) == lost[:2]
    assert room.relay.statistics()["nacks"] == SENT_PACKETS
    assert room.report(bob, once[2]) == lost[2:]

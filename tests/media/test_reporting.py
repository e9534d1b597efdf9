"""The server's own reports to peers, by an injected clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from livechat.media.reporting import REPORTS_PER_TURN
from livechat.rtp import rtcp
from livechat.srtp.context import RTCP_INDEX_MAX
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed
from tests.support.room import Caller, Room
from tests.support.voice import PROFILES, rtp_packet, sender_report


def reported(caller: Caller) -> list[rtcp.ReceiverReport]:
    """Return what the server said to a caller since the last call; its compounds must be whole."""
    reports = []
    for compound in caller.take_reports():
        report, description = compound
        assert isinstance(report, rtcp.ReceiverReport)
        assert isinstance(description, rtcp.SourceDescription)
        assert report.ssrc == description.chunks[0].ssrc == caller.peer.reporter_ssrc
        ((kind, name),) = description.chunks[0].items
        assert kind == rtcp.SDES_CNAME
        assert len(name) == 24
        reports.append(report)
    return reports


@pytest.mark.parametrize("profile", PROFILES)
def test_a_peer_is_told_how_it_is_received(profile: SrtpProfile) -> None:
    room = Room()
    ann = room.join("ann", profile=profile)
    room.speak(ann)
    room.speak(ann, skip=2)
    room.report(ann, sender_report(ann.peer.ssrc))
    ((at, address),) = room.wait(4.0)
    assert address == ann.address
    (report,) = reported(ann)
    (block,) = report.reports
    assert (block.ssrc, block.fraction_lost, block.cumulative_lost) == (ann.peer.ssrc, 128, 2)
    assert block.highest_sequence == ann.sequence - 1
    assert block.last_sr == 0x4567_89AB
    assert block.delay_since_last_sr == pytest.approx((at - 1000.0) * 65536, abs=1)
    quality = ann.peer.quality
    assert (quality.packets_lost_up, quality.fraction_lost_up) == (2, 0.5)
    assert quality.jitter_up_ms is not None


def test_reports_come_every_five_seconds_with_some_chance_and_the_first_sooner() -> None:
    room = Room()
    listener = room.join("bob", stated=True)
    times = [room.now] + [at for at, _ in room.wait(1000.0)]
    gaps = [after - before for before, after in pairwise(times)]
    assert 1.25 <= gaps[0] < 3.75
    assert all(2.5 <= gap < 7.5 for gap in gaps[1:])
    assert min(gaps[1:]) < 3.5
    assert max(gaps) > 6.5
    assert len(reported(listener)) == len(gaps) == room.relay.statistics()["rtcp_reports_sent"]


def test_who_sends_nothing_is_reported_to_without_a_block() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob", stated=True)
    room.speak(ann)
    room.wait(20.0)
    assert all(report.reports == () for report in reported(bob))
    first, *rest = reported(ann)
    # A source is in a report if it was heard since the last one.
    assert len(first.reports) == 1
    assert rest
    assert all(report.reports == () for report in rest)


def test_who_has_no_address_or_has_left_gets_no_reports() -> None:
    room = Room()
    ann, bob = room.join("ann"), room.join("bob", stated=True)
    assert {address for _, address in room.wait(20.0)} == {bob.address}
    room.leave(bob)
    assert room.wait(20.0) == []
    # An address that comes later is found.
    room.report(ann)
    assert room.wait(20.0)
    room.leave(ann)
    assert room.wait(20.0) == []
    assert room.relay.run_due(room.now, []) is None


def test_a_crowd_is_reported_to_in_turns() -> None:
    room = Room()
    for number in range(3 * REPORTS_PER_TURN):
        room.join(f"user{number}", stated=True)
    out: Sealed = []
    room.relay.run_due(room.now, out)
    assert out == []
    room.now += 10.0
    for turn in (1, 2, 3):
        due = room.relay.run_due(room.now, out)
        assert len(out) == turn * REPORTS_PER_TURN
        assert due is not None
        assert (due <= room.now) == (turn < 3)


def test_a_takeover_is_reported_to_under_its_own_key() -> None:
    room = Room()
    other = room.join("other", stated=True)
    for _ in range(3):
        ann = room.join("ann", ssrc=5, stated=True)
        room.speak(ann)
        room.wait(6.0)
        room.report(ann, sender_report(ann.peer.ssrc))
        assert reported(ann)
        room.leave(ann)
    assert other.reports


def test_reports_end_before_their_index_would_wrap() -> None:
    room = Room()
    ann = room.join("ann", stated=True)
    room.relay._nodes[ann.peer.peer_id].control.report_next = RTCP_INDEX_MAX
    room.wait(30.0)
    assert len(reported(ann)) == 1
    assert room.dropped()["key_exhausted"] >= 1


def test_who_floods_us_with_large_reports_is_reported_to_more_seldom() -> None:
    room = Room()
    ann, calm = room.join("ann", stated=True), room.join("calm", stated=True)
    long = rtcp.SourceDescription((rtcp.SdesChunk(ann.peer.ssrc, ((8, b"x" * 255),) * 5),))
    for _ in range(200):
        room.report(ann, rtcp.ReceiverReport(ann.peer.ssrc), long)
    addresses = [address for _, address in room.wait(100.0)]
    assert 0 < addresses.count(ann.address) < addresses.count(calm.address)


def test_jitter_is_measured_in_the_clock_that_was_set() -> None:
    room = Room()
    ann = room.join("ann")
    for step in range(50):
        # Opus, 48 kHz, 20 ms.
        packet = bytearray(rtp_packet(step, ann.peer.ssrc))
        packet[1], packet[4:8] = 111, (step * 960).to_bytes(4, "big")
        room.send(ann._sender.protect(bytes(packet)), ann.address)
        room.now += 0.02
    room.wait(8.0)
    assert ann.peer.quality.jitter_up_ms == pytest.approx(0, abs=0.01)

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp import rtcp
from livechat.srtp.context import SrtpReceiver, SrtpSender
from livechat.srtp.error import AuthenticationError, MalformedPacket, ReplayError, SrtpError
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.succession import CYCLE_PACKETS, KeySuccession
from tests.support.voice import PROFILES, master_of, rtp_packet, sender_report

CM_80 = SrtpProfile.AES_CM_128_HMAC_SHA1_80
SSRC = 0x1234

each_profile = pytest.mark.parametrize("profile", PROFILES)


class Stream:
    """A sender whose keys change, and what opens its packets.

    Args:
        rollover: the count at which it has arrived under the older keys.
        then: the one at which it begins under the newer.
    """

    def __init__(self, profile: SrtpProfile = CM_80, *, rollover: int = 0, then: int = 0) -> None:
        self.profile = profile
        self.older = SrtpSender(profile, master_of(profile, 1), rollover=rollover)
        self.newer = SrtpSender(profile, master_of(profile, 2), rollover=then)
        self.taken = 0
        receiver = SrtpReceiver(profile, master_of(profile, 1), rollover=rollover)
        self.succession = KeySuccession(
            receiver, SrtpReceiver(profile, master_of(profile, 2)), SSRC, self._on_taken
        )

    def _on_taken(self) -> None:
        self.taken += 1

    def open(self, packet: bytes) -> tuple[int, bool]:
        """Return the index on the line, and whether it is the newest."""
        _, index, _, _, is_newest = self.succession.open(packet)
        return index, is_newest

    def under_older(self, sequence: int) -> bytes:
        return self.older.protect(rtp_packet(sequence, SSRC))

    def under_newer(self, sequence: int) -> bytes:
        return self.newer.protect(rtp_packet(sequence, SSRC))


# --- one line -------------------------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize("keeps", [False, True])
@given(
    first=st.integers(0, 3 * CYCLE_PACKETS),
    before=st.integers(1, 40),
    after=st.integers(0, 40),
    seed=st.integers(0, 2**32),
)
def test_numbers_that_go_on_stay_one_line_whatever_is_lost_or_late(
    profile: SrtpProfile, keeps: bool, first: int, before: int, after: int, seed: int
) -> None:
    rng = random.Random(seed)
    stream = Stream(profile, rollover=first >> 16, then=first + before >> 16 if keeps else 0)
    packets = [(first + at, stream.under_older(first + at)) for at in range(before)]
    packets += [(first + at, stream.under_newer(first + at)) for at in range(before, before + after)]
    # The first comes first: what a line begins with is not the question here.
    late = {index: index + rng.choice((0, 0, 0, 3, 30)) * rng.random() for index, _ in packets[1:]}
    arriving = packets[:1] + sorted(
        (each for each in packets[1:] if rng.random() < 0.8), key=lambda it: late[it[0]]
    )
    highest = -1
    for index, packet in arriving:
        assert stream.open(packet)[0] == index
        highest = max(highest, index)
        with pytest.raises(ReplayError):
            stream.succession.open(packet)
    assert stream.succession.window(SSRC).highest == highest
    assert stream.taken == any(index >= first + before for index, _ in arriving)


def test_a_sender_that_never_sent_begins_where_it_says() -> None:
    stream = Stream()
    assert stream.open(stream.under_newer(40_000)) == (40_000, True)
    assert stream.open(stream.under_newer(40_001)) == (40_001, True)


def test_a_sender_that_rolls_over_at_the_switch_goes_on() -> None:
    stream = Stream()
    stream.open(stream.under_older(65_534))
    stream.under_newer(65_535)  # lost, so that the count is one up with the first that comes
    assert stream.open(stream.under_newer(65_536)) == (65_536, True)


def test_a_silent_sender_may_keep_its_rollover_count_beyond_the_older_keys() -> None:
    stream = Stream(rollover=5, then=5)
    stream.open(stream.under_older(7))
    stream.succession.end_older()
    assert stream.open(stream.under_newer(8)) == (5 * CYCLE_PACKETS + 8, True)


@pytest.mark.parametrize("restart", [100, 99, 1, 60_000])
def test_a_sender_that_begins_anew_is_seen_to_jump_and_never_repeats(restart: int) -> None:
    stream = Stream()
    for sequence in range(60_000, 60_101):
        stream.open(stream.under_older(sequence))
    at, is_newest = stream.open(stream.under_newer(restart))
    assert is_newest
    assert at > 60_100
    assert at % CYCLE_PACKETS == restart
    assert stream.open(stream.under_newer(restart + 1)) == (at + 1, True)


def test_a_number_used_under_both_keys_is_opened_once() -> None:
    stream = Stream()
    for sequence in (1, 2, 4):
        stream.open(stream.under_older(sequence))
    assert stream.open(stream.under_newer(5)) == (5, True)
    with pytest.raises(ReplayError):
        stream.open(stream.under_newer(4))
    assert stream.open(stream.under_newer(3)) == (3, False)
    with pytest.raises(ReplayError):
        stream.open(stream.under_older(3))


# --- which keys count -----------------------------------------------------------------------------


def test_late_packets_under_the_older_keys_are_opened_but_never_the_newest() -> None:
    stream = Stream()
    stream.open(stream.under_older(1))
    late, ahead = stream.under_older(2), stream.under_older(9)
    assert stream.taken == 0
    assert stream.open(stream.under_newer(3)) == (3, True)
    assert stream.taken == 1
    assert stream.open(late) == (2, False)
    # Whoever got hold of the older keys can't run ahead with them.
    with pytest.raises(ReplayError):
        stream.open(ahead)
    assert stream.open(stream.under_newer(4)) == (4, True)
    assert stream.taken == 1


def test_a_report_under_the_newer_keys_is_enough_to_distrust_the_older() -> None:
    stream = Stream()
    report = rtcp.serialize_compound((sender_report(SSRC),))
    assert stream.succession.open_rtcp(stream.older.protect_rtcp(report))[3]
    held_back = stream.older.protect_rtcp(report)
    assert stream.succession.open_rtcp(stream.newer.protect_rtcp(report)) == (SSRC, 0, report, True)
    assert stream.taken == 1
    assert stream.succession.open_rtcp(held_back) == (SSRC, 1, report, False)
    assert stream.open(stream.under_older(1)) == (1, False)
    assert stream.open(stream.under_newer(2)) == (2, True)


@pytest.mark.parametrize("is_taken", [False, True])
def test_the_older_keys_open_nothing_after_their_end(is_taken: bool) -> None:
    stream = Stream()
    report = rtcp.serialize_compound((sender_report(SSRC),))
    stream.open(stream.under_older(1))
    if is_taken:
        stream.open(stream.under_newer(2))
    stream.succession.end_older()
    stream.succession.end_older()
    for opens, packet in (
        (stream.succession.open, stream.under_older(3)),
        (stream.succession.open_rtcp, stream.older.protect_rtcp(report)),
    ):
        with pytest.raises(AuthenticationError):
            opens(packet)
    assert stream.open(stream.under_newer(4)) == (4, True)
    assert stream.succession.open_rtcp(stream.newer.protect_rtcp(report))[1] == 0
    assert stream.taken == 1


@each_profile
@pytest.mark.parametrize("is_taken", [False, True])
def test_what_neither_opens_is_refused_by_the_more_telling_error(profile: SrtpProfile, is_taken: bool) -> None:
    stream = Stream(profile)
    old, new = stream.under_older(1), stream.under_newer(2)
    stream.open(old)
    if is_taken:
        stream.open(new)
    forged = rtp_packet(9, SSRC) + bytes(16)

    def refused(error: type[SrtpError], opens: Callable[[bytes], object], packet: bytes) -> None:
        before = stream.succession.window(SSRC).highest
        with pytest.raises(error):
            opens(packet)
        assert stream.succession.window(SSRC).highest == before

    refused(AuthenticationError, stream.succession.open, forged)
    refused(ReplayError, stream.succession.open, old)
    refused(MalformedPacket, stream.succession.open, forged[:11])
    report = SrtpSender(profile, master_of(profile, 3)).protect_rtcp(rtcp.serialize(sender_report(SSRC)))
    refused(AuthenticationError, stream.succession.open_rtcp, report)
    refused(MalformedPacket, stream.succession.open_rtcp, report[:9])


# --- what is left of it ---------------------------------------------------------------------------


def test_a_change_in_the_first_cycle_leaves_nothing_behind() -> None:
    stream = Stream()
    stream.open(stream.under_older(1))
    stream.open(stream.under_newer(2))
    assert stream.succession.settled() is stream.succession
    stream.succession.end_older()
    for sequence in range(3, 300):
        stream.open(stream.under_newer(sequence))
    settled = stream.succession.settled()
    assert isinstance(settled, SrtpReceiver)
    assert settled.open(stream.under_newer(300))[1] == 300
    assert settled.highest(SSRC) == (300, -1)


def test_a_later_change_keeps_its_place_on_the_line() -> None:
    stream = Stream(rollover=7)
    stream.open(stream.under_older(1))
    stream.open(stream.under_newer(2))
    stream.succession.end_older()
    for sequence in range(3, 300):
        stream.open(stream.under_newer(sequence))
    settled = stream.succession.settled()
    assert settled is stream.succession
    assert settled.open(stream.under_newer(300))[1] == 7 * CYCLE_PACKETS + 300
    assert settled.highest(SSRC) == (300, -1)
    assert settled.window(SSRC).highest == 7 * CYCLE_PACKETS + 300


def test_keys_may_change_again_and_again() -> None:
    profile, sequence = CM_80, 65_000
    receiver: SrtpReceiver | KeySuccession = SrtpReceiver(profile, master_of(profile, 0))
    sender = SrtpSender(profile, master_of(profile, 0))
    for turn in range(1, 20):
        for _ in range(50):
            sequence += 17
            assert receiver.open(sender.protect(rtp_packet(sequence, SSRC)))[1] == sequence
        before = receiver
        receiver = KeySuccession(receiver, SrtpReceiver(profile, master_of(profile, turn)), SSRC)
        if isinstance(before, KeySuccession):
            before.end_older()
        late = sender.protect(rtp_packet(sequence + 1, SSRC))
        sender = SrtpSender(profile, master_of(profile, turn))
        if turn % 3:
            assert receiver.open(sender.protect(rtp_packet(sequence + 2, SSRC)))[1] == sequence + 2
            assert receiver.open(late)[1] == sequence + 1
        receiver.end_older()
        sequence += 2
    assert sequence > CYCLE_PACKETS


# --- where the older keys were lost -------------------------------------------------------------------


@each_profile
@pytest.mark.parametrize("rollover", [0, 7, 8], ids=["begun anew", "kept", "kept and rolled over"])
def test_of_lost_keys_it_is_enough_to_know_how_far_the_sender_had_counted(
    profile: SrtpProfile, rollover: int
) -> None:
    kept = (7 << 16) + 65_500
    sender = SrtpSender(profile, master_of(profile, 2), rollover=rollover)
    first = 3 if rollover == 8 else 65_510
    packets = [sender.protect(rtp_packet(first + number, SSRC)) for number in range(20)]
    receiver = KeySuccession.after_loss(SrtpReceiver(profile, master_of(profile, 2)), SSRC, kept)
    assert receiver.sent_up_to(SSRC) == kept
    opened = [receiver.open(packet)[1] for packet in packets]
    assert opened == [(rollover << 16) + first + number for number in range(20)]
    assert receiver.sent_up_to(SSRC) == opened[-1]
    with pytest.raises(ReplayError):
        receiver.open(packets[3])
    with pytest.raises(AuthenticationError):
        receiver.open(forged(packets[-1]))


def forged(packet: bytes) -> bytes:
    """Return a packet with the next sequence number and a tag that is another's."""
    sequence = int.from_bytes(packet[2:4], "big") + 1
    return packet[:2] + sequence.to_bytes(2, "big") + packet[4:]

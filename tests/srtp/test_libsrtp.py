"""The same packets through libsrtp and through ours: the same bytes out, the same verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from pylibsrtp import Error as LibsrtpError

from livechat.rtp import rtcp
from livechat.srtp.context import SrtpError, SrtpReceiver, SrtpSender
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, libsrtp_receiver, libsrtp_sender, master_of, rtp_packet, sender_report

PACKETS = 20_000
SSRCS = (0x1111, 0xFFFFFFFF)

each_profile = pytest.mark.parametrize("profile", PROFILES)


def verdict(unprotect: Callable[[bytes], bytes], packet: bytes) -> bytes | None:
    """Return the packet opened, or None if it was refused."""
    try:
        return unprotect(packet)
    except (SrtpError, LibsrtpError):
        return None


def speech(rng: random.Random) -> Iterator[bytes]:
    """Yield RTP packets of two ssrcs that leave out numbers now and then, past three rollovers."""
    sequences = dict.fromkeys(SSRCS, 64_000)
    for _ in range(PACKETS):
        ssrc = rng.choice(SSRCS)
        sequences[ssrc] += 1 if rng.random() < 0.9 else rng.randrange(2, 500)
        yield rtp_packet(
            sequences[ssrc],
            ssrc,
            rng.randbytes(rng.choice((0, 1, 15, 16, 17, 160))),
            csrcs=(1, 2) if rng.random() < 0.1 else (),
            extension=(0xBEDE, rng.randbytes(8)) if rng.random() < 0.2 else None,
        )
    assert min(sequences.values()) > 4 * 65536


def network(packets: Iterator[bytes], rng: random.Random) -> Iterator[bytes]:
    """Yield packets as a bad network would: some lost, late, twice, or with a bit changed."""
    late: list[bytes] = []
    for packet in packets:
        fate = rng.random()
        if fate < 0.05:
            continue
        if fate < 0.15:
            late.append(packet)
            continue
        yield packet
        if fate < 0.25:
            yield packet
        elif fate < 0.35:
            changed = bytearray(packet)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            yield bytes(changed)
        if len(late) > 40:
            rng.shuffle(late)
            yield from late
            late.clear()


@each_profile
@pytest.mark.parametrize("direction", ["to livechat", "to libsrtp"])
def test_both_accept_and_refuse_the_same(profile: SrtpProfile, direction: str) -> None:
    rng = random.Random(f"{profile} {direction}")
    master = master_of(profile)
    theirs, ours = libsrtp_sender(profile, master), SrtpSender(profile, master)
    protect = theirs.protect if direction == "to livechat" else ours.protect
    unprotect_theirs = libsrtp_receiver(profile, master).unprotect
    unprotect_ours = SrtpReceiver(profile, master).unprotect
    accepted = 0
    for packet in network(map(protect, speech(rng)), rng):
        expected = verdict(unprotect_theirs, packet)
        assert verdict(unprotect_ours, packet) == expected
        accepted += expected is not None
    assert accepted > PACKETS // 2


@each_profile
def test_both_protect_to_the_same_bytes(profile: SrtpProfile) -> None:
    rng = random.Random(3)
    master = master_of(profile)
    theirs, ours = libsrtp_sender(profile, master), SrtpSender(profile, master)
    for packet in speech(rng):
        assert ours.protect(packet) == theirs.protect(packet)


@each_profile
@pytest.mark.parametrize("direction", ["to livechat", "to libsrtp"])
def test_both_accept_and_refuse_the_same_rtcp(profile: SrtpProfile, direction: str) -> None:
    rng = random.Random(f"{profile} {direction}")
    master = master_of(profile)
    theirs, ours = libsrtp_sender(profile, master), SrtpSender(profile, master)
    protect = theirs.protect_rtcp if direction == "to livechat" else ours.protect_rtcp
    unprotect_theirs = libsrtp_receiver(profile, master).unprotect_rtcp
    unprotect_ours = SrtpReceiver(profile, master).unprotect_rtcp
    reports = (rtcp.serialize(sender_report(rng.choice(SSRCS), packet_count=count)) for count in range(3000))
    accepted = 0
    for packet in network(map(protect, reports), rng):
        expected = verdict(unprotect_theirs, packet)
        assert verdict(unprotect_ours, packet) == expected
        accepted += expected is not None
    assert accepted > 1500


@each_profile
def test_the_first_rtcp_packet_is_accepted_both_ways(profile: SrtpProfile) -> None:
    master = master_of(profile)
    report = rtcp.serialize(sender_report(1))
    ours, theirs = SrtpSender(profile, master), libsrtp_sender(profile, master)
    assert libsrtp_receiver(profile, master).unprotect_rtcp(ours.protect_rtcp(report)) == report
    assert SrtpReceiver(profile, master).unprotect_rtcp(theirs.protect_rtcp(report)) == report


@each_profile
def test_both_senders_refuse_the_same_repetitions(profile: SrtpProfile) -> None:
    rng = random.Random(4)
    master = master_of(profile)
    theirs, ours = libsrtp_sender(profile, master), SrtpSender(profile, master)
    sequence = 65_000
    for _ in range(4000):
        sequence += rng.choice((-200, -127, -3, -1, 0, 1, 2, 3, 100, 300))
        packet = rtp_packet(max(sequence, 0))
        assert verdict(ours.protect, packet) == verdict(theirs.protect, packet)


@each_profile
def test_the_window_is_as_wide_as_libsrtps(profile: SrtpProfile) -> None:
    master = master_of(profile)
    sender = SrtpSender(profile, master)
    packets = [sender.protect(rtp_packet(sequence)) for sequence in range(65400, 65800)]
    ours, theirs = SrtpReceiver(profile, master), libsrtp_receiver(profile, master)
    assert verdict(ours.unprotect, packets[0]) == verdict(theirs.unprotect, packets[0])
    for packet in reversed(packets):
        assert verdict(ours.unprotect, packet) == verdict(theirs.unprotect, packet)

"""What floods and forgeries do to the relay: nothing that anybody could see.

Every attack here is given to a room in which people talk; afterwards the room must be what it was before, but for
the counters of what was dropped and, for packets that bear a peer's ssrc, that peer's count of refused ones.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livechat.rtp import rtcp
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed
from tests.support.relay_state import relay_state
from tests.support.room import Caller, Room
from tests.support.voice import PROFILES, master_of, rtp_packet, sender_report

FLOOD = 100_000
FORGERIES = FLOOD // len(PROFILES)
"""For each profile."""
GROWTH_BYTES_MAX = 64 * 1024
"""What a flood may leave allocated: interned numbers and the like; one dict entry a packet would be megabytes."""
STUN_BINDING = bytes.fromhex("000100002112a442") + bytes(12)
CLIENT_HELLO = bytes.fromhex("16feff0000000000000000") + (200).to_bytes(2, "big") + bytes(200)
each_profile = pytest.mark.parametrize("profile", PROFILES)


def talking(profile: SrtpProfile = SrtpProfile.AES_CM_128_HMAC_SHA1_80) -> tuple[Room, Caller, Caller]:
    """Return a room in which ann talks and bob listens, with reports of both."""
    room = Room()
    ann, bob = room.join("ann", profile=profile), room.join("bob", profile=profile)
    room.send(bob.report(), bob.address)
    for _ in range(3):
        room.speak(ann)
    room.send(ann.report(sender_report(ann.peer.ssrc)), ann.address)
    return room, ann, bob


def attack(room: Room, datagrams: Iterator[bytes] | list[bytes]) -> None:
    """Send datagrams, each from an address that nobody has; assert that nothing comes of any."""
    before = relay_state(room.relay)
    out: Sealed = []
    for number, datagram in enumerate(datagrams):
        source = ("198.51.100.7", 1024 + number % 60_000)
        room.relay.datagram(datagram, source, room.now + 5.0, out)
        assert not out, f"{len(datagram)} bytes had an effect: {datagram[:40].hex()}"
    assert relay_state(room.relay) == before


def assert_alive(room: Room, ann: Caller, bob: Caller) -> None:
    """Assert that voice goes on as if nothing had happened."""
    heard = len(bob.heard)
    room.speak(ann, b"still here")
    assert bob.payloads[heard:] == [b"still here"]


# --- floods: no state, no byte sent, no growth ----------------------------------------------------------


def test_spoofed_ssrcs_leave_nothing() -> None:
    room, ann, bob = talking()
    rng = random.Random("other numbers than the room's")
    packet = bytearray(rtp_packet(1, 0, bytes(160)))

    def spoofed() -> Iterator[bytes]:
        for _ in range(FLOOD):
            packet[8:12] = rng.randbytes(4)
            yield bytes(packet)

    assert_no_growth(room, spoofed())
    assert room.relay.counters.unknown_ssrc == FLOOD
    assert_alive(room, ann, bob)


@each_profile
def test_forgeries_under_a_living_ssrc_leave_nothing(profile: SrtpProfile) -> None:
    room, ann, bob = talking(profile)
    rng = random.Random(1)
    ssrcs = [peer.to_bytes(4, "big") for peer in (ann.peer.ssrc, bob.peer.ssrc)]

    def forged() -> Iterator[bytes]:
        for number in range(FORGERIES):
            head = b"\x80\x6f" + rng.randbytes(6)
            yield head + ssrcs[number % 2] + rng.randbytes(40)

    attack(room, forged())
    counters = room.relay.counters
    assert counters.authentication + counters.replay == FORGERIES
    assert ann.peer.packets_rejected + bob.peer.packets_rejected == FORGERIES
    assert_alive(room, ann, bob)


def test_forged_reports_leave_nothing() -> None:
    room, ann, bob = talking()
    rng = random.Random(1)

    def forged() -> Iterator[bytes]:
        for _ in range(FORGERIES):
            yield b"\x80\xc9\x00\x01" + ann.peer.ssrc.to_bytes(4, "big") + rng.randbytes(34)

    assert_no_growth(room, forged())
    counters = room.relay.counters
    assert counters.authentication + counters.replay == FORGERIES
    assert_alive(room, ann, bob)


def assert_no_growth(room: Room, datagrams: Iterator[bytes]) -> None:
    """Have a room attacked; assert that no memory stays behind."""
    sources = [("198.51.100.7", port) for port in range(1024, 1024 + 64)]
    before = relay_state(room.relay)
    out: Sealed = []
    relay, now = room.relay, room.now + 5.0
    gc.collect()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for number, datagram in enumerate(datagrams):
            relay.datagram(datagram, sources[number & 63], now, out)
        del datagram
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - start < GROWTH_BYTES_MAX
    finally:
        tracemalloc.stop()
    assert out == []
    assert relay_state(relay) == before


# --- junk -----------------------------------------------------------------------------------------------


def test_stun_dtls_and_what_is_spoken_nowhere_is_not_answered() -> None:
    room, ann, bob = talking()
    junk = [STUN_BINDING, CLIENT_HELLO, b"", *(bytes([first]) + bytes(60) for first in range(256))]
    attack(room, junk)
    counters = room.relay.counters
    assert (counters.stun, counters.dtls) == (1 + 4, 1 + 44)
    assert counters.internal == 0
    assert_alive(room, ann, bob)


@each_profile
def test_a_packet_cut_off_at_any_length_is_refused(profile: SrtpProfile) -> None:
    room, ann, bob = talking(profile)
    speech, report = ann.speak(b"some speech"), ann.report(sender_report(ann.peer.ssrc))
    attack(room, [packet[:length] for packet in (speech, report) for length in range(len(packet))])
    # Whole they are good: it was only the cut.
    room.send(report, ann.address)
    room.send(speech, ann.address)
    assert bob.payloads[-1] == b"some speech"


@each_profile
def test_a_packet_with_more_at_its_end_is_refused(profile: SrtpProfile) -> None:
    room, ann, bob = talking(profile)
    speech, report = ann.speak(b"some speech"), ann.report(sender_report(ann.peer.ssrc))
    attack(room, [packet + bytes(more) for packet in (speech, report) for more in (1, 4, 16, 1500, 65_000)])
    room.send(speech, ann.address)
    assert bob.payloads[-1] == b"some speech"


@each_profile
def test_a_packet_with_any_bit_changed_is_refused(profile: SrtpProfile) -> None:
    room, ann, bob = talking(profile)
    for packet in (ann.speak(b"some speech"), ann.report(sender_report(ann.peer.ssrc))):
        attack(room, flipped(packet))
        room.send(packet, ann.address)
    assert bob.payloads[-1] == b"some speech"


def flipped(packet: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(packet)):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


@each_profile
def test_a_packet_of_one_peer_is_none_of_another(profile: SrtpProfile) -> None:
    """Neither under another's ssrc, nor what a listener was sent, sent back."""
    room, ann, bob = talking(profile)
    as_ann = rtp_packet(500, ann.peer.ssrc)
    under_bobs_key = SrtpSender(profile, bob.peer.client_key).protect(as_ann)
    under_listening_key = SrtpSender(profile, ann.peer.server_key).protect(as_ann)
    under_no_key = SrtpSender(profile, master_of(profile)).protect(as_ann)
    sent_to_bob = [packet for packet, _ in room.speak(ann)]
    assert sent_to_bob
    attack(room, [under_bobs_key, under_listening_key, under_no_key, as_ann + bytes(10), *sent_to_bob])
    assert_alive(room, ann, bob)


@each_profile
@pytest.mark.parametrize("is_taken", [False, True])
def test_while_keys_change_no_forgery_passes_under_either(profile: SrtpProfile, is_taken: bool) -> None:
    room, ann, bob = talking(profile)
    before = ann.speak(b"under the keys before")
    replayed = ann.speak(b"replayed")
    room.send(replayed, ann.address)
    room.rekey(ann)
    ann.take_keys()
    after = ann.speak(b"under the new ones")
    if is_taken:
        room.send(ann.speak(b"the first of them"), ann.address)
    stranger = SrtpSender(profile, master_of(profile))
    forged = [stranger.protect(rtp_packet(number, ann.peer.ssrc)) for number in (1, 500, 40_000)]
    cut = [packet[:length] for packet in (before, after) for length in range(0, len(packet), 7)]
    attack(room, [replayed, *forged, *cut, *flipped(before), *flipped(after)])
    room.send(after, ann.address)
    assert bob.payloads[-1] == b"under the new ones"
    room.send(before, ann.address)
    assert bob.payloads[-1] == b"under the keys before"


# --- fuzz -----------------------------------------------------------------------------------------------

near_packets = st.builds(
    lambda first, second, middle, ssrc, rest: bytes([first, second]) + middle + ssrc + rest,
    st.integers(128, 191),
    st.integers(0, 255),
    st.binary(min_size=6, max_size=6),
    st.sampled_from(["ann", "bob"]).map(str.encode) | st.binary(min_size=4, max_size=4),
    st.binary(max_size=200),
)
"""Headers of RTP; a name stands for that peer's ssrc."""


@given(st.lists(st.binary(max_size=300) | near_packets, max_size=20))
@settings(max_examples=150, deadline=None)
def test_nothing_unauthentic_changes_anything(datagrams: list[bytes]) -> None:
    room, ann, bob = talking()
    ssrcs = {b"ann": ann.peer.ssrc.to_bytes(4, "big"), b"bob": bob.peer.ssrc.to_bytes(4, "big")}
    for name, ssrc in ssrcs.items():
        datagrams = [each[:8] + ssrc + each[11:] if each[8:11] == name else each for each in datagrams]
        datagrams += [each[:4] + ssrc + each[7:] if each[4:7] == name else each for each in datagrams]
    attack(room, datagrams)
    assert_alive(room, ann, bob)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_authentic_may_hold_anything_and_nothing_raises(data: st.DataObject) -> None:
    """A peer of ours may send what it likes under its own key."""
    room, ann, bob = talking()
    sender = ann._sender
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            body = data.draw(st.binary(max_size=120))
            packet_type, count = data.draw(st.integers(192, 223)), data.draw(st.integers(0, 31))
            words = data.draw(st.integers(0, 40)) if data.draw(st.booleans()) else (len(body) + 4) // 4
            head = bytes([128 | count, packet_type]) + words.to_bytes(2, "big") + ann.peer.ssrc.to_bytes(4, "big")
            packet = sender.protect_rtcp(head + body)
        else:
            extension = (
                data.draw(st.sampled_from([0xBEDE, 0x1000, 0x1234])),
                data.draw(st.binary(max_size=9)) * 4,
            )
            plain = rtp_packet(ann.sequence, ann.peer.ssrc, data.draw(st.binary(max_size=60)), extension=extension)
            ann.sequence += 1
            packet = sender.protect(plain)
        room.relay.datagram(packet, ann.address, room.now, [])
        room.relay.run_due(room.now, [])
    assert room.relay.counters.internal == 0
    assert ann.peer.packets_rejected == 0
    room.relay.datagram(bob.speak(b"and bob"), bob.address, room.now, [])
    assert room.relay.counters.internal == 0


def test_the_snapshot_sees_what_an_authentic_packet_changes() -> None:
    """What the other tests rest on."""
    room, ann, _ = talking()
    seen: list[Any] = [relay_state(room.relay)]
    for packet in (ann.speak(), ann.report(), ann.report(rtcp.Goodbye((ann.peer.ssrc,)))):
        room.relay.datagram(packet, ann.address, room.now + 1.0, [])
        seen.append(relay_state(room.relay))
    assert all(one != other for position, one in enumerate(seen) for other in seen[:position])

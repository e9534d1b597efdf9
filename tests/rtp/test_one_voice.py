from __future__ import annotations

from itertools import pairwise

import attrs
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp.one_voice import HOLD_S, SILENCE, OneVoice
from livechat.rtp.packet import RtpHeader, parse_untrusted

SSRC = 0xABCD
FRAME = 960
"""20 ms of Opus."""


class Speaker:
    """Somebody with a packet every 20 ms."""

    def __init__(self, ssrc: int, sequence: int = 65_000, timestamp: int = 2**32 - 5000) -> None:
        self.next = RtpHeader(
            sequence, timestamp, ssrc, payload_type=96, csrcs=(7,), extension=(0xBEDE, b"\x10a\0\0")
        )

    def header(self) -> RtpHeader:
        header = self.next
        self.next = attrs.evolve(
            header,
            sequence=(header.sequence + 1) & 0xFFFF,
            timestamp=(header.timestamp + FRAME) & 0xFFFFFFFF,
        )
        return header


class Listener:
    """The stream as a player gets it."""

    def __init__(self) -> None:
        self.stream = OneVoice(SSRC, 0.0)
        self.heard: list[tuple[RtpHeader, bytes]] = []

    def take(self, speaker: Speaker, payload: bytes, now: float) -> bool:
        packet = self.stream.take(speaker.header(), payload, now)
        if packet is not None:
            self.heard.append(parse_untrusted(packet))
        return packet is not None

    def wait(self, now: float) -> None:
        self.heard += map(parse_untrusted, self.stream.silence(now))

    def assert_continuous(self) -> None:
        for (before, _), (after, _) in pairwise(self.heard):
            assert (after.sequence - before.sequence) & 0xFFFF == 1
            assert 0 < (after.timestamp - before.timestamp) & 0xFFFFFFFF < 2**31


def test_one_speaker_is_passed_on_as_one_stream_of_ours() -> None:
    listener, ann = Listener(), Speaker(1)
    for tick in range(1000):  # over the end of both its counters
        assert listener.take(ann, b"speech", tick * 0.02)
    listener.assert_continuous()
    header, payload = listener.heard[0]
    assert (header.ssrc, header.payload_type, header.csrcs, header.extension) == (SSRC, 111, (), None)
    assert payload == b"speech"
    assert (listener.heard[-1][0].timestamp - header.timestamp) & 0xFFFFFFFF == 999 * FRAME


def test_who_speaks_at_the_same_time_waits_for_a_pause() -> None:
    listener, ann, bob = Listener(), Speaker(1), Speaker(2, sequence=5, timestamp=5)
    assert listener.take(ann, b"ann", 1.0)
    assert not listener.take(bob, b"bob", 1.01)
    assert listener.take(ann, b"ann", 1.02)
    assert listener.take(bob, b"bob", 1.03 + HOLD_S)
    assert not listener.take(ann, b"ann", 1.05 + HOLD_S)
    listener.assert_continuous()
    # Its clock went on by as much as time did.
    assert listener.heard[-1][0].timestamp - listener.heard[-2][0].timestamp == round((0.01 + HOLD_S) * 48_000)


def test_lost_and_late_packets_stay_so() -> None:
    listener, ann = Listener(), Speaker(1)
    listener.take(ann, b"0", 1.0)
    late = ann.header()
    listener.take(ann, b"2", 1.04)
    packet = listener.stream.take(late, b"1", 1.05)
    assert packet is not None
    numbers = [header.sequence for header, _ in [*listener.heard, parse_untrusted(packet)]]
    assert [number - numbers[0] for number in numbers] == [0, 2, 1]
    # What follows goes on after the newest, not after the late one.
    bob = Speaker(2)
    listener.take(bob, b"3", 2.0)
    assert listener.heard[-1][0].sequence - numbers[0] == 3


def test_silence_fills_the_time_where_nobody_speaks() -> None:
    listener, ann = Listener(), Speaker(1)
    listener.wait(0.1)
    assert [payload for _, payload in listener.heard] == [SILENCE] * 5
    listener.take(ann, b"speech", 0.11)
    listener.wait(0.11 + HOLD_S / 2)
    assert len(listener.heard) == 6, "a speaker's own pause is not filled"
    listener.wait(2.115)
    assert len(listener.heard) == 6 + 100
    listener.take(ann, b"again", 2.12)
    listener.assert_continuous()
    assert listener.heard[-1][0].timestamp - listener.heard[5][0].timestamp >= 2.0 * 48_000


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.001, 1.0)), max_size=60))
def test_whoever_speaks_whenever_it_is_one_stream(turns: list[tuple[int, float]]) -> None:
    listener = Listener()
    speakers = [Speaker(ssrc, sequence=ssrc * 20_000, timestamp=ssrc << 30) for ssrc in range(3)]
    now = 0.0
    for who, pause in turns:
        now += pause
        if who == len(speakers):
            listener.wait(now)
        else:
            listener.take(speakers[who], b"speech", now)
    for header, _ in listener.heard:
        assert header.ssrc == SSRC
    numbers = [header.sequence for header, _ in listener.heard]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < (after - before) & 0xFFFF < 100 for before, after in pairwise(numbers))

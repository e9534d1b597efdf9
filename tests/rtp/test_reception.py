from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp.reception import DROPOUT_MAX, Reception, make_clocks
from livechat.rtp.rtcp import ReportBlock

CLOCKS = make_clocks()
DYNAMIC = 111
SPACING_S = 0.02


def packet(timestamp: int, payload_type: int = DYNAMIC, *, marker: bool = False) -> bytes:
    """Return the part of an RTP header that matters here."""
    return bytes([0x80, payload_type | 0x80 * marker, 0, 0]) + (timestamp & 0xFFFFFFFF).to_bytes(4, "big")


def received(*indexes: int) -> Reception:
    """Return what came, each packet 20 ms after the one before."""
    reception = Reception(CLOCKS)
    for place, index in enumerate(indexes):
        reception.packet(packet(index * 960), index, 100.0 + place * SPACING_S)
    return reception


def report(reception: Reception, now: float = 200.0) -> ReportBlock:
    block = reception.report(7, now)
    assert block is not None
    return block


def test_nothing_is_reported_of_an_interval_without_packets() -> None:
    reception = Reception(CLOCKS)
    reception.sender_report(1 << 32, 5.0)
    assert reception.report(7, 6.0) is None
    assert (reception.expected, reception.lost, reception.jitter_ms) == (0, 0, 0.0)
    reception.packet(packet(0), 5, 7.0)
    assert report(reception).highest_sequence == 5
    assert reception.report(7, 8.0) is None


@pytest.mark.parametrize(
    ("indexes", "lost", "fraction", "highest"),
    [
        ((10,), 0, 0, 10),
        ((10, 11, 12), 0, 0, 12),
        ((10, 12), 1, 85, 12),  # one of three, in 1/256
        ((10, 13), 2, 128, 13),
        ((10, 12, 11), 0, 0, 12),
        ((10, 9, 11), 0, 0, 11),  # what came before the first counts nowhere
        ((65_535, 65_537), 1, 85, 65_537),
    ],
)
def test_what_is_lost_is_what_was_expected_and_did_not_come(
    indexes: tuple[int, ...], lost: int, fraction: int, highest: int
) -> None:
    block = report(received(*indexes))
    assert (block.cumulative_lost, block.fraction_lost, block.highest_sequence) == (lost, fraction, highest)


def test_a_fraction_is_of_the_interval_and_a_total_of_all() -> None:
    reception = received(0, 2)
    assert report(reception).fraction_lost == 85
    for index in (3, 4, 6):
        reception.packet(packet(index), index, 101.0)
    block = report(reception)
    assert (block.fraction_lost, block.cumulative_lost) == (64, 2)
    # Late ones make up for what was counted as lost; a fraction is never below zero, nor of nothing.
    for index in (1, 5):
        reception.packet(packet(index), index, 102.0)
    assert (report(reception).fraction_lost, reception.lost) == (0, 0)


def test_a_source_that_starts_anew_is_not_lost_packets() -> None:
    reception = received(10, 11, 11 + DROPOUT_MAX)
    assert reception.lost == DROPOUT_MAX - 1
    reception.packet(packet(1), 60_000, 200.0)
    assert (reception.expected, reception.lost, reception.highest) == (1, 0, 60_000)


def test_the_highest_number_is_cut_to_its_cycles() -> None:
    assert report(received((1 << 40) + 5)).highest_sequence == 5


def test_even_packets_have_no_jitter() -> None:
    assert report(received(*range(100))).jitter == 0


def test_jitter_is_that_of_appendix_a8() -> None:
    reception = Reception(CLOCKS)
    expected, arrivals = 0.0, [0.0, 0.025, 0.04, 0.07, 0.08]
    for place, arrival in enumerate(arrivals):
        # The timestamps wrap on the way.
        reception.packet(packet((1 << 32) - 960 + place * 960), place, arrival)
        if place:
            difference = abs((arrival - arrivals[place - 1]) * 48_000 - 960)
            expected += (difference - expected) / 16
    assert reception.jitter == pytest.approx(expected)
    assert reception.jitter_ms == pytest.approx(expected / 48)
    assert report(reception).jitter == int(expected)


@pytest.mark.parametrize(
    ("payload_type", "hz"), [(0, 8000), (8, 8000), (9, 8000), (31, 90_000), (10, 44_100), (96, 48_000)]
)
def test_clock_rates_are_those_of_the_payload_type(payload_type: int, hz: int) -> None:
    reception = Reception(CLOCKS)
    for place in range(50):
        moment = packet(int(place * SPACING_S * hz), payload_type, marker=place == 0)
        reception.packet(moment, place, place * SPACING_S)
    assert reception.jitter == pytest.approx(0, abs=1)
    assert reception.clock_hz == hz


def test_another_clock_begins_to_measure_anew() -> None:
    reception = Reception(make_clocks(90_000))
    reception.packet(packet(0, 0), 0, 1.0)
    reception.packet(packet(1 << 30, DYNAMIC), 1, 1.02)
    assert reception.jitter == 0
    assert reception.clock_hz == 90_000


def test_the_last_sender_report_and_its_age_are_told() -> None:
    block = report(received(1))
    assert (block.last_sr, block.delay_since_last_sr) == (0, 0)
    reception = received(1)
    reception.sender_report(0x0123_4567_89AB_CDEF, 10.0)
    block = report(reception, now=12.5)
    assert (block.last_sr, block.delay_since_last_sr) == (0x4567_89AB, int(2.5 * 65536))


@given(st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 2**32 - 1)), max_size=60), st.integers(0, 127))
def test_every_report_fits_its_fields(packets: list[tuple[int, int]], payload_type: int) -> None:
    reception = Reception(CLOCKS)
    for place, (index, timestamp) in enumerate(packets):
        reception.packet(packet(timestamp, payload_type), index, float(place))
        block = reception.report(7, 200.0)
        if block is None:
            continue
        assert 0 <= block.fraction_lost <= 255
        assert -(2**23) <= block.cumulative_lost < 2**23
        assert 0 <= block.jitter < 2**32

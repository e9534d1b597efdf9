from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp.demux import Kind, classify


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (0, Kind.STUN),
        (3, Kind.STUN),
        (4, Kind.UNKNOWN),
        (16, Kind.UNKNOWN),
        (19, Kind.UNKNOWN),
        (20, Kind.DTLS),
        (63, Kind.DTLS),
        (64, Kind.UNKNOWN),
        (127, Kind.UNKNOWN),
        (128, Kind.RTP),
        (191, Kind.RTP),
        (192, Kind.UNKNOWN),
        (255, Kind.UNKNOWN),
    ],
)
def test_the_first_byte_decides_at_every_border(first: int, kind: Kind) -> None:
    assert classify(bytes([first, 0])) is kind


@pytest.mark.parametrize(
    ("second", "kind"),
    [(0, Kind.RTP), (95, Kind.RTP), (191, Kind.RTP), (192, Kind.RTCP), (223, Kind.RTCP), (224, Kind.RTP)],
)
def test_the_second_byte_tells_rtcp_from_rtp(second: int, kind: Kind) -> None:
    assert classify(bytes([0x80, second])) is kind


def test_the_second_byte_means_nothing_to_other_protocols() -> None:
    assert classify(bytes([22, 200])) is Kind.DTLS


def test_an_empty_datagram_is_unknown_and_one_byte_goes_by_that_byte() -> None:
    assert classify(b"") is Kind.UNKNOWN
    assert classify(b"\x80") is Kind.RTP


@given(st.binary(max_size=40))
def test_any_bytes_are_classified(datagram: bytes) -> None:
    assert isinstance(classify(datagram), Kind)

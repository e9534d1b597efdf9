from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.media.report import own_report, server_report, translated_block, with_counts
from livechat.media.rtcp_state import octets_of
from livechat.rtp import rtcp
from livechat.rtp.reception import Reception, make_clocks
from tests.support.voice import rtp_packet, sender_report

CHUNK = rtcp.SdesChunk(5, ((rtcp.SDES_CNAME, b"ann@example"),))


def test_what_speaks_of_others_is_not_told_on() -> None:
    other = (
        sender_report(9),
        rtcp.SourceDescription((rtcp.SdesChunk(9),)),
        rtcp.Goodbye((9,)),
        rtcp.ReceiverReport(5),
    )
    assert own_report(other, 5, 6).serialize() == b""


def test_what_a_publisher_says_of_itself_is_told_under_its_egress_ssrc() -> None:
    packets = (
        sender_report(5),
        rtcp.SourceDescription((rtcp.SdesChunk(9), CHUNK)),
        rtcp.Goodbye((8, 5), b"bye"),
    )
    assert rtcp.parse_compound_untrusted(own_report(packets, 5, 6).serialize()) == [
        rtcp.SenderReport(6, 0x0123456789ABCDEF, 160, 7, 1120),
        rtcp.SourceDescription((rtcp.SdesChunk(6, CHUNK.items),)),
        rtcp.Goodbye((6,), b"bye"),
    ]


@pytest.mark.parametrize("packet", [rtcp.SourceDescription((CHUNK,)), rtcp.Goodbye((5,))])
def test_a_compound_without_a_sender_report_starts_with_an_empty_one(packet: rtcp.RtcpPacket) -> None:
    compound = rtcp.parse_compound_untrusted(own_report([packet], 5, 6).serialize())
    assert compound[0] == rtcp.ReceiverReport(6)
    assert len(compound) == 2


@given(st.integers(0, 2**34), st.integers(0, 2**34))
def test_only_the_counts_of_a_sender_report_are_replaced(packets: int, octets: int) -> None:
    compound = own_report([sender_report(5), rtcp.SourceDescription((CHUNK,))], 5, 6).serialize()
    report, description = rtcp.parse_compound_untrusted(with_counts(compound, packets, octets))
    assert report == rtcp.SenderReport(6, 0x0123456789ABCDEF, 160, packets % 2**32, octets % 2**32)
    assert description == rtcp.SourceDescription((rtcp.SdesChunk(6, CHUNK.items),))


@pytest.mark.parametrize(
    ("highest", "offset", "newest", "expected"),
    [
        (1234, 1000, 234, 234),
        (1234, 1000, 300, 234),
        (1234, 1000, 200, 234),  # further than we have sent: it is told as it is said
        (100, -70_000, 70_100, 70_100),
        (5 << 16 | 100, -70_000, 70_150, 70_100),  # the listener counts cycles of its own
        (65_530, 1000, 64_600, 64_530),
        (5, 10, 3, 2**32 - 5),
        (2**32 - 1, 4, (1 << 33) + 3, 2**32 - 5),
    ],
)
def test_a_block_moves_back_by_the_offset_of_its_leg(
    highest: int, offset: int, newest: int, expected: int
) -> None:
    block = rtcp.ReportBlock(6, 3, -2, highest, 44, 55, 66)
    assert translated_block(block, 5, offset, newest) == rtcp.ReportBlock(5, 3, -2, expected, 44, 55, 66)


def test_the_server_reports_with_a_name() -> None:
    reception = Reception(make_clocks())
    named = rtcp.SourceDescription((rtcp.SdesChunk(9, ((rtcp.SDES_CNAME, b"us"),)),))
    assert rtcp.parse_compound_untrusted(server_report(9, b"us", 5, reception, 1.0)) == [
        rtcp.ReceiverReport(9),
        named,
    ]
    reception.packet(rtp_packet(7, 5), 7, 1.0)
    assert rtcp.parse_compound_untrusted(server_report(9, b"us", 5, reception, 2.0)) == [
        rtcp.ReceiverReport(9, (rtcp.ReportBlock(5, highest_sequence=7),)),
        named,
    ]


@pytest.mark.parametrize(
    ("first", "payload", "octets"),
    [(0x80, b"abc\x02", 4), (0xA0, b"abc\x02", 2), (0xA0, b"", 0), (0xA0, b"\xff", 0)],
)
def test_padding_is_no_payload(first: int, payload: bytes, octets: int) -> None:
    assert octets_of(bytes([first]), payload) == octets

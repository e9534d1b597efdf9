from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ProtocolError
from livechat.rtp.rtcp import (
    SDES_CNAME,
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    parse_compound_untrusted,
    serialize,
    serialize_compound,
)

U32 = st.integers(0, 2**32 - 1)
TEXT = st.binary(max_size=255)

REPORTS = st.lists(
    st.builds(
        ReportBlock,
        ssrc=U32,
        fraction_lost=st.integers(0, 255),
        cumulative_lost=st.integers(-(2**23), 2**23 - 1),
        highest_sequence=U32,
        jitter=U32,
        last_sr=U32,
        delay_since_last_sr=U32,
    ),
    max_size=31,
).map(tuple)
CHUNKS = st.builds(SdesChunk, U32, st.lists(st.tuples(st.integers(1, 255), TEXT), max_size=3).map(tuple))
PACKETS: st.SearchStrategy[RtcpPacket] = st.one_of(
    st.builds(SenderReport, U32, st.integers(0, 2**64 - 1), U32, U32, U32, REPORTS),
    st.builds(ReceiverReport, U32, REPORTS),
    st.builds(SourceDescription, st.lists(CHUNKS, max_size=4).map(tuple)),
    st.builds(Goodbye, st.lists(U32, max_size=31).map(tuple), TEXT),
)


@given(st.lists(PACKETS, min_size=1, max_size=4))
def test_what_was_serialized_parses_to_the_same(packets: list[RtcpPacket]) -> None:
    assert parse_compound_untrusted(serialize_compound(packets)) == packets


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (ReceiverReport(0x01020304), "80c9000101020304"),
        (Goodbye((0x01020304,)), "81cb000101020304"),
        (Goodbye((1,), b"bye"), "81cb00020000000103627965"),
        (
            SenderReport(1, 0x0203, 4, 5, 6),
            "80c80006000000010000000000000203000000040000000500000006",
        ),
        (
            ReceiverReport(1, (ReportBlock(2, 3, -1, 4, 5, 6, 7),)),
            "81c90007000000010000000203ffffff00000004000000050000000600000007",
        ),
        (SourceDescription((SdesChunk(1, ((SDES_CNAME, b"a@b"),)),)), "81ca0003000000010103614062000000"),
    ],
)
def test_the_layouts_are_those_of_rfc_3550(packet: RtcpPacket, expected: str) -> None:
    assert serialize(packet).hex() == expected


def test_the_items_of_a_chunk_end_with_a_zero_even_on_a_word_border() -> None:
    # Four bytes of ssrc and 4 of item end on a border: RFC 3550 section 6.5 still wants a null item.
    packet = serialize(SourceDescription((SdesChunk(1, ((SDES_CNAME, b"ab"),)),)))
    assert packet.hex() == "81ca0003000000010102616200000000"


def test_unknown_types_are_stepped_over() -> None:
    feedback = bytes.fromhex("81ce00020000000100000002")
    extended = bytes.fromhex("80cf000100000001")
    goodbye = serialize(Goodbye((1,)))
    assert parse_compound_untrusted(feedback + extended + goodbye) == [Goodbye((1,))]


def test_a_profile_extension_after_the_report_blocks_is_stepped_over() -> None:
    assert parse_compound_untrusted(bytes.fromhex("80c9000200000001deadbeef")) == [ReceiverReport(1)]


def test_padding_is_cut_off() -> None:
    assert parse_compound_untrusted(bytes.fromhex("a1cb00020000000100000004")) == [Goodbye((1,))]


def test_bytes_between_the_null_item_and_the_word_border_carry_nothing() -> None:
    datagram = bytes.fromhex("81ca00020000000100000001")
    assert parse_compound_untrusted(datagram) == [SourceDescription((SdesChunk(1),))]


@pytest.mark.parametrize(
    "datagram",
    [
        "",
        "80c9",
        "40c9000100000001",  # version 1
        "80c9000200000001",  # longer than the datagram
        "80c90000",  # a receiver report without ssrc
        "81c9000100000001",  # without its report block
        "80c8000500000001000000000000020300000004000000050000",  # sender info cut off
        "81ca0000",  # a chunk without ssrc
        "81ca000100000001",  # items without an end
        "81ca00020000000101ff6162",  # text past the end
        "82ca00020000000100000000",  # second chunk missing
        "82cb000100000001",  # second source missing
        "81cb00020000000105616263",  # reason past the end
        "a0c9000100000000",  # padding of 0 bytes
        "a0c9000100000003",  # padding of no whole word
        "a0c9000100000008",  # padding longer than the packet
        "a0c90000",  # padding without a byte to count it
    ],
)
def test_malformed_packets_are_refused(datagram: str) -> None:
    with pytest.raises(ProtocolError):
        parse_compound_untrusted(bytes.fromhex(datagram))


@given(st.binary(max_size=120))
def test_hostile_bytes_raise_only_protocol_error(datagram: bytes) -> None:
    try:
        parse_compound_untrusted(datagram)
    except ProtocolError:
        pass


@given(st.sampled_from([200, 201, 202, 203]), st.integers(0, 255), st.integers(0, 12), st.binary(max_size=60))
def test_hostile_bodies_of_known_types_raise_only_protocol_error(
    packet_type: int, first: int, words: int, body: bytes
) -> None:
    header = bytes([0x80 | first & 0x3F, packet_type, 0, words])
    try:
        parse_compound_untrusted(header + body)
    except ProtocolError:
        pass

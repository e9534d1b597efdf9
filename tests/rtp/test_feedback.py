from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ProtocolError
from livechat.rtp import feedback, rtcp
from livechat.rtp.feedback import (
    PACKETS_MAX,
    BandwidthEstimate,
    FeedbackPacket,
    FullIntraRequest,
    Nack,
    PictureLoss,
    TransportWideFeedback,
    UnknownPacket,
    parse_datagram_untrusted,
    serialize,
)

U8 = st.integers(0, 2**8 - 1)
U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)

FEEDBACK: st.SearchStrategy[FeedbackPacket] = st.one_of(
    st.builds(Nack, U32, U32, st.lists(st.tuples(U16, U16), min_size=1, max_size=20).map(tuple)),
    st.builds(
        TransportWideFeedback,
        U32,
        U32,
        U16,
        U16,
        st.integers(0, 2**24 - 1),
        U8,
        st.binary(max_size=40).map(lambda data: data[: len(data) & ~3]),
    ),
    st.builds(PictureLoss, U32, U32),
    st.builds(FullIntraRequest, U32, st.lists(st.tuples(U32, U8), min_size=1, max_size=20).map(tuple)),
    st.builds(
        BandwidthEstimate,
        U32,
        st.integers(0, 63),
        st.integers(0, 2**18 - 1),
        st.lists(U32, max_size=20).map(tuple),
    ),
)


@given(st.lists(FEEDBACK, min_size=1, max_size=4))
def test_what_was_serialized_parses_to_the_same(packets: list[FeedbackPacket]) -> None:
    assert parse_datagram_untrusted(b"".join(map(serialize, packets))) == packets


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (Nack(1, 2, ((0x1234, 0x8001),)), "81cd0003 00000001 00000002 12348001"),
        (PictureLoss(1, 2), "81ce0002 00000001 00000002"),
        (FullIntraRequest(1, ((0xAABBCCDD, 7),)), "84ce0004 00000001 00000000 aabbccdd 07000000"),
        (
            TransportWideFeedback(1, 2, 0x0102, 3, 0x040506, 7, b"\x20\x03\x01\x02"),
            "8fcd0005 00000001 00000002 01020003 04050607 20030102",
        ),
        # 1 Mbit/s = 250,000 << 2
        (BandwidthEstimate(1, 2, 250_000, (9,)), "8fce0005 00000001 00000000 52454d42 010bd090 00000009"),
    ],
)
def test_the_layouts_are_those_of_the_rfcs(packet: FeedbackPacket, expected: str) -> None:
    assert serialize(packet) == bytes.fromhex(expected)


def test_a_bandwidth_estimate_is_in_bits_a_second() -> None:
    assert BandwidthEstimate(1, 2, 250_000).bits_per_s == 1_000_000


@pytest.mark.parametrize(
    ("sequences", "pairs"),
    [
        ([5], ((5, 0),)),
        ([5, 6, 21], ((5, 0x8001),)),
        ([5, 22], ((5, 0), (22, 0))),
        ([65535, 0, 1], ((65535, 3),)),
        ([65530, 10], ((65530, 0x8000),)),
        ([10, 9], ((10, 0), (9, 0))),
        ([10, 10], ((10, 0), (10, 0))),
    ],
)
def test_sequence_numbers_share_a_mask_of_sixteen(
    sequences: list[int], pairs: tuple[tuple[int, int], ...]
) -> None:
    nack = Nack.of(1, 2, sequences)
    assert nack.pairs == pairs
    assert list(nack.sequences()) == sequences


@given(st.integers(0, 2**16 - 1), st.sets(st.integers(0, 400), min_size=1, max_size=60))
def test_a_nack_names_what_was_asked_for(first: int, steps: set[int]) -> None:
    sequences = [(first + step) & 0xFFFF for step in sorted(steps)]
    assert list(Nack.of(1, 2, sequences).sequences()) == sequences


def test_a_datagram_holds_reports_and_feedback_and_what_is_not_known() -> None:
    report = rtcp.ReceiverReport(1)
    unknown = bytes.fromhex("82cf0001 00000001") + bytes.fromhex("82cd0002 00000001 00000002")
    other_application = bytes.fromhex("8fce0003 00000001 00000002 41424344")
    datagram = rtcp.serialize(report) + unknown + other_application + serialize(PictureLoss(1, 2))
    assert parse_datagram_untrusted(datagram) == [
        report,
        UnknownPacket(207, 2),
        UnknownPacket(205, 2),
        UnknownPacket(206, 15),
        PictureLoss(1, 2),
    ]


def test_what_follows_the_sources_of_a_request_is_stepped_over() -> None:
    assert parse_datagram_untrusted(bytes.fromhex("84ce0005 00000001 00000000 aabbccdd 07000000 00000001")) == [
        FullIntraRequest(1, ((0xAABBCCDD, 7),))
    ]


@pytest.mark.parametrize(
    "datagram",
    [
        "",
        "81cd0001 00000001",  # no media ssrc
        "81cd0002 00000001 00000002",  # a NACK of nothing
        "81ce0001 00000001",  # a PLI without media ssrc
        "84ce0003 00000001 00000000 aabbccdd",  # half a request
        "84ce0002 00000001 00000000",  # a FIR of nothing
        "8fcd0003 00000001 00000002 01020003",  # counts cut off
        "8fce0003 00000001 00000000 52454d42",  # REMB without a rate
        "8fce0004 00000001 00000000 52454d42 010bd090",  # an ssrc missing
        "83ce0000",  # feedback of any format has two ssrcs
    ],
)
def test_malformed_feedback_is_refused(datagram: str) -> None:
    with pytest.raises(ProtocolError):
        parse_datagram_untrusted(bytes.fromhex(datagram))


@given(st.sampled_from([205, 206]), st.integers(0, 255), st.integers(0, 12), st.binary(max_size=60))
def test_hostile_bodies_raise_only_protocol_error(packet_type: int, first: int, words: int, body: bytes) -> None:
    try:
        parse_datagram_untrusted(bytes([0x80 | first & 0x3F, packet_type, 0, words]) + body)
    except ProtocolError:
        pass


@given(st.binary(min_size=8, max_size=80), st.sampled_from([(205, 1), (205, 15), (206, 1), (206, 4), (206, 15)]))
def test_whatever_parses_can_be_written_and_read_again(body: bytes, kind: tuple[int, int]) -> None:
    body = body[: len(body) & ~3]
    remb = body[:8] + b"REMB" + body[8:] if kind == (206, 15) else body
    try:
        packet = feedback.parse_raw_untrusted((*kind, remb))
    except ProtocolError:
        return
    assert packet is not None
    assert parse_datagram_untrusted(serialize(packet)) == [packet]


def test_a_datagram_holds_so_many_packets_and_no_more() -> None:
    tiny = bytes.fromhex("80d10000")
    assert parse_datagram_untrusted(tiny * PACKETS_MAX) == [UnknownPacket(0xD1, 0)] * PACKETS_MAX
    with pytest.raises(ProtocolError, match="at most"):
        parse_datagram_untrusted(tiny * (PACKETS_MAX + 1))

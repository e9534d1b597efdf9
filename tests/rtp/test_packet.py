from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ProtocolError
from livechat.rtp.packet import RtpHeader, header_length_untrusted, parse_untrusted

U32 = st.integers(0, 2**32 - 1)
WORDS = st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4])

HEADERS = st.builds(
    RtpHeader,
    sequence=st.integers(0, 2**16 - 1),
    timestamp=U32,
    ssrc=U32,
    payload_type=st.integers(0, 127),
    marker=st.booleans(),
    padding=st.booleans(),
    csrcs=st.lists(U32, max_size=15).map(tuple),
    extension=st.none() | st.tuples(st.integers(0, 2**16 - 1), WORDS),
)


@given(HEADERS, st.binary(max_size=60))
def test_what_was_serialized_parses_to_the_same(header: RtpHeader, payload: bytes) -> None:
    packet = header.serialize() + payload
    assert parse_untrusted(packet) == (header, payload)
    assert header_length_untrusted(packet) == len(packet) - len(payload)


def test_the_layout_is_that_of_rfc_3550() -> None:
    header = RtpHeader(
        sequence=0x0102,
        timestamp=0x03040506,
        ssrc=0x0708090A,
        payload_type=111,
        marker=True,
        csrcs=(0x0B0C0D0E,),
        extension=(0xBEDE, b"\x10\xff\x00\x00"),
    )
    assert header.serialize().hex() == "91ef01020304050607 08090a0b0c0d0e bede0001 10ff0000".replace(" ", "")


@given(HEADERS, st.integers(0, 20))
def test_a_header_may_end_where_the_trailer_begins_but_not_later(header: RtpHeader, trailer_bytes: int) -> None:
    packet = header.serialize()
    assert header_length_untrusted(packet + bytes(trailer_bytes), trailer_bytes) == len(packet)
    with pytest.raises(ProtocolError):
        header_length_untrusted(packet + bytes(trailer_bytes), trailer_bytes + 1)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes([0x80]) + bytes(10),
        bytes([0x00]) + bytes(11),
        bytes([0x40]) + bytes(11),
        bytes([0xC0]) + bytes(11),
        bytes([0x81]) + bytes(11),
        bytes([0x8F]) + bytes(11 + 4 * 14),
        bytes([0x90]) + bytes(11 + 3),
        bytes([0x90]) + bytes(11) + bytes([0xBE, 0xDE, 0xFF, 0xFF]),
        bytes([0x90]) + bytes(11) + bytes([0xBE, 0xDE, 0x00, 0x01]) + bytes(3),
    ],
)
def test_a_header_that_leaves_the_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError):
        header_length_untrusted(packet)
    with pytest.raises(ProtocolError):
        parse_untrusted(packet)


@given(st.binary(max_size=80), st.integers(0, 20))
def test_hostile_bytes_raise_protocol_error_or_yield_a_length_within(packet: bytes, trailer_bytes: int) -> None:
    try:
        length = header_length_untrusted(packet, trailer_bytes)
    except ProtocolError:
        return
    assert 12 <= length <= len(packet) - trailer_bytes

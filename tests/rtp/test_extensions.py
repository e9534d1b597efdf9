from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.error import ProtocolError
from livechat.rtp import extensions
from livechat.rtp.packet import RtpHeader, header_length_untrusted

Elements = list[tuple[int, bytes]]

ONE_BYTE: st.SearchStrategy[Elements] = st.lists(
    st.tuples(st.integers(1, 14), st.binary(min_size=1, max_size=16)), max_size=6
)
ANY: st.SearchStrategy[Elements] = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=30)), max_size=6)
CSRCS = st.lists(st.integers(0, 2**32 - 1), max_size=15).map(tuple)


def packet_with(profile: int, data: bytes, csrcs: tuple[int, ...] = (), payload: bytes = b"") -> bytes:
    return RtpHeader(1, 2, 3, csrcs=csrcs, extension=(profile, data)).serialize() + payload


@st.composite
def hostile_packets(draw: st.DrawFn) -> bytes:
    """Anything with the extension bit, mostly of a form that is spoken, whole or cut off."""
    profile = draw(st.sampled_from([0xBEDE, 0x1000, 0x100F]) | st.integers(0, 2**16 - 1))
    data = draw(st.binary(max_size=48).map(lambda raw: raw + bytes(-len(raw) % 4)))
    whole = packet_with(profile, data, draw(CSRCS), draw(st.binary(max_size=8)))
    return whole[: draw(st.integers(0, len(whole)))]


@given(ONE_BYTE | ANY, CSRCS, st.binary(max_size=20))
def test_elements_that_were_serialized_parse_to_the_same(
    elements: Elements, csrcs: tuple[int, ...], payload: bytes
) -> None:
    packet = packet_with(*extensions.serialize(elements), csrcs, payload)
    assert list(extensions.parse_untrusted(packet)) == elements
    for element_id, _ in elements:
        expected = next(data for key, data in elements if key == element_id)
        assert extensions.find_untrusted(packet, element_id) == expected


@given(ONE_BYTE)
def test_small_elements_take_the_one_byte_form(elements: Elements) -> None:
    profile, data = extensions.serialize(elements)
    assert profile == 0xBEDE
    assert len(data) % 4 == 0
    assert len(data) - sum(1 + len(body) for _, body in elements) < 4


@pytest.mark.parametrize(
    "element", [(15, b"a"), (1, b""), (1, bytes(17)), (255, bytes(255))], ids=["id", "empty", "long", "longest"]
)
def test_what_does_not_fit_takes_the_two_byte_form(element: tuple[int, bytes]) -> None:
    profile, data = extensions.serialize([element])
    assert profile == 0x1000
    assert list(extensions.parse_untrusted(packet_with(profile, data))) == [element]


@pytest.mark.parametrize(
    ("profile", "data", "elements"),
    [
        # The figure of RFC 8285 section 4.2: three elements, padding between and after them.
        (
            0xBEDE,
            "10aa 22bbccdd 00 00 33 01020304",
            [(1, b"\xaa"), (2, b"\xbb\xcc\xdd"), (3, b"\x01\x02\x03\x04")],
        ),
        # The figure of section 4.3: the first element is empty.
        (0x1000, "0100 0201aa 00 0304 bbccddee", [(1, b""), (2, b"\xaa"), (3, b"\xbb\xcc\xdd\xee")]),
        (0x100F, "0101aa00", [(1, b"\xaa")]),
        (0xBEDE, "10aa f0bb 20cc 0000", [(1, b"\xaa")]),
        (0xBEDE, "10aa 01bbcc 20dd 00", [(1, b"\xaa")]),
        (0xBEDE, "", []),
        (0xBEDE, "00000000", []),
        (0x1010, "0101aa00", []),
        (0x0FFF, "0101aa00", []),
        (0xABAC, "10aa0000", []),
    ],
    ids=[
        "one-byte",
        "two-byte",
        "appbits",
        "id 15",
        "id 0 with a length",
        "empty",
        "padding",
        "1010",
        "0fff",
        "other",
    ],
)
def test_an_extension_is_read_as_rfc_8285_says(profile: int, data: str, elements: Elements) -> None:
    raw = bytes.fromhex(data)
    packet = packet_with(profile, raw + bytes(-len(raw) % 4))
    assert list(extensions.parse_untrusted(packet)) == elements


@pytest.mark.parametrize(
    ("profile", "data"),
    [(0xBEDE, "10aa2fbb"), (0xBEDE, "10aa0023"), (0x1000, "0101aa02"), (0x1000, "0101aa00 0204bbcc")],
    ids=["one-byte past the end", "one-byte without data", "no length", "two-byte past the end"],
)
def test_a_malformed_element_is_refused_and_those_before_it_are_found(profile: int, data: str) -> None:
    packet = packet_with(profile, bytes.fromhex(data))
    with pytest.raises(ProtocolError, match="RTP extension element"):
        extensions.parse_untrusted(packet)
    assert extensions.find_untrusted(packet, 1) == b"\xaa"
    assert extensions.find_untrusted(packet, 2) is None


def test_a_packet_without_extension_has_no_elements() -> None:
    packet = RtpHeader(1, 2, 3).serialize() + b"\xbe\xde\x00\x01\x10\xaa\x00\x00"
    assert extensions.parse_untrusted(packet) == ()
    assert extensions.find_untrusted(packet, 1) is None
    assert extensions.blank(packet, 1) is packet
    assert extensions.audio_level_untrusted(packet, 1) is None


@given(hostile_packets())
def test_hostile_bytes_give_elements_or_a_protocol_error_and_nothing_past_the_header(packet: bytes) -> None:
    try:
        elements = extensions.parse_untrusted(packet)
    except ProtocolError:
        return
    if len(packet) < 12:
        assert elements == ()
        return
    length = header_length_untrusted(packet)
    assert sum(len(data) + 1 for _, data in elements) <= length - 12
    assert extensions.parse_untrusted(packet[:length]) == elements


@given(hostile_packets(), st.integers(1, 255))
def test_blanking_takes_an_element_out_and_leaves_all_else(packet: bytes, element_id: int) -> None:
    blanked = extensions.blank(packet, element_id)
    assert len(blanked) == len(packet)
    assert extensions.find_untrusted(blanked, element_id) is None
    try:
        before = extensions.parse_untrusted(packet)
    except ProtocolError:
        return
    assert extensions.parse_untrusted(blanked) == tuple(one for one in before if one[0] != element_id)
    if len(packet) >= 12:
        length = header_length_untrusted(packet)
        assert header_length_untrusted(blanked) == length
        assert blanked[length:] == packet[length:]


def test_blanking_writes_zeros_over_id_length_and_data() -> None:
    packet = packet_with(0xBEDE, bytes.fromhex("10aa 31bbcc 000000"), payload=b"payload")
    blanked = extensions.blank(packet, 3)
    assert blanked == packet_with(0xBEDE, bytes.fromhex("10aa 000000 000000"), payload=b"payload")
    assert extensions.blank(packet, 2) is packet


def test_blanking_takes_out_what_comes_before_a_malformed_element() -> None:
    packet = packet_with(0xBEDE, bytes.fromhex("30aa 30bb 10aa 3f00"))
    assert extensions.blank(packet, 3) == packet_with(0xBEDE, bytes.fromhex("0000 0000 10aa 3f00"))


def test_blanking_walks_once_however_many_elements_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[bytes] = []
    walk = extensions._walk_untrusted

    def counted(packet: bytes) -> Iterator[tuple[int, int, int, int]]:
        walks.append(packet)
        return walk(packet)

    monkeypatch.setattr(extensions, "_walk_untrusted", counted)
    packet = packet_with(0x1000, bytes([3, 0]) * 950)
    assert extensions.blank(packet, 3) == packet_with(0x1000, bytes(1900))
    assert len(walks) == 1


@pytest.mark.parametrize(
    ("profile", "data", "level"),
    [
        (0xBEDE, "10 85 00 00", 0x85),
        (0xBEDE, "10 7f 00 00", 127),
        (0xBEDE, "31 aabb 10 05 000000", 5),
        (0x1000, "01 01 9e 00", 0x9E),
        (0x1000, "01 00 00 00", None),
        (0xBEDE, "11 85aa 00", 0x85),
        (0xBEDE, "20 85 00 00", None),
        (0xBEDE, "", None),
    ],
    ids=["voice", "silence", "second", "two-byte", "empty", "longer", "other id", "nothing"],
)
def test_the_audio_level_is_found_in_every_form(profile: int, data: str, level: int | None) -> None:
    raw = bytes.fromhex(data)
    for csrcs in ((), (7, 8)):
        assert extensions.audio_level_untrusted(packet_with(profile, raw, csrcs), 1) == level


@given(hostile_packets(), st.integers(1, 255))
def test_the_fast_way_to_the_audio_level_finds_what_the_plain_one_does(packet: bytes, element_id: int) -> None:
    plain = extensions.find_untrusted(packet, element_id)
    assert extensions.audio_level_untrusted(packet, element_id) == (plain[0] if plain else None)


@given(st.binary(min_size=4, max_size=4), st.integers(0, 20), st.integers(1, 14))
def test_so_it_does_where_the_fast_way_is_taken(data: bytes, cut: int, element_id: int) -> None:
    packet = packet_with(0xBEDE, bytes([element_id << 4 | (data[0] & 1)]) + data[1:])
    packet = packet[: len(packet) - cut]
    plain = extensions.find_untrusted(packet, element_id)
    assert extensions.audio_level_untrusted(packet, element_id) == (plain[0] if plain else None)


def test_contributing_sources_are_not_taken_for_an_extension() -> None:
    packet = packet_with(0xBEDE, bytes.fromhex("10050000"), csrcs=(0xBEDE0001, 0x10850000))
    assert extensions.audio_level_untrusted(packet, 1) == 5

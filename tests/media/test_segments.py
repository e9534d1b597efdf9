from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from livechat.media.segments import (
    CONTROL,
    CONTROL_LENGTH,
    GAIN_MIN,
    MESSAGE_BYTES_MAX,
    PACKET_BYTES_MAX,
    SEGMENTS_MAX,
    arrange,
    lay_out,
    may_gain,
)
from livechat.protocol.types import Address
from livechat.srtp.sealed import Destinations

ADDRESSES: list[Address] = [("192.0.2.1", port) for port in range(5)]

destinations = st.lists(
    st.one_of(
        st.sampled_from(ADDRESSES),
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=40).map(Destinations),
    ),
    min_size=1,
    max_size=10,
)


@given(destinations, st.integers(1, PACKET_BYTES_MAX))
def test_each_packet_is_in_one_message_for_its_address(to: list[Address | Destinations], size: int) -> None:
    wanted = [address for each in to for address in (each.addresses if isinstance(each, Destinations) else [each])]
    layout = lay_out(to, size)
    if layout is None:
        most = min(SEGMENTS_MAX, MESSAGE_BYTES_MAX // size)
        assert len(wanted) < GAIN_MIN * (len(set(wanted)) + len(wanted) // most)
        return
    assert sorted(layout.order) == list(range(len(wanted)))
    for address, start, count in zip(layout.addresses, layout.starts, layout.counts, strict=True):
        numbers = layout.order[start : start + count]
        assert numbers == sorted(numbers)
        assert {wanted[number] for number in numbers} == {address}
        assert count <= SEGMENTS_MAX
        assert count * size <= MESSAGE_BYTES_MAX
    assert sum(layout.counts) == len(wanted)


def test_turns_of_the_same_publishers_are_arranged_alike_and_each_keeps_its_order() -> None:
    ann, bob = Destinations(ADDRESSES[:2]), Destinations(ADDRESSES[1:3])
    one = arrange([(b"a1", ann), (b"b1", bob), (b"a2", ann)])
    other = arrange([(b"b2", bob), (b"a3", ann), (b"a4", ann)])
    assert [to for _, to in one] == [to for _, to in other]
    assert [data for data, to in one if to is ann] == [b"a1", b"a2"]
    assert [data for data, to in other if to is ann] == [b"a3", b"a4"]


def test_only_what_may_go_to_the_same_address_is_laid_out() -> None:
    ann, bob = Destinations(ADDRESSES[:2]), Destinations(ADDRESSES[1:3])
    assert may_gain([(b"a1", ann), (b"a2", ann)])
    assert may_gain([(b"a1", ann), (b"b1", bob)])
    assert may_gain([(b"a1", ann), (b"b1", ADDRESSES[0])])
    assert not may_gain([(b"a1", ann), (b"b1", Destinations(ADDRESSES[2:]))])
    assert not may_gain([(b"b1", Destinations(ADDRESSES[:1]))])


def test_the_control_message_is_laid_out_as_cmsg_data_says() -> None:
    assert CONTROL.size == 24
    assert CONTROL_LENGTH == 16 + 2

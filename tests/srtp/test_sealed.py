from __future__ import annotations

import pytest

from livechat.srtp.sealed import Destinations, Sealed, each_packet, packet_for

A, B, C = (("192.0.2.1", port) for port in (1, 2, 3))
SEALED: Sealed = [(b"one", A), (b"twothr", Destinations([B, C])), (b"", A), (b"", Destinations([C, A]))]


def test_bundles_come_apart_in_the_order_of_their_destinations() -> None:
    expected = [(b"one", A), (b"two", B), (b"thr", C), (b"", A), (b"", C), (b"", A)]
    assert list(each_packet(SEALED)) == expected


def test_the_packet_for_a_listener_is_its_own_also_where_others_share_its_address() -> None:
    sealed: Sealed = [(b"one", A), (b"twothr", Destinations([B, B], [5, 6])), (b"fou", Destinations([B], [6]))]
    assert packet_for(5, sealed) == b"two"
    assert packet_for(6, sealed) == b"thr"
    assert packet_for(7, sealed) is None


def test_nowhere_is_no_destination() -> None:
    with pytest.raises(AssertionError):
        Destinations([])

"""What the relay makes per packet goes away by itself: the garbage collector finds nothing to do.

A collection stops everything, chat included, and what it costs grows with the connections that it walks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from livechat.srtp.profile import SrtpProfile
from livechat.srtp.sealed import Sealed
from tests.support.room import Room
from tests.support.voice import PROFILES


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("profile", PROFILES)
def test_relayed_and_refused_packets_leave_no_cycles(profile: SrtpProfile, no_collections: None) -> None:
    room = Room()
    ann = room.join("ann", profile=profile)
    listeners = [room.join(f"user{number}", profile=profile, stated=True) for number in range(20)]
    room.speak(ann)
    gc.collect()
    for turn in range(50):
        out: Sealed = []
        packet = ann.speak(bytes(160))
        forged = bytes([*packet[:-1], packet[-1] ^ 1])
        for datagram in (packet, packet, forged, listeners[0].report(), b"junk"):
            room.relay.datagram(datagram, ann.address, room.now, out)
        room.relay.end_turn(out)
        assert len(out) == 1, turn
    assert gc.collect() == 0

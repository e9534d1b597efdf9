from __future__ import annotations

import random

import pytest

from livechat.hub.peer import MediaPeer
from livechat.media.legs import BUNDLE_LEGS_MAX, make_plan
from livechat.media.node import Node
from livechat.media.rtcp_state import RtcpState
from livechat.media.settings import DEFAULT_SPEAKING
from livechat.protocol.types import ChannelId, SessionId, Ssrc, UserId
from livechat.rtp.interval import ReportSchedule
from livechat.rtp.reception import Reception, make_clocks
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, master_of


def node(number: int, profile: SrtpProfile, *, has_address: bool = True) -> Node:
    peer = MediaPeer(
        peer_id=number,
        channel_id=ChannelId("room"),
        user_id=UserId(f"user{number}"),
        session_id=SessionId(f"sess{number}"),
        ssrc=Ssrc(number),
        egress_ssrc=Ssrc(number),
        reporter_ssrc=Ssrc(100_000 + number),
        profile=profile,
        client_key=master_of(profile, 1),
        server_key=master_of(profile, number),
        joined_at=0.0,
        address=("192.0.2.1", number) if has_address else None,
    )
    return Node(peer, DEFAULT_SPEAKING, RtcpState(Reception(make_clocks()), ReportSchedule(5.0)))


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300, 1000])
def test_legs_are_bundled_in_nearly_equal_parts(count: int) -> None:
    publisher = node(5000, PROFILES[0])
    listeners = [node(number, PROFILES[0]) for number in range(1, count + 1)]
    make_plan(publisher, listeners).begin_waiting(0, lambda below: 0)
    (group,) = make_plan(publisher, listeners).groups.values()
    sizes = [len(bundle.keys) for bundle in group.bundles]
    assert sum(sizes) == count
    assert max(sizes) <= BUNDLE_LEGS_MAX
    assert max(sizes) - min(sizes) <= 1
    assert sorted(address for bundle in group.bundles for address in bundle.destinations.addresses) == [
        ("192.0.2.1", number) for number in range(1, count + 1)
    ]


def test_a_bundle_has_one_length_of_packet_and_its_destinations_in_order() -> None:
    rng = random.Random(1)
    publisher = node(5000, PROFILES[0])
    listeners = [node(number, rng.choice(PROFILES), has_address=number % 7 > 0) for number in range(1, 200)]
    plan = make_plan(publisher, listeners)
    assert plan.mute == 28
    plan.begin_waiting(0, lambda below: 0)
    (group,) = make_plan(publisher, listeners).groups.values()
    by_address = {listener.peer.address: listener for listener in listeners}
    assert len(group.bundles) == 3
    header, payload = bytes(12), b"payload"
    for bundle in group.bundles:
        sealed = bundle.seal(bundle.keys, header, payload, 7, 9)
        ciphers = [by_address[address].rtp for address in bundle.destinations.addresses]
        assert sealed == b"".join(cipher.seal_rtp(header, payload, 7, 9) for cipher in ciphers)

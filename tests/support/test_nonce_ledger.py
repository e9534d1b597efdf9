from __future__ import annotations

import random

import pytest

from livechat.hub.media import MediaPeerHub
from livechat.hub.peer import MediaPeer
from livechat.protocol.types import ChannelId, SessionId, UserId
from livechat.rtp import rtcp
from livechat.rtp.demux import Kind
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from tests.support.nonce_ledger import NonceLedger
from tests.support.voice import PROFILES, rtp_packet, sender_report

HERE = ("192.0.2.1", 1)


def make_listener(profile: SrtpProfile) -> MediaPeer:
    hub = MediaPeerHub(random.Random(1).randbytes)
    return hub.add(ChannelId("c"), UserId("u"), SessionId("s"), profile=profile, now=0.0, address=HERE)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_ledger_knows_the_index_and_fails_on_its_repetition(profile: SrtpProfile) -> None:
    listener = make_listener(profile)
    ledger = NonceLedger()
    sender = SrtpSender(profile, listener.server_key, rollover=3)
    packet = sender.protect(rtp_packet(5, 7))
    report = sender.protect_rtcp(rtcp.serialize(sender_report(7)))
    entries = ledger.record([(packet, HERE), (report, HERE)], [listener])
    assert entries == [(listener, Kind.RTP, 7, 3 << 16 | 5), (listener, Kind.RTCP, 7, 0)]
    for repeated in (packet, report):
        with pytest.raises(AssertionError, match="two-time pad"):
            ledger.record([(repeated, HERE)], [listener])
    # The same index with other content is what a two-time pad really is.
    other = SrtpSender(profile, listener.server_key, rollover=3).protect(rtp_packet(5, 7, b"other"))
    for resends in (False, True):
        with pytest.raises(AssertionError, match="two-time pad"):
            ledger.record([(other, HERE)], [listener], resends=resends)
    assert len(ledger.record([(packet, HERE), (report, HERE)], [listener], resends=True)) == 2

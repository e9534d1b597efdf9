from __future__ import annotations

import base64

import attrs
import pytest

from livechat.client.voice import OVERLAP_S, VoiceKeys
from livechat.protocol.types import Ssrc
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp import rtcp
from livechat.srtp.context import AuthenticationError, ReplayError, SrtpError, SrtpReceiver, SrtpSender
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, master_of, rtp_packet, sender_report

each_profile = pytest.mark.parametrize("profile", PROFILES)


class Server:
    """The other end, under one grant."""

    def __init__(self, profile: SrtpProfile, number: int) -> None:
        client_key, server_key = master_of(profile, 2 * number), master_of(profile, 2 * number + 1)
        self.grant = MediaGrant(
            host="192.0.2.1",
            port=10_000 + number,
            ssrc=Ssrc(7),
            profile=profile.value,
            client_key=base64.b64encode(client_key).decode(),
            server_key=base64.b64encode(server_key).decode(),
            rtcp_mux=True,
        )
        self.sender = SrtpSender(profile, server_key)
        self.receiver = SrtpReceiver(profile, client_key)


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


@each_profile
def test_a_voice_is_protected_and_opened(profile: SrtpProfile) -> None:
    server = Server(profile, 1)
    voice = VoiceKeys(server.grant, Clock())
    assert (voice.ssrc, voice.address) == (7, ("192.0.2.1", 10_001))
    packet, report = rtp_packet(1, 7), rtcp.serialize(sender_report(7))
    assert server.receiver.unprotect(voice.protect(packet)) == packet
    assert server.receiver.unprotect_rtcp(voice.protect_rtcp(report)) == report
    assert voice.unprotect(server.sender.protect(packet)) == packet
    assert voice.unprotect_rtcp(server.sender.protect_rtcp(report)) == report


@each_profile
def test_nothing_is_lost_while_keys_change(profile: SrtpProfile) -> None:
    old, new, clock = Server(profile, 1), Server(profile, 2), Clock()
    voice = VoiceKeys(old.grant, clock)
    voice.unprotect(old.sender.protect(rtp_packet(65_530, 9)))
    late = [old.sender.protect(rtp_packet(65_531 + number, 9)) for number in range(4)]
    late_report = old.sender.protect_rtcp(rtcp.serialize(sender_report(9)))
    voice.update(new.grant)
    assert voice.address == ("192.0.2.1", 10_002)
    # What is sent goes under the new keys at once; what comes changes when the server does.
    packet = rtp_packet(3, 7)
    assert new.receiver.unprotect(voice.protect(packet)) == packet
    voice.unprotect(late[0])
    for number in range(20):
        packet = rtp_packet(65_535 + number, 9)
        assert voice.unprotect(new.sender.protect(packet)) == packet
    report = rtcp.serialize(sender_report(9))
    assert voice.unprotect_rtcp(new.sender.protect_rtcp(report)) == report
    for each in late[1:3]:
        voice.unprotect(each)
    with pytest.raises(ReplayError):
        voice.unprotect(late[1])
    voice.unprotect_rtcp(late_report)
    clock.now += OVERLAP_S
    with pytest.raises(SrtpError):
        voice.unprotect(late[3])


@each_profile
def test_what_neither_keys_open_is_refused_and_changes_nothing(profile: SrtpProfile) -> None:
    old, new = Server(profile, 1), Server(profile, 2)
    voice = VoiceKeys(old.grant, Clock())
    voice.update(new.grant)
    forged = SrtpSender(profile, master_of(profile, 99)).protect(rtp_packet(1, 9))
    with pytest.raises(AuthenticationError):
        voice.unprotect(forged)
    packet = rtp_packet(1, 9)
    assert voice.unprotect(old.sender.protect(packet)) == packet
    packet = rtp_packet(2, 9)
    assert voice.unprotect(new.sender.protect(packet)) == packet
    with pytest.raises(AuthenticationError):
        voice.unprotect(SrtpSender(profile, master_of(profile, 99)).protect(rtp_packet(3, 9)))


def test_a_grant_that_is_none_is_refused() -> None:
    grant = Server(SrtpProfile.AEAD_AES_128_GCM, 1).grant
    with pytest.raises(ValueError, match="SrtpProfile"):
        VoiceKeys(attrs.evolve(grant, profile="NONE"), Clock())

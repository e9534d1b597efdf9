from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.cli.media import open_untrusted, seal_untrusted, sign_of_life
from livechat.client.voice import VoiceKeys
from livechat.protocol.types import Ssrc
from livechat.protocol.voice_events import MediaGrant
from livechat.rtp import rtcp
from livechat.rtp.packet import RtpHeader, parse_untrusted
from livechat.srtp.context import SrtpSender
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, libsrtp_receiver, libsrtp_sender, master_of, rtp_packet, sender_report

SSRC = 0xFEDCBA98


def grant(profile: SrtpProfile = SrtpProfile.AES_CM_128_HMAC_SHA1_80, seed: int = 1) -> MediaGrant:
    client, server = (base64.b64encode(master_of(profile, seed + each)).decode() for each in (0, 100))
    return MediaGrant("192.0.2.1", 10_000, Ssrc(SSRC), profile.value, client, server, rtcp_mux=True)


def keys_of(profile: SrtpProfile = SrtpProfile.AES_CM_128_HMAC_SHA1_80) -> VoiceKeys:
    return VoiceKeys(grant(profile), lambda: 0.0)


# --- sealing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_what_ffmpeg_sends_leaves_under_the_grant_s_ssrc_and_key(profile: SrtpProfile) -> None:
    keys = keys_of(profile)
    receiver = libsrtp_receiver(profile, master_of(profile))
    for sequence in (65_534, 65_535, 65_536):
        sealed = seal_untrusted(keys, rtp_packet(sequence, ssrc=7, payload=b"speech"))
        assert sealed is not None
        header, payload = parse_untrusted(receiver.unprotect(sealed))
        assert (header.ssrc, header.sequence, payload) == (SSRC, sequence & 0xFFFF, b"speech")


def test_its_reports_leave_under_that_ssrc_as_well_and_without_what_is_not_the_sender_s() -> None:
    profile = SrtpProfile.AES_CM_128_HMAC_SHA1_80
    chunk = rtcp.SdesChunk(7, ((rtcp.SDES_CNAME, b"ffmpeg"),))
    compound = (sender_report(7), rtcp.SourceDescription((chunk,)), rtcp.Goodbye((7,)))
    sealed = seal_untrusted(keys_of(), rtcp.serialize_compound(compound))
    assert sealed is not None
    plain = libsrtp_receiver(profile, master_of(profile)).unprotect_rtcp(sealed)
    report, description = rtcp.parse_compound_untrusted(plain)
    assert isinstance(report, rtcp.SenderReport)
    assert (report.ssrc, report.reports, report.packet_count) == (SSRC, (), 7)
    assert description == rtcp.SourceDescription((rtcp.SdesChunk(SSRC, chunk.items),))


def test_a_sign_of_life_is_an_empty_report() -> None:
    profile = SrtpProfile.AES_CM_128_HMAC_SHA1_80
    receiver = libsrtp_receiver(profile, master_of(profile))
    keys = keys_of()
    for _ in range(2):
        plain = receiver.unprotect_rtcp(sign_of_life(keys))
        assert rtcp.parse_compound_untrusted(plain) == [rtcp.ReceiverReport(SSRC)]


def test_a_sequence_number_is_not_sealed_twice() -> None:
    keys = keys_of()
    assert seal_untrusted(keys, rtp_packet(5)) is not None
    assert seal_untrusted(keys, rtp_packet(5, payload=b"another")) is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x80",
        b"\x80" * 11,
        b"\x00\x01" + bytes(18),
        b"\x16\xfe\xff" + bytes(20),
        b"\xbf" + bytes(11),
        rtcp.serialize(rtcp.ReceiverReport(7)),
        rtcp.serialize(sender_report(7))[:-1],
        b"\x81\xc9\xff\xff" + bytes(8),
    ],
)
def test_what_is_no_media_is_not_sealed(datagram: bytes) -> None:
    assert seal_untrusted(keys_of(), datagram) is None


@given(st.binary(max_size=120))
def test_nothing_that_comes_to_the_local_port_raises(datagram: bytes) -> None:
    keys = keys_of()
    seal_untrusted(keys, datagram)
    assert open_untrusted(keys, datagram) is None


# --- opening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_server_sends_is_opened_under_new_and_old_keys(profile: SrtpProfile) -> None:
    keys = keys_of(profile)
    senders = [libsrtp_sender(profile, master_of(profile, seed + 100)) for seed in (1, 2)]
    keys.update(grant(profile, 2))
    for sender in senders:
        opened = open_untrusted(keys, sender.protect(rtp_packet(1000, ssrc=9)))
        assert opened is not None
        assert (opened[0].ssrc, opened[1]) == (9, b"speech")


def test_a_replay_and_a_report_are_not_handed_on() -> None:
    profile = SrtpProfile.AES_CM_128_HMAC_SHA1_80
    keys = keys_of()
    sender = SrtpSender(profile, master_of(profile, 101))
    packet = sender.protect(rtp_packet(1000))
    assert open_untrusted(keys, packet) is not None
    assert open_untrusted(keys, packet) is None
    assert open_untrusted(keys, sender.protect_rtcp(rtcp.serialize(sender_report(7)))) is None
    assert open_untrusted(keys, os.urandom(100)) is None


@pytest.mark.parametrize(("padding", "left"), [(b"\x00\x02", b"speech"), (b"\xff", b""), (b"\x00", b"speech\x00")])
def test_padding_is_taken_off(padding: bytes, left: bytes) -> None:
    profile = SrtpProfile.AES_CM_128_HMAC_SHA1_80
    keys = keys_of()
    packet = RtpHeader(1000, 0, 9, 111, padding=True).serialize() + b"speech" + padding
    opened = open_untrusted(keys, SrtpSender(profile, master_of(profile, 101)).protect(packet))
    assert opened is not None
    header, payload = opened
    assert (header.padding, payload) == (False, left)

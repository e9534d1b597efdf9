"""A receiver against forgeries: an SrtpError, and nothing in it has changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp import rtcp
from livechat.srtp.context import SrtpReceiver, SrtpSender
from livechat.srtp.error import ReplayError, SrtpError
from livechat.srtp.profile import SrtpProfile
from tests.support.mutation import mutated
from tests.support.voice import PROFILES, master_of, receiver_state, rtp_packet, sender_report

SSRC = 0x1234
each_profile = pytest.mark.parametrize("profile", PROFILES)


def talking(profile: SrtpProfile) -> tuple[SrtpSender, SrtpReceiver]:
    """Return a pair that has exchanged packets of both kinds."""
    sender, receiver = (cls(profile, master_of(profile)) for cls in (SrtpSender, SrtpReceiver))
    assert isinstance(sender, SrtpSender)
    assert isinstance(receiver, SrtpReceiver)
    for sequence in (65_530, 65_531, 65_540):
        receiver.open(sender.protect(rtp_packet(sequence, SSRC)))
    receiver.open_rtcp(sender.protect_rtcp(rtcp.serialize(sender_report(SSRC))))
    return sender, receiver


def assert_refused(receiver: SrtpReceiver, data: bytes) -> None:
    """Assert that neither way of opening takes it, or is changed by it."""
    before = receiver_state(receiver)
    for unprotect in (receiver.open, receiver.open_rtcp):
        with pytest.raises(SrtpError):
            unprotect(data)
        assert receiver_state(receiver) == before


@each_profile
@given(data=st.data())
def test_a_packet_that_is_almost_authentic_is_refused(profile: SrtpProfile, data: st.DataObject) -> None:
    sender, receiver = talking(profile)
    extension = data.draw(st.none() | st.just((0xBEDE, b"\x10\x7f\x00\x00")))
    plain = rtp_packet(65_541, SSRC, data.draw(st.binary(max_size=40)), csrcs=(1, 2), extension=extension)
    for packet in (sender.protect(plain), sender.protect_rtcp(rtcp.serialize(sender_report(SSRC)))):
        forged = data.draw(mutated(packet))
        if forged != packet:
            assert_refused(receiver, forged)
    # After all that the good one is still taken.
    assert receiver.unprotect(sender.protect(rtp_packet(65_542, SSRC, b"good")))[-4:] == b"good"


@each_profile
@given(data=st.binary(max_size=120))
def test_bytes_at_random_are_refused(profile: SrtpProfile, data: bytes) -> None:
    _, receiver = talking(profile)
    assert_refused(receiver, data)
    assert_refused(receiver, b"\x80\x6f" + data[:6] + SSRC.to_bytes(4, "big") + data[6:])
    assert_refused(receiver, b"\x80\xc8" + data[:2] + SSRC.to_bytes(4, "big") + data[2:])


@each_profile
def test_a_packet_is_refused_at_every_length_but_its_own(profile: SrtpProfile) -> None:
    sender, receiver = talking(profile)
    packets = (sender.protect(rtp_packet(65_541, SSRC)), sender.protect_rtcp(rtcp.serialize(sender_report(SSRC))))
    for packet in packets:
        for length in range(len(packet)):
            assert_refused(receiver, packet[:length])
        for more in (1, 4, 10, 16, 65_000):
            assert_refused(receiver, packet + bytes(more))
    receiver.open(packets[0])
    receiver.open_rtcp(packets[1])


@each_profile
def test_the_index_of_a_report_cannot_be_changed(profile: SrtpProfile) -> None:
    """It is in the clear, so that it would make an old report a new one."""
    sender, receiver = talking(profile)
    packet = sender.protect_rtcp(rtcp.serialize(sender_report(SSRC)))
    receiver.open_rtcp(packet)
    before = receiver_state(receiver)
    end = len(packet) - (0 if profile.is_aead else profile.rtcp_tag_bytes)
    for index in (0, 1, 2, 3, 1000, 2**31 - 1):
        for encrypted in (0, 1 << 31):
            word = (encrypted | index).to_bytes(4, "big")
            with pytest.raises(SrtpError):
                receiver.open_rtcp(packet[: end - 4] + word + packet[end:])
    with pytest.raises(ReplayError):
        receiver.open_rtcp(packet)
    assert receiver_state(receiver) == before


@each_profile
def test_a_thousand_ssrcs_that_are_not_authentic_make_no_stream(profile: SrtpProfile) -> None:
    _, receiver = talking(profile)
    before = receiver_state(receiver)
    stranger = SrtpSender(profile, master_of(profile, 2))
    for ssrc in range(1000):
        for packet in (
            stranger.protect(rtp_packet(1, ssrc)),
            stranger.protect_rtcp(rtcp.serialize(rtcp.ReceiverReport(ssrc))),
        ):
            unprotect = receiver.open_rtcp if packet[1] >= 192 else receiver.open
            with pytest.raises(SrtpError):
                unprotect(packet)
    assert receiver_state(receiver) == before

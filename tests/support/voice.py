"""RTP and RTCP packets to send, and libsrtp to check against."""

from __future__ import annotations

from pylibsrtp import Policy, Session

from livechat.rtp import rtcp
from livechat.rtp.packet import RtpHeader
from livechat.srtp.context import SrtpReceiver
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.succession import Receiver

PROFILES = tuple(SrtpProfile)

_LIBSRTP_PROFILES = {
    SrtpProfile.AEAD_AES_128_GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AEAD_AES_256_GCM: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    SrtpProfile.AES_CM_128_HMAC_SHA1_80: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    SrtpProfile.AES_CM_128_HMAC_SHA1_32: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


def master_of(profile: SrtpProfile, seed: int = 1) -> bytes:
    """Return a master key ‖ salt that differs by seed."""
    return bytes((seed * 31 + position * 7) & 0xFF for position in range(profile.master_bytes))


def libsrtp_sender(profile: SrtpProfile, master: bytes) -> Session:
    """Return a libsrtp session that protects, for any ssrc."""
    policy = Policy(master, Policy.SSRC_ANY_OUTBOUND, srtp_profile=_LIBSRTP_PROFILES[profile])
    return Session(policy)


def libsrtp_receiver(profile: SrtpProfile, master: bytes) -> Session:
    """Return a libsrtp session that unprotects, for any ssrc."""
    policy = Policy(master, Policy.SSRC_ANY_INBOUND, srtp_profile=_LIBSRTP_PROFILES[profile])
    return Session(policy)


def rtp_packet(
    sequence: int,
    ssrc: int = 0x1234,
    payload: bytes = b"speech",
    *,
    csrcs: tuple[int, ...] = (),
    extension: tuple[int, bytes] | None = None,
) -> bytes:
    """Return an RTP packet; only the low 16 bits of the sequence number are used."""
    header = RtpHeader(
        sequence=sequence & 0xFFFF,
        timestamp=sequence * 160 & 0xFFFFFFFF,
        ssrc=ssrc,
        payload_type=0,
        csrcs=csrcs,
        extension=extension,
    )
    return header.serialize() + payload


def sender_report(ssrc: int, *, packet_count: int = 7) -> rtcp.SenderReport:
    """Return an SR with a report block in it."""
    block = rtcp.ReportBlock(ssrc=0xAAAA, fraction_lost=3, cumulative_lost=-2, highest_sequence=99)
    return rtcp.SenderReport(
        ssrc=ssrc,
        ntp_timestamp=0x0123456789ABCDEF,
        rtp_timestamp=160,
        packet_count=packet_count,
        octet_count=1120,
        reports=(block,),
    )


def receiver_state(receiver: Receiver) -> object:
    """Return everything that an accepted packet may change in a receiver, fit for comparison."""
    assert isinstance(receiver, SrtpReceiver)
    return [
        {ssrc: (window.highest, window._seen) for ssrc, window in streams.items()}
        for streams in (receiver._streams, receiver._rtcp_streams)
    ]

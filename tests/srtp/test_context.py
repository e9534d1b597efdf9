from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livechat.rtp import rtcp
from livechat.rtp.packet import RtpHeader
from livechat.srtp.cipher import RTCP_ENCRYPTED, make_ciphers
from livechat.srtp.context import (
    RTCP_INDEX_MAX,
    RTP_INDEX_MAX,
    STREAMS_MAX,
    AuthenticationError,
    KeyLifetimeExceeded,
    MalformedPacket,
    OpenedRtp,
    ReplayError,
    SrtpError,
    SrtpReceiver,
    SrtpSender,
    TooManyStreams,
)
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.window import WINDOW_PACKETS, ReplayWindow
from tests.support.voice import PROFILES, master_of, receiver_state, rtp_packet, sender_report

CM_80 = SrtpProfile.AES_CM_128_HMAC_SHA1_80
GCM = SrtpProfile.AEAD_AES_128_GCM

each_profile = pytest.mark.parametrize("profile", PROFILES)


def pair(profile: SrtpProfile) -> tuple[SrtpSender, SrtpReceiver]:
    master = master_of(profile)
    return SrtpSender(profile, master), SrtpReceiver(profile, master)


def flip(packet: bytes, bit: int) -> bytes:
    """Return the packet with one bit changed."""
    changed = bytearray(packet)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# --- round trips ----------------------------------------------------------------------------------


@each_profile
@given(
    sequences=st.lists(st.integers(0, 65535), min_size=1, max_size=20, unique=True),
    ssrc=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=300),
    csrcs=st.lists(st.integers(0, 2**32 - 1), max_size=15).map(tuple),
    extension=st.none() | st.tuples(st.integers(0, 65535), st.binary(max_size=5).map(lambda data: data * 4)),
)
def test_what_was_protected_is_unprotected(
    profile: SrtpProfile,
    sequences: list[int],
    ssrc: int,
    payload: bytes,
    csrcs: tuple[int, ...],
    extension: tuple[int, bytes] | None,
) -> None:
    sender, receiver = pair(profile)
    for sequence in sequences:
        packet = rtp_packet(sequence, ssrc, payload, csrcs=csrcs, extension=extension)
        try:
            protected = sender.protect(packet)
        except ReplayError:
            continue  # a jump back beyond the window
        assert len(protected) == len(packet) + profile.rtp_tag_bytes
        assert receiver.unprotect(protected) == packet


@each_profile
@given(count=st.integers(1, 5), ssrc=st.integers(0, 2**32 - 1))
def test_what_was_protected_is_unprotected_with_rtcp(profile: SrtpProfile, count: int, ssrc: int) -> None:
    sender, receiver = pair(profile)
    packet = rtcp.serialize(sender_report(ssrc))
    for _ in range(count):
        protected = sender.protect_rtcp(packet)
        assert len(protected) == len(packet) + 4 + profile.rtcp_tag_bytes
        assert receiver.unprotect_rtcp(protected) == packet


def test_a_profile_may_be_given_by_name() -> None:
    master = master_of(GCM)
    protected = SrtpSender("AEAD_AES_128_GCM", master).protect(rtp_packet(1))
    assert SrtpReceiver(GCM, master).unprotect(protected) == rtp_packet(1)
    with pytest.raises(ValueError, match="not a valid SrtpProfile"):
        SrtpSender("F8_128_HMAC_SHA1_80", master)


@each_profile
def test_a_master_of_another_length_is_refused(profile: SrtpProfile) -> None:
    with pytest.raises(ValueError, match="bytes of key and salt"):
        SrtpSender(profile, bytes(13))
    with pytest.raises(ValueError, match="bytes of key and salt"):
        SrtpReceiver(profile, bytes(13))


@each_profile
def test_streams_of_one_key_do_not_disturb_each_other(profile: SrtpProfile) -> None:
    sender, receiver = pair(profile)
    for sequence in range(65530, 65545):
        for ssrc in (1, 2, 3):
            packet = rtp_packet(sequence + ssrc * 100, ssrc)
            assert receiver.unprotect(sender.protect(packet)) == packet


# --- indexes --------------------------------------------------------------------------------------


@each_profile
def test_the_rollover_count_survives_three_wraps(profile: SrtpProfile) -> None:
    sender, receiver = pair(profile)
    for sequence in range(65000, 65000 + 4 * 65536, 1000):
        packet = rtp_packet(sequence)
        protected = sender.protect(packet)
        ssrc, index, header_bytes, payload, is_newest = receiver.open(protected)
        assert (ssrc, index, is_newest) == (0x1234, sequence, True)
        assert protected[:header_bytes] + payload == packet


@each_profile
def test_a_first_packet_just_after_a_rollover_is_found(profile: SrtpProfile) -> None:
    sender, receiver = pair(profile)
    lost = [sender.protect(rtp_packet(sequence)) for sequence in range(65530, 65536)]
    first = sender.protect(rtp_packet(65536))
    assert receiver.open(first)[1] == 65536
    # Those before the rollover are behind it now, not a cycle ahead.
    assert receiver.open(lost[-1])[1] == 65535


@each_profile
def test_a_first_packet_of_the_upper_half_is_tried_at_one_rollover_count_only(profile: SrtpProfile) -> None:
    master = master_of(profile)
    receiver = SrtpReceiver(profile, master)
    with pytest.raises(AuthenticationError):
        receiver.unprotect(SrtpSender(profile, master, rollover=1).protect(rtp_packet(0x8000)))
    with pytest.raises(AuthenticationError):
        receiver.unprotect(SrtpSender(profile, master, rollover=2).protect(rtp_packet(0x7FFF)))
    assert receiver_state(receiver) == [{}, {}]
    receiver.unprotect(SrtpSender(profile, master, rollover=1).protect(rtp_packet(0x7FFF)))


def test_a_sender_and_a_receiver_may_begin_at_another_rollover_count() -> None:
    master = master_of(GCM)
    protected = SrtpSender(GCM, master, rollover=9).protect(rtp_packet(40000))
    assert SrtpReceiver(GCM, master, rollover=9).open(protected)[1] == 9 << 16 | 40000


@each_profile
def test_the_window_accepts_late_packets_once(profile: SrtpProfile) -> None:
    sender, receiver = pair(profile)
    packets = [sender.protect(rtp_packet(sequence)) for sequence in range(60000, 60000 + 2 * WINDOW_PACKETS)]
    receiver.unprotect(packets[-1])
    for late in packets[-WINDOW_PACKETS:-1]:
        assert receiver.open(late)[4] is False
    for packet in packets:
        with pytest.raises(ReplayError):
            receiver.unprotect(packet)


@each_profile
def test_a_sender_never_spends_an_index_twice(profile: SrtpProfile) -> None:
    sender, _ = pair(profile)
    sender.protect(rtp_packet(100, payload=b"one"))
    sender.protect(rtp_packet(98, payload=b"late but new"))
    for sequence in (100, 98):
        with pytest.raises(ReplayError):
            sender.protect(rtp_packet(sequence, payload=b"two"))


def test_a_sender_does_not_guess_its_way_back_over_a_rollover() -> None:
    sender = SrtpSender(CM_80, master_of(CM_80))
    for sequence in range(50000, 65536 + 10, 1000):
        sender.protect(rtp_packet(sequence))
    # 50000 is nearest to what was sent under rollover count 0: the index of the very first packet.
    with pytest.raises(ReplayError):
        sender.protect(rtp_packet(50000))


def test_srtcp_counts_from_zero_and_accepts_one_as_well() -> None:
    sender, receiver = pair(GCM)
    packet = rtcp.serialize(sender_report(1))
    protected = sender.protect_rtcp(packet)
    assert protected[-4:].hex() == "80000000"
    assert sender.protect_rtcp(packet)[-4:].hex() == "80000001"
    # libsrtp's first index is 1; a 0 that comes later is then only late.
    receiver.unprotect_rtcp(SrtcpAt(GCM, 1).seal(packet))
    receiver.unprotect_rtcp(protected)
    with pytest.raises(ReplayError):
        receiver.unprotect_rtcp(protected)


class SrtcpAt:
    """Seals SRTCP at a chosen index, encrypted or not."""

    def __init__(self, profile: SrtpProfile, index: int, *, encrypted: bool = True) -> None:
        self._cipher = make_ciphers(profile, master_of(profile))[1]
        self._word = index | (RTCP_ENCRYPTED if encrypted else 0)

    def seal(self, packet: bytes) -> bytes:
        return self._cipher.seal_rtcp(packet, int.from_bytes(packet[4:8], "big"), self._word)


@each_profile
def test_srtcp_that_is_only_authenticated_is_accepted(profile: SrtpProfile) -> None:
    receiver = SrtpReceiver(profile, master_of(profile))
    packet = rtcp.serialize(sender_report(1))
    protected = SrtcpAt(profile, 5, encrypted=False).seal(packet)
    assert packet in protected
    assert receiver.unprotect_rtcp(protected) == packet
    # Encrypted or not, an index is an index.
    with pytest.raises(ReplayError):
        receiver.unprotect_rtcp(SrtcpAt(profile, 5).seal(packet))


@each_profile
def test_srtcp_indexes_have_a_window(profile: SrtpProfile) -> None:
    receiver = SrtpReceiver(profile, master_of(profile))
    packet = rtcp.serialize(sender_report(1))
    receiver.unprotect_rtcp(SrtcpAt(profile, 1000).seal(packet))
    assert receiver.open_rtcp(SrtcpAt(profile, 1000 - WINDOW_PACKETS + 1).seal(packet))[3] is False
    with pytest.raises(ReplayError):
        receiver.unprotect_rtcp(SrtcpAt(profile, 1000 - WINDOW_PACKETS).seal(packet))


# --- limits ---------------------------------------------------------------------------------------


@each_profile
def test_a_stream_ends_with_its_indexes(profile: SrtpProfile) -> None:
    master = master_of(profile)
    sender = SrtpSender(profile, master, rollover=0xFFFFFFFF)
    receiver = SrtpReceiver(profile, master, rollover=0xFFFFFFFF)
    last = rtp_packet(0xFFFF)
    assert receiver.unprotect(sender.protect(last)) == last
    before = receiver_state(receiver)
    with pytest.raises(KeyLifetimeExceeded):
        sender.protect(rtp_packet(0))
    with pytest.raises(KeyLifetimeExceeded):
        receiver.unprotect(rtp_packet(0) + bytes(16))
    assert receiver_state(receiver) == before


def test_no_retry_leads_past_the_last_rollover_count() -> None:
    receiver = SrtpReceiver(GCM, master_of(GCM), rollover=0xFFFFFFFF)
    with pytest.raises(KeyLifetimeExceeded):
        receiver.unprotect(rtp_packet(0) + bytes(16))


@each_profile
def test_srtcp_ends_with_its_indexes(profile: SrtpProfile) -> None:
    sender, receiver = pair(profile)
    packet = rtcp.serialize(sender_report(1))
    sender._rtcp_next[1] = RTCP_INDEX_MAX
    assert receiver.unprotect_rtcp(sender.protect_rtcp(packet)) == packet
    with pytest.raises(KeyLifetimeExceeded):
        sender.protect_rtcp(packet)


def test_a_receiver_refuses_authentic_streams_past_its_limit_and_keeps_the_others() -> None:
    sender, receiver = pair(GCM)
    for ssrc in range(STREAMS_MAX):
        receiver.unprotect(sender.protect(rtp_packet(1, ssrc)))
        receiver.unprotect_rtcp(sender.protect_rtcp(rtcp.serialize(sender_report(ssrc))))
    before = receiver_state(receiver)
    with pytest.raises(TooManyStreams):
        receiver.unprotect(sender.protect(rtp_packet(1, STREAMS_MAX)))
    with pytest.raises(TooManyStreams):
        receiver.unprotect_rtcp(sender.protect_rtcp(rtcp.serialize(sender_report(STREAMS_MAX))))
    assert receiver_state(receiver) == before
    receiver.unprotect(sender.protect(rtp_packet(2, 0)))


# --- refusals change nothing ----------------------------------------------------------------------


@each_profile
@given(data=st.data())
def test_any_flipped_bit_is_refused_without_a_trace(profile: SrtpProfile, data: st.DataObject) -> None:
    sender, receiver = pair(profile)
    if data.draw(st.booleans()):
        receiver.unprotect(sender.protect(rtp_packet(65534)))
    packet = rtp_packet(65535, csrcs=(7,), extension=(0xBEDE, b"\x10\xff\0\0"))
    protected = sender.protect(packet)
    before = receiver_state(receiver)
    bit = data.draw(st.integers(0, 8 * len(protected) - 1))
    with pytest.raises(SrtpError):
        receiver.unprotect(flip(protected, bit))
    assert receiver_state(receiver) == before
    assert receiver.unprotect(protected) == packet


@each_profile
@given(data=st.data())
def test_any_flipped_bit_of_srtcp_is_refused_without_a_trace(profile: SrtpProfile, data: st.DataObject) -> None:
    sender, receiver = pair(profile)
    packet = rtcp.serialize(sender_report(1))
    if data.draw(st.booleans()):
        receiver.unprotect_rtcp(sender.protect_rtcp(packet))
    protected = sender.protect_rtcp(packet)
    before = receiver_state(receiver)
    bit = data.draw(st.integers(0, 8 * len(protected) - 1))
    with pytest.raises(SrtpError):
        receiver.unprotect_rtcp(flip(protected, bit))
    assert receiver_state(receiver) == before
    assert receiver.unprotect_rtcp(protected) == packet


@each_profile
@given(packet=st.binary(max_size=80))
def test_hostile_bytes_raise_srtp_errors_and_leave_no_trace(profile: SrtpProfile, packet: bytes) -> None:
    receiver = SrtpReceiver(profile, master_of(profile))
    # Bytes that look like the real thing get further than others.
    for hostile in (packet, b"\x80" + packet, b"\x9f" + packet):
        with pytest.raises(SrtpError):
            receiver.unprotect(hostile)
        with pytest.raises(SrtpError):
            receiver.unprotect_rtcp(hostile)
    assert receiver_state(receiver) == [{}, {}]


@given(packet=st.binary(max_size=80))
def test_a_sender_refuses_what_is_no_packet(packet: bytes) -> None:
    sender = SrtpSender(GCM, master_of(GCM))
    for protect in (sender.protect, sender.protect_rtcp):
        try:
            protect(packet)
        except MalformedPacket:
            pass


@each_profile
def test_a_packet_shorter_than_header_and_tag_is_malformed(profile: SrtpProfile) -> None:
    receiver = SrtpReceiver(profile, master_of(profile))
    with pytest.raises(MalformedPacket):
        receiver.unprotect(rtp_packet(1, payload=b"") + bytes(profile.rtp_tag_bytes - 1))
    with pytest.raises(AuthenticationError):
        receiver.unprotect(rtp_packet(1, payload=b"") + bytes(profile.rtp_tag_bytes))
    with pytest.raises(MalformedPacket):
        receiver.unprotect_rtcp(bytes.fromhex("80c9000100000001") + bytes(profile.rtcp_tag_bytes + 3))
    with pytest.raises(AuthenticationError):
        receiver.unprotect_rtcp(bytes.fromhex("80c9000100000001") + bytes(profile.rtcp_tag_bytes + 4))


@each_profile
def test_a_header_that_runs_into_the_tag_is_malformed(profile: SrtpProfile) -> None:
    receiver = SrtpReceiver(profile, master_of(profile))
    packet = b"\x8f" + rtp_packet(1, payload=bytes(59))[1:] + bytes(profile.rtp_tag_bytes)
    with pytest.raises(MalformedPacket):
        receiver.unprotect(packet)


def test_neither_direction_nor_key_is_taken_for_another() -> None:
    protected = SrtpSender(GCM, master_of(GCM, 1)).protect(rtp_packet(1))
    with pytest.raises(AuthenticationError):
        SrtpReceiver(GCM, master_of(GCM, 2)).unprotect(protected)


class PlainReceiver(SrtpReceiver):
    """Takes the long way for every packet."""

    def open(self, packet: bytes) -> OpenedRtp:
        return self._open_any(packet)


def outcome(receiver: SrtpReceiver, packet: bytes) -> object:
    try:
        return receiver.open(packet)
    except SrtpError as exc:
        return type(exc)


@pytest.mark.parametrize("profile", [CM_80, GCM])
@pytest.mark.parametrize("start", [0, 65_500, RTP_INDEX_MAX - 40])
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from(("as it is", "flip", "cut", "header")), st.integers(0, 400))
    )
)
def test_the_short_way_does_what_the_long_way_does(
    profile: SrtpProfile, start: int, arrivals: list[tuple[int, str, int]]
) -> None:
    cipher, _ = make_ciphers(profile, master_of(profile))
    short, long = (receiver(profile, master_of(profile)) for receiver in (SrtpReceiver, PlainReceiver))
    for each in (short, long):
        # So many packets before: the rollover and the end of the key are near.
        each._streams[7] = ReplayWindow()
        each._streams[7].commit(start)
    for ahead, change, where in [*((ahead, "as it is", 0) for ahead in range(5)), *arrivals]:
        index = start + ahead
        header = RtpHeader(sequence=index & 0xFFFF, timestamp=1, ssrc=7, padding=bool(where & 1)).serialize()
        packet = bytearray(cipher.seal_rtp(header, b"payload", 7, min(index, RTP_INDEX_MAX)))
        if change == "flip":
            packet[where % len(packet)] ^= 1 << where % 8
        elif change == "cut":
            del packet[where % len(packet) :]
        elif change == "header":
            packet[0] = where & 0xFF
        assert outcome(short, bytes(packet)) == outcome(long, bytes(packet))
        assert receiver_state(short) == receiver_state(long)

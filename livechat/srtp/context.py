"""Owns the state of SRTP and SRTCP under one master key: per ssrc an index, a rollover count, a window.

It must not know addresses, sockets or time, and neither side's key may serve the other direction.

Source: RFC 3711 sections 3.2, 3.3 and 3.4, RFC 7714. No MKI, no key derivation rate.

The receiver's order is the security of it; each step may refuse the packet, none before the last
changes anything:

    bounds -> look up the stream without creating it -> estimate the index -> replay check
    -> tag in constant time -> decrypt -> commit window, rollover count and stream
"""

from __future__ import annotations

import struct
from typing import Final

from livechat.error import ProtocolError
from livechat.rtp.packet import FIXED_BYTES, PLAIN, PLAIN_MASK, header_length_untrusted
from livechat.srtp.cipher import RTCP_CLEAR_BYTES, RTCP_ENCRYPTED, make_ciphers
from livechat.srtp.error import (
    AuthenticationError,
    KeyLifetimeExceeded,
    MalformedPacket,
    ReplayError,
    SrtpError,
    TooManyStreams,
)
from livechat.srtp.profile import SrtpProfile
from livechat.srtp.window import ReplayWindow

__all__ = [
    "AuthenticationError",
    "KeyLifetimeExceeded",
    "MalformedPacket",
    "ReplayError",
    "SrtpError",
    "SrtpReceiver",
    "SrtpSender",
    "TooManyStreams",
]

RTP_INDEX_MAX: Final = (1 << 48) - 1
RTCP_INDEX_MAX: Final = (1 << 31) - 1
STREAMS_MAX: Final = 1024
"""Authentic ssrcs that a receiver keeps windows for, of SRTP and of SRTCP each. Past it a new one is
refused: to forget a window instead would let its packets be replayed."""

_SEQUENCE_SSRC: Final = struct.Struct(">2xH4xI")
_RTCP_SSRC: Final = struct.Struct(">4xI")

OpenedRtp = tuple[int, int, int, bytes, bool]
"""(ssrc, index, header bytes, payload, whether newer than all before it)."""
OpenedRtcp = tuple[int, int, bytes, bool]
"""(ssrc, index, RTCP compound, whether newer than all before it)."""


class SrtpSender:
    """Protects what one side sends, for any number of ssrcs.

    It keeps its own rollover counts and never gives out an index twice: a sequence number that was
    protected before raises `ReplayError`, even with the same packet, and so does one further behind
    than the window, which could only be a guess at an index used long ago. Streams are never
    forgotten, so use one sender for a key as long as the key lives.
    """

    def __init__(self, profile: SrtpProfile | str, master: bytes, *, rollover: int = 0) -> None:
        """Make a sender.

        Args:
            profile: a profile or its name.
            master: master key ‖ master salt.
            rollover: the rollover count at which every stream begins.

        Raises:
            ValueError: no such profile, or a master of another length than it wants.
        """
        self._rtp, self._rtcp = make_ciphers(SrtpProfile(profile), master)
        self._rollover = rollover
        self._streams: dict[int, ReplayWindow] = {}
        self._rtcp_next: dict[int, int] = {}

    def protect(self, packet: bytes) -> bytes:
        """Return the SRTP packet of an RTP packet.

        Raises:
            MalformedPacket: it is no RTP packet.
            ReplayError: its sequence number was protected before, or is too old to tell.
            KeyLifetimeExceeded: the stream has used up its 2^48 indexes.
        """
        header_bytes = _header_length(packet, 0)
        sequence, ssrc = _SEQUENCE_SSRC.unpack_from(packet)
        window = self._streams.get(ssrc)
        if window is None:
            window = ReplayWindow()
            index = self._rollover << 16 | sequence
        else:
            index = window.estimate(sequence)
        _check_rtp(window, index)
        # The index is spent before anything is sealed with it: whatever fails from here on, it
        # will not be sealed with again.
        self._streams[ssrc] = window
        window.commit(index)
        return self._rtp.seal_rtp(packet[:header_bytes], packet[header_bytes:], ssrc, index)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Return the SRTCP packet of an RTCP compound, encrypted; the index counts from 0 per ssrc.

        Raises:
            MalformedPacket: it is no RTCP packet.
            KeyLifetimeExceeded: the ssrc has used up its 2^31 indexes.
        """
        ssrc = _rtcp_ssrc(packet, 0)
        index = self._rtcp_next.get(ssrc, 0)
        if index > RTCP_INDEX_MAX:
            raise KeyLifetimeExceeded(f"SRTCP index: expected at most {RTCP_INDEX_MAX}")
        self._rtcp_next[ssrc] = index + 1
        return self._rtcp.seal_rtcp(packet, ssrc, RTCP_ENCRYPTED | index)


class SrtpReceiver:
    """Opens what the other side sent, for any number of ssrcs up to `STREAMS_MAX`.

    An error leaves the receiver exactly as it was: only an authentic packet moves a window or makes
    a stream.
    """

    def __init__(self, profile: SrtpProfile | str, master: bytes, *, rollover: int = 0) -> None:
        """Make a receiver.

        Args:
            profile: a profile or its name.
            master: master key ‖ master salt.
            rollover: the rollover count expected of the first packet of every stream.

        Raises:
            ValueError: no such profile, or a master of another length than it wants.
        """
        profile = SrtpProfile(profile)
        self._rtp, self._rtcp = make_ciphers(profile, master)
        self._rtp_tag_bytes = profile.rtp_tag_bytes
        self._plain_bytes_min = FIXED_BYTES + profile.rtp_tag_bytes
        self._rollover = rollover
        self._streams: dict[int, ReplayWindow] = {}
        self._rtcp_streams: dict[int, ReplayWindow] = {}

    def unprotect(self, packet: bytes) -> bytes:
        """Return the RTP packet in an SRTP packet.

        Raises:
            MalformedPacket: it is too short, or its header runs into the tag.
            ReplayError: it was received before, or is too old to tell.
            AuthenticationError: its tag does not match.
            KeyLifetimeExceeded: its index would pass 2^48 - 1.
            TooManyStreams: it is authentic, but of one ssrc too many.
        """
        _, _, header_bytes, payload, _ = self.open(packet)
        return packet[:header_bytes] + payload

    def open(self, packet: bytes) -> OpenedRtp:
        """Do the same as `unprotect`, but return what was learned on the way; the same errors."""
        # The usual packet: no CSRCs, no extension, of a known stream, the next in order. For it every step of
        # `_open_any` has a known outcome but one, the tag, and that one is taken before anything is changed.
        if len(packet) >= self._plain_bytes_min and packet[0] & PLAIN_MASK == PLAIN:
            sequence, ssrc = _SEQUENCE_SSRC.unpack_from(packet)
            window = self._streams.get(ssrc)
            if window is not None:
                index = window.highest + 1
                if index & 0xFFFF == sequence and index <= RTP_INDEX_MAX:
                    payload = self._rtp.open_rtp(packet, FIXED_BYTES, ssrc, index)
                    window.commit_next()
                    return ssrc, index, FIXED_BYTES, payload, True
        return self._open_any(packet)

    def _open_any(self, packet: bytes) -> OpenedRtp:
        # 1. Bounds, before any byte is believed: CSRC count and extension length against the end,
        #    without the tag.
        header_bytes = _header_length(packet, self._rtp_tag_bytes)
        sequence, ssrc = _SEQUENCE_SSRC.unpack_from(packet)
        # 2. Look up the stream; a forged ssrc must not make one.
        window = self._streams.get(ssrc)
        if window is None:
            return self._open_first(packet, header_bytes, ssrc, self._rollover << 16 | sequence)
        # 3. Estimate the index, 4. check it against what was received.
        index = window.estimate(sequence)
        _check_rtp(window, index)
        # 5. Authenticate, 6. decrypt.
        payload = self._rtp.open_rtp(packet, header_bytes, ssrc, index)
        # 7. The packet is authentic: only now does it count.
        is_newest = window.commit(index)
        return ssrc, index, header_bytes, payload, is_newest

    def open_first(self, packet: bytes, rollover: int) -> OpenedRtp:
        """Do the same as `open` for the first packet of a stream that begins at this rollover count.

        For senders that went on with their rollover count under new keys; the same errors.
        """
        header_bytes = _header_length(packet, self._rtp_tag_bytes)
        sequence, ssrc = _SEQUENCE_SSRC.unpack_from(packet)
        assert ssrc not in self._streams
        return self._open_first(packet, header_bytes, ssrc, rollover << 16 | sequence)

    def window(self, ssrc: int) -> ReplayWindow:
        """Return a copy of what it knows of an ssrc's SRTP indexes."""
        window = self._streams.get(ssrc)
        return ReplayWindow() if window is None else window.copy()

    def highest(self, ssrc: int) -> tuple[int, int]:
        """Return the highest index of an ssrc's SRTP and of its SRTCP; -1 before the first packet."""
        windows = self._streams.get(ssrc), self._rtcp_streams.get(ssrc)
        rtp, rtcp = (-1 if window is None else window.highest for window in windows)
        return rtp, rtcp

    def sent_up_to(self, ssrc: int) -> int:
        """Return the highest SRTP index of an ssrc; -1 before the first packet."""
        return self.highest(ssrc)[0]

    def _open_first(self, packet: bytes, header_bytes: int, ssrc: int, index: int) -> OpenedRtp:
        window = ReplayWindow()
        _check_rtp(window, index)
        try:
            payload = self._rtp.open_rtp(packet, header_bytes, ssrc, index)
        except AuthenticationError:
            # A sender that starts near 2^16 may have rolled over before its first packet arrived:
            # then the sequence number is small and the rollover count one higher. One more try, on
            # unknown streams only, is all that a forger can make us pay for it.
            if index & 0x8000:
                raise
            index += 0x10000
            _check_rtp(window, index)
            payload = self._rtp.open_rtp(packet, header_bytes, ssrc, index)
        _admit(self._streams, ssrc, window)
        window.commit(index)
        return ssrc, index, header_bytes, payload, True

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Return the RTCP compound in an SRTCP packet, encrypted or only authenticated.

        Raises:
            MalformedPacket: it is too short.
            ReplayError: its index was received before, or is too old to tell.
            AuthenticationError: its tag does not match.
            TooManyStreams: it is authentic, but of one ssrc too many.
        """
        return self.open_rtcp(packet)[2]

    def open_rtcp(self, packet: bytes) -> OpenedRtcp:
        """Do the same as `unprotect_rtcp`, but return what was learned on the way; the same errors."""
        # The same steps as for SRTP; the index needs no estimate, it is in the packet. The first
        # may be 0, as RFC 3711 section 3.4 has it, or 1, as libsrtp counts.
        ssrc = _rtcp_ssrc(packet, self._rtcp.rtcp_trailer_bytes)
        word = self._rtcp.rtcp_word(packet)
        index = word & RTCP_INDEX_MAX
        window = self._rtcp_streams.get(ssrc)
        if window is not None and window.is_replay(index):
            raise ReplayError(f"SRTCP index {index}: the highest so far is {window.highest}")
        plain = self._rtcp.open_rtcp(packet, ssrc, word)
        if window is None:
            window = ReplayWindow()
            _admit(self._rtcp_streams, ssrc, window)
        is_newest = window.commit(index)
        return ssrc, index, plain, is_newest


def _header_length(packet: bytes, tag_bytes: int) -> int:
    try:
        return header_length_untrusted(packet, tag_bytes)
    except ProtocolError as exc:
        raise MalformedPacket(exc.reason) from exc


def _rtcp_ssrc(packet: bytes, trailer_bytes: int) -> int:
    if len(packet) < RTCP_CLEAR_BYTES + trailer_bytes:
        raise MalformedPacket(f"RTCP: expected {RTCP_CLEAR_BYTES + trailer_bytes} bytes, got {len(packet)}")
    if packet[0] >> 6 != 2:
        raise MalformedPacket(f"RTCP: expected version 2, got {packet[0] >> 6}")
    ssrc: int = _RTCP_SSRC.unpack_from(packet)[0]
    return ssrc


def _check_rtp(window: ReplayWindow, index: int) -> None:
    if index > RTP_INDEX_MAX:
        raise KeyLifetimeExceeded(f"SRTP index: expected at most {RTP_INDEX_MAX}, got {index}")
    if window.is_replay(index):
        raise ReplayError(f"SRTP index {index}: the highest so far is {window.highest}")


def _admit(streams: dict[int, ReplayWindow], ssrc: int, window: ReplayWindow) -> None:
    """Insert the stream of an authentic packet."""
    if len(streams) >= STREAMS_MAX:
        raise TooManyStreams(f"expected at most {STREAMS_MAX} ssrcs under one key")
    streams[ssrc] = window


assert _SEQUENCE_SSRC.size == FIXED_BYTES  # the bounds check covers what is unpacked after it
assert _RTCP_SSRC.size == RTCP_CLEAR_BYTES

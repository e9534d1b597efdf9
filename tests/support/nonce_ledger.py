"""A ledger of every (key, ssrc, index) that a relay sealed with; it fails on the first repetition.

It works on what leaves the relay and shares no state with it: the index of an SRTP packet is found by trying
rollover counts until the tag matches.
"""

from __future__ import annotations

from collections.abc import Iterable

from livechat.hub.media import MediaPeer
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import header_length_untrusted, parse_untrusted
from livechat.srtp.cipher import AnyCipher, Sealed, make_ciphers
from livechat.srtp.error import AuthenticationError

ROLLOVERS_MAX = 64
"""Beyond the longest scenario of any test."""


class NonceLedger:
    """What was sealed, by key and kind."""

    def __init__(self) -> None:
        self._ciphers: dict[bytes, tuple[AnyCipher, AnyCipher]] = {}
        self._used: set[tuple[bytes, Kind, int, int]] = set()

    def __len__(self) -> int:
        return len(self._used)

    def record(self, out: Sealed, listeners: Iterable[MediaPeer]) -> list[tuple[MediaPeer, Kind, int, int]]:
        """Enter packets. Returns (listener, RTP or RTCP, ssrc, index) of each.

        Raises:
            AssertionError: a packet has no listener at its destination, does not open under that
                listener's key, or repeats an index.
        """
        by_address = {peer.address: peer for peer in listeners}
        entries = []
        for packet, address in out:
            listener = by_address[address]
            kind, ssrc, index = self._identify(packet, listener)
            entry = (listener.server_key, kind, ssrc, index)
            assert entry not in self._used, f"two-time pad: {kind} ssrc {ssrc:#x} index {index}"
            self._used.add(entry)
            entries.append((listener, kind, ssrc, index))
        return entries

    def _identify(self, packet: bytes, listener: MediaPeer) -> tuple[Kind, int, int]:
        key = listener.server_key
        if key not in self._ciphers:
            self._ciphers[key] = make_ciphers(listener.profile, key)
        rtp, rtcp = self._ciphers[key]
        if classify(packet) is Kind.RTCP:
            ssrc = int.from_bytes(packet[4:8], "big")
            word = rtcp.rtcp_word(packet)
            rtcp.open_rtcp(packet, ssrc, word)
            return Kind.RTCP, ssrc, word & 0x7FFFFFFF
        header, _ = parse_untrusted(packet)
        length = header_length_untrusted(packet)
        for rollover in range(ROLLOVERS_MAX):
            index = rollover << 16 | header.sequence
            try:
                rtp.open_rtp(packet, length, header.ssrc, index)
            except AuthenticationError:
                continue
            return Kind.RTP, header.ssrc, index
        raise AssertionError("no rollover count opens the packet")

"""A ledger of every (key, ssrc, index) that a relay sealed with; it fails on the first repetition.

It works on what leaves the relay and shares no state with it: the index of an SRTP packet is found by trying
rollover counts until the tag matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from livechat.hub.peer import MediaPeer
from livechat.protocol.types import Address
from livechat.rtp.demux import Kind, classify
from livechat.rtp.packet import header_length_untrusted, parse_untrusted
from livechat.srtp.cipher import AnyCipher, make_ciphers
from livechat.srtp.error import AuthenticationError

ROLLOVERS_MAX = 64
"""Beyond the longest scenario of any test."""


class NonceLedger:
    """What was sealed, by key and kind."""

    def __init__(self) -> None:
        self._ciphers: dict[bytes, tuple[AnyCipher, AnyCipher]] = {}
        self._keys: dict[int, list[bytes]] = {}
        """By peer id, the newest first: more than one once they have changed."""
        self._rollover: dict[tuple[bytes, int], int] = {}
        """The last count that was found, by key and ssrc."""
        self._used: dict[tuple[bytes, Kind, int, int], bytes] = {}

    def __len__(self) -> int:
        return len(self._used)

    def note(self, peer: MediaPeer) -> None:
        """Note the key of what a listener hears; to be called before it changes, if nothing was recorded yet."""
        keys = self._keys.setdefault(peer.peer_id, [])
        if peer.server_key not in keys:
            keys.insert(0, peer.server_key)

    def record(
        self, out: Iterable[tuple[bytes, Address]], listeners: Iterable[MediaPeer], *, resends: bool = False
    ) -> list[tuple[MediaPeer, Kind, int, int]]:
        """Enter packets. Returns (listener, RTP or RTCP, ssrc, index) of each.

        Args:
            resends: packets may come again, if they are byte by byte what they were.

        Raises:
            AssertionError: a packet has no listener at its destination, does not open under that
                listener's key, or repeats an index.
        """
        by_address = {peer.address: peer for peer in listeners}
        entries = []
        for packet, address in out:
            listener = by_address[address]
            self.note(listener)
            key, kind, ssrc, index = self._identify(packet, listener)
            entry = (key, kind, ssrc, index)
            again = resends and self._used.get(entry) == packet
            assert again or entry not in self._used, f"two-time pad: {kind} ssrc {ssrc:#x} index {index}"
            self._used[entry] = packet
            entries.append((listener, kind, ssrc, index))
        return entries

    def _identify(self, packet: bytes, listener: MediaPeer) -> tuple[bytes, Kind, int, int]:
        keys = self._keys[listener.peer_id]
        if classify(packet) is Kind.RTCP:
            ssrc = int.from_bytes(packet[4:8], "big")
            for key in keys:
                rtcp = self._ciphers_of(key, listener)[1]
                word = rtcp.rtcp_word(packet)
                if _opens(rtcp.open_rtcp, packet, ssrc, word):
                    return key, Kind.RTCP, ssrc, word & 0x7FFFFFFF
            raise AssertionError("no key opens the packet")
        header, _ = parse_untrusted(packet)
        length = header_length_untrusted(packet)
        # Most packets are of the rollover count of the one before, or the next.
        near = [(key, self._rollover.get((key, header.ssrc), 0)) for key in keys]
        tries = [(key, rollover + step) for step in (0, 1) for key, rollover in near]
        for key, rollover in (*tries, *product(keys, range(ROLLOVERS_MAX))):
            index = rollover << 16 | header.sequence
            if _opens(self._ciphers_of(key, listener)[0].open_rtp, packet, length, header.ssrc, index):
                self._rollover[key, header.ssrc] = rollover
                return key, Kind.RTP, header.ssrc, index
        raise AssertionError("no key and rollover count open the packet")

    def _ciphers_of(self, key: bytes, listener: MediaPeer) -> tuple[AnyCipher, AnyCipher]:
        if key not in self._ciphers:
            self._ciphers[key] = make_ciphers(listener.profile, key)
        return self._ciphers[key]


def _opens(open_packet: Callable[..., bytes], *args: object) -> bool:
    try:
        open_packet(*args)
    except AuthenticationError:
        return False
    return True

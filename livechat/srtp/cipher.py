"""Owns sealing and opening one packet under one session key, given its ssrc and index.

It must not choose an index or remember one: whoever calls sees to it that no (key, ssrc, index) is
sealed twice, as that would give away the plaintext (and under GCM the authentication key).

Source: RFC 3711 sections 3.1, 3.4, 4.1.1 and 4.2 (AES-CM and HMAC-SHA1), RFC 7714 sections 8 and 9 (AES-GCM).

    SRTP    AES-CM   header | encrypted payload | tag;               tag over all before it ‖ rollover counter
            GCM      header | encrypted payload | tag;               header is associated data
    SRTCP   AES-CM   8 bytes | encrypted rest | E, index | tag;      tag over all before it
            GCM      8 bytes | encrypted rest | tag | E, index;      8 bytes ‖ E, index is associated data

    E, index is one word: the top bit says that the rest is encrypted, 31 bits are the SRTCP index.

The speed comes from doing nothing twice: one cipher context per key with its nonce reset, one keyed
HMAC that is copied, initialisation vectors computed as integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hmac import compare_digest
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.hmac import HMAC

from livechat.srtp.error import AuthenticationError
from livechat.srtp.kdf import SessionKeys, derive_session_keys
from livechat.srtp.profile import SrtpProfile

RTCP_CLEAR_BYTES: Final = 8
"""Header word and ssrc, which SRTCP never encrypts (RFC 3711 section 3.4)."""
RTCP_INDEX_BYTES: Final = 4
RTCP_ENCRYPTED: Final = 1 << 31
"""The E flag."""
GCM_TAG_BYTES: Final = 16

CounterLeg = tuple[Callable[[bytes], None], Callable[[bytes], bytes], Callable[[], HMAC], int, int]
"""(reset nonce, encrypt, copy HMAC, salt, tag bytes): what sealing for one receiver takes."""
GcmLeg = tuple[Callable[[bytes, bytes, bytes], bytes], int]
"""(seal, salt)."""
AnyLeg = CounterLeg | GcmLeg


class PacketCipher(Protocol):
    """Seals and opens packets under one session key; raises only `AuthenticationError`.

    Lengths are the caller's duty: at least header and tag for SRTP, at least `rtcp_trailer_bytes`
    after the first 8 bytes for SRTCP.
    """

    tag_bytes: int
    """What SRTP adds."""
    rtcp_trailer_bytes: int
    """What SRTCP adds: tag and index word."""

    def seal_rtp(self, header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Return the SRTP packet of an RTP header and payload."""

    def open_rtp(self, packet: bytes, header_bytes: int, ssrc: int, index: int) -> bytes:
        """Return the payload of an SRTP packet."""

    def seal_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Return the SRTCP packet of an RTCP compound; `word` is E flag and index."""

    def rtcp_word(self, packet: bytes) -> int:
        """Read E flag and index off an SRTCP packet, still to be authenticated."""

    def open_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Return the RTCP compound in an SRTCP packet."""


class CounterModeCipher:
    """AES-CM with HMAC-SHA1, RFC 3711 sections 4.1.1 and 4.2.1."""

    __slots__ = ("_copy_hmac", "_crypt", "_reset", "_salt", "rtcp_trailer_bytes", "tag_bytes")

    def __init__(self, keys: SessionKeys, tag_bytes: int) -> None:
        # In counter mode to decrypt is to encrypt, so one context serves both.
        context = Cipher(AES(keys.encryption), CTR(bytes(16))).encryptor()
        self._reset = context.reset_nonce
        self._crypt = context.update
        self._copy_hmac = HMAC(keys.authentication, SHA1()).copy  # noqa: S303 -- RFC 3711's algorithm
        # IV = salt * 2^16 XOR ssrc * 2^64 XOR index * 2^16, RFC 3711 section 4.1.1.
        self._salt = int.from_bytes(keys.salt, "big") << 16
        self.tag_bytes = tag_bytes
        self.rtcp_trailer_bytes = RTCP_INDEX_BYTES + tag_bytes

    def _crypt_at(self, data: bytes, ssrc: int, index: int) -> bytes:
        self._reset((self._salt ^ ssrc << 64 ^ index << 16).to_bytes(16, "big"))
        return self._crypt(data)

    def _tag(self, data: bytes) -> bytes:
        hmac = self._copy_hmac()
        hmac.update(data)
        return hmac.finalize()[: self.tag_bytes]

    def seal_rtp(self, header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Return header | encrypted payload | tag."""
        sealed = header + self._crypt_at(payload, ssrc, index)
        return sealed + self._tag(sealed + (index >> 16).to_bytes(4, "big"))

    def open_rtp(self, packet: bytes, header_bytes: int, ssrc: int, index: int) -> bytes:
        """Verify, then decrypt the payload."""
        # Written out rather than made of the methods above: this runs for every datagram, forged or not.
        end = len(packet) - self.tag_bytes
        hmac = self._copy_hmac()
        hmac.update(packet[:end] + (index >> 16).to_bytes(4, "big"))
        if not compare_digest(hmac.finalize()[: self.tag_bytes], packet[end:]):
            raise AuthenticationError("the packet's tag does not match")
        self._reset((self._salt ^ ssrc << 64 ^ index << 16).to_bytes(16, "big"))
        return self._crypt(packet[header_bytes:end])

    def seal_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Return 8 bytes | rest, encrypted if the word's E flag says so | word | tag."""
        if word & RTCP_ENCRYPTED:
            rest = self._crypt_at(packet[RTCP_CLEAR_BYTES:], ssrc, word ^ RTCP_ENCRYPTED)
            packet = packet[:RTCP_CLEAR_BYTES] + rest
        sealed = packet + word.to_bytes(4, "big")
        return sealed + self._tag(sealed)

    def rtcp_word(self, packet: bytes) -> int:
        """Read the word that precedes the tag."""
        end = len(packet) - self.tag_bytes
        return int.from_bytes(packet[end - RTCP_INDEX_BYTES : end], "big")

    def open_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Verify, then decrypt unless the sender only authenticated."""
        end = len(packet) - self.tag_bytes
        if not compare_digest(self._tag(packet[:end]), packet[end:]):
            raise AuthenticationError("the packet's tag does not match")
        plain = packet[: end - RTCP_INDEX_BYTES]
        if not word & RTCP_ENCRYPTED:
            return plain
        rest = self._crypt_at(plain[RTCP_CLEAR_BYTES:], ssrc, word ^ RTCP_ENCRYPTED)
        return plain[:RTCP_CLEAR_BYTES] + rest

    def leg(self) -> CounterLeg:
        """Return what `seal_each` takes to seal under this key."""
        return self._reset, self._crypt, self._copy_hmac, self._salt, self.tag_bytes

    @staticmethod
    def seal_each(legs: Sequence[CounterLeg], header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Seal one packet under the key of every leg; the legs have one length of tag.

        The same as `seal_rtp` leg by leg, with everything the legs share computed once.

        Returns:
            The packets back to back, in the order of the legs.
        """
        position = ssrc << 64 ^ index << 16
        rollover = (index >> 16).to_bytes(4, "big")
        # Two short loops keep the processor's caches warmer than one long one does: a tenth of the time.
        encrypted: list[bytes] = []
        append = encrypted.append
        for reset, crypt, _, salt, _ in legs:
            reset((salt ^ position).to_bytes(16, "big"))
            append(header + crypt(payload))
        pieces: list[bytes] = []
        append = pieces.append
        for (_, _, copy_hmac, _, tag_bytes), sealed in zip(legs, encrypted, strict=True):
            hmac = copy_hmac()
            hmac.update(sealed + rollover)
            append(sealed)
            append(hmac.finalize()[:tag_bytes])
        return b"".join(pieces)


class GcmCipher:
    """AES-GCM with a tag of 16 bytes, RFC 7714."""

    __slots__ = ("_open", "_salt", "_seal", "rtcp_trailer_bytes")
    tag_bytes: Final = GCM_TAG_BYTES

    def __init__(self, keys: SessionKeys) -> None:
        aead = AESGCM(keys.encryption)
        self._seal = aead.encrypt
        self._open = aead.decrypt
        # IV = salt XOR (00 00 ‖ ssrc ‖ index), RFC 7714 sections 8.1 and 9.1; SRTCP's index has
        # only 31 of the 48 bits.
        self._salt = int.from_bytes(keys.salt, "big")
        self.rtcp_trailer_bytes = GCM_TAG_BYTES + RTCP_INDEX_BYTES

    def _nonce(self, ssrc: int, index: int) -> bytes:
        return (self._salt ^ ssrc << 48 ^ index).to_bytes(12, "big")

    def _open_or_refuse(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        try:
            return self._open(nonce, data, associated)
        except InvalidTag as exc:
            raise AuthenticationError("the packet's tag does not match") from exc

    def seal_rtp(self, header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Return header | encrypted payload | tag."""
        return header + self._seal(self._nonce(ssrc, index), payload, header)

    def open_rtp(self, packet: bytes, header_bytes: int, ssrc: int, index: int) -> bytes:
        """Verify and decrypt the payload."""
        # Written out as well: every datagram comes here.
        nonce = (self._salt ^ ssrc << 48 ^ index).to_bytes(12, "big")
        try:
            return self._open(nonce, packet[header_bytes:], packet[:header_bytes])
        except InvalidTag as exc:
            raise AuthenticationError("the packet's tag does not match") from exc

    def seal_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Return 8 bytes | rest, encrypted if the word's E flag says so | tag | word."""
        tail = word.to_bytes(4, "big")
        if not word & RTCP_ENCRYPTED:
            # RFC 7714 section 9.3: all of it is associated data, the plaintext is empty.
            return packet + self._seal(self._nonce(ssrc, word), b"", packet + tail) + tail
        head = packet[:RTCP_CLEAR_BYTES]
        nonce = self._nonce(ssrc, word ^ RTCP_ENCRYPTED)
        return head + self._seal(nonce, packet[RTCP_CLEAR_BYTES:], head + tail) + tail

    def rtcp_word(self, packet: bytes) -> int:
        """Read the word that ends the packet."""
        return int.from_bytes(packet[-RTCP_INDEX_BYTES:], "big")

    def open_rtcp(self, packet: bytes, ssrc: int, word: int) -> bytes:
        """Verify, and decrypt unless the sender only authenticated."""
        body, tail = packet[:-RTCP_INDEX_BYTES], packet[-RTCP_INDEX_BYTES:]
        if not word & RTCP_ENCRYPTED:
            plain, tag = body[:-GCM_TAG_BYTES], body[-GCM_TAG_BYTES:]
            self._open_or_refuse(self._nonce(ssrc, word), tag, plain + tail)
            return plain
        head = body[:RTCP_CLEAR_BYTES]
        nonce = self._nonce(ssrc, word ^ RTCP_ENCRYPTED)
        return head + self._open_or_refuse(nonce, body[RTCP_CLEAR_BYTES:], head + tail)

    def leg(self) -> GcmLeg:
        """Return what `seal_each` takes to seal under this key."""
        return self._seal, self._salt

    @staticmethod
    def seal_each(legs: Sequence[GcmLeg], header: bytes, payload: bytes, ssrc: int, index: int) -> bytes:
        """Do as `CounterModeCipher.seal_each` does."""
        position = ssrc << 48 ^ index
        # One join puts the header before each; to add it packet by packet would copy every byte once more.
        return header + header.join(
            [seal((salt ^ position).to_bytes(12, "big"), payload, header) for seal, salt in legs]
        )


AnyCipher = CounterModeCipher | GcmCipher


def make_ciphers(profile: SrtpProfile, master: bytes) -> tuple[AnyCipher, AnyCipher]:
    """Make the ciphers of SRTP and of SRTCP, in this order, from master key ‖ master salt.

    Raises:
        ValueError: the master is not as long as the profile wants it.
    """
    rtp, rtcp = derive_session_keys(profile, master)
    if profile.is_aead:
        return GcmCipher(rtp), GcmCipher(rtcp)
    return CounterModeCipher(rtp, profile.rtp_tag_bytes), CounterModeCipher(rtcp, profile.rtcp_tag_bytes)

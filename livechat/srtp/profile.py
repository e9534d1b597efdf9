"""Owns the table of protection profiles: names, lengths of keys, salts and tags.

It must not do cryptography.

Source: RFC 4568 section 6.2 and RFC 7714 section 14.1 (names), RFC 3711 section 5 and RFC 7714
section 12 (lengths).

    profile                  key  salt  tag of SRTP  tag of SRTCP   (bytes)
    AEAD_AES_128_GCM         16   12    16           16
    AEAD_AES_256_GCM         32   12    16           16
    AES_CM_128_HMAC_SHA1_80  16   14    10           10
    AES_CM_128_HMAC_SHA1_32  16   14    4            10
"""

from __future__ import annotations

import enum
from typing import Final

import attrs


class SrtpProfile(enum.StrEnum):
    """A protection profile; its value is the name used in the protocol and in SDP."""

    AEAD_AES_128_GCM = "AEAD_AES_128_GCM"
    AEAD_AES_256_GCM = "AEAD_AES_256_GCM"
    AES_CM_128_HMAC_SHA1_80 = "AES_CM_128_HMAC_SHA1_80"
    AES_CM_128_HMAC_SHA1_32 = "AES_CM_128_HMAC_SHA1_32"

    @property
    def key_bytes(self) -> int:
        """Length of the master key, and of the session key."""
        return _LENGTHS[self].key_bytes

    @property
    def salt_bytes(self) -> int:
        """Length of the master salt, and of the session salt."""
        return _LENGTHS[self].salt_bytes

    @property
    def master_bytes(self) -> int:
        """Length of master key ‖ master salt, the form in which keys are exchanged."""
        return self.key_bytes + self.salt_bytes

    @property
    def rtp_tag_bytes(self) -> int:
        """Length of the authentication tag on SRTP."""
        return _LENGTHS[self].rtp_tag_bytes

    @property
    def rtcp_tag_bytes(self) -> int:
        """Length of the authentication tag on SRTCP.

        The `_32` profile shortens only SRTP's tag: RFC 3711 section 5.2 and RFC 4568 section 6.2.2
        keep 80 bits for SRTCP.
        """
        return _LENGTHS[self].rtcp_tag_bytes

    @property
    def is_aead(self) -> bool:
        """Whether one primitive both encrypts and authenticates (GCM)."""
        return _LENGTHS[self].is_aead


@attrs.frozen
class _Lengths:
    key_bytes: int
    salt_bytes: int
    rtp_tag_bytes: int
    rtcp_tag_bytes: int
    is_aead: bool


_LENGTHS: Final = {
    SrtpProfile.AEAD_AES_128_GCM: _Lengths(16, 12, 16, 16, is_aead=True),
    SrtpProfile.AEAD_AES_256_GCM: _Lengths(32, 12, 16, 16, is_aead=True),
    SrtpProfile.AES_CM_128_HMAC_SHA1_80: _Lengths(16, 14, 10, 10, is_aead=False),
    SrtpProfile.AES_CM_128_HMAC_SHA1_32: _Lengths(16, 14, 4, 10, is_aead=False),
}

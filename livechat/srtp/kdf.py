"""Owns the derivation of session keys from a master key and salt.

It must not keep keys or use them.

Source: RFC 3711 section 4.3 (AES-CM PRF), RFC 6188 section 3 (the same with 256-bit keys), RFC 7714
section 11 (GCM). The key derivation rate is always zero: keys are derived once.
"""

from __future__ import annotations

import enum

import attrs
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from livechat.srtp.profile import SrtpProfile

_SALT_BYTES = 14
"""Salt length that the PRF works on; a GCM salt of 12 bytes is filled up to it."""
_AUTHENTICATION_KEY_BYTES = 20
"""HMAC-SHA1's, RFC 3711 section 5.2."""


class Label(enum.IntEnum):
    """What a derived key is for, RFC 3711 section 4.3.1."""

    RTP_ENCRYPTION = 0
    RTP_AUTHENTICATION = 1
    RTP_SALT = 2
    RTCP_ENCRYPTION = 3
    RTCP_AUTHENTICATION = 4
    RTCP_SALT = 5


@attrs.frozen
class SessionKeys:
    """The keys of one direction, for SRTP or for SRTCP."""

    encryption: bytes = attrs.field(repr=False)
    salt: bytes = attrs.field(repr=False)
    authentication: bytes = attrs.field(repr=False)
    """HMAC-SHA1's key; unused by GCM."""


def derive(master_key: bytes, master_salt: bytes, label: Label, length_bytes: int) -> bytes:
    """Derive one key: `length_bytes` of AES-CTR keystream, starting where label and salt say.

    A salt shorter than 14 bytes is aligned left: RFC 7714 section 11 appends the zeros.
    """
    salt = int.from_bytes(master_salt.ljust(_SALT_BYTES, b"\0"), "big")
    # x = (label ‖ index DIV rate) XOR salt, and the index part is zero for a rate of zero. The
    # label stands 48 bits from the right; the block counter fills the 16 bits after it.
    counter = (salt ^ label << 48) << 16
    keystream = Cipher(AES(master_key), CTR(counter.to_bytes(16, "big"))).encryptor()
    return keystream.update(bytes(length_bytes))


def derive_session_keys(profile: SrtpProfile, master: bytes) -> tuple[SessionKeys, SessionKeys]:
    """Derive the keys of SRTP and of SRTCP, in this order, from master key ‖ master salt.

    Raises:
        ValueError: the master is not as long as the profile wants it.
    """
    if len(master) != profile.master_bytes:
        raise ValueError(f"{profile}: expected {profile.master_bytes} bytes of key and salt, got {len(master)}")
    key, salt = master[: profile.key_bytes], master[profile.key_bytes :]

    def keys(encryption: Label, authentication: Label, salting: Label) -> SessionKeys:
        return SessionKeys(
            encryption=derive(key, salt, encryption, profile.key_bytes),
            salt=derive(key, salt, salting, profile.salt_bytes),
            authentication=derive(key, salt, authentication, _AUTHENTICATION_KEY_BYTES),
        )

    return (
        keys(Label.RTP_ENCRYPTION, Label.RTP_AUTHENTICATION, Label.RTP_SALT),
        keys(Label.RTCP_ENCRYPTION, Label.RTCP_AUTHENTICATION, Label.RTCP_SALT),
    )

from __future__ import annotations

import pytest

from livechat.srtp.kdf import Label, derive, derive_session_keys
from livechat.srtp.profile import SrtpProfile
from tests.support.voice import PROFILES, master_of

RFC_3711_KEY = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139")
RFC_3711_SALT = bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
RFC_6188_KEY = bytes.fromhex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6")
RFC_6188_SALT = bytes.fromhex("3b04803de51ee7c96423ab5b78d2")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (Label.RTP_ENCRYPTION, "C61E7A93744F39EE10734AFE3FF7A087"),
        (Label.RTP_SALT, "30CBBC08863D8C85D49DB34A9AE1"),
        (
            Label.RTP_AUTHENTICATION,
            "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE"
            "E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25"
            "6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2",
        ),
    ],
)
def test_rfc_3711_appendix_b3(label: Label, expected: str) -> None:
    key = bytes.fromhex(expected)
    assert derive(RFC_3711_KEY, RFC_3711_SALT, label, len(key)) == key


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (Label.RTP_ENCRYPTION, "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4"),
        (Label.RTP_SALT, "fa31791685ca444a9e07c6c64e93"),
        (Label.RTP_AUTHENTICATION, "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
    ],
)
def test_rfc_6188_section_7_2(label: Label, expected: str) -> None:
    key = bytes.fromhex(expected)
    assert derive(RFC_6188_KEY, RFC_6188_SALT, label, len(key)) == key


def test_rfc_6188_section_7_4_derives_under_192_bits_too() -> None:
    # No profile here has 192 bits; the vector shows that the key's length is all that differs.
    key = bytes.fromhex("73edc66c4fa15776fb57f9505c17136550ffda71f3e8e5f1")
    salt = bytes.fromhex("c8522f3acd4ce86d5add78edbb11")
    encryption = derive(key, salt, Label.RTP_ENCRYPTION, 24)
    assert encryption.hex() == "31874736a8f1143870c26e4857d8a5b2c4a354407faadabb"


def test_a_salt_of_12_bytes_is_aligned_left() -> None:
    key = RFC_3711_KEY
    short = RFC_3711_SALT[:12]
    assert derive(key, short, Label.RTP_SALT, 12) == derive(key, short + b"\0\0", Label.RTP_SALT, 12)


@pytest.mark.parametrize("profile", PROFILES)
def test_srtp_and_srtcp_share_no_key(profile: SrtpProfile) -> None:
    rtp, rtcp = derive_session_keys(profile, master_of(profile))
    keys = [each for half in (rtp, rtcp) for each in (half.encryption, half.salt, half.authentication)]
    assert len(set(keys)) == 6
    assert len(rtp.encryption) == profile.key_bytes
    assert len(rtp.salt) == profile.salt_bytes


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_master_of_another_length_is_refused(profile: SrtpProfile, off: int) -> None:
    with pytest.raises(ValueError, match="bytes of key and salt"):
        derive_session_keys(profile, bytes(profile.master_bytes + off))


def test_keys_do_not_show_in_a_repr() -> None:
    keys, _ = derive_session_keys(SrtpProfile.AEAD_AES_128_GCM, bytes(28))
    assert repr(keys) == "SessionKeys()"
